"""Llama Guard 1: six hazards with their guidelines in the prompt, `[INST]` wrapper."""

from guard_service.moderation import Conversation
from guard_service.policy import Policy
from guard_service.prompt_formats.conversation_text import body_of, turns_of
from guard_service.prompt_formats.prompt import BeginningOfText, Prompt
from guard_service.prompt_formats.scaffold import END_OF_CONVERSATION, category_lines, task


class LlamaGuard1:
    """The prompt of LlamaGuard-7b."""

    name = "llama-guard-1"
    code_letter = "O"

    def render(self, conversation: Conversation, policy: Policy) -> Prompt:
        """The prompt that asks for a verdict on the side that speaks last."""
        turns = turns_of(conversation)
        categories = category_lines(policy, self.code_letter, name_end=".")
        # The published prompt has a space after the first category's name, and only there.
        categories = categories.replace(".\n", ". \n", 1)
        instruction = (
            f"Provide your safety assessment for {turns[-1].label} in the above conversation:\n"
            "- First line must read 'safe' or 'unsafe'.\n"
            "- If unsafe, a second line must include a comma-separated list of violated categories."
        )
        return Prompt(
            prefix=(BeginningOfText(), f"[INST] {task(turns, categories)}"),
            body=body_of(turns),
            suffix=(f"{END_OF_CONVERSATION}{instruction} [/INST]",),
        )
