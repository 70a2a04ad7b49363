"""A real engine behind the gateway's seam for guards, on a clock that is not the engine's."""

from dataclasses import dataclass, field, replace

from guard_service.embedded import PROMPT_FORMAT
from guard_service.engine.protocol import Engine, Judgement, Session
from guard_service.moderation import Conversation, Phase, Verdict
from guard_service.policy import default_policy
from guard_service.prompt_formats import FORMATS
from tests.chat_gateway.fakes import FakeGuard, verdict

POLICY = default_policy(PROMPT_FORMAT)
NEVER = 2.0
"""A list threshold out of reach: all thresholds of this policy are one, so no list decides."""


@dataclass(slots=True)
class EngineGuard(FakeGuard):
    """Judges with a real engine by the default policy; a check takes `check_seconds` all the same.

    `session` is that of the one answer that this guard is for. `num_tokens` counts what was read.
    """

    engine: Engine = field(kw_only=True)
    session: Session | None = None
    num_tokens: int = 0

    def verdict_on(self, conversation: Conversation) -> Verdict:
        prompt_format = FORMATS[self.engine.info.prompt_format]
        segments = self.engine.encode(prompt_format.render(conversation, POLICY))
        judgement = Judgement(segments, len(POLICY.categories), NEVER, self.session)
        [scores] = self.engine.score([judgement])
        if isinstance(scores, Exception):
            raise scores
        whole = len(segments.prefix) + len(segments.body) + len(segments.suffix)
        self.num_tokens += whole - scores.num_cached_tokens
        probability = scores.unsafe_probability
        return replace(
            verdict(0.0, Phase.of(conversation[-1].role)),
            unsafe=probability >= POLICY.lowest_threshold,
            unsafe_probability=probability,
        )


@dataclass(slots=True)
class RememberingGuard(EngineGuard):
    """Looks up in `known` what has been judged before, and judges the rest."""

    known: dict[Conversation, Verdict] = field(kw_only=True)

    def verdict_on(self, conversation: Conversation) -> Verdict:
        if conversation not in self.known:
            self.known[conversation] = EngineGuard.verdict_on(self, conversation)
        return self.known[conversation]
