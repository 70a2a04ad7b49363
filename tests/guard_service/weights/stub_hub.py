"""A model hub on loopback: serves the files of one model at one commit, to those with the token."""

import hashlib
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MODEL = "meta-llama/Meta-Llama-Guard-2-8B"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_of_the_test"


@dataclass
class StubHub:
    """What it serves, by file name, and what it was asked for."""

    files: dict[str, bytes]
    port: int = 0
    fetched: list[str] = field(default_factory=list)
    breaks_off: set[str] = field(default_factory=set)
    """Files whose connection is cut in the middle."""

    @property
    def variables(self) -> dict[str, str]:
        """The environment of a client that may read the model."""
        return {
            "HF_ENDPOINT": f"http://127.0.0.1:{self.port}",
            "HF_TOKEN": TOKEN,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }


class _Handler(BaseHTTPRequestHandler):
    """Answers as the hub does; `hub` is set on a class made for each server."""

    hub: StubHub

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        prefix = f"/{MODEL}/resolve/{COMMIT}/"
        name = self.path.removeprefix(prefix)
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            self._refuse(401, "GatedRepo")
        elif not self.path.startswith(prefix):
            self._refuse(404, "RevisionNotFound")
        elif name not in self.hub.files:
            self._refuse(404, "EntryNotFound")
        else:
            self._send(name, with_body=with_body)

    def _refuse(self, status: int, reason: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", reason)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send(self, name: str, *, with_body: bool) -> None:
        content = self.hub.files[name]
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if with_body:
            self.hub.fetched.append(name)
            broken = name in self.hub.breaks_off
            self.wfile.write(content[: len(content) // 2] if broken else content)
            self.close_connection = broken

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def stub_hub(files: Mapping[str, bytes]) -> Iterator[StubHub]:
    hub = StubHub(dict(files))
    handler = type("Handler", (_Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        hub.port = server.server_address[1]
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield hub
        finally:
            server.shutdown()
            serving.join()
