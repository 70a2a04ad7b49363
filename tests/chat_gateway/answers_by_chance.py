"""Answers of every shape, as scripts: harmful words anywhere, tool calls, two choices, trouble."""

import random
from dataclasses import dataclass

from chat_gateway.chat import Channel, ChoiceFinished, FinishReason, TextDelta, ToolCallDelta
from chat_gateway.policy import Checkpoints, GatewayPolicy, Mode
from tests.chat_gateway.byte_upstream import Settle
from tests.chat_gateway.fakes import Crash, Stall, Step

HARMLESS = (
    "Once there was a fox. ",
    "Zoë's owl 🦉 said: “ça va!” ",
    "It ran, and ran; 3.5 miles!\n",
    "日本の森はとても静かでした。",
    "Then it slept in the warm sun.  ",
)
HARMFUL = (
    "First you build a bomb out of fertilizer and kill your neighbour with it. ",
    "Stab him in the throat until he is dead. ",
    "Cook methamphetamine from pseudoephedrine in your kitchen. ",
    "Hide the stolen credit card numbers and sell them to criminals. ",
)
CLOSE = Checkpoints(first_characters=24, every_characters=60, max_every_characters=120)
KINDS = ("text", "unsafe", "tool call", "unsafe tool call", "choices", "stall", "crash", "buffer")


@dataclass(frozen=True, slots=True)
class Scenario:
    """What a model server writes, in writes of how many bytes, and under which policy."""

    kind: str
    steps: tuple[Step | Settle, ...]
    num_bytes: int
    policy: GatewayPolicy
    num_choices: int = 1

    @property
    def crashes(self) -> bool:
        return any(isinstance(step, Crash) for step in self.steps)


def scenarios(count: int, *, seed: int = 1, num_wordings: int | None = None) -> list[Scenario]:
    """So many answers, the kinds in turn, everything else by chance.

    With `num_wordings`, a multiple of the number of kinds, only so many differ in their words; each
    of them is cut and paced in many ways.
    """
    return [
        scenario(
            KINDS[i % len(KINDS)],
            wording=random.Random(f"{seed}-words-{i % (num_wordings or count)}"),
            cutting=random.Random(f"{seed}-{i}"),
        )
        for i in range(count)
    ]


def scenario(kind: str, *, wording: random.Random, cutting: random.Random) -> Scenario:
    num_choices = 2 if kind == "choices" else 1
    unsafe_choice = wording.randrange(2)
    sides = []
    for choice in range(num_choices):
        harmful = {"text": False, "tool call": False, "choices": choice == unsafe_choice}
        text = words(wording, harmful=harmful.get(kind, wording.random() < 0.7))
        # Different beginnings tell the records of two choices apart.
        spans = spans_of(f"{choice}. {text}", wording)
        end = tool_call(kind, choice, wording, cutting) if "tool call" in kind else stop(choice)
        sides.append([*pieces_of(spans, choice, cutting), *end])
    steps: list[Step | Settle] = []
    while any(sides):
        steps.append(cutting.choice([each for each in sides if each]).pop(0))
    if kind == "stall":
        steps.insert(cutting.randrange(len(steps)), Stall(CLOSE.every_seconds * 1.2))
    if kind == "crash":
        steps[cutting.randrange(len(steps)) :] = [Crash(ConnectionError())]
    mode = Mode.BUFFER if kind == "buffer" else Mode.STRICT
    policy = GatewayPolicy(
        checkpoints=CLOSE, mode=mode, parallel_prompt_check=cutting.random() < 0.5
    )
    num_bytes = cutting.choice((1, 2, 3, 7, 40, 400))
    return Scenario(kind, tuple(steps), num_bytes, policy, num_choices)


def words(wording: random.Random, *, harmful: bool) -> str:
    """A few sentences; a harmful one at any offset, even within another's word."""
    text = "".join(wording.choices(HARMLESS, k=wording.randrange(1, 5)))
    if not harmful:
        return text
    offset = wording.randrange(len(text) + 1)
    return text[:offset] + wording.choice(HARMFUL) + text[offset:]


def spans_of(text: str, wording: random.Random) -> list[tuple[Channel, str]]:
    """The text as content, now and then with some of it as reasoning or refusal."""
    if wording.random() < 0.7:
        return [(Channel.CONTENT, text)]
    first, second = sorted(wording.randrange(len(text) + 1) for _ in range(2))
    aside = wording.choice((Channel.REASONING, Channel.REFUSAL))
    spans = (Channel.CONTENT, text[:first]), (aside, text[first:second])
    return [*spans, (Channel.CONTENT, text[second:])]


def pieces_of(
    spans: list[tuple[Channel, str]], choice: int, cutting: random.Random
) -> list[Step | Settle]:
    """The text in pieces of any length, with waits between some of them."""
    steps: list[Step | Settle] = []
    for channel, span in spans:
        text = span
        while text:
            size = cutting.choice((1, 2, 5, 9, 30))
            steps.append(TextDelta(choice, text[:size], channel))
            text = text[size:]
            if cutting.random() < 0.25:
                steps.append(Settle())
    return steps


def stop(choice: int) -> list[Step | Settle]:
    return [ChoiceFinished(choice, FinishReason.STOP)]


def tool_call(
    kind: str, choice: int, wording: random.Random, cutting: random.Random
) -> list[Step | Settle]:
    """A call in two parts, and the end."""
    query = wording.choice(HARMFUL if kind == "unsafe tool call" else HARMLESS).strip()
    arguments = f'{{"query": "{query}"}}'
    cut = cutting.randrange(len(arguments))
    return [
        ToolCallDelta(choice, 0, arguments[:cut], "call-0", "search"),
        ToolCallDelta(choice, 0, arguments[cut:]),
        ChoiceFinished(choice, FinishReason.TOOL_CALLS),
    ]
