"""What the rest of the service knows of an engine: token segments in, scores out."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from guard_service.moderation import ModelInfo, ModerationError
from guard_service.prompt_formats.prompt import Prompt


@dataclass(frozen=True, slots=True)
class Segments:
    """Token ids of one prompt. Only the prefix is shared between requests.

    The pieces concatenate to exactly the tokens of the whole prompt.
    """

    prefix: tuple[int, ...]
    body: tuple[int, ...]
    suffix: tuple[int, ...]


class Session(Protocol):
    """Engine-side memory of a growing conversation; opaque to everyone but its engine."""

    def close(self) -> None:
        """Free what the session holds. Calling it twice is harmless."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """One prompt to score, against a policy of `num_categories` categories.

    The list of further categories is read only when P(unsafe) reaches `list_threshold`.
    """

    segments: Segments
    num_categories: int
    list_threshold: float
    session: Session | None = None

    @property
    def num_new_tokens(self) -> int:
        """What the queue and the batch budgets count: everything but the shared prefix."""
        return len(self.segments.body) + len(self.segments.suffix)


@dataclass(frozen=True, slots=True)
class Scores:
    """What one forward pass says about one prompt.

    `first_category[i]` is P(first listed code is number i + 1 | unsafe); it sums to 1.
    `listed` is the category list greedy decoding gives, as (index, probability at its place);
    empty when P(unsafe) is below the judgement's `list_threshold`.
    """

    unsafe_probability: float
    first_category: tuple[float, ...]
    listed: tuple[tuple[int, float], ...] = field(default=())
    num_cached_tokens: int = 0


class EngineLost(Exception):
    """The engine's device has failed for good: nothing it says from now on may be believed.

    The message says how it failed, in words that never come from a text.
    """


class Engine(Protocol):
    """A loaded model. Only `score` is slow, and only one thread may be inside it at a time."""

    @property
    def info(self) -> ModelInfo:
        """Which weights judge."""

    @property
    def max_context_tokens(self) -> int:
        """Longest prompt, in tokens, that `score` accepts (answer tokens already set aside)."""

    def prepare(self, num_categories: int) -> None:
        """Get ready to judge against policies of so many categories.

        Raises:
            ConfigurationError: if the model's vocabulary cannot express such lists.
        """

    def encode(self, prompt: Prompt) -> Segments:
        """Token ids of a prompt; content never becomes a control token. Thread-safe."""

    def token_ends(self, text: str) -> list[int]:
        """For each token of `text`, the character offset where it ends. Thread-safe."""

    def open_session(self) -> Session:
        """Memory for a conversation that will be judged again and again as it grows."""

    def score(self, batch: Sequence[Judgement]) -> list[Scores | ModerationError]:
        """One result per judgement, in order: a failing one does not take the others along.

        Raises:
            OutOfMemory: if they do not fit the device's memory together; fewer may.
            EngineLost: if no further verdict can be had from this process.
        """
