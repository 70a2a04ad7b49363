"""Prompt formats of the Llama Guard family: one file per version, pure functions."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

from guard_service.moderation import Conversation
from guard_service.policy import Policy
from guard_service.prompt_formats.compact import Compact
from guard_service.prompt_formats.llama_guard_1 import LlamaGuard1
from guard_service.prompt_formats.llama_guard_2 import LlamaGuard2
from guard_service.prompt_formats.llama_guard_3 import LlamaGuard3
from guard_service.prompt_formats.llama_guard_3_1b import LlamaGuard31B
from guard_service.prompt_formats.prompt import Prompt


class PromptFormat(Protocol):
    """How one version of Llama Guard is asked for a verdict."""

    @property
    def name(self) -> str:
        """What settings and verdicts call it, such as `llama-guard-2`."""

    @property
    def code_letter(self) -> str:
        """What stands before a category's number; numbers run from 1 by position."""

    def render(self, conversation: Conversation, policy: Policy) -> Prompt:
        """The prompt that asks about the last turn of a conversation of at least one message."""


_FORMATS: tuple[PromptFormat, ...] = (
    LlamaGuard1(),
    LlamaGuard2(),
    LlamaGuard3(),
    LlamaGuard31B(),
    Compact(),
)
FORMATS: Mapping[str, PromptFormat] = MappingProxyType({each.name: each for each in _FORMATS})
