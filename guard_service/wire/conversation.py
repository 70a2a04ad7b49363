"""Conversations on the wire."""

from guard_service.moderation import Conversation, InvalidRequest, Message, Role
from guard_service.v1 import guard_pb2
from guard_service.validation import content_bytes

_ROLES = {
    Role.USER: guard_pb2.ROLE_USER,
    Role.ASSISTANT: guard_pb2.ROLE_ASSISTANT,
    Role.SYSTEM: guard_pb2.ROLE_SYSTEM,
    Role.TOOL: guard_pb2.ROLE_TOOL,
}
_ROLES_FROM_WIRE = {wire: role for role, wire in _ROLES.items()}
_ROLE_NAMES = ", ".join(guard_pb2.Role.Name(wire) for wire in _ROLES_FROM_WIRE)


def conversation_to_wire(conversation: Conversation) -> guard_pb2.Conversation:
    """The conversation as the contract carries it; raises `InvalidRequest` for text it cannot."""
    for index, message in enumerate(conversation):
        content_bytes(f"conversation.messages[{index}].content", message.content)
    return guard_pb2.Conversation(
        messages=[
            guard_pb2.Message(role=_ROLES[message.role], content=message.content)
            for message in conversation
        ]
    )


def conversation_from_wire(conversation: guard_pb2.Conversation) -> Conversation:
    """The conversation as the domain knows it; raises `InvalidRequest` for an unknown role."""
    return tuple(
        Message(_role_from_wire(message.role, index), message.content)
        for index, message in enumerate(conversation.messages)
    )


def _role_from_wire(role: guard_pb2.Role.ValueType, index: int) -> Role:
    try:
        return _ROLES_FROM_WIRE[role]
    except KeyError:
        raise InvalidRequest(
            f"conversation.messages[{index}].role",
            f"unknown role {role}; use one of {_ROLE_NAMES}",
        ) from None
