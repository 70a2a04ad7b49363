"""Which policy a request is answered under: the operator's word first, the client's within it."""

from dataclasses import replace

from chat_gateway.chat import InvalidChat
from chat_gateway.http_api.chat_schema import ModerationItem
from chat_gateway.http_api.services import Services
from chat_gateway.policy import GatewayPolicy, Mode

POLICY_HEADER = "x-guard-policy"


def offered_policies(services: Services) -> tuple[GatewayPolicy, ...]:
    """The policies a client may name, the default first."""
    default = services.default_policy_id
    others = sorted(services.selectable & services.policies.keys() - {default})
    return tuple(services.policies[policy_id] for policy_id in (default, *others))


def chosen_policy(services: Services, named: str | None) -> GatewayPolicy:
    """The policy a client names, or the default.

    Raises:
        InvalidChat: There is none of that name that clients may choose.
    """
    if named is None:
        return services.policies[services.default_policy_id]
    for policy in offered_policies(services):
        if policy.id == named:
            return policy
    raise InvalidChat(POLICY_HEADER, "no policy of that name may be chosen here")


def strengthened(policy: GatewayPolicy, asked: ModerationItem | None) -> GatewayPolicy:
    """The policy with what a request asks for on top: `block` turns a reporting one strict."""
    if asked is None or asked.policy is None or policy.mode.blocks:
        return policy
    phases = (asked.policy.input, asked.policy.output)
    if any(phase is not None and phase.mode == "block" for phase in phases):
        return replace(policy, mode=Mode.STRICT)
    return policy
