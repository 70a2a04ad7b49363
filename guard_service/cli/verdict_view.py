"""A verdict as people read it."""

from collections.abc import Iterator

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from guard_service import embedded
from guard_service.moderation import Verdict

DEMONSTRATION_NOTE = (
    "Judged by the embedded demonstration-grade model: it misses much that is unsafe, "
    "understands little but English, and its categories are often wrong."
)


def print_verdict(verdict: Verdict) -> None:
    """Write `verdict` to standard output."""
    Console(highlight=False).print(Group(*_parts(verdict)))


def _parts(verdict: Verdict) -> Iterator[RenderableType]:
    word, style = ("UNSAFE", "bold red") if verdict.unsafe else ("SAFE", "bold green")
    yield Text.assemble((word, style), f"  P(unsafe) = {verdict.unsafe_probability:.4f}")
    table = Table.grid(padding=(0, 2))
    for category in verdict.categories:
        table.add_row(category.code, Text(category.name), f"{category.probability:.4f}")
    if verdict.categories:
        yield table
    facts = Table.grid(padding=(0, 2))
    for name, value in _facts(verdict):
        facts.add_row(Text(name, "dim"), Text(value))
    yield facts
    if verdict.model.id == embedded.MODEL_ID:
        yield Text(DEMONSTRATION_NOTE, "yellow")


def _facts(verdict: Verdict) -> Iterator[tuple[str, str]]:
    yield "judged", f"the {verdict.phase}, {verdict.coverage.share:.0%} of the text"
    yield "model", f"{verdict.model.id}, revision {verdict.model.revision}"
    yield "policy", f"{verdict.policy_id} {verdict.policy_version} ({verdict.policy_digest[:12]})"
    yield "time", f"{verdict.timings.total_seconds * 1000:.0f} ms"
