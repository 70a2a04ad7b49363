"""The whole story of a verdict: validate, render, submit, decide."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from guard_service.batcher import Batcher
from guard_service.decision import decide, worst
from guard_service.engine.protocol import Engine, Judgement, Segments, Session
from guard_service.limits import Limits
from guard_service.moderation import (
    ConfigurationError,
    Conversation,
    Coverage,
    InvalidRequest,
    Message,
    ModelInfo,
    Overloaded,
    Phase,
    Role,
    Timings,
    UnreadableVerdict,
    Usage,
    Verdict,
)
from guard_service.neutralise import neutralise
from guard_service.observer import Drop, Observer
from guard_service.policy import Policy
from guard_service.prompt_formats import PromptFormat
from guard_service.stream import ModerationStream
from guard_service.ticket import Scored
from guard_service.validation import validate
from guard_service.windows import MIN_ROOM, windows

INLINE_CHARACTERS = 2000
"""Longer conversations are tokenised on another thread, so that the event loop stays free."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What has to be scored for one verdict: a judgement per window, the last turn's last."""

    policy: Policy
    phase: Phase
    judgements: tuple[Judgement, ...]
    began: float
    tokenise_seconds: float


class Moderator:
    """Judges conversations by its policies.

    Raises:
        ConfigurationError: A policy cannot be asked of this engine.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        prompt_format: PromptFormat,
        policies: Mapping[str, Policy],
        default_policy_id: str,
        batcher: Batcher,
        limits: Limits,
        observer: Observer,
    ) -> None:
        self.policies = policies
        self.default_policy_id = default_policy_id
        self.limits = limits
        self.batcher = batcher
        self._engine = engine
        self._format = prompt_format
        self._observer = observer
        self._streams: set[ModerationStream] = set()
        for policy in policies.values():
            engine.prepare(len(policy.categories))
        for policy in policies.values():
            self._require_room(policy)

    @property
    def model(self) -> ModelInfo:
        """Which weights judge."""
        return self._engine.info

    @property
    def max_context_tokens(self) -> int:
        """Longest prompt in tokens; longer conversations are windowed."""
        return self._engine.max_context_tokens

    @property
    def num_open_streams(self) -> int:
        """Streams that hold a slot now."""
        return len(self._streams)

    async def moderate(
        self, conversation: Conversation, *, policy_id: str = "", deadline: float | None = None
    ) -> Verdict:
        """The verdict on the last turn; `deadline` is on the clock of `time.monotonic`.

        Raises:
            ModerationError: any of the tree.
        """
        latest = self.latest(deadline)
        policy = self.policy(policy_id)
        validate(conversation, self.limits)
        plan = await self.plan(conversation, policy)
        scored = await self.score(plan.judgements, latest)
        return self.decide(plan, scored)

    def open_stream(self, conversation: Conversation, *, policy_id: str = "") -> ModerationStream:
        """Judge a conversation again and again as its last message grows.

        Raises:
            InvalidRequest: for a conversation or policy that cannot be judged.
            Overloaded: if `max_streams` are open.
        """
        policy = self.policy(policy_id)
        validate(conversation, self.limits, growing=True)
        if len(self._streams) >= self.limits.max_streams:
            self._observer.dropped(Drop.SHED)
            raise Overloaded(
                f"{self.limits.max_streams} streams are open (max_streams)", retry_after_seconds=1.0
            )
        session = self._engine.open_session()
        stream = ModerationStream(self, conversation, policy, session, self._streams.discard)
        self._streams.add(stream)
        return stream

    def policy(self, policy_id: str) -> Policy:
        """The policy of this id; the default one for an empty id.

        Raises:
            InvalidRequest: if there is none.
        """
        policy = self.policies.get(policy_id or self.default_policy_id)
        if policy is None:
            known = ", ".join(sorted(self.policies))
            raise InvalidRequest("policy_id", f"there is no such policy; there are: {known}")
        return policy

    def latest(self, deadline: float | None) -> float:
        """The caller's deadline, or `max_wait_seconds` from now if that is sooner."""
        longest = time.monotonic() + self.limits.max_wait_seconds
        return longest if deadline is None else min(deadline, longest)

    async def plan(
        self, conversation: Conversation, policy: Policy, session: Session | None = None
    ) -> Plan:
        """Render and tokenise; the session goes with the last window, the one that grows.

        Raises:
            InvalidRequest: if the text needs more windows than are allowed.
        """
        began = time.monotonic()
        num_characters = sum(len(message.content) for message in conversation)
        if num_characters > INLINE_CHARACTERS:
            segments = await asyncio.to_thread(self._segments, conversation, policy)
        else:
            segments = self._segments(conversation, policy)
        judgements = [
            Judgement(each, len(policy.categories), policy.lowest_threshold) for each in segments
        ]
        judgements[-1] = replace(judgements[-1], session=session)
        phase = Phase.of(conversation[-1].role)
        seconds = time.monotonic() - began
        num_tokens = sum(each.num_new_tokens for each in judgements)
        self._observer.tokenised(num_tokens=num_tokens, seconds=seconds)
        return Plan(policy, phase, tuple(judgements), began, seconds)

    def _segments(self, conversation: Conversation, policy: Policy) -> list[Segments]:
        """Tokens of the whole conversation, or of its windows if it does not fit."""
        whole = self._engine.encode(self._format.render(conversation, policy))
        room = self._room(whole)
        if len(whole.body) <= room:
            return [whole]
        # Counted after neutralising, which rendering does too: it can make a text longer.
        text = tuple(replace(m, content=neutralise(m.content)) for m in conversation)
        parts = windows(text, room=room, token_ends=self._engine.token_ends)
        if len(parts) > self.limits.max_windows:
            raise InvalidRequest(
                "conversation.messages",
                f"{len(whole.body)} tokens need {len(parts)} windows of {room} tokens; "
                f"at most {self.limits.max_windows} (max_windows)",
            )
        return [self._engine.encode(self._format.render(part, policy)) for part in parts]

    def _room(self, segments: Segments) -> int:
        """Tokens the context has for a conversation beside these segments' policy."""
        return self._engine.max_context_tokens - len(segments.prefix) - len(segments.suffix)

    def _require_room(self, policy: Policy) -> None:
        greeting = (Message(Role.USER, "Hi"),)
        room = self._room(self._engine.encode(self._format.render(greeting, policy)))
        if room < MIN_ROOM:
            raise ConfigurationError(
                f"policy '{policy.id}': its prompt leaves {room} of {self.max_context_tokens} "
                f"tokens for the conversation, {MIN_ROOM} are needed; raise max_context_tokens "
                "if the model allows it, or shorten the policy"
            )

    async def score(self, judgements: Sequence[Judgement], deadline: float) -> list[Scored]:
        """Scores of all windows; the first failure ends them all."""
        waiting = [
            asyncio.ensure_future(self.batcher.submit(judgement, deadline=deadline))
            for judgement in judgements
        ]
        try:
            return await asyncio.gather(*waiting)
        finally:
            for each in waiting:
                each.cancel()

    def decide(self, plan: Plan, scored: Sequence[Scored]) -> Verdict:
        """The verdict of the worst window.

        Raises:
            UnreadableVerdict: if any window's scores do not make sense.
        """
        try:
            decision = worst([decide(each.scores, plan.policy) for each in scored])
        except UnreadableVerdict:
            self._observer.dropped(Drop.FAILED)
            raise
        verdict = Verdict(
            unsafe=decision.unsafe,
            unsafe_probability=decision.unsafe_probability,
            categories=decision.categories,
            first_category=decision.first_category,
            phase=plan.phase,
            model=self._engine.info,
            policy_id=plan.policy.id,
            policy_version=plan.policy.version,
            policy_digest=plan.policy.digest,
            usage=_usage(plan.judgements, scored),
            timings=Timings(
                tokenise_seconds=plan.tokenise_seconds,
                queue_seconds=max(each.queue_seconds for each in scored),
                inference_seconds=max(each.inference_seconds for each in scored),
                total_seconds=time.monotonic() - plan.began,
            ),
            coverage=Coverage(share=1.0, num_windows=len(scored)),
        )
        self._observer.judged(verdict)
        return verdict


def _usage(judgements: Sequence[Judgement], scored: Sequence[Scored]) -> Usage:
    segments = [judgement.segments for judgement in judgements]
    body = sum(len(each.body) for each in segments)
    return Usage(
        prompt_tokens=body + sum(len(each.prefix) + len(each.suffix) for each in segments),
        cached_tokens=sum(each.scores.num_cached_tokens for each in scored),
        body_tokens=body,
    )
