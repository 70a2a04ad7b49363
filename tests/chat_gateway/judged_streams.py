"""Answers of every shape through everything that is real, and what must hold of each.

A model server that cuts its bytes anywhere, the generator that reads it, the pipeline, the guard's
client, its gRPC server and its model: only the words of the answer are scripted. `over_http` is
that model server; `replayed_streams` has another generator, and what must hold is the same.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass, field

from chat_gateway.chat import (
    Blocked,
    ChoiceFinished,
    GatewayError,
    GeneratorFailed,
    TextDelta,
    ToolCallDelta,
)
from chat_gateway.generators.openai import OpenAIGenerator
from chat_gateway.generators.protocol import Generator
from chat_gateway.generators.upstream import Patience
from chat_gateway.guard import Guard
from chat_gateway.observer import NullObserver
from chat_gateway.pipeline import ChatPipeline
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
from tests.chat_gateway.answers_by_chance import Scenario
from tests.chat_gateway.byte_upstream import cut_into
from tests.chat_gateway.conversing import LONG_SECONDS, Seen, asking, transcript_of, user
from tests.chat_gateway.recorded_guard import Record, RecordedGuard
from tests.chat_gateway.upstreams import running_upstream
from tests.running import PATIENT

ENDLESS = Patience(first_byte_seconds=LONG_SECONDS, between_chunks_seconds=LONG_SECONDS)
"""The model server waits for a guard that may be slow on a busy machine."""

MAX_DIFFERENCE = 1e-4
"""Between P(unsafe) of a stream's verdict and of the unary one on the same text."""

Generating = Callable[[RecordedGuard, Scenario], AbstractAsyncContextManager[Generator]]
"""What writes the answer of a scenario."""


@dataclass(slots=True)
class Tally:
    """What became of many answers."""

    streams: int = 0
    choices_blocked: int = 0
    choices_blocked_after_some_text: int = 0
    choices_passed: int = 0
    crashed: int = 0
    characters_released: int = 0
    checks: int = 0
    verdicts_compared: int = 0
    max_difference: float = 0.0
    unary: dict[Conversation, Verdict] = field(default_factory=dict)


@asynccontextmanager
async def real_guard(engine: Engine) -> AsyncIterator[GuardClient]:
    """A guard's real server over this engine, on a free port, and its real client."""
    prompt_format = engine.info.prompt_format
    policy = default_policy(prompt_format)
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
        prompt_format=FORMATS[prompt_format],
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


async def prove(
    client: Guard, scenario: Scenario, tally: Tally, generating: Generating | None = None
) -> None:
    """Play one answer and require of it all that is promised.

    Raises:
        AssertionError: a promise was broken.
    """
    guard = RecordedGuard(client, tally.unary)
    async with (generating or over_http)(guard, scenario) as generator:
        seen = await play(guard, scenario, generator)
    require_well_formed_end(scenario, seen)
    for record in guard.records:
        await require_unary_verdict(guard, record, tally)
    count(seen, guard.records, tally, scenario.num_choices)


@asynccontextmanager
async def over_http(guard: RecordedGuard, scenario: Scenario) -> AsyncIterator[Generator]:
    """The gateway's own reader of a real model server."""
    script = cut_into(scenario.steps, scenario.num_bytes, lambda: guard.is_settled)
    async with running_upstream(script) as upstream:
        generator = OpenAIGenerator(
            base_url=upstream.base_url, models=("scripted",), patience=ENDLESS
        )
        try:
            yield generator
        finally:
            await generator.close()


async def play(guard: RecordedGuard, scenario: Scenario, generator: Generator) -> Seen:
    """Read the answer, and look at every event whether its text had been judged safe by then."""
    seen = Seen()
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


def count(seen: Seen, records: Iterable[Record], tally: Tally, num_choices: int) -> None:
    tally.streams += 1
    tally.choices_blocked += len(seen.blocks)
    tally.choices_blocked_after_some_text += sum(
        bool(seen.text(b.choice or 0)) for b in seen.blocks
    )
    tally.choices_passed += len(seen.finishes)
    tally.crashed += seen.error is not None
    tally.characters_released += sum(len(seen.text(choice)) for choice in range(num_choices))
    tally.checks += sum(len(record.checkpoints) for record in records)
