"""The way to a model server: pooled connections, patience with an end, errors in our own words."""

import asyncio
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from typing import Any, TypeVar

import httpx

from chat_gateway.chat import GatewayError, GeneratorFailed, OutOfTime, TooBusy
from chat_gateway.generators.upstream_address import upstream_address
from chat_gateway.generators.upstream_status import Unreached, check_response, is_worth_a_retry
from guard_service.moderation import ConfigurationError

CallHeaders = Callable[[], Sequence[tuple[str, str]]]
"""What to send along with a question, such as a trace's id."""

_T = TypeVar("_T")
_RETRY_PAUSES_SECONDS = (0.1, 0.4)
# Shorter than common servers keep an idle connection, so that none is used as it is being closed.
_KEEP_IDLE_SECONDS = 3.0
_TRUST_READINESS_SECONDS = 3.0
_ENDING_SECONDS = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long to wait for a model server, in seconds; the request's deadline always holds too.

    `first_byte_seconds` runs from sending a request to the first byte of its answer's text.
    """

    connect_seconds: float = 5.0
    first_byte_seconds: float = 60.0
    between_chunks_seconds: float = 30.0


DEFAULT_PATIENCE = Patience()


class Upstream:
    """One model server. Nothing it says about its troubles is repeated, and no key is told."""

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        ca_file: Path | None = None,
        patience: Patience = DEFAULT_PATIENCE,
        max_connections: int = 256,
        headers: CallHeaders = tuple,
    ) -> None:
        self._headers = headers
        self._patience = patience
        self._client = httpx.AsyncClient(
            base_url=upstream_address(base_url),
            headers={"accept-encoding": "identity", **_authorization(api_key)},
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            timeout=httpx.Timeout(
                None, connect=patience.connect_seconds, pool=patience.connect_seconds
            ),
            limits=httpx.Limits(
                max_connections=max_connections, keepalive_expiry=_KEEP_IDLE_SECONDS
            ),
            verify=ssl.create_default_context(cafile=ca_file),
            follow_redirects=False,
            trust_env=False,
        )
        self._probing = asyncio.Lock()
        self._was_ready = False
        self._probed_at = -_TRUST_READINESS_SECONDS

    @asynccontextmanager
    async def post(
        self, path: str, body: dict[str, Any], *, deadline: float
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The bytes of a streamed answer as they come; leaving by an error cuts the connection.

        Raises:
            GatewayError: InvalidChat, TooBusy, GeneratorFailed or OutOfTime.
        """
        response, first_byte_by = await self._open(path, body, deadline)
        try:
            async with aclosing(self._read(response, first_byte_by, deadline)) as received:
                yield received
                await _finish(received)
        finally:
            await response.aclose()

    async def is_ready(self) -> bool:
        """Whether the server lists its models; asked at most once in three seconds."""
        async with self._probing:
            if time.monotonic() - self._probed_at >= _TRUST_READINESS_SECONDS:
                self._was_ready = await self._lists_models()
                self._probed_at = time.monotonic()
            return self._was_ready

    async def close(self) -> None:
        """Close every connection."""
        await self._client.aclose()

    async def _open(
        self, path: str, body: dict[str, Any], deadline: float
    ) -> tuple[httpx.Response, float]:
        """The response, once it is known to be a good one, and when its first byte is due.

        Tried again only while nothing of an answer has come: refused connections and status 503.
        """
        for pause in _RETRY_PAUSES_SECONDS:
            try:
                return await self._try_to_open(path, body, deadline)
            except GatewayError as failure:
                if not is_worth_a_retry(failure) or time.monotonic() + pause >= deadline:
                    raise
            await asyncio.sleep(pause)
        return await self._try_to_open(path, body, deadline)

    async def _try_to_open(
        self, path: str, body: dict[str, Any], deadline: float
    ) -> tuple[httpx.Response, float]:
        first_byte_by = time.monotonic() + self._patience.first_byte_seconds
        headers = list(self._headers())
        request = self._client.build_request("POST", path, json=body, headers=headers)
        sending = self._client.send(request, stream=True)
        response = await _in_time(sending, first_byte_by, deadline)
        try:
            check_response(response)
        except GatewayError:
            await response.aclose()
            raise
        return response, first_byte_by

    async def _read(
        self, response: httpx.Response, due: float, deadline: float
    ) -> AsyncGenerator[bytes, None]:
        received = response.aiter_raw()
        while (piece := await _in_time(anext(received, None), due, deadline)) is not None:
            yield piece
            due = time.monotonic() + self._patience.between_chunks_seconds

    async def _lists_models(self) -> bool:
        try:
            async with (
                asyncio.timeout(self._patience.connect_seconds),
                self._client.stream("GET", "models") as response,
            ):
                return response.status_code == httpx.codes.OK
        except (httpx.TransportError, TimeoutError):
            return False


async def _in_time(awaited: Awaitable[_T], due: float, deadline: float) -> _T:
    """The awaited thing, if it comes before both times; its errors in our own words.

    No cause is kept: it may quote what the server said.
    """
    try:
        async with asyncio.timeout(min(due, deadline) - time.monotonic()):
            return await awaited
    except TimeoutError:
        if deadline <= due:
            raise OutOfTime("the model's server did not finish before the deadline") from None
        raise GeneratorFailed("the model's server is too slow") from None
    except httpx.PoolTimeout:
        raise TooBusy("too many requests wait for the model's server", 1.0) from None
    except (httpx.ConnectError, httpx.ConnectTimeout):
        raise Unreached("the model's server cannot be reached") from None
    except httpx.TransportError:
        raise GeneratorFailed("the model's server broke the connection") from None


async def _finish(received: AsyncIterator[bytes]) -> None:
    """Read a response that has said all it had to say to its very end, so its connection is kept.

    A server that does not end it soon costs a connection, not time.
    """
    with suppress(TimeoutError, GatewayError):
        async with asyncio.timeout(_ENDING_SECONDS):
            async for _ in received:
                pass


def _authorization(api_key: str | None) -> dict[str, str]:
    if api_key is None:
        return {}
    if not api_key.isascii() or not api_key.isprintable() or " " in api_key:
        raise ConfigurationError("upstream key: it must be printable ASCII without spaces")
    return {"authorization": f"Bearer {api_key}"}
