"""The ways of drawing an answer that a model in this process has."""

from chat_gateway.chat import InvalidChat, Sampling

MAX_TEMPERATURE = 2.0
MAX_CHOICES = 8
MAX_STOP_STRINGS, MAX_STOP_CHARACTERS = 16, 256
_SEEDS = range(-(2**63), 2**64)


def check_sampling(sampling: Sampling) -> None:
    """Refuse what cannot be drawn.

    Raises:
        InvalidChat: names the parameter and what is allowed.
    """
    temperature, top_p, max_tokens = sampling.temperature, sampling.top_p, sampling.max_tokens
    if temperature is not None and not 0 <= temperature <= MAX_TEMPERATURE:
        raise InvalidChat("temperature", f"must be between 0 and {MAX_TEMPERATURE:g}")
    if top_p is not None and not 0 < top_p <= 1:
        raise InvalidChat("top_p", "must be above 0 and at most 1")
    if max_tokens is not None and max_tokens < 1:
        raise InvalidChat("max_tokens", "must be at least 1")
    if not 1 <= sampling.num_choices <= MAX_CHOICES:
        raise InvalidChat("n", f"must be between 1 and {MAX_CHOICES}")
    if sampling.seed is not None and sampling.seed not in _SEEDS:
        raise InvalidChat("seed", "must fit 64 bits")
    _check_stop(sampling.stop)


def _check_stop(stop: tuple[str, ...]) -> None:
    if len(stop) > MAX_STOP_STRINGS:
        raise InvalidChat("stop", f"must be at most {MAX_STOP_STRINGS} strings")
    if not all(1 <= len(text) <= MAX_STOP_CHARACTERS for text in stop):
        raise InvalidChat("stop", f"must be of 1 to {MAX_STOP_CHARACTERS} characters each")
