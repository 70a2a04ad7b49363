"""A pipeline that answers only while its decisions can be recorded."""

from collections.abc import AsyncGenerator
from typing import Protocol

from chat_gateway.chat import ChatEvent, ChatRequest, GuardUnavailable
from chat_gateway.generators.protocol import Generator
from chat_gateway.guard import Guard
from chat_gateway.observer import Observer
from chat_gateway.pipeline import ChatPipeline
from chat_gateway.policy import GatewayPolicy


class Recorder(Protocol):
    """Where decisions are recorded."""

    @property
    def is_working(self) -> bool:
        """Whether a decision made now would be recorded."""


class RecordedPipeline(ChatPipeline):
    """Refuses new chats while `recorder` is not working; those under way go on."""

    def __init__(
        self, guard: Guard, generator: Generator, observer: Observer, recorder: Recorder
    ) -> None:
        super().__init__(guard, generator, observer)
        self._recorder = recorder

    def chat(
        self, request: ChatRequest, policy: GatewayPolicy, *, request_id: str, deadline: float
    ) -> AsyncGenerator[ChatEvent, None]:
        """As `ChatPipeline.chat`; raises `GuardUnavailable` at once where nothing is recorded."""
        if not self._recorder.is_working:
            raise GuardUnavailable("decisions cannot be recorded now (audit_required)")
        return super().chat(request, policy, request_id=request_id, deadline=deadline)
