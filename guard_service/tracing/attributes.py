"""Names of span attributes that both services use, and what a verdict says in them."""

from collections.abc import Sequence

from guard_service.moderation import Verdict

AttributeValue = str | bool | int | float | Sequence[str]
Attributes = dict[str, AttributeValue]

REQUEST_ID = "moderation.request_id"
PHASE = "moderation.phase"
UNSAFE = "moderation.unsafe"
UNSAFE_PROBABILITY = "moderation.unsafe_probability"
CATEGORIES = "moderation.categories"
BODY_TOKENS = "moderation.tokens.body"
CACHED_TOKENS = "moderation.tokens.cached"
NUM_VERDICTS = "moderation.num_verdicts"
NUM_UNSAFE = "moderation.num_unsafe"


def rpc_attributes(path: str) -> Attributes:
    """What is known of a call by its path, `/package.Service/Method`."""
    service, _, method = path.strip("/").rpartition("/")
    return {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method}


def score_attributes(verdict: Verdict) -> Attributes:
    """What a verdict says, in short."""
    return {
        PHASE: verdict.phase.value,
        UNSAFE: verdict.unsafe,
        UNSAFE_PROBABILITY: verdict.unsafe_probability,
        CATEGORIES: [category.code for category in verdict.categories],
    }


def verdict_attributes(verdict: Verdict) -> Attributes:
    """What a verdict says, and by what it was reached."""
    return {
        **score_attributes(verdict),
        "moderation.policy.id": verdict.policy_id,
        "moderation.policy.version": verdict.policy_version,
        "moderation.policy.digest": verdict.policy_digest,
        "moderation.model.id": verdict.model.id,
        "moderation.model.revision": verdict.model.revision,
        "moderation.tokens.prompt": verdict.usage.prompt_tokens,
        CACHED_TOKENS: verdict.usage.cached_tokens,
        BODY_TOKENS: verdict.usage.body_tokens,
        "moderation.num_windows": verdict.coverage.num_windows,
    }
