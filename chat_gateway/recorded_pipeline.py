"""A pipeline that answers only while its decisions can be recorded."""

from collections.abc import AsyncGenerator

from chat_gateway.chat import ChatEvent, ChatRequest
from chat_gateway.generators.protocol import Generator
from chat_gateway.guard import Guard
from chat_gateway.observer import Observer
from chat_gateway.pipeline import ChatPipeline
from chat_gateway.policy import GatewayPolicy
from chat_gateway.recording import Recorder, require_recording


class RecordedPipeline(ChatPipeline):
    """Refuses new chats while `recorder` is not working; those under way go on."""

    def __init__(
        self, guard: Guard, generator: Generator, observer: Observer, recorder: Recorder
    ) -> None:
        super().__init__(guard, generator, observer)
        self._recorder = recorder

    def chat(
        self,
        request: ChatRequest,
        policy: GatewayPolicy,
        *,
        request_id: str,
        deadline: float,
        tells_held: bool = False,
    ) -> AsyncGenerator[ChatEvent, None]:
        """As `ChatPipeline.chat`; raises `GuardUnavailable` at once where nothing is recorded."""
        require_recording(self._recorder)
        return super().chat(
            request, policy, request_id=request_id, deadline=deadline, tells_held=tells_held
        )
