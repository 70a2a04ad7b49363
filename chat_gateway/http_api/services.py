"""What the HTTP API stands on."""

from collections.abc import Mapping
from dataclasses import dataclass

from chat_gateway.generators.protocol import Generator
from chat_gateway.guard import Guard
from chat_gateway.http_api.limits import HttpLimits
from chat_gateway.pipeline import Pipeline
from chat_gateway.policy import GatewayPolicy
from chat_gateway.text_moderation import TextModeration


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The parts an endpoint may use. `selectable` policies may be asked for by any client."""

    pipeline: Pipeline
    moderation: TextModeration
    generator: Generator
    guard: Guard
    policies: Mapping[str, GatewayPolicy]
    default_policy_id: str
    selectable: frozenset[str]
    limits: HttpLimits
