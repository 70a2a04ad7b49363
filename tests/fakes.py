"""Stand-ins at the service's own seams."""

import asyncio
import re
import threading
import time
from collections.abc import Callable, Sequence

from guard_service.engine.protocol import Judgement, Scores, Segments
from guard_service.moderation import ModelInfo, ModerationError
from guard_service.prompt_formats.prompt import Piece, Prompt

UNSAFE_WORD = "bomb"
"""The word the default judge calls unsafe; any other text is safe."""

Judge = Callable[[str, int], Scores | ModerationError]
"""From the text of a body and the number of categories to what the engine says about it."""

_WORD = re.compile(r"\s*\S+|\s+")


def scores(
    unsafe_probability: float, num_categories: int, listed: Sequence[int] = (), share: float = 0.8
) -> Scores:
    """Scores of one prompt; the first listed category, or the first, has probability `share`."""
    first = listed[0] if listed else 0
    rest = (1 - share) / max(num_categories - 1, 1)
    distribution = tuple(share if i == first else rest for i in range(num_categories))
    return Scores(unsafe_probability, distribution, tuple((index, share) for index in listed))


def flag_bombs(text: str, num_categories: int) -> Scores:
    """P(unsafe) is 0.9, in the first category, where the unsafe word stands; else 0.1."""
    if UNSAFE_WORD in text:
        return scores(0.9, num_categories, listed=(0,))
    return scores(0.1, num_categories)


class FakeSession:
    """A session that only knows whether it was closed."""

    def __init__(self) -> None:
        self.closed = False

    def close(self) -> None:
        self.closed = True


class FakeEngine:
    """An engine whose tokens are words, whose verdicts are scripted and which keeps a journal.

    `journal` holds, per batch and in order, the body texts it was given. `hold()` makes the next
    batches wait inside `score` until `release()`; `started` is set when a batch is inside.
    """

    def __init__(
        self,
        judge: Judge = flag_bombs,
        *,
        seconds_per_batch: float = 0.0,
        max_context_tokens: int = 8192,
        prompt_format: str = "llama-guard-2",
    ) -> None:
        self.judge = judge
        self.seconds_per_batch = seconds_per_batch
        self.journal: list[list[str]] = []
        self.sessions: list[FakeSession] = []
        self.started = threading.Event()
        self._gate = threading.Event()
        self._gate.set()
        self._inside = threading.Lock()
        self._naming = threading.Lock()
        self._ids: dict[str, int] = {}
        self._words: list[str] = []
        self._max_context_tokens = max_context_tokens
        self._info = ModelInfo("fake", "0" * 40, prompt_format)

    @property
    def info(self) -> ModelInfo:
        return self._info

    @property
    def max_context_tokens(self) -> int:
        return self._max_context_tokens

    @property
    def texts(self) -> list[str]:
        """Every body that was scored, in order."""
        return [text for batch in self.journal for text in batch]

    def hold(self) -> None:
        """Keep the next batch inside `score` until `release`."""
        self.started.clear()
        self._gate.clear()

    def release(self) -> None:
        self._gate.set()

    async def until_busy(self) -> None:
        """Wait until a batch is inside `score`."""
        await asyncio.to_thread(self.started.wait)

    def prepare(self, num_categories: int) -> None:
        """Any number will do."""

    def encode(self, prompt: Prompt) -> Segments:
        return Segments(
            self._ids_of(prompt.prefix), self._ids_of([prompt.body]), self._ids_of(prompt.suffix)
        )

    def token_ends(self, text: str) -> list[int]:
        return [match.end() for match in _WORD.finditer(text)]

    def open_session(self) -> FakeSession:
        self.sessions.append(FakeSession())
        return self.sessions[-1]

    def score(self, batch: Sequence[Judgement]) -> list[Scores | ModerationError]:
        if not self._inside.acquire(blocking=False):
            raise AssertionError("two batches overlap inside the engine")
        try:
            texts = [self.decode(judgement.segments.body) for judgement in batch]
            self.journal.append(texts)
            self.started.set()
            self._gate.wait()
            time.sleep(self.seconds_per_batch)
            return [
                self.judge(text, judgement.num_categories)
                for text, judgement in zip(texts, batch, strict=True)
            ]
        finally:
            self._inside.release()

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(self._words[i] for i in ids)

    def _ids_of(self, pieces: Sequence[Piece]) -> tuple[int, ...]:
        words = [
            word
            for piece in pieces
            for word in (
                [match[0] for match in _WORD.finditer(piece)]
                if isinstance(piece, str)
                else [repr(piece)]
            )
        ]
        return tuple(self._id_of(word) for word in words)

    def _id_of(self, word: str) -> int:
        with self._naming:
            if word not in self._ids:
                self._ids[word] = len(self._words)
                self._words.append(word)
            return self._ids[word]
