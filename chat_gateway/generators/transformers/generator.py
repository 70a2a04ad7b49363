"""A generator on a model in this process: one answer at a time, a few that wait, no more."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from chat_gateway.chat import (
    ChatRequest,
    GatewayError,
    GeneratorEvent,
    GeneratorFailed,
    InvalidChat,
    OutOfTime,
    Sampling,
    TooBusy,
    UnknownModel,
)
from chat_gateway.generators.transformers.chat_prompt import ChatPrompts
from chat_gateway.generators.transformers.sampling_limits import check_sampling
from chat_gateway.generators.transformers.writing import Draw, Emit, LlamaWriter

_T = TypeVar("_T")
_TEMPERATURE, _TOP_P = 0.6, 0.9  # what Llama 3 Instruct was published with
_BUSY_PAUSE_SECONDS = 2.0
_A_FEW_TOKENS = Draw(temperature=0.0, top_p=1.0, max_tokens=4)


class _Answer:
    """What the model's thread has written and the event loop has not read yet."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[GeneratorEvent | None] = asyncio.Queue()
        self._cancelled = threading.Event()

    def put(self, event: GeneratorEvent) -> None:
        """Hand on an event; called by the model's thread."""
        self._loop.call_soon_threadsafe(self._events.put_nowait, event)

    def end(self, then: Callable[[], None]) -> None:
        """Do a last thing, then say that there are no more; called by the model's thread."""
        self._loop.call_soon_threadsafe(self._end, then)

    async def get(self, deadline: float) -> GeneratorEvent | None:
        """The next event, or None after the last.

        Raises:
            OutOfTime: the deadline passed first.
        """
        return await _before(deadline, self._events.get())

    def _end(self, then: Callable[[], None]) -> None:
        then()
        self._events.put_nowait(None)

    def cancel(self) -> None:
        """Ask the model to stop at the next token."""
        self._cancelled.set()

    def is_cancelled(self) -> bool:
        """Whether nobody wants the rest."""
        return self._cancelled.is_set()


async def _before(deadline: float, awaited: Awaitable[_T]) -> _T:
    try:
        async with asyncio.timeout(deadline - time.monotonic()):
            return await awaited
    except TimeoutError:
        raise OutOfTime("the model did not finish before the deadline") from None


