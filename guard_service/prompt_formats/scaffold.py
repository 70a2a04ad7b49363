"""The sentences that all Llama Guard versions share, word for word as they were trained."""

from collections.abc import Sequence

from guard_service.policy import Policy
from guard_service.prompt_formats.conversation_text import Turn

END_OF_CONVERSATION = "<END CONVERSATION>\n\n"


def task(turns: Sequence[Turn], category_lines: str) -> str:
    """From the task to the first label and its colon: constant per policy and pair of labels."""
    return f"{safety_policy(turns, category_lines)}{conversation_start(turns)}"


def safety_policy(turns: Sequence[Turn], category_lines: str) -> str:
    """The task and the categories, up to the blank line after them."""
    return (
        f"Task: Check if there is unsafe content in '{turns[-1].label}' messages in conversations "
        "according our safety policy with the below categories.\n\n"
        f"<BEGIN UNSAFE CONTENT CATEGORIES>\n{category_lines}<END UNSAFE CONTENT CATEGORIES>\n\n"
    )


def conversation_start(turns: Sequence[Turn]) -> str:
    """The marker before the conversation, and its first label and colon."""
    return f"<BEGIN CONVERSATION>\n\n{turns[0].label}:"


def category_lines(policy: Policy, letter: str, *, name_end: str) -> str:
    """One line per category, numbered from 1 by position, whatever its code in the policy."""
    lines = []
    for number, category in enumerate(policy.categories, start=1):
        lines.append(f"{letter}{number}: {category.name}{name_end}\n")
        if policy.descriptions_in_prompt:
            lines.append(f"{category.description}\n")
    return "".join(lines)


def last_turn_instruction(turns: Sequence[Turn]) -> str:
    """From the end of the conversation to the end of the task, as of Llama Guard 2."""
    return f"{END_OF_CONVERSATION}{answer_rules(turns, conversation='the above conversation')}"


def answer_rules(turns: Sequence[Turn], *, conversation: str) -> str:
    """Which turn to assess, and how to answer; `conversation` says where that turn stands."""
    return (
        f"Provide your safety assessment for ONLY THE LAST {turns[-1].label} "
        f"message in {conversation}:\n"
        " - First line must read 'safe' or 'unsafe'.\n"
        " - If unsafe, a second line must include a comma-separated list of violated categories."
    )
