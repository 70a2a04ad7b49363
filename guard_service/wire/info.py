"""The service's description on the wire."""

from guard_service.limits import Limits
from guard_service.policy import Policy, PolicyCategory
from guard_service.service_info import ServiceInfo
from guard_service.v1 import guard_pb2
from guard_service.wire.model import model_from_wire, model_to_wire


def info_to_wire(info: ServiceInfo) -> guard_pb2.GetInfoResponse:
    """The service's description as the contract carries it."""
    limits = info.limits
    return guard_pb2.GetInfoResponse(
        model=model_to_wire(info.model),
        policies=map(_policy_to_wire, info.policies),
        default_policy_id=info.default_policy_id,
        limits=guard_pb2.Limits(
            max_messages=limits.max_messages,
            max_content_bytes=limits.max_content_bytes,
            max_windows=limits.max_windows,
            max_batch_conversations=limits.max_batch_conversations,
            max_streams=limits.max_streams,
            max_wait_seconds=limits.max_wait_seconds,
            max_context_tokens=info.max_context_tokens,
        ),
    )


def info_from_wire(response: guard_pb2.GetInfoResponse) -> ServiceInfo:
    """The service's description as the domain knows it."""
    limits = response.limits
    return ServiceInfo(
        model=model_from_wire(response.model),
        policies=tuple(map(_policy_from_wire, response.policies)),
        default_policy_id=response.default_policy_id,
        limits=Limits(
            max_messages=limits.max_messages,
            max_content_bytes=limits.max_content_bytes,
            max_windows=limits.max_windows,
            max_batch_conversations=limits.max_batch_conversations,
            max_streams=limits.max_streams,
            max_wait_seconds=limits.max_wait_seconds,
        ),
        max_context_tokens=limits.max_context_tokens,
    )


def _policy_to_wire(policy: Policy) -> guard_pb2.Policy:
    return guard_pb2.Policy(
        id=policy.id,
        version=policy.version,
        digest=policy.digest,
        prompt_format=policy.prompt_format,
        descriptions_in_prompt=policy.descriptions_in_prompt,
        categories=[
            guard_pb2.PolicyCategory(
                code=category.code,
                name=category.name,
                description=category.description,
                threshold=category.threshold,
            )
            for category in policy.categories
        ],
    )


def _policy_from_wire(policy: guard_pb2.Policy) -> Policy:
    return Policy(
        id=policy.id,
        version=policy.version,
        prompt_format=policy.prompt_format,
        descriptions_in_prompt=policy.descriptions_in_prompt,
        categories=tuple(
            PolicyCategory(category.code, category.name, category.description, category.threshold)
            for category in policy.categories
        ),
    )
