"""What a verdict on one choice does: release, hold in doubt, or block; told once, at one place."""

import time

from chat_gateway.chat import Blocked, GeneratorEvent, Held, Judged, OutOfTime, Unjudged
from chat_gateway.exchange import Exchange
from chat_gateway.guard_failure import may_pass
from chat_gateway.observer import Action, Decision
from chat_gateway.outbox import Outbox, num_characters_of
from chat_gateway.streaming import HeldChoice, Released
from guard_service.moderation import DeadlineExceeded, Phase, UnreadableVerdict, Verdict
from guard_service.stream import Checkpoint

HELD_TOO_LONG = "held_too_long"
"""The reason of a block at the bound of the grey band, where no verdict was unsafe."""


class Gate:
    """Between the events of one choice and the outbox."""

    def __init__(self, choice: int, exchange: Exchange, outbox: Outbox) -> None:
        self.held = HeldChoice(choice)
        self.is_blocked = False
        self.is_settled = False
        self._choice = choice
        self._exchange = exchange
        self._policy = exchange.policy
        self._outbox = outbox
        self._waits = exchange.policy.mode.blocks
        self._num_judged = 0
        self._num_released = 0
        self._doubt: Verdict | None = None
        self._reported: Verdict | None = None
        self._first_delay: float | None = None
        self._end_delay: float | None = None

    @property
    def holding(self) -> Held:
        """What is held back now, and what that has cost."""
        return Held(self._choice, self.held.num_held, self._first_delay, self._end_delay)

    @property
    def in_doubt(self) -> bool:
        """Whether text judged safe is held because it is close to unsafe."""
        return self._doubt is not None

    @property
    def is_checking(self) -> bool:
        """Whether text is at the guard."""
        return not self.is_settled and self.held.transcript.num_sent > self._num_judged

    def take(self, event: GeneratorEvent) -> None:
        """The next event of the generator.

        Raises:
            GeneratorFailed: for an event that has no place here.
        """
        if self.is_blocked:
            self._exchange.observer.text_withheld(num_characters=num_characters_of(event))
            return
        self.held.add(event, time.monotonic())
        if not self._policy.mode.blocks:
            self._outbox.put(event)
            self._count(self.held.release_all())
        elif not self._waits:
            self._let_go(self.held.release_all())

    def judge(self, checkpoint: Checkpoint) -> None:
        """What a checkpoint's verdict means for what is held.

        Raises:
            UnreadableVerdict: it is called final but does not cover everything.
        """
        if self.is_blocked:
            return  # doubt ended while this verdict was on its way
        verdict, covered = checkpoint.verdict, checkpoint.num_characters
        self._require_honest(checkpoint)
        self._exchange.observer.judged(Phase.RESPONSE, verdict)
        self._outbox.tell(Judged(Phase.RESPONSE, verdict, self._choice, covered, checkpoint.final))
        self._num_judged = covered
        if verdict.unsafe and self._waits:
            self.block(verdict)
        elif self._is_doubtful(checkpoint):
            self._doubt = verdict
            if covered - self._num_released > self._policy.max_hold_characters:
                self.end_doubt()
        else:
            self._pass(checkpoint)

    def end_doubt(self) -> None:
        """The bound of the grey band is reached: block, or release what was judged."""
        doubt, self._doubt = self._doubt, None
        if not self._policy.release_after_hold:
            self.block(doubt, HELD_TOO_LONG)
        else:
            self._num_released = self._num_judged
            self._let_go(self.held.release(self._num_judged))

    def block(self, verdict: Verdict | None, reason: str = "") -> None:
        """Nothing more of this choice gets out."""
        self._decide(Action.BLOCKED, verdict, reason)
        self.is_blocked = self.is_settled = True
        self.discard()
        refusal = self._policy.refusal
        self._outbox.put(Blocked(Phase.RESPONSE, self._choice, refusal, verdict))

    def pass_blank(self) -> None:
        """There was no text: nothing to judge, nothing to hold."""
        self.is_settled = True
        self._let_go(self.held.release_all())

    def go_without_verdict(self, error: Exception) -> None:
        """The guard failed: block, unless the policy lets this phase pass without it."""
        reason = type(error).__name__
        opens = not self._waits or may_pass(error, Phase.RESPONSE, self._policy)
        if self._is_out_of_time(error):
            self._decide(Action.BLOCKED, None, reason)
            self._outbox.fail(OutOfTime("the request's deadline passed"))
        elif not opens or self.in_doubt:
            self.block(None, reason)
        else:
            self._decide(Action.UNJUDGED, None, reason)
            self._outbox.tell(Unjudged(Phase.RESPONSE, self._choice, reason))
            self._waits, self.is_settled = False, True
            self._let_go(self.held.release_all())

    def discard(self) -> None:
        """Drop what is held."""
        self._exchange.observer.text_withheld(num_characters=self.held.discard())

    def _pass(self, checkpoint: Checkpoint) -> None:
        verdict = checkpoint.verdict
        self._doubt = None
        if verdict.unsafe and self._reported is None:
            self._reported = verdict
        if checkpoint.final:
            self.is_settled = True
            action = Action.PASSED if self._reported is None else Action.REPORTED
            self._decide(action, self._reported or verdict, "")
        self._num_released = checkpoint.num_characters
        self._let_go(self.held.release(checkpoint.num_characters, final=checkpoint.final))

    def _is_doubtful(self, checkpoint: Checkpoint) -> bool:
        hold_from = self._policy.hold_from
        if hold_from is None or checkpoint.final or not self._waits:
            return False
        return checkpoint.verdict.unsafe_probability >= hold_from

    def _require_honest(self, checkpoint: Checkpoint) -> None:
        transcript = self.held.transcript
        whole = self.held.finished and checkpoint.num_characters == transcript.num_characters
        if checkpoint.num_characters > transcript.num_sent or (checkpoint.final and not whole):
            raise UnreadableVerdict("the guard's checkpoint covers other text than was sent")

    def _is_out_of_time(self, error: Exception) -> bool:
        timely = isinstance(error, OutOfTime | DeadlineExceeded)
        return self._waits and timely and time.monotonic() >= self._exchange.deadline

    def _let_go(self, released: Released) -> None:
        now = time.monotonic()
        if self._first_delay is None and released.num_characters and released.arrived is not None:
            self._first_delay = now - released.arrived
        if released.finished is not None:
            self._end_delay = now - released.finished
        for event in released.events:
            self._outbox.put(event)
        self._count(released)

    def _count(self, released: Released) -> None:
        if released.num_characters and released.arrived is not None:
            self._exchange.observer.text_released(
                num_characters=released.num_characters,
                held_seconds=time.monotonic() - released.arrived,
            )

    def _decide(self, action: Action, verdict: Verdict | None, reason: str) -> None:
        since = self.held.waiting_since
        waited = 0.0 if since is None else time.monotonic() - since
        if action is Action.PASSED:
            self._exchange.observer.guard_delayed(Phase.RESPONSE, seconds=waited)
        self._exchange.observer.decided(
            Decision(
                request_id=self._exchange.request_id,
                policy=self._policy,
                phase=Phase.RESPONSE,
                choice=self._choice,
                action=action,
                verdict=verdict,
                reason=reason,
                guard_seconds=waited,
                text=self.held.transcript.text,
            )
        )
