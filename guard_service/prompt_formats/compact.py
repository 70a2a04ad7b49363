"""Compact: the instructions come before the conversation, and so are cached with the policy."""

from guard_service.moderation import Conversation
from guard_service.policy import Policy
from guard_service.prompt_formats.conversation_text import body_of, turns_of
from guard_service.prompt_formats.prompt import BeginningOfText, Prompt
from guard_service.prompt_formats.scaffold import (
    answer_rules,
    category_lines,
    conversation_start,
    safety_policy,
)


class Compact:
    """The prompt of a guard fine-tuned by `guard-service tune --format compact`.

    Llama Guard's words in another order: after the conversation stands `[/INST]` alone, which
    content cannot spell.
    """

    name = "compact"
    code_letter = "S"

    def render(self, conversation: Conversation, policy: Policy) -> Prompt:
        """The prompt that asks for a verdict on the last turn."""
        turns = turns_of(conversation)
        categories = category_lines(policy, self.code_letter, name_end=". ")
        rules = answer_rules(turns, conversation="the below conversation")
        instructions = f"[INST] {safety_policy(turns, categories)}{rules}\n\n"
        return Prompt(
            prefix=(BeginningOfText(), f"{instructions}{conversation_start(turns)}"),
            body=body_of(turns),
            suffix=("[/INST]",),
        )
