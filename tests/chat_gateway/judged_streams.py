"""Answers of every shape through everything that is real, and what must hold of each.

A model server that cuts its bytes anywhere, the generator that reads it, the pipeline, the guard's
client, its gRPC server and its model: only the words of the answer are scripted.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field

from chat_gateway.chat import (
    Blocked,
    Channel,
    ChoiceFinished,
    FinishReason,
    GatewayError,
    GeneratorFailed,
    TextDelta,
    ToolCallDelta,
)
from chat_gateway.generators.openai import OpenAIGenerator
from chat_gateway.generators.upstream import Patience
from chat_gateway.observer import NullObserver
from chat_gateway.pipeline import ChatPipeline
from chat_gateway.policy import Checkpoints, GatewayPolicy, Mode
from guard_service.batcher import Batcher
from guard_service.client import GuardClient
from guard_service.engine.protocol import Engine
from guard_service.grpc_server.options import ServerOptions
from guard_service.grpc_server.server import GuardServer
from guard_service.metrics import Metrics
from guard_service.moderation import Conversation, Verdict
from guard_service.moderator import Moderator
from guard_service.policy import default_policy
from guard_service.prompt_formats import FORMATS
from tests.chat_gateway.byte_upstream import Settle, cut_into
from tests.chat_gateway.conversing import LONG_SECONDS, Seen, asking, transcript_of, user
from tests.chat_gateway.fakes import Crash, Stall, Step
from tests.chat_gateway.recorded_guard import Record, RecordedGuard
from tests.chat_gateway.upstreams import running_upstream
from tests.running import PATIENT

ENDLESS = Patience(first_byte_seconds=LONG_SECONDS, between_chunks_seconds=LONG_SECONDS)
"""The model server waits for a guard that may be slow on a busy machine."""

MAX_DIFFERENCE = 1e-4
"""Between P(unsafe) of a stream's verdict and of the unary one on the same text."""

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


@dataclass(slots=True)
class Tally:
    """What became of many answers."""

    streams: int = 0
    choices_blocked: int = 0
    choices_blocked_after_some_text: int = 0
    choices_passed: int = 0
    crashed: int = 0
    checks: int = 0
    verdicts_compared: int = 0
    max_difference: float = 0.0
    unary: dict[Conversation, Verdict] = field(default_factory=dict)


def scenarios(count: int, *, seed: int = 1) -> list[Scenario]:
    """So many answers, the kinds in turn, everything else by chance."""
    return [scenario(KINDS[i % len(KINDS)], random.Random(f"{seed}-{i}")) for i in range(count)]


def scenario(kind: str, chance: random.Random) -> Scenario:
    num_choices = 2 if kind == "choices" else 1
    unsafe_choice = chance.randrange(2)
    sides = []
    for choice in range(num_choices):
        harmful = {"text": False, "tool call": False, "choices": choice == unsafe_choice}
        text = words(chance, harmful=harmful.get(kind, chance.random() < 0.7))
        # Different beginnings tell the records of two choices apart.
        sides.append(side(kind, f"{choice}. {text}", choice, chance))
    steps: list[Step | Settle] = []
    while any(sides):
        steps.append(chance.choice([each for each in sides if each]).pop(0))
    if kind == "stall":
        steps.insert(chance.randrange(len(steps)), Stall(CLOSE.every_seconds * 1.2))
    if kind == "crash":
        steps[chance.randrange(len(steps)) :] = [Crash(ConnectionError())]
    mode = Mode.BUFFER if kind == "buffer" else Mode.STRICT
    policy = GatewayPolicy(
        checkpoints=CLOSE, mode=mode, parallel_prompt_check=chance.random() < 0.5
    )
    num_bytes = chance.choice((1, 2, 3, 7, 40, 400))
    return Scenario(kind, tuple(steps), num_bytes, policy, num_choices)


def words(chance: random.Random, *, harmful: bool) -> str:
    """A few sentences; a harmful one at any offset, even within another's word."""
    text = "".join(chance.choices(HARMLESS, k=chance.randrange(1, 5)))
    if not harmful:
        return text
    offset = chance.randrange(len(text) + 1)
    return text[:offset] + chance.choice(HARMFUL) + text[offset:]


def side(kind: str, text: str, choice: int, chance: random.Random) -> list[Step | Settle]:
    """One choice: its text in pieces of any length, perhaps a tool call, and its end."""
    steps: list[Step | Settle] = []
    channel = Channel.CONTENT
    while text:
        size = chance.choice((1, 2, 5, 9, 30))
        if chance.random() < 0.03:
            channel = chance.choice(tuple(Channel))
        steps.append(TextDelta(choice, text[:size], channel))
        text = text[size:]
        if chance.random() < 0.25:
            steps.append(Settle())
    if "tool call" not in kind:
        return [*steps, ChoiceFinished(choice, FinishReason.STOP)]
    query = chance.choice(HARMFUL if kind == "unsafe tool call" else HARMLESS).strip()
    arguments = f'{{"query": "{query}"}}'
    cut = chance.randrange(len(arguments))
    steps += [
        ToolCallDelta(choice, 0, arguments[:cut], "call-0", "search"),
        ToolCallDelta(choice, 0, arguments[cut:]),
    ]
    return [*steps, ChoiceFinished(choice, FinishReason.TOOL_CALLS)]


