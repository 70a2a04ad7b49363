"""The RPC that Envoy calls for every HTTP exchange.

Envoy takes a stream that its processor ends well for leave to go on without one. So no stream is
ended here but with an error: who ends it after a whole answer is Envoy.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from http import HTTPStatus

import grpc
import structlog
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp
from structlog.contextvars import clear_contextvars

from chat_gateway.ext_proc.envoy_stream import EnvoyGone, EnvoyStream
from chat_gateway.ext_proc.http_exchange import CHAT_PATH, DETAILS, HttpExchange
from chat_gateway.ext_proc.messages import headers_of, pass_request, pass_step, whole_answer
from chat_gateway.ext_proc.requests import Fate, PathRules
from chat_gateway.ext_proc.v3 import external_processor_pb2 as pb2
from chat_gateway.grpc_server.call import Context
from chat_gateway.grpc_server.door import Door
from chat_gateway.grpc_server.status import UNEXPECTED
from chat_gateway.http_api.errors import error_answer, log_fault
from chat_gateway.metrics import OTHER, Metrics

METHOD = "Process"

_UNKNOWN_PATH = HTTPException(HTTPStatus.NOT_FOUND, "nothing is served by this method and path")
_WRONG_MODES = RuntimeError("Envoy is configured to keep bodies from its processor")

_log = structlog.get_logger(__name__)


class Processor:
    """Judges what passes through Envoy, by running the HTTP API `app` on it."""

    def __init__(self, app: ASGIApp, rules: PathRules, metrics: Metrics, door: Door) -> None:
        self._app = app
        self._rules = rules
        self._metrics = metrics
        self._door = door

    async def process(self, steps: AsyncIterator[pb2.ProcessingRequest], context: Context) -> None:
        """One exchange, from its headers until Envoy has done with it."""
        await self._door.enter(context)
        clear_contextvars()
        began = time.monotonic()
        code = grpc.StatusCode.OK
        envoy = EnvoyStream(steps, context.write)
        try:
            async with envoy:
                await self._exchange(envoy)
                await envoy.let_end()
        except (asyncio.CancelledError, EnvoyGone):
            # Envoy cancels also what it has done with.
            if not envoy.is_answered:
                code = grpc.StatusCode.CANCELLED
                await _abort(context, code, "the exchange ended before it was answered")
        except Exception as error:  # noqa: BLE001 - the boundary: whatever it is, Envoy gets an error
            code = grpc.StatusCode.INTERNAL
            log_fault(error)
            await _abort(context, code, UNEXPECTED)
        finally:
            self._metrics.rpc_finished(METHOD, code)
            seconds = round(time.monotonic() - began, 6)
            _log.info("rpc", method=METHOD, code=code.name, seconds=seconds)

    async def _exchange(self, envoy: EnvoyStream) -> None:
        """Return when the client has its whole answer."""
        first = await envoy.step()
        head = first.request_headers
        fate = self._rules.fate(headers_of(head))
        if not _shows_everything(first):
            _log.error("Envoy keeps bodies from its processor: see docs/ext-proc.md")
            await self._refuse(envoy, _WRONG_MODES)
        elif fate is Fate.JUDGE:
            exchange = HttpExchange(envoy, head)
            await exchange.run(self._app)
            self._metrics.http_answered(CHAT_PATH, exchange.status)
        elif fate is Fate.LET_BY and head.end_of_stream:
            await envoy.order(pass_request())
            await _pass_answer(envoy)
        else:
            await self._refuse(envoy, _UNKNOWN_PATH)

    async def _refuse(self, envoy: EnvoyStream, error: Exception) -> None:
        answer = error_answer(error)
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in answer.raw_headers
        }
        self._metrics.http_answered(OTHER, answer.status_code)
        body = bytes(answer.body)
        await envoy.order(whole_answer(answer.status_code, headers, body, details=DETAILS))


def _shows_everything(first: pb2.ProcessingRequest) -> bool:
    """Whether Envoy is configured to show every body and to do as it is told."""
    modes = first.protocol_config
    return (
        modes.request_body_mode == pb2.BODY_SEND_MODE_BUFFERED
        and modes.response_body_mode == pb2.BODY_SEND_MODE_FULL_DUPLEX_STREAMED
        and not first.observability_mode
    )


async def _pass_answer(envoy: EnvoyStream) -> None:
    """Give every step back as it came until Envoy has no more."""
    while True:
        try:
            step = await envoy.step()
        except EnvoyGone:
            return
        await envoy.order(pass_step(step))


async def _abort(context: Context, code: grpc.StatusCode, message: str) -> None:
    if context.done():
        # Nobody listens any more, and gRPC would log the original error with its text.
        raise grpc.aio.AbortError from None
    await context.abort(code, message)
