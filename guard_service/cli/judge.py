"""Who judges for a command: a model in this process, or a server."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

from guard_service.client import GuardClient
from guard_service.composition import running_moderator
from guard_service.moderation import Conversation, InvalidRequest, ModelInfo, Verdict
from guard_service.moderator import Moderator
from guard_service.policy import Policy
from guard_service.settings import ServeSettings


class Judge(Protocol):
    """What a model here and a server have in common; both raise any `ModerationError`."""

    async def moderate(self, conversation: Conversation, *, policy_id: str) -> Verdict:
        """The verdict on the last turn."""

    async def describe(self, policy_id: str) -> tuple[Policy, ModelInfo]:
        """By what is judged: the policy of this id, or the default one, and the model."""


@asynccontextmanager
async def judging(settings: ServeSettings, target: str | None) -> AsyncIterator[Judge]:
    """The server at `target`, or the model of the settings in this process."""
    if target is None:
        async with running_moderator(settings) as moderator:
            yield _Here(moderator)
    else:
        async with GuardClient(target) as client:
            yield _There(client)


class _Here:
    def __init__(self, moderator: Moderator) -> None:
        self._moderator = moderator

    async def moderate(self, conversation: Conversation, *, policy_id: str) -> Verdict:
        return await self._moderator.moderate(conversation, policy_id=policy_id)

    async def describe(self, policy_id: str) -> tuple[Policy, ModelInfo]:
        return self._moderator.policy(policy_id), self._moderator.model


class _There:
    def __init__(self, client: GuardClient) -> None:
        self._client = client

    async def moderate(self, conversation: Conversation, *, policy_id: str) -> Verdict:
        return await self._client.moderate(conversation, policy_id=policy_id)

    async def describe(self, policy_id: str) -> tuple[Policy, ModelInfo]:
        info = await self._client.info()
        wanted = policy_id or info.default_policy_id
        for policy in info.policies:
            if policy.id == wanted:
                return policy, info.model
        known = ", ".join(policy.id for policy in info.policies)
        raise InvalidRequest("policy_id", f"there is no such policy; there are: {known}")
