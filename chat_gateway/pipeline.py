"""The order of the gateway: judge the prompt, generate, judge the answer, release or refuse."""

from collections.abc import AsyncGenerator
from typing import Protocol

from chat_gateway.answer import Answer
from chat_gateway.chat import Blocked, ChatEvent, ChatRequest
from chat_gateway.exchange import Exchange
from chat_gateway.generators.protocol import Generator
from chat_gateway.guard import Guard
from chat_gateway.observer import Observer
from chat_gateway.outcome import OutcomeReport
from chat_gateway.policy import GatewayPolicy
from chat_gateway.prompt_check import judge_prompt
from chat_gateway.recording import Recorder, require_recording
from chat_gateway.transcript import conversation_of


class Pipeline(Protocol):
    """What callers know of a pipeline."""

    def chat(
        self,
        request: ChatRequest,
        policy: GatewayPolicy,
        *,
        request_id: str,
        deadline: float,
        tells_held: bool = False,
    ) -> AsyncGenerator[ChatEvent, None]:
        """What the client may be told, in order; see `ChatPipeline.chat`."""


class ChatPipeline:
    """Answers conversations and lets nothing pass that the guard has not judged.

    With a `recorder`, no chat begins while it is not working; those under way go on.
    """

    def __init__(
        self,
        guard: Guard,
        generator: Generator,
        observer: Observer,
        recorder: Recorder | None = None,
    ) -> None:
        self._guard = guard
        self._generator = generator
        self._observer = observer
        self._recorder = recorder

    async def chat(
        self,
        request: ChatRequest,
        policy: GatewayPolicy,
        *,
        request_id: str,
        deadline: float,
        tells_held: bool = False,
    ) -> AsyncGenerator[ChatEvent, None]:
        """What the client may be told, in order; closing the iterator ends guard and generator.

        With `tells_held`, `Held` is among it whenever what is held back has changed. `deadline` is
        on the clock of `time.monotonic`. `Blocked` with choice None ends everything; with a choice
        it ends that one in place of its `ChoiceFinished`.

        Raises:
            GatewayError: any of the tree; what was said before stays said.
        """
        with OutcomeReport(self._observer) as outcome:
            require_recording(self._recorder)
            self._generator.check(request)
            exchange = Exchange(
                request=request,
                conversation=conversation_of(request.messages),
                policy=policy,
                request_id=request_id,
                deadline=deadline,
                observer=self._observer,
                tells_held=tells_held,
            )
            async with Answer(self._guard, self._generator, exchange) as answer:
                if policy.parallel_prompt_check or not policy.mode.blocks:
                    answer.start()
                if policy.mode.blocks:
                    for event in await judge_prompt(self._guard, exchange):
                        outcome.saw(event)
                        yield event
                        if isinstance(event, Blocked):
                            return
                    answer.open()
                else:
                    answer.report(judge_prompt(self._guard, exchange))
                async for event in answer:
                    outcome.saw(event)
                    yield event
