"""Verdicts and checkpoints on the wire."""

from collections.abc import Iterable

from guard_service.moderation import (
    CategoryScore,
    Coverage,
    Phase,
    Timings,
    UnreadableVerdict,
    Usage,
    Verdict,
)
from guard_service.stream import Checkpoint
from guard_service.v1 import guard_pb2
from guard_service.wire.model import model_from_wire, model_to_wire

_PHASES = {Phase.PROMPT: guard_pb2.PHASE_PROMPT, Phase.RESPONSE: guard_pb2.PHASE_RESPONSE}
_PHASES_FROM_WIRE = {wire: phase for phase, wire in _PHASES.items()}


def verdict_to_wire(verdict: Verdict) -> guard_pb2.Verdict:
    """The verdict as the contract carries it."""
    return guard_pb2.Verdict(
        unsafe=verdict.unsafe,
        unsafe_probability=verdict.unsafe_probability,
        categories=map(_category_to_wire, verdict.categories),
        first_category=map(_category_to_wire, verdict.first_category),
        phase=_PHASES[verdict.phase],
        model=model_to_wire(verdict.model),
        policy=guard_pb2.PolicyReference(
            id=verdict.policy_id, version=verdict.policy_version, digest=verdict.policy_digest
        ),
        usage=guard_pb2.Usage(
            prompt_tokens=verdict.usage.prompt_tokens,
            cached_tokens=verdict.usage.cached_tokens,
            body_tokens=verdict.usage.body_tokens,
        ),
        timings=guard_pb2.Timings(
            tokenise_ms=verdict.timings.tokenise_seconds * 1000,
            queue_ms=verdict.timings.queue_seconds * 1000,
            inference_ms=verdict.timings.inference_seconds * 1000,
            total_ms=verdict.timings.total_seconds * 1000,
        ),
        coverage=guard_pb2.Coverage(
            share=verdict.coverage.share, num_windows=verdict.coverage.num_windows
        ),
    )


def verdict_from_wire(verdict: guard_pb2.Verdict) -> Verdict:
    """The verdict as the domain knows it.

    Raises:
        UnreadableVerdict: It is not whole, or its numbers and words contradict each other.
    """
    _require_whole(verdict)
    return Verdict(
        unsafe=verdict.unsafe,
        unsafe_probability=verdict.unsafe_probability,
        categories=_categories_from_wire(verdict.categories),
        first_category=_categories_from_wire(verdict.first_category),
        phase=_PHASES_FROM_WIRE[verdict.phase],
        model=model_from_wire(verdict.model),
        policy_id=verdict.policy.id,
        policy_version=verdict.policy.version,
        policy_digest=verdict.policy.digest,
        usage=Usage(
            verdict.usage.prompt_tokens, verdict.usage.cached_tokens, verdict.usage.body_tokens
        ),
        timings=Timings(
            tokenise_seconds=verdict.timings.tokenise_ms / 1000,
            queue_seconds=verdict.timings.queue_ms / 1000,
            inference_seconds=verdict.timings.inference_ms / 1000,
            total_seconds=verdict.timings.total_ms / 1000,
        ),
        coverage=Coverage(verdict.coverage.share, verdict.coverage.num_windows),
    )


def _require_whole(verdict: guard_pb2.Verdict) -> None:
    """A safe verdict is all zeros on the wire, and so is an empty message: tell them apart."""
    problems = {
        "unsafe is not set": not verdict.HasField("unsafe"),
        "unsafe_probability is not set": not verdict.HasField("unsafe_probability"),
        "unsafe_probability is outside 0..1": not _is_probability(verdict.unsafe_probability),
        "phase is unknown": verdict.phase not in _PHASES_FROM_WIRE,
        "model is not named": not verdict.model.id,
        "policy is not named": not verdict.policy.digest,
        "the policy's categories are missing": not verdict.first_category,
        "a category's probability is outside 0..1": not all(
            _is_probability(category.probability)
            for category in (*verdict.categories, *verdict.first_category)
        ),
        "unsafe and categories contradict each other": verdict.unsafe != bool(verdict.categories),
        "nothing was judged": verdict.coverage.num_windows < 1
        or not _is_probability(verdict.coverage.share),
        "a part was not judged, so the text is not safe": not verdict.unsafe
        and verdict.coverage.share < 1,
    }
    for problem, present in problems.items():
        if present:
            raise UnreadableVerdict(f"the server's verdict cannot be used: {problem}")


def _is_probability(number: float) -> bool:
    return 0 <= number <= 1


def _category_to_wire(category: CategoryScore) -> guard_pb2.Category:
    return guard_pb2.Category(
        code=category.code, name=category.name, probability=category.probability
    )


def _categories_from_wire(categories: Iterable[guard_pb2.Category]) -> tuple[CategoryScore, ...]:
    return tuple(
        CategoryScore(category.code, category.name, category.probability) for category in categories
    )


def checkpoint_to_wire(checkpoint: Checkpoint, request_id: str) -> guard_pb2.ModerateStreamResponse:
    """The checkpoint as the contract carries it."""
    return guard_pb2.ModerateStreamResponse(
        verdict=verdict_to_wire(checkpoint.verdict),
        num_characters=checkpoint.num_characters,
        final=checkpoint.final,
        request_id=request_id,
    )


def checkpoint_from_wire(response: guard_pb2.ModerateStreamResponse) -> Checkpoint:
    """The checkpoint as the domain knows it; raises `UnreadableVerdict`."""
    return Checkpoint(verdict_from_wire(response.verdict), response.num_characters, response.final)
