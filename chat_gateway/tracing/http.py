"""A span around every request to the HTTP API, as the child of its caller's."""

from collections.abc import Iterator

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Tracer
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chat_gateway.metrics import PATHS
from guard_service.tracing.attributes import REQUEST_ID, Attributes
from guard_service.tracing.span_context import current, mark_failed, remote_context

API = "/v1/"
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
_FIRST_FAULT = 500


class TracedApp:
    """Surrounds an application; health checks and the page get no spans."""

    def __init__(self, app: ASGIApp, tracer: Tracer) -> None:
        self._app = app
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if not _is_traced(scope):
            await self._app(scope, receive, send)
            return
        parent = remote_context(_headers(scope))
        span = self._tracer.start_span(_name(scope), parent, SpanKind.SERVER, _attributes(scope))

        async def send_noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                _note_status(span, message["status"])
            await send(message)

        try:
            with current(trace.set_span_in_context(span, parent)):
                await self._app(scope, receive, send_noted)
        except BaseException as error:
            mark_failed(span, type(error).__name__)
            raise
        finally:
            if name := scope.get("state", {}).get("request_id"):
                span.set_attribute(REQUEST_ID, name)
            span.end()


def _is_traced(scope: Scope) -> bool:
    if scope["type"] != "http":
        return False
    method, path = str(scope["method"]), str(scope["path"])
    return method == "POST" or path.startswith(API)


def _headers(scope: Scope) -> Iterator[tuple[str, str]]:
    for name, value in scope["headers"]:
        yield name.decode("latin-1"), value.decode("latin-1")


def _name(scope: Scope) -> str:
    """Method and route: a path that is none of ours is the caller's text."""
    method = scope["method"] if scope["method"] in _METHODS else "HTTP"
    return f"{method} {scope['path']}" if scope["path"] in PATHS else method


def _attributes(scope: Scope) -> Attributes:
    method = scope["method"] if scope["method"] in _METHODS else "_OTHER"
    attributes: Attributes = {
        "http.request.method": method,
        "url.scheme": scope["scheme"],
        "network.protocol.version": scope["http_version"],
    }
    if scope["path"] in PATHS:
        attributes["http.route"] = scope["path"]
    return attributes


def _note_status(span: Span, status: int) -> None:
    span.set_attribute("http.response.status_code", status)
    if status >= _FIRST_FAULT:
        mark_failed(span, str(status))
