"""Stand-ins at the gateway's two seams: an oracle for the guard, a script for the generator."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from chat_gateway.chat import ChatRequest, ChoiceFinished, FinishReason, GeneratorEvent, TextDelta
from guard_service.limits import Limits
from guard_service.moderation import (
    CategoryScore,
    Conversation,
    Coverage,
    InvalidRequest,
    Message,
    ModelInfo,
    Phase,
    Timings,
    Usage,
    Verdict,
)
from guard_service.policy import Policy, PolicyCategory
from guard_service.service_info import ServiceInfo
from guard_service.stream import Checkpoint

UNSAFE_PHRASE = "build a bomb"
"""What the oracle calls unsafe, wherever it stands in the last message."""

MODEL = ModelInfo("oracle", "0" * 40, "llama-guard-2")


def verdict(probability: float, phase: Phase = Phase.RESPONSE, code: str = "S9") -> Verdict:
    """A verdict with this P(unsafe); unsafe, in one category, from 0.5."""
    unsafe = probability >= 0.5
    listed = (CategoryScore(code, "Test Hazard", 0.8),)
    return Verdict(
        unsafe=unsafe,
        unsafe_probability=probability,
        categories=listed if unsafe else (),
        first_category=listed,
        phase=phase,
        model=MODEL,
        policy_id="test",
        policy_version="1",
        policy_digest="d" * 64,
        usage=Usage(prompt_tokens=10, cached_tokens=0, body_tokens=10),
        timings=Timings(0.0, 0.0, 0.0, 0.0),
        coverage=Coverage(1.0, 1),
    )


def oracle(text: str) -> float:
    """P(unsafe) of a last message: 0.9 where the unsafe phrase stands in it, else 0.01."""
    return 0.9 if UNSAFE_PHRASE in text else 0.01


@dataclass(slots=True)
class GuardCall:
    """What the guard was asked, how long it was given, and whether the caller left it."""

    conversation: Conversation
    policy_id: str
    request_id: str
    timeout_seconds: float | None
    streamed: bool
    closed: bool = False
    checkpoints: list[Checkpoint] = field(default_factory=list)

    @property
    def judged_text(self) -> str:
        """The last message as far as it has come."""
        return self.conversation[-1].content


@dataclass(slots=True)
class FakeGuard:
    """A guard that judges by `judge` the text of the last message, and keeps a journal.

    `prompt_error` and `stream_error` are raised instead of a verdict; the stream's once
    `num_good_checkpoints` were given. `prompt_seconds` and `check_seconds` are waited before each
    verdict (on a clock that a test may make a virtual one). `hold()` keeps all verdicts back until
    `release()`.
    """

    judge: Callable[[str], float] = oracle
    prompt_error: BaseException | None = None
    stream_error: BaseException | None = None
    num_good_checkpoints: int = 0
    prompt_seconds: float = 0.0
    check_seconds: float = 0.0
    calls: list[GuardCall] = field(default_factory=list)
    checkpoint_reached: asyncio.Event = field(default_factory=asyncio.Event)
    _gate: asyncio.Event | None = None

    def hold(self) -> None:
        self._gate = asyncio.Event()

    def release(self) -> None:
        if self._gate is not None:
            self._gate.set()

    async def moderate(
        self,
        conversation: Conversation,
        *,
        policy_id: str = "",
        request_id: str = "",
        timeout_seconds: float = 30.0,
    ) -> Verdict:
        call = GuardCall(conversation, policy_id, request_id, timeout_seconds, streamed=False)
        self.calls.append(call)
        try:
            await self.pause(self.prompt_seconds)
        finally:
            call.closed = True
        if self.prompt_error is not None:
            raise self.prompt_error
        return self.verdict_on(conversation)

    @asynccontextmanager
    async def stream(
        self,
        conversation: Conversation,
        *,
        policy_id: str = "",
        request_id: str = "",
        timeout_seconds: float | None = None,
    ) -> AsyncIterator["FakeGuardStream"]:
        call = GuardCall(conversation, policy_id, request_id, timeout_seconds, streamed=True)
        self.calls.append(call)
        try:
            yield FakeGuardStream(self, call)
        finally:
            call.closed = True

    async def info(self, *, timeout_seconds: float = 30.0) -> ServiceInfo:  # noqa: ARG002
        category = PolicyCategory("S9", "Test Hazard", "Nothing.", 0.5)
        policy = Policy("test", "1", "llama-guard-2", (category,), descriptions_in_prompt=False)
        return ServiceInfo(MODEL, (policy,), "test", Limits(), 8192)

    async def pause(self, seconds: float) -> None:
        if self._gate is not None:
            await self._gate.wait()
        if seconds:
            await asyncio.sleep(seconds)

    def verdict_on(self, conversation: Conversation) -> Verdict:
        last = conversation[-1]
        return verdict(self.judge(last.content), Phase.of(last.role))

    @property
    def streams(self) -> list[GuardCall]:
        return [call for call in self.calls if call.streamed]


class FakeGuardStream:
    """The client's side of a stream, as `guard_service.client.GuardStream` has it."""

    def __init__(self, guard: FakeGuard, call: GuardCall) -> None:
        self._guard = guard
        self._call = call
        self._check_wanted = asyncio.Event()
        self._finished = False

    async def send(self, text: str, *, check: bool = False) -> None:
        if "\0" in text:
            raise InvalidRequest("delta.text", "must not contain NUL (U+0000)")
        *history, last = self._call.conversation
        self._call.conversation = (*history, Message(last.role, last.content + text))
        if check and self._call.judged_text.strip():
            self._check_wanted.set()

    async def finish(self) -> None:
        self._finished = True
        self._check_wanted.set()

    async def checkpoints(self) -> AsyncIterator[Checkpoint]:
        final = False
        while not final:
            await self._check_wanted.wait()
            self._check_wanted.clear()
            conversation, final = self._call.conversation, self._finished
            await self._guard.pause(self._guard.check_seconds)
            self._fail(conversation)
            checkpoint = Checkpoint(
                self._guard.verdict_on(conversation), len(conversation[-1].content), final
            )
            self._call.checkpoints.append(checkpoint)
            self._guard.checkpoint_reached.set()
            yield checkpoint

    def _fail(self, conversation: Conversation) -> None:
        if not conversation[-1].content.strip():
            raise InvalidRequest("delta.text", "the stream ended without any text to judge")
        error = self._guard.stream_error
        if error is not None and len(self._call.checkpoints) >= self._guard.num_good_checkpoints:
            raise error


