"""Hold-back: what of one choice waits for a verdict, and what may be released after one."""

from collections import deque
from dataclasses import dataclass

from chat_gateway.chat import (
    ChoiceFinished,
    GeneratorEvent,
    GeneratorFailed,
    TextDelta,
    ToolCallDelta,
)
from chat_gateway.transcript import Transcript, tool_call_text


@dataclass(frozen=True, slots=True)
class Released:
    """Events that may go to the client, and when the oldest and the finish among them arrived."""

    events: tuple[GeneratorEvent, ...]
    num_characters: int
    arrived: float | None
    finished: float | None


@dataclass(frozen=True, slots=True)
class _Piece:
    """An event that waits until the transcript up to `end` was judged safe."""

    event: GeneratorEvent
    num_characters: int
    end: int
    arrived: float


@dataclass(slots=True)
class _ToolCall:
    """A tool call on its way; it is judged and released whole."""

    id: str
    name: str
    arguments: str
    arrived: float


class HeldChoice:
    """One choice: its events wait in order of arrival until a safe prefix of its text covers them.

    Tool calls are whole once the choice is finished and come after its text, by index. Times are
    on whatever clock the caller uses.
    """

    def __init__(self, choice: int) -> None:
        self.transcript = Transcript()
        self.finished = False
        self.num_held = 0
        self._choice = choice
        self._pieces: deque[_Piece] = deque()
        self._tool_calls: dict[int, _ToolCall] = {}

    def add(self, event: GeneratorEvent, now: float) -> None:
        """Hold the next event back.

        Raises:
            GeneratorFailed: for an event that has no place here; it cannot be judged.
        """
        if self.finished:
            raise GeneratorFailed("the generator went on after it had finished a choice")
        if isinstance(event, TextDelta):
            if event.text:
                self._hold(event, event.text, kind=event.channel, now=now)
        elif isinstance(event, ToolCallDelta):
            self._assemble(event, now)
        elif isinstance(event, ChoiceFinished):
            self._finish(event, now)
        else:
            raise GeneratorFailed("the generator wrote something that cannot be judged")

    def release(self, end: int, *, final: bool = False) -> Released:
        """Let go what the first `end` characters cover; the finish only after the `final` word."""
        released: list[_Piece] = []
        while self._pieces and self._pieces[0].end <= end:
            if isinstance(self._pieces[0].event, ChoiceFinished) and not final:
                break
            released.append(self._pieces.popleft())
        num_characters = sum(piece.num_characters for piece in released)
        self.num_held -= num_characters
        if not released:
            return Released((), 0, None, None)
        is_end = isinstance(released[-1].event, ChoiceFinished)
        return Released(
            events=tuple(piece.event for piece in released),
            num_characters=num_characters,
            arrived=released[0].arrived,
            finished=released[-1].arrived if is_end else None,
        )

    def release_all(self) -> Released:
        """Let everything go that is whole."""
        return self.release(self.transcript.num_characters, final=True)

    def discard(self) -> int:
        """Drop all that is held; how many characters that was."""
        dropped, self.num_held = self.num_held, 0
        self._pieces.clear()
        self._tool_calls.clear()
        return dropped

    @property
    def waiting_since(self) -> float | None:
        """When the oldest held event arrived."""
        return self._pieces[0].arrived if self._pieces else None

    def _hold(self, event: GeneratorEvent, text: str, *, kind: str, now: float) -> None:
        self.transcript.append(kind, text)
        self.num_held += len(text)
        self._pieces.append(_Piece(event, len(text), self.transcript.num_characters, now))

    def _assemble(self, event: ToolCallDelta, now: float) -> None:
        self.num_held += len(event.arguments)
        call = self._tool_calls.get(event.index)
        if call is not None:
            call.arguments += event.arguments
        elif event.id is None or event.name is None:
            raise GeneratorFailed("the generator began a tool call without its id or name")
        else:
            call = _ToolCall(event.id, event.name, event.arguments, now)
            self._tool_calls[event.index] = call

    def _finish(self, event: ChoiceFinished, now: float) -> None:
        for index, call in sorted(self._tool_calls.items()):
            self.num_held -= len(call.arguments)
            whole = ToolCallDelta(self._choice, index, call.arguments, call.id, call.name)
            text = tool_call_text(call.name, call.arguments)
            self._hold(whole, text, kind=f"tool call {index}", now=call.arrived)
        self._tool_calls.clear()
        self._pieces.append(_Piece(event, 0, self.transcript.num_characters, now))
        self.finished = True
