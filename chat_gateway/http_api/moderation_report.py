"""What a chat's verdicts were, as the in-line `moderation` object of an answer."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from chat_gateway.chat import Blocked, ChatEvent, Judged, Unjudged
from chat_gateway.http_api.moderation_result import ModerationResult, moderation_result
from guard_service.moderation import Phase, Verdict

UNJUDGED_HEADER = "x-guard-unjudged"


class ModerationResults(BaseModel):
    """The verdicts of one direction, one for the prompt or one for each choice."""

    type: Literal["moderation_results"]
    model: str
    results: list[ModerationResult]


class NoResults(BaseModel):
    """Why a direction has no verdicts: `unjudged` text passed all the same, the others did not."""

    type: Literal["error"]
    code: Literal["unjudged", "blocked_unjudged", "not_reached", "not_reported"]
    message: str


Direction = Annotated[ModerationResults | NoResults, Field(discriminator="type")]


class Moderation(BaseModel):
    """OpenAI's in-line moderation: what was found in the prompt and in the answer."""

    input: Direction
    output: Direction


_MESSAGES = {
    "unjudged": "the guard gave no verdict and the policy lets this pass all the same",
    "blocked_unjudged": "the guard gave no verdict, so this was blocked",
    "not_reached": "there was nothing to judge",
    "not_reported": "the policy in force reports no verdicts",
}


class ModerationReport:
    """Collects the latest verdict on the prompt and on each choice."""

    def __init__(self, *, silent: bool) -> None:
        self._silent = silent
        self._verdicts: dict[tuple[Phase, int | None], Verdict] = {}
        self._unjudged: set[Phase] = set()
        self._blocked_unjudged: set[Phase] = set()

    def note(self, event: ChatEvent) -> None:
        """Take a verdict, or the lack of one, from an event."""
        if isinstance(event, Unjudged):
            self._unjudged.add(event.phase)
        elif isinstance(event, Blocked) and event.verdict is None:
            self._blocked_unjudged.add(event.phase)
        elif isinstance(event, Blocked | Judged) and event.verdict is not None:
            self._verdicts[event.phase, event.choice] = event.verdict

    @property
    def unjudged(self) -> str:
        """The phases that passed without a verdict, for the header; empty when there is none."""
        return ",".join(sorted(self._unjudged))

    def moderation(self) -> Moderation:
        """The object as it stands now."""
        return Moderation(
            input=self._direction(Phase.PROMPT), output=self._direction(Phase.RESPONSE)
        )

    def _direction(self, phase: Phase) -> ModerationResults | NoResults:
        verdicts = [
            self._verdicts[key]
            for key in sorted(self._verdicts, key=lambda key: key[1] or 0)
            if key[0] is phase
        ]
        if phase in self._unjudged:
            return _no_results("unjudged")
        if phase in self._blocked_unjudged:
            return _no_results("blocked_unjudged")
        if not verdicts:
            return _no_results("not_reported" if self._silent else "not_reached")
        return ModerationResults(
            type="moderation_results",
            model=verdicts[0].model.id,
            results=[moderation_result(verdict) for verdict in verdicts],
        )


def _no_results(
    code: Literal["unjudged", "blocked_unjudged", "not_reached", "not_reported"],
) -> NoResults:
    return NoResults(type="error", code=code, message=_MESSAGES[code])
