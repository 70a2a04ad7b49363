"""A small client of a running gateway, for people: it says what the guard thinks, too."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from chat_gateway.chat import GatewayError
from chat_gateway.generators.sse import EventReader

MAX_EVENT_BYTES = 2**20
PATIENCE = httpx.Timeout(300.0, connect=5.0)
_CHANNELS = ("reasoning_content", "content")


@dataclass(frozen=True, slots=True)
class Said:
    """The next piece of the answer."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """What the guard said; `unsafe_probability` is None where it could not judge."""

    phase: str
    final: bool
    blocked: bool
    unsafe: bool
    unsafe_probability: float | None
    categories: tuple[str, ...]
    elapsed_ms: float


@dataclass(frozen=True, slots=True)
class Ended:
    """The answer is over."""

    reason: str


@dataclass(frozen=True, slots=True)
class GatewayClient:
    """A gateway at `url`; what is left empty is the gateway's own default."""

    url: str
    policy: str = ""
    model: str = ""
    temperature: float | None = None
    http: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=PATIENCE))

    def default_model(self) -> str:
        """The model this client asks; raises `GatewayError`."""
        if self.model:
            return self.model
        with _own_errors(self.url):
            response = self.http.get(f"{self.url}/v1/models")
            _require_success(response)
            return str(response.json()["data"][0]["id"])

    def chat(self, messages: Sequence[dict[str, str]]) -> Iterator[Said | Opinion | Ended]:
        """The answer and the guard's opinions as they come; raises `GatewayError`."""
        body = {
            "model": self.default_model(),
            "messages": list(messages),
            "stream": True,
            "temperature": self.temperature,
        }
        headers = {"x-guard-detail": "1"} | ({"x-guard-policy": self.policy} if self.policy else {})
        reader = EventReader(MAX_EVENT_BYTES)
        with (
            _own_errors(self.url),
            self.http.stream(
                "POST", f"{self.url}/v1/chat/completions", json=body, headers=headers
            ) as response,
        ):
            _require_success(response)
            for piece in response.iter_bytes():
                for data in reader.feed(piece):
                    yield from _events(data)


@contextmanager
def _own_errors(url: str) -> Iterator[None]:
    try:
        yield
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise GatewayError(
            f"no gateway answers at {url}; start one with 'chat-gateway demo'"
        ) from error
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise GatewayError(f"{url} does not speak as a gateway does") from error


def _require_success(response: httpx.Response) -> None:
    if response.is_success:
        return
    response.read()
    try:
        message = response.json()["error"]["message"]
    except (ValueError, KeyError, TypeError):
        message = "no reason was given"
    raise GatewayError(f"refused with status {response.status_code}: {message}")


def _events(data: str) -> Iterator[Said | Opinion | Ended]:
    if data == "[DONE]":
        return
    chunk = json.loads(data)
    if "error" in chunk:
        raise GatewayError(chunk["error"]["message"])
    if chunk.get("guard"):
        yield _opinion(chunk["guard"])
    for choice in chunk["choices"]:
        for channel in _CHANNELS:
            if text := choice["delta"].get(channel):
                yield Said(text)
        if choice["finish_reason"]:
            yield Ended(choice["finish_reason"])


def _opinion(guard: dict[str, Any]) -> Opinion:
    return Opinion(
        phase=guard["phase"],
        final=guard["final"],
        blocked=guard["blocked"],
        unsafe=bool(guard.get("unsafe")),
        unsafe_probability=guard.get("unsafe_probability"),
        categories=tuple(f"{each['code']} {each['name']}" for each in guard.get("categories", [])),
        elapsed_ms=guard["elapsed_ms"],
    )
