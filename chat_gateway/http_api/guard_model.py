"""Which names of a moderation model mean the guard."""

from chat_gateway.chat import UnknownModel
from chat_gateway.guard import Guard
from chat_gateway.http_api.errors import guard_error
from guard_service.moderation import ModerationError

STAND_INS = frozenset(
    {"omni-moderation-latest", "text-moderation-latest", "text-moderation-stable"}
)
"""Names OpenAI's clients send by default; the verdict says which model really judged."""

INFO_SECONDS = 5.0


async def require_guard_model(guard: Guard, named: str | None, *, param: str) -> None:
    """Refuse a model by another name than the guard's own or a stand-in's.

    Raises:
        UnknownModel: names the guard's model.
        GatewayError: The guard cannot say what its model is.
    """
    if named is None or named in STAND_INS:
        return
    try:
        info = await guard.info(timeout_seconds=INFO_SECONDS)
    except ModerationError as error:
        raise guard_error(error, param=param) from error
    if named != info.model.id:
        raise UnknownModel(param, f"the moderation model here is {info.model.id}")
