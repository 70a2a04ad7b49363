"""Llama Guard 3: fourteen hazards, a Llama 3 user turn, answered after the assistant header."""

from guard_service.moderation import Conversation
from guard_service.policy import Policy
from guard_service.prompt_formats.conversation_text import body_of, turns_of
from guard_service.prompt_formats.prompt import BeginningOfText, Prompt, SpecialToken
from guard_service.prompt_formats.scaffold import category_lines, last_turn_instruction, task

_START_HEADER = SpecialToken("<|start_header_id|>")
_END_HEADER = SpecialToken("<|end_header_id|>")
_END_OF_TURN = SpecialToken("<|eot_id|>")


class LlamaGuard3:
    """The prompt of Llama-Guard-3-8B."""

    name = "llama-guard-3"
    code_letter = "S"
    _before_end_of_turn = ""

    def render(self, conversation: Conversation, policy: Policy) -> Prompt:
        """The prompt that asks for a verdict on the last turn.

        These models write a blank line before their verdict; the prompt ends with it, so that the
        verdict is the first token here too.
        """
        turns = turns_of(conversation)
        name_end = ". " if policy.descriptions_in_prompt else "."
        categories = category_lines(policy, self.code_letter, name_end=name_end)
        header = (_START_HEADER, "user", _END_HEADER)
        answer = (_START_HEADER, "assistant", _END_HEADER, "\n\n")
        instruction = last_turn_instruction(turns) + self._before_end_of_turn
        return Prompt(
            prefix=(BeginningOfText(), *header, f"\n\n{task(turns, categories)}"),
            body=body_of(turns),
            suffix=(instruction, _END_OF_TURN, *answer),
        )