@dataclass(frozen=True, slots=True)
class Stall:
    """The generator writes nothing for this long."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Crash:
    """The generator ends with this error."""

    error: BaseException


Step = GeneratorEvent | Stall | Crash


def answer(text: str, *, piece: int = 4, choice: int = 0) -> list[Step]:
    """A text in pieces of so many characters, and its end."""
    pieces = [text[i : i + piece] for i in range(0, len(text), piece)]
    return [
        *(TextDelta(choice, each) for each in pieces),
        ChoiceFinished(choice, FinishReason.STOP),
    ]


class ScriptedGenerator:
    """Yields its script, step by step, to whoever asks, and keeps what it was asked.

    `num_steps` counts the steps that were taken; `ended` is set once nobody listens any more.
    """

    def __init__(self, script: Iterable[Step], *, models: Sequence[str] = ("scripted",)) -> None:
        self._script = tuple(script)
        self._models = tuple(models)
        self.requests: list[ChatRequest] = []
        self.deadlines: list[float] = []
        self.refusal: BaseException | None = None
        self.num_steps = 0
        self.ended = asyncio.Event()

    @property
    def closed(self) -> bool:
        return self.ended.is_set()

    @property
    def models(self) -> tuple[str, ...]:
        return self._models

    def check(self, request: ChatRequest) -> None:  # noqa: ARG002
        if self.refusal is not None:
            raise self.refusal

    async def generate(
        self, request: ChatRequest, *, deadline: float
    ) -> AsyncIterator[GeneratorEvent]:
        self.requests.append(request)
        self.deadlines.append(deadline)
        try:
            for step in self._script:
                # A real one waits for its model here, and others get their turn.
                await asyncio.sleep(0)
                self.num_steps += 1
                if isinstance(step, Stall):
                    await asyncio.sleep(step.seconds)
                elif isinstance(step, Crash):
                    raise step.error
                else:
                    yield step
        finally:
            self.ended.set()

    async def is_ready(self) -> bool:
        return not self.closed

    async def close(self) -> None:
        self.ended.set()
