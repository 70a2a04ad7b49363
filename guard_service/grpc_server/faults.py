"""Log an error nobody foresaw by type and place alone: its text may hold a caller's."""

import traceback

import structlog

_log = structlog.get_logger(__name__)


def log_fault(error: BaseException) -> None:
    """Log what kind of error it was and where it came from, innermost frame first."""
    frames = reversed(traceback.extract_tb(error.__traceback__))
    place = " < ".join(f"{frame.name}:{frame.lineno}" for frame in frames)
    _log.error("unexpected error", kind=type(error).__name__, place=place)