class TransformersGenerator:
    """Answers one chat at a time; up to `max_waiting` more wait for their turn.

    It belongs to the event loop that first asks it. A prompt and its answer share
    `max_context_tokens`; an answer whose length the caller leaves
    open may have `default_answer_tokens`.
    """

    def __init__(
        self,
        writer: LlamaWriter,
        prompts: ChatPrompts,
        *,
        name: str,
        max_context_tokens: int,
        default_answer_tokens: int,
        max_waiting: int,
    ) -> None:
        self._writer = writer
        self._prompts = prompts
        self._name = name
        self._max_context_tokens = max_context_tokens
        self._default_answer_tokens = default_answer_tokens
        self._max_waiting = max_waiting
        self._turn = asyncio.Lock()
        self._answers: set[_Answer] = set()
        self._closed = False
        self._failed_last = False
        # One thread for ever: compiled steps belong to the thread that compiled them.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="generator")

    @property
    def models(self) -> tuple[str, ...]:
        """The one model there is."""
        return (self._name,)

    def check(self, request: ChatRequest) -> None:
        """Refuse what this model cannot do.

        Raises:
            InvalidChat: names the parameter and what is allowed.
        """
        if request.model != self._name:
            raise UnknownModel("model", f"must be {self._name}")
        if request.tools:
            raise InvalidChat("tools", "this model cannot call tools")
        if request.tool_choice not in (None, "none"):
            raise InvalidChat("tool_choice", "this model cannot call tools")
        self._prompts.check(request.messages)
        check_sampling(request.sampling)

    async def generate(
        self, request: ChatRequest, *, deadline: float
    ) -> AsyncIterator[GeneratorEvent]:
        """The answer, token by token; closing the iterator stops the model within a token.

        `deadline` is on the clock of `time.monotonic`.

        Raises:
            GatewayError: TooBusy, GeneratorFailed, InvalidChat or OutOfTime.
        """
        self.check(request)
        with self._place() as answer:
            # A long prompt takes a while to read, and nobody else should wait for it.
            prompt = await asyncio.to_thread(self._prompts.encode, request.messages)
            draw = self._draw(request.sampling, len(prompt))
            await self._take_turn(deadline)
            written = self._begin(prompt, draw, answer)
            while (event := await answer.get(deadline)) is not None:
                yield event
            written.result()

    def warm_up(self) -> None:
        """Write a few tokens, so that the first answer does not wait for what is done only once.

        Raises:
            GeneratorFailed: the model does not work.
        """
        self._try_out().result()

    async def is_ready(self) -> bool:
        """Whether the model is loaded and works; one that failed is tried on a few tokens."""
        if self._failed_last and not self._answers and not self._closed:
            await asyncio.wait([asyncio.wrap_future(self._try_out())])
        return not self._closed and not self._failed_last

    async def close(self) -> None:
        """Stop what runs and end the model's thread."""
        self._closed = True
        for answer in self._answers:
            answer.cancel()
        await asyncio.to_thread(self._thread.shutdown)

    async def _take_turn(self, deadline: float) -> None:
        """Wait until the model is free; who leaves the queue leaves nothing behind in it."""
        if time.monotonic() >= deadline:
            raise OutOfTime("the deadline passed before the model could begin")
        await _before(deadline, self._turn.acquire())
        if self._closed:
            self._turn.release()
            raise GeneratorFailed("the model is shutting down")

    def _begin(self, prompt: list[int], draw: Draw, answer: _Answer) -> Future[None]:
        """Give the turn to the model's thread, which hands it on when it has really stopped."""
        written = self._thread.submit(self._write, prompt, draw, answer.put, answer.is_cancelled)
        written.add_done_callback(lambda _: answer.end(self._turn.release))
        return written

    def _try_out(self) -> Future[None]:
        prompt = [self._writer.terminators[0]]
        return self._thread.submit(
            self._write, prompt, _A_FEW_TOKENS, lambda _: None, lambda: False
        )

    @contextmanager
    def _place(self) -> Iterator[_Answer]:
        if len(self._answers) > self._max_waiting:
            raise TooBusy("too many answers wait for the model", _BUSY_PAUSE_SECONDS)
        answer = _Answer()
        self._answers.add(answer)
        try:
            yield answer
        finally:
            answer.cancel()
            self._answers.discard(answer)

    def _draw(self, sampling: Sampling, num_prompt_tokens: int) -> Draw:
        """The caller's choices with the gaps filled, if they fit the model's context."""
        room = self._max_context_tokens - num_prompt_tokens
        if room < (sampling.max_tokens or 1):
            asked = f" and {sampling.max_tokens} for the answer" if sampling.max_tokens else ""
            raise InvalidChat(
                "messages",
                f"{num_prompt_tokens} tokens{asked} are more than this model's context of "
                f"{self._max_context_tokens} tokens",
            )
        return Draw(
            temperature=_TEMPERATURE if sampling.temperature is None else sampling.temperature,
            top_p=_TOP_P if sampling.top_p is None else sampling.top_p,
            max_tokens=sampling.max_tokens or min(self._default_answer_tokens, room),
            stop=sampling.stop,
            seed=sampling.seed,
            num_choices=sampling.num_choices,
        )

    def _write(
        self, prompt: list[int], draw: Draw, emit: Emit, is_cancelled: Callable[[], bool]
    ) -> None:
        """Runs on the model's thread."""
        try:
            self._writer.write(prompt, draw, emit, is_cancelled)
            self._failed_last = False
        except GatewayError:
            raise
        except Exception as error:
            # Fail closed: whatever the model's libraries raise, the answer is not complete.
            self._failed_last = True
            raise GeneratorFailed("the model failed on this request") from error
