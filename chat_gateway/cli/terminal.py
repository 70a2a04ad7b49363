"""Shows one answer on a terminal as it comes, and what the guard thinks of it."""

from collections.abc import Iterable

from rich.console import Console
from rich.text import Text

from chat_gateway.cli.gateway_client import Ended, Opinion, Said

_ENDS = {"length": "cut at the longest length", "content_filter": "ended by the guard"}


def show_answer(console: Console, events: Iterable[Said | Opinion | Ended]) -> str | None:
    """Print the events; returns the text of the answer, None if anything was blocked."""
    answer, at_line_start, blocked = "", True, False
    for event in events:
        if isinstance(event, Said):
            text = printable(event.text)
            console.print(text, end="", markup=False, highlight=False, soft_wrap=True)
            answer += event.text
            at_line_start = text.endswith("\n")
            continue
        blocked = blocked or (isinstance(event, Opinion) and event.blocked)
        line = _line(event)
        if line is not None:
            if not at_line_start:
                console.print()
            console.print(line)
            at_line_start = True
    if not at_line_start:
        console.print()
    return None if blocked else answer


def printable(text: str) -> str:
    """The text without control characters, which could rewrite the screen."""
    return "".join(each for each in text if each.isprintable() or each in "\n\t")


def _line(event: Opinion | Ended) -> Text | None:
    if isinstance(event, Ended):
        words = _ENDS.get(event.reason)
        return Text(f"  ({words})", "dim") if words else None
    if event.blocked or event.final:
        return Text.assemble("  ", _verdict(event), (f", after {event.elapsed_ms:.0f} ms", "dim"))
    return None


def _verdict(opinion: Opinion) -> Text:
    if opinion.unsafe_probability is None:
        return Text(f"{opinion.phase}: the guard could not judge it", "bold yellow")
    word, style = ("unsafe", "bold red") if opinion.unsafe else ("safe", "green")
    if opinion.blocked:
        word, style = "blocked", "bold red"
    why = f" ({', '.join(map(printable, opinion.categories))})" if opinion.categories else ""
    return Text.assemble(
        f"{opinion.phase}: ", (word + why, style), f", P(unsafe) {opinion.unsafe_probability:.3f}"
    )
