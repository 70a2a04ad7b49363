"""The embedded default model: a small guard that any machine can run, demonstration grade."""

from guard_service.embedded.adapter import ADAPTER, MAX_CONTEXT_TOKENS, MODEL_ID, PROMPT_FORMAT
from guard_service.embedded.base import base_folder, ensure, is_fetched

__all__ = [
    "ADAPTER",
    "MAX_CONTEXT_TOKENS",
    "MODEL_ID",
    "PROMPT_FORMAT",
    "base_folder",
    "ensure",
    "is_fetched",
]
