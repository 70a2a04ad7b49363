"""The chat page: three files of this package, served under a policy that allows nothing else."""

from collections.abc import Awaitable, Callable
from importlib import resources

from fastapi import APIRouter
from starlette.responses import Response

FILES = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-cache",
}


def page_router() -> APIRouter:
    """The page's files at the root."""
    router = APIRouter(include_in_schema=False)
    folder = resources.files("chat_gateway.http_api") / "page"
    for path, (name, media_type) in FILES.items():
        answer = Response((folder / name).read_bytes(), headers=HEADERS, media_type=media_type)
        router.add_api_route(path, _serving(answer), methods=["GET"])
    return router


def _serving(answer: Response) -> Callable[[], Awaitable[Response]]:
    async def serve() -> Response:
        return answer

    return serve
