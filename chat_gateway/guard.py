"""What the pipeline knows of the guard: the part of `guard_service.client.GuardClient` it uses."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from guard_service.moderation import Conversation, Verdict
from guard_service.service_info import ServiceInfo
from guard_service.stream import Checkpoint


class GuardStream(Protocol):
    """A conversation whose last message grows; every method raises `ModerationError`s."""

    async def send(self, text: str, *, check: bool = False) -> None:
        """Add text to the growing message; with `check`, ask for a checkpoint that covers it."""

    async def finish(self) -> None:
        """Say that no more text will come: the final checkpoint follows."""

    def checkpoints(self) -> AsyncIterator[Checkpoint]:
        """Checkpoints as they are reached, the final one last."""


class Guard(Protocol):
    """Judges conversations. Every call raises `ModerationError`s; an error is never safe."""

    async def moderate(
        self,
        conversation: Conversation,
        *,
        policy_id: str = "",
        request_id: str = "",
        timeout_seconds: float = ...,
    ) -> Verdict:
        """The verdict on the last turn."""

    def stream(
        self,
        conversation: Conversation,
        *,
        policy_id: str = "",
        request_id: str = "",
        timeout_seconds: float | None = None,
    ) -> AbstractAsyncContextManager[GuardStream]:
        """Judge again and again as the last message, which may start empty, grows."""

    async def info(self, *, timeout_seconds: float = ...) -> ServiceInfo:
        """Which model judges, by which policies, within which limits."""
