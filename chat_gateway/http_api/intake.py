"""What a request passes before it is read: a free place, a bounded body, a client still there."""

import asyncio
from contextlib import suppress

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chat_gateway.http_api.body import ClientGone, read_body
from chat_gateway.http_api.limits import HttpLimits
from chat_gateway.places import Places


class IntakeMiddleware:
    """Admits requests that bring a body; everything done for one ends when its client goes."""

    def __init__(self, app: ASGIApp, limits: HttpLimits, places: Places) -> None:
        self._app = app
        self._limits = limits
        self._places = places

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Admit a request, or raise why not."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        with self._places.one(), suppress(ClientGone):
            body = await read_body(scope, receive, self._limits)
            await self._run_while_connected(scope, body, receive, send)

    async def _run_while_connected(
        self, scope: Scope, body: bytes, receive: Receive, send: Send
    ) -> None:
        gone = asyncio.create_task(_disconnected(receive))
        unread = [body]

        async def receive_whole() -> Message:
            if unread:
                return {"type": "http.request", "body": unread.pop(), "more_body": False}
            await asyncio.shield(gone)
            return {"type": "http.disconnect"}

        async def send_in_time(message: Message) -> None:
            try:
                async with asyncio.timeout(self._limits.max_unread_seconds):
                    await send(message)
            except TimeoutError:
                raise ClientGone from None

        work = asyncio.create_task(_run(self._app, scope, receive_whole, send_in_time))
        try:
            await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            work.cancel()
            await asyncio.wait((work,))
        if not work.cancelled():
            work.result()


async def _run(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    await app(scope, receive, send)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
