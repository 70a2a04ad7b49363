"""The words of the domain: what is judged, what a verdict says, and what can go wrong.

Errors a request can end in, each mapped to one gRPC status in `grpc_server.status`:

    ModerationError
    ├── InvalidRequest      the caller's fault: names the field and the limit
    ├── Overloaded          the queue is full; try again after a pause
    ├── OutOfMemory         the text does not fit the device's memory; a shorter one may
    ├── NotReady            starting or draining; try another replica
    ├── DeadlineExceeded    the caller's time ran out before a verdict was reached
    └── JudgementFailed     our fault: no verdict could be reached
        └── UnreadableVerdict   the model's output is outside the verdict grammar

`ConfigurationError` stands apart: it ends the process at start and never reaches a caller.
"""

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """Who wrote a message."""

    USER = "user"
    ASSISTANT = "assistant"
    SYSTEM = "system"
    TOOL = "tool"


class Phase(StrEnum):
    """Which side of the model is judged: what it reads, or what it writes."""

    PROMPT = "prompt"
    RESPONSE = "response"

    @classmethod
    def of(cls, role: Role) -> "Phase":
        """The assistant writes; every other role is read by the model."""
        return cls.RESPONSE if role is Role.ASSISTANT else cls.PROMPT


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


Conversation = tuple[Message, ...]
"""Oldest turn first. The last turn is the one that is judged."""


@dataclass(frozen=True, slots=True)
class CategoryScore:
    """A hazard category with a probability in 0..1 (conditional on the text being unsafe)."""

    code: str
    name: str
    probability: float


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Which weights judged; a category code means nothing without it."""

    id: str
    revision: str
    prompt_format: str


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of a judgement, summed over its windows."""

    prompt_tokens: int
    cached_tokens: int
    body_tokens: int


@dataclass(frozen=True, slots=True)
class Timings:
    """Where the time of a judgement went, in seconds. `total_seconds` spans all stages."""

    tokenise_seconds: float
    queue_seconds: float
    inference_seconds: float
    total_seconds: float


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of the conversation the model saw: `share` in 0..1, over `num_windows` windows."""

    share: float
    num_windows: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer for one conversation.

    `unsafe_probability` is P(unsafe) at the first verdict token, normalised over safe and unsafe:
    the score of the Llama Guard 2 model card. `categories` are the violated ones, in the order the
    model lists them, each with the probability of its code where it was listed; empty when safe.
    `first_category` is the distribution of the first listed code over the whole policy; it sums
    to 1 and is conditional on the text being unsafe.
    """

    unsafe: bool
    unsafe_probability: float
    categories: tuple[CategoryScore, ...]
    first_category: tuple[CategoryScore, ...]
    phase: Phase
    model: ModelInfo
    policy_id: str
    policy_version: str
    policy_digest: str
    usage: Usage
    timings: Timings
    coverage: Coverage


class ModerationError(Exception):
    """No verdict. Its message is written for the caller and never holds any of their text."""


class InvalidRequest(ModerationError):
    """The caller's fault: send something else."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field


class Overloaded(ModerationError):
    """The queue is full; the same request may succeed after `retry_after_seconds`."""

    def __init__(self, message: str, retry_after_seconds: float) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class OutOfMemory(ModerationError):
    """The text does not fit the memory of the model's device; a shorter one may."""


class NotReady(ModerationError):
    """The service is starting, draining or ending; another replica may answer."""


class DeadlineExceeded(ModerationError):
    """The caller's deadline passed before a verdict was reached."""


class JudgementFailed(ModerationError):
    """Our fault: the engine could not judge this text. It is not safe; it is not judged."""


class UnreadableVerdict(JudgementFailed):
    """The model answered outside the verdict grammar, or with numbers that are not numbers."""


class ConfigurationError(Exception):
    """The service cannot start as configured; the message is one line that says what to do."""
