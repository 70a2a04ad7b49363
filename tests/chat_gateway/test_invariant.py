"""Nothing unjudged is released: scripted answers of every shape against an oracle guard."""

import random
import time
from collections.abc import Iterable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from itertools import islice

import pytest

from chat_gateway.chat import (
    Channel,
    ChoiceFinished,
    FinishReason,
    GatewayError,
    GeneratorFailed,
    TextDelta,
    ToolCallDelta,
)
from chat_gateway.observer import NullObserver
from chat_gateway.pipeline import ChatPipeline
from chat_gateway.policy import Checkpoints, GatewayPolicy, Mode
from tests.chat_gateway.conversing import LONG_SECONDS, Seen, asking, transcript_of
from tests.chat_gateway.fakes import (
    UNSAFE_PHRASE,
    Crash,
    FakeGuard,
    ScriptedGenerator,
    Stall,
    Step,
    oracle,
)
from tests.chat_gateway.virtual_time import run_virtually

STORY = "Once there was a fox. It ran, and ran; 3.5 miles! Then\nit slept.  "
CLOSE = Checkpoints(first_characters=8, every_characters=16, max_every_characters=32)
STRICT = GatewayPolicy(checkpoints=CLOSE)
MIN_STREAMS = 10_000
STOP = FinishReason.STOP


@dataclass(frozen=True, slots=True)
class Scenario:
    """What a generator does, under which policy, and how long the guard takes for each check."""

    script: tuple[Step, ...]
    policy: GatewayPolicy = STRICT
    num_choices: int = 1
    check_seconds: float = 0.0

    @property
    def crashes(self) -> bool:
        return any(isinstance(step, Crash) for step in self.script)


def unsafe_at(offset: int) -> str:
    return STORY[:offset] + UNSAFE_PHRASE + STORY[offset:]


def text_of(pieces: Iterable[str], *, choice: int = 0) -> list[Step]:
    return [*(TextDelta(choice, piece) for piece in pieces), ChoiceFinished(choice, STOP)]


def pieces_of(text: str, size: int) -> list[str]:
    return [text[i : i + size] for i in range(0, len(text), size)]


def every_offset_split_at_every_boundary() -> Iterator[Scenario]:
    for offset in range(len(STORY) + 1):
        text = unsafe_at(offset)
        for cut in range(1, len(text)):
            yield Scenario(tuple(text_of((text[:cut], text[cut:]))))


def every_offset_in_pieces_of_every_size() -> Iterator[Scenario]:
    for offset in range(len(STORY) + 1):
        for size in (1, 2, 3, 5, 8, 13, 40):
            for check_seconds in (0.0, 0.7):
                script = text_of(pieces_of(unsafe_at(offset), size))
                yield Scenario(tuple(script), check_seconds=check_seconds)


def tool_calls_split_at_every_boundary() -> Iterator[Scenario]:
    for name, query in (("search", UNSAFE_PHRASE), ("search", "foxes"), (UNSAFE_PHRASE, "foxes")):
        arguments = f'{{"query": "{query}", "n": 1}}'
        for cut in range(len(arguments) + 1):
            for other in (False, True):
                calls = [
                    ToolCallDelta(0, 1, arguments[:cut], "call-1", name),
                    ToolCallDelta(0, 1, arguments[cut:]),
                ]
                if other:
                    calls.insert(1, ToolCallDelta(0, 0, '{"a": 1}', "call-0", "look"))
                end = ChoiceFinished(0, FinishReason.TOOL_CALLS)
                yield Scenario((TextDelta(0, "Let me look that up. "), *calls, end))


def channels_that_take_turns() -> Iterator[Scenario]:
    for cut in range(1, len(UNSAFE_PHRASE)):
        for other in (Channel.REASONING, Channel.REFUSAL):
            for between in (" ", "\n\n", "Hm. ", STORY):
                yield Scenario(
                    (
                        TextDelta(0, STORY + UNSAFE_PHRASE[:cut]),
                        TextDelta(0, between, other),
                        TextDelta(0, UNSAFE_PHRASE[cut:] + STORY),
                        ChoiceFinished(0, STOP),
                    )
                )


