"""Shows one answer on a terminal as it comes, and what the guard thinks of it."""

from collections.abc import Iterable

from rich.console import Console
from rich.text import Text

from chat_gateway.cli.gateway_client import Ended, Opinion, Said

_ENDS = {"length": "cut at the longest length"}


def show_answer(console: Console, events: Iterable[Said | Opinion | Ended]) -> str | None:
    """Print the events; returns the text of the answer, None if anything was blocked."""
    screen = _Screen(console)
    for event in events:
        match event:
            case Said(text):
                screen.say(text)
            case Opinion():
                screen.hear(event)
            case Ended(reason):
                screen.end(reason)
    return None if screen.saw_block else screen.answer


class _Screen:
    """Keeps verdicts on lines of their own, each after the text it is about."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._at_line_start = True
        self._verdict: Opinion | None = None
        self.answer = ""
        self.saw_block = False

    def say(self, text: str) -> None:
        if self._verdict is not None and self._verdict.phase == "prompt":
            self._show_verdict()
        shown = printable(text)
        self._console.print(shown, end="", markup=False, highlight=False, soft_wrap=True)
        self._at_line_start = shown.endswith("\n")
        self.answer += text

    def hear(self, opinion: Opinion) -> None:
        """Of the verdicts on one text only the last one counts."""
        if not (opinion.final or opinion.blocked):
            return
        if self._verdict is not None and self._verdict.phase != opinion.phase:
            self._show_verdict()
        self._verdict = opinion
        self.saw_block = self.saw_block or opinion.blocked

    def end(self, reason: str) -> None:
        self._show_verdict()
        if reason in _ENDS:
            self._show(Text(f"  ({_ENDS[reason]})", "dim"))
        self._end_line()

    def _show_verdict(self) -> None:
        if self._verdict is not None:
            delay = (f", after {self._verdict.elapsed_ms:.0f} ms", "dim")
            self._show(Text.assemble("  ", _verdict(self._verdict), delay))
        self._verdict = None

    def _show(self, line: Text) -> None:
        self._end_line()
        self._console.print(line)

    def _end_line(self) -> None:
        if not self._at_line_start:
            self._console.print()
        self._at_line_start = True


def printable(text: str) -> str:
    """The text without control characters, which could rewrite the screen."""
    return "".join(each for each in text if each.isprintable() or each in "\n\t")


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
