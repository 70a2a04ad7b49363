"""What the gateway does with verdicts: when it asks for them, and what happens without one."""

from dataclasses import dataclass
from enum import StrEnum

from guard_service.moderation import ConfigurationError, Phase


class Mode(StrEnum):
    """When text reaches the client, and what a verdict may do to it.

    `STRICT` releases nothing unjudged; `BUFFER` releases a whole answer once it is judged.
    `ANNOTATE` releases at once and reports the verdicts; `SHADOW` does so without telling the
    client. The last two never block.
    """

    STRICT = "strict"
    BUFFER = "buffer"
    ANNOTATE = "annotate"
    SHADOW = "shadow"

    @property
    def blocks(self) -> bool:
        """Whether text waits for its verdict."""
        return self in (Mode.STRICT, Mode.BUFFER)

    @property
    def is_silent(self) -> bool:
        """Whether the client is told nothing of verdicts."""
        return self is Mode.SHADOW


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoints:
    """How much new text, in code points, is gathered before the guard is asked.

    The first check comes after `first_characters`. The next ones come at the end of a sentence,
    after `every_characters` (up to `max_every_characters` while the scores stay low, down to
    `first_characters` when they rise), or when text has waited for `every_seconds`.
    """

    first_characters: int = 40
    every_characters: int = 160
    max_every_characters: int = 640
    every_seconds: float = 2.0

    def __post_init__(self) -> None:
        if not 1 <= self.first_characters <= self.every_characters <= self.max_every_characters:
            raise ConfigurationError(
                "checkpoints: 1 <= first_characters <= every_characters <= max_every_characters"
                " must hold"
            )
        if not self.every_seconds > 0:
            raise ConfigurationError("checkpoints.every_seconds: must be above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayPolicy:
    """How one group of callers is protected.

    `guard_policy_id` names the guard's policy, empty for its default. `parallel_prompt_check` lets
    the generator start before the prompt's verdict; nothing is released before it. Earlier turns
    are the context of that verdict; `judge_earlier_turns` has each of them judged as well.
    `fail_open` names the phases that may pass while the guard cannot be reached.

    `hold_from` opens a grey band: text judged safe with a P(unsafe) of at least this much waits
    for a clearer verdict, for `max_hold_seconds` and `max_hold_characters` at most; it is then
    blocked, or with `release_after_hold` released.
    """

    id: str = "default"
    guard_policy_id: str = ""
    mode: Mode = Mode.STRICT
    parallel_prompt_check: bool = False
    judge_earlier_turns: bool = False
    fail_open: frozenset[Phase] = frozenset()
    refusal: str = "I can't help with that."
    error_on_blocked_prompt: bool = False
    checkpoints: Checkpoints = Checkpoints()
    hold_from: float | None = None
    max_hold_seconds: float = 10.0
    max_hold_characters: int = 2000
    release_after_hold: bool = False

    def __post_init__(self) -> None:
        if self.hold_from is not None and not 0 < self.hold_from < 1:
            raise ConfigurationError("hold_from: must be between 0 and 1")
        if not self.max_hold_seconds > 0 or self.max_hold_characters < 1:
            raise ConfigurationError("max_hold_seconds, max_hold_characters: must be above 0")
