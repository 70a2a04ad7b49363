"""Llama Guard 2: eleven hazards, `[INST]` wrapper, the verdict is the first token."""

from guard_service.moderation import Conversation
from guard_service.policy import Policy
from guard_service.prompt_formats.conversation_text import body_of, turns_of
from guard_service.prompt_formats.prompt import BeginningOfText, Prompt
from guard_service.prompt_formats.scaffold import category_lines, last_turn_instruction, task


class LlamaGuard2:
    """The prompt of Meta-Llama-Guard-2-8B."""

    name = "llama-guard-2"
    code_letter = "S"

    def render(self, conversation: Conversation, policy: Policy) -> Prompt:
        """The prompt that asks for a verdict on the last turn."""
        turns = turns_of(conversation)
        categories = category_lines(policy, self.code_letter, name_end=". ")
        return Prompt(
            prefix=(BeginningOfText(), f"[INST] {task(turns, categories)}"),
            body=body_of(turns),
            suffix=(f"{last_turn_instruction(turns)} [/INST]",),
        )
