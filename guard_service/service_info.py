"""What a running service says about itself."""

from dataclasses import dataclass

from guard_service.limits import Limits
from guard_service.moderation import ModelInfo
from guard_service.policy import Policy


@dataclass(frozen=True, slots=True)
class ServiceInfo:
    """Which model judges, by which policies, within which limits."""

    model: ModelInfo
    policies: tuple[Policy, ...]
    default_policy_id: str
    limits: Limits
    max_context_tokens: int
