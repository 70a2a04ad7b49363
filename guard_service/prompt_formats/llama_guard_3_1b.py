"""Llama Guard 3 1B: as the 8B model, with one space more and one hazard fewer."""

from guard_service.prompt_formats.llama_guard_3 import LlamaGuard3


class LlamaGuard31B(LlamaGuard3):
    """The prompt of Llama-Guard-3-1B; its policy has no S14."""

    name = "llama-guard-3-1b"
    _before_end_of_turn = " "