@asynccontextmanager
async def real_guard(engine: Engine) -> AsyncIterator[GuardClient]:
    """A guard's real server over this engine, on a free port, and its real client."""
    policy = default_policy("llama-guard-2")
    metrics = Metrics(category.code for category in policy.categories)
    batcher = Batcher(
        engine,
        max_batch_tokens=4096,
        max_queue_items=1000,
        max_queue_tokens=1_000_000,
        observer=metrics,
    )
    moderator = Moderator(
        engine=engine,
        prompt_format=FORMATS[policy.prompt_format],
        policies={policy.id: policy},
        default_policy_id=policy.id,
        batcher=batcher,
        limits=PATIENT,
        observer=metrics,
    )
    options = ServerOptions(port=0, stream_idle_seconds=LONG_SECONDS)
    async with GuardServer(moderator, batcher, options, metrics) as server:
        await server.welcome()
        async with GuardClient(f"127.0.0.1:{server.port}") as client:
            yield client


async def prove_all(client: GuardClient, wanted: Iterable[Scenario], *, at_once: int = 4) -> Tally:
    """Play answers, several at a time so that they share the guard's batches.

    Raises:
        AssertionError: a promise was broken.
    """
    tally = Tally()
    waiting = iter(wanted)

    async def prove_in_turn() -> None:
        for each in waiting:
            await prove(client, each, tally)

    async with asyncio.TaskGroup() as together:
        for _ in range(at_once):
            together.create_task(prove_in_turn())
    return tally


async def prove(client: GuardClient, scenario: Scenario, tally: Tally) -> None:
    """Play one answer and require of it all that is promised.

    Raises:
        AssertionError: a promise was broken.
    """
    guard = RecordedGuard(client, tally.unary)
    seen = await play(guard, scenario)
    require_well_formed_end(scenario, seen)
    for record in guard.records:
        await require_unary_verdict(guard, record, tally)
    count(seen, guard.records, tally)


async def play(guard: RecordedGuard, scenario: Scenario) -> Seen:
    """Read the answer, and look at every event whether its text had been judged safe by then."""
    seen = Seen()
    script = cut_into(scenario.steps, scenario.num_bytes, lambda: guard.is_settled)
    async with running_upstream(script) as upstream:
        generator = OpenAIGenerator(
            base_url=upstream.base_url, models=("scripted",), patience=ENDLESS
        )
        told = ChatPipeline(guard, generator, NullObserver()).chat(
            asking(user("Go on."), num_choices=scenario.num_choices),
            scenario.policy,
            request_id="",
            deadline=time.monotonic() + LONG_SECONDS,
        )
        try:
            async with aclosing(told):
                async for event in told:
                    seen.events.append(event)
                    if isinstance(event, TextDelta | ToolCallDelta):
                        require_judged_safe(seen.text(event.choice), guard.records)
        except GatewayError as error:
            seen.error = error
        finally:
            await generator.close()
    return seen


def require_judged_safe(released: str, records: Iterable[Record]) -> None:
    covered = any(record.safe_text.startswith(released) for record in records)
    assert covered or not released.strip(), f"released without a safe verdict: {released!r}"


def require_well_formed_end(scenario: Scenario, seen: Seen) -> None:
    """Every choice is whole and finished, or blocked once with nothing after it, or cut short."""
    for choice in range(scenario.num_choices):
        whole = transcript_of(scenario.steps, choice)
        own = [event for event in seen.events if getattr(event, "choice", None) == choice]
        blocks = [event for event in own if isinstance(event, Blocked)]
        finishes = [event for event in own if isinstance(event, ChoiceFinished)]
        assert whole.startswith(seen.text(choice))
        if blocks:
            [block] = blocks
            assert own[-1] is block
            assert finishes == []
            assert block.refusal == scenario.policy.refusal
            assert block.verdict is not None
            assert block.verdict.unsafe
        elif seen.error is None:
            assert len(finishes) == 1
            assert own[-1] is finishes[0]
            assert seen.text(choice) == whole
            assert covers(seen, choice, len(whole))
        else:
            assert finishes == []
    allowed = GeneratorFailed if scenario.crashes else ()
    assert seen.error is None or isinstance(seen.error, allowed), repr(seen.error)


def covers(seen: Seen, choice: int, num_characters: int) -> bool:
    """Whether the last verdict told is the final one, safe, and on all of the text."""
    last = [each for each in seen.verdicts if each.choice == choice][-1]
    return last.final and not last.verdict.unsafe and last.num_characters == num_characters


async def require_unary_verdict(guard: RecordedGuard, record: Record, tally: Tally) -> None:
    """The stream's last verdict is the one that its text gets when judged whole."""
    if not record.checkpoints:
        return
    last = record.checkpoints[-1]
    conversation = record.conversation(last.num_characters)
    unary = await guard.moderate(conversation, timeout_seconds=LONG_SECONDS)
    streamed = last.verdict
    difference = abs(unary.unsafe_probability - streamed.unsafe_probability)
    assert difference <= MAX_DIFFERENCE
    assert unary.unsafe == streamed.unsafe
    assert [each.code for each in unary.categories] == [each.code for each in streamed.categories]
    tally.verdicts_compared += 1
    tally.max_difference = max(tally.max_difference, difference)


def count(seen: Seen, records: Iterable[Record], tally: Tally) -> None:
    tally.streams += 1
    tally.choices_blocked += len(seen.blocks)
    tally.choices_blocked_after_some_text += sum(
        bool(seen.text(b.choice or 0)) for b in seen.blocks
    )
    tally.choices_passed += len(seen.finishes)
    tally.crashed += seen.error is not None
    tally.checks += sum(len(record.checkpoints) for record in records)
