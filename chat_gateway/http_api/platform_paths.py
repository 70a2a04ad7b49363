"""Other names for two of the gateway's paths, by which a hosting platform calls them."""

from starlette.types import ASGIApp, Receive, Scope, Send

HEALTH_PATH = "/health/ready"
CHAT_PATH = "/v1/chat/completions"
PREDICT_PATH = "/predict"


class PlatformPaths:
    """Surrounds the whole application, so that a request by another name meets the same limits."""

    def __init__(self, app: ASGIApp, *, health_path: str, invoke_path: str, target: str) -> None:
        self._app = app
        self._paths = {("GET", health_path): HEALTH_PATH, ("POST", invoke_path): target}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on under the gateway's own name for its path."""
        if scope["type"] == "http":
            path = self._paths.get((scope["method"], scope["path"]))
            if path is not None:
                scope = {**scope, "path": path, "raw_path": path.encode()}
        await self._app(scope, receive, send)
