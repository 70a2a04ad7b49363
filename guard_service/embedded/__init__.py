"""The embedded default model: a small guard that any machine can run, demonstration grade."""

from guard_service.embedded.adapter import ADAPTER, MODEL_ID, PROMPT_FORMAT
from guard_service.embedded.base import base_folder, ensure, is_fetched

__all__ = [
    "ADAPTER",
    "MODEL_ID",
    "PROMPT_FORMAT",
    "base_folder",
    "ensure",
    "is_fetched",
]
