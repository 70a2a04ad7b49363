"""The order of the gateway: judge the prompt, generate, judge the answer, release or refuse."""

from collections.abc import AsyncIterator

from chat_gateway.chat import ChatEvent, ChatRequest
from chat_gateway.generators.protocol import Generator
from chat_gateway.guard import Guard
from chat_gateway.observer import Observer
from chat_gateway.policy import GatewayPolicy


class ChatPipeline:
    """Answers conversations and lets nothing pass that the guard has not judged."""

    def __init__(self, guard: Guard, generator: Generator, observer: Observer) -> None:
        self._guard = guard
        self._generator = generator
        self._observer = observer

    def chat(
        self, request: ChatRequest, policy: GatewayPolicy, *, request_id: str, deadline: float
    ) -> AsyncIterator[ChatEvent]:
        """What the client may be told, in order; closing the iterator ends guard and generator.

        `deadline` is on the clock of `time.monotonic`. `Blocked` with choice None ends
        everything; with a choice it ends that one in place of its `ChoiceFinished`.

        Raises:
            GatewayError: any of the tree; what was said before stays said.
        """
        raise NotImplementedError
