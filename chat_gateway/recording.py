"""What it takes to decide anything where every decision must be recorded."""

from typing import Protocol

from chat_gateway.chat import GuardUnavailable


class Recorder(Protocol):
    """Where decisions are recorded."""

    @property
    def is_working(self) -> bool:
        """Whether a decision made now would be recorded."""


def require_recording(recorder: Recorder | None) -> None:
    """Refuse what would be decided without a record; without a recorder, none is required.

    Raises:
        GuardUnavailable: nothing can be recorded now.
    """
    if recorder is not None and not recorder.is_working:
        raise GuardUnavailable("decisions cannot be recorded now (audit_required)")