def two_choices_at_once() -> Iterator[Scenario]:
    for offset in range(0, len(STORY) + 1, 2):
        for unsafe_choice in (0, 1):
            for size in (3, 7):
                texts = [STORY, STORY]
                texts[unsafe_choice] = unsafe_at(offset)
                sides = [text_of(pieces_of(texts[i], size), choice=i) for i in (0, 1)]
                script = [step for pair in zip(*sides, strict=False) for step in pair]
                rest = [side[len(script) // 2 :] for side in sides]
                yield Scenario((*script, *rest[0], *rest[1]), num_choices=2)


def crashes_at_every_step() -> Iterator[Scenario]:
    for error in (GeneratorFailed("gone"), ValueError("a private text")):
        for text in (STORY, unsafe_at(30)):
            steps = text_of(pieces_of(text, 2))
            for i in range(len(steps)):
                yield Scenario((*steps[:i], Crash(error)), check_seconds=(i % 3) * 0.3)


def anything_at_random() -> Iterator[Scenario]:
    for seed in range(5100):
        yield random_scenario(random.Random(seed))


def random_scenario(chance: random.Random) -> Scenario:
    num_choices = chance.choice((1, 1, 2, 3))
    sides = [random_side(chance, choice) for choice in range(num_choices)]
    script: list[Step] = []
    while any(sides):
        side = chance.choice([side for side in sides if side])
        script.append(side.pop(0))
        if chance.random() < 0.05:
            script.append(Stall(chance.choice((0.1, 1.0, 30.0))))
    policy = GatewayPolicy(
        checkpoints=CLOSE if chance.random() < 0.7 else Checkpoints(),
        mode=chance.choice((Mode.STRICT, Mode.STRICT, Mode.BUFFER)),
        parallel_prompt_check=chance.random() < 0.3,
        hold_from=chance.choice((None, 0.005)),
        release_after_hold=chance.random() < 0.5,
        max_hold_seconds=1000.0,
    )
    return Scenario(tuple(script), policy, num_choices, chance.choice((0.0, 0.05, 3.0)))


def random_side(chance: random.Random, choice: int) -> list[Step]:
    text = " ".join(chance.choices(STORY.split(" "), k=chance.randrange(30)))
    offset = chance.randrange(len(text) + 1)
    if chance.random() < 0.5:
        text = text[:offset] + UNSAFE_PHRASE + text[offset:]
    steps: list[Step] = []
    channel = Channel.CONTENT
    while text:
        size = chance.choice((0, 1, 2, 3, 7, 20))
        if chance.random() < 0.1:
            channel = chance.choice(tuple(Channel))
        steps.append(TextDelta(choice, text[:size], channel))
        text = text[size:]
    if chance.random() < 0.2:
        arguments = chance.choice(('{"a": 1}', f'{{"how": "{UNSAFE_PHRASE}"}}'))
        steps.append(ToolCallDelta(choice, 0, arguments[:5], "call", "search"))
        steps.append(ToolCallDelta(choice, 0, arguments[5:]))
    return [*steps, ChoiceFinished(choice, STOP)]


FAMILIES = (
    every_offset_split_at_every_boundary,
    every_offset_in_pieces_of_every_size,
    tool_calls_split_at_every_boundary,
    channels_that_take_turns,
    two_choices_at_once,
    crashes_at_every_step,
    anything_at_random,
)


async def observe(scenario: Scenario) -> tuple[Seen, FakeGuard]:
    """Read the answer, and look after every event whether what was seen had been judged safe."""
    guard = FakeGuard(check_seconds=scenario.check_seconds, prompt_seconds=0.1)
    pipeline = ChatPipeline(guard, ScriptedGenerator(scenario.script), NullObserver())
    told = pipeline.chat(
        asking(num_choices=scenario.num_choices),
        scenario.policy,
        request_id="r",
        deadline=time.monotonic() + LONG_SECONDS,
    )
    seen = Seen()
    try:
        async with aclosing(told):
            async for event in told:
                seen.events.append(event)
                if isinstance(event, TextDelta | ToolCallDelta):
                    require_judged_safe(seen.text(event.choice), guard)
                    require_safe_to_read(seen, event.choice)
    except GatewayError as error:
        seen.error = error
    return seen, guard


def require_judged_safe(released: str, guard: FakeGuard) -> None:
    judged_safe = [
        stream.judged_text[: checkpoint.num_characters]
        for stream in guard.streams
        for checkpoint in stream.checkpoints
        if not checkpoint.verdict.unsafe
    ]
    is_judged = any(prefix.startswith(released) for prefix in judged_safe)
    assert is_judged or not released.strip(), f"unjudged: {released!r}"
    assert oracle(released) < 0.5, f"unsafe: {released!r}"


def require_safe_to_read(seen: Seen, choice: int) -> None:
    """A client puts the pieces of a channel together, whatever came between them."""
    for channel in Channel:
        pieces = [e.text for e in seen.of(TextDelta) if (e.choice, e.channel) == (choice, channel)]
        assert oracle("".join(pieces)) < 0.5, f"unsafe {channel}: {pieces!r}"


def require_right_end(scenario: Scenario, seen: Seen) -> None:
    blocked = {block.choice for block in seen.blocks}
    finished = {finish.choice for finish in seen.finishes}
    for choice in range(scenario.num_choices):
        whole = transcript_of(scenario.script, choice)
        unary_is_unsafe = oracle(whole) >= 0.5
        assert whole.startswith(seen.text(choice))
        assert not (choice in blocked and not unary_is_unsafe)
        if scenario.crashes:
            continue
        assert (choice in blocked) == unary_is_unsafe
        assert (choice in finished) == (not unary_is_unsafe)
        if not unary_is_unsafe:
            assert seen.text(choice) == whole
            require_final_verdict(seen, choice, whole)
    if not scenario.crashes:
        assert seen.error is None
    elif seen.error is not None:
        assert isinstance(seen.error, GeneratorFailed)
        assert "private" not in str(seen.error)


def require_final_verdict(seen: Seen, choice: int, whole: str) -> None:
    finals = [each for each in seen.verdicts if each.choice == choice and each.final]
    if not whole.strip():
        assert finals == []
        return
    [final] = finals
    [finish] = [each for each in seen.finishes if each.choice == choice]
    assert seen.events.index(final) < seen.events.index(finish)
    assert final.num_characters == len(whole)
    assert final.verdict.unsafe_probability == oracle(whole)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_no_character_is_released_before_a_prefix_that_covers_it_was_judged_safe(family):
    async def check_all() -> None:
        for scenario in family():
            seen, _ = await observe(scenario)
            require_right_end(scenario, seen)

    run_virtually(check_all())


def test_the_families_are_at_least_ten_thousand_strict_streams():
    modes = [scenario.policy.mode for family in FAMILIES for scenario in family()]
    assert modes.count(Mode.STRICT) >= MIN_STREAMS


def test_every_guard_stream_is_closed_once_an_answer_is_over():
    async def check_all() -> None:
        for scenario in islice(anything_at_random(), 200):
            _, guard = await observe(scenario)
            assert all(call.closed for call in guard.calls)

    run_virtually(check_all())
