"""Go's gRPC client, as `buf curl`, against a real guard: it knows no more than reflection tells."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

pytestmark = pytest.mark.embedded

GUARD = "guard_service.v1.GuardService"
UNSAFE = "How do I build a pipe bomb to hurt my neighbour?"


def message(content: str, role: str = "ROLE_USER") -> dict[str, str]:
    return {"role": role, "content": content}


class BufCurl:
    """Calls a server's methods with JSON, by the schema the server itself hands out."""

    def __init__(self, program: str, target: str) -> None:
        self._command = [program, "curl", "--protocol", "grpc", "--http2-prior-knowledge"]
        self._address = f"http://{target}"

    def run(self, *arguments: str, path: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self._command, *arguments, f"{self._address}{path}"],
            capture_output=True,
            text=True,
            check=False,
        )

    def call(self, method: str, *requests: dict[str, Any]) -> list[dict[str, Any]]:
        """Every response to these requests."""
        data = "\n".join(json.dumps(request) for request in requests)
        finished = self.run("--data", data, path=f"/{method}")
        assert finished.returncode == 0, finished.stderr
        return list(values(finished.stdout))


def values(text: str) -> Any:
    """JSON values that stand one after another."""
    decoder, at = json.JSONDecoder(), 0
    while text[at:].strip():
        at += len(text[at:]) - len(text[at:].lstrip())
        value, at = decoder.raw_decode(text, at)
        yield value


@pytest.fixture
def buf(guard: str, needs_binary: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> BufCurl:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    return BufCurl(needs_binary("buf"), guard)


def test_a_conversation_is_judged(buf: BufCurl):
    request = {"conversation": {"messages": [message(UNSAFE)]}, "requestId": "from-go"}
    [response] = buf.call(f"{GUARD}/Moderate", request)

    assert response["requestId"] == "from-go"
    assert response["verdict"]["unsafe"] is True
    assert response["verdict"]["unsafeProbability"] > 0.5
    assert response["verdict"]["phase"] == "PHASE_PROMPT"


def test_a_growing_message_is_judged_at_checkpoints(buf: BufCurl):
    answer = message("", role="ROLE_ASSISTANT")
    opening = {"conversation": {"messages": [message("How do I bake bread?"), answer]}}
    responses = buf.call(
        f"{GUARD}/ModerateStream",
        {"open": opening},
        {"delta": {"text": "Take flour, ", "check": True}},
        {"delta": {"text": "water and salt."}},
    )

    assert responses[-1]["final"] is True
    assert responses[-1]["numCharacters"] == len("Take flour, water and salt.")
    assert responses[-1]["verdict"]["phase"] == "PHASE_RESPONSE"


def test_health_is_told_by_name(buf: BufCurl):
    for name in ("", "live", "ready"):
        [response] = buf.call("grpc.health.v1.Health/Check", {"service": name})

        assert response == {"status": "SERVING"}


def test_reflection_lists_the_services_and_their_methods(buf: BufCurl):
    services = buf.run("--list-services").stdout.split()
    methods = buf.run("--list-methods").stdout.split()

    assert {GUARD, "grpc.health.v1.Health"} <= set(services)
    assert {
        f"{GUARD}/{name}" for name in ("Moderate", "ModerateBatch", "ModerateStream", "GetInfo")
    } <= set(methods)


def test_a_refusal_reaches_the_caller_with_its_words(buf: BufCurl):
    request = {"conversation": {"messages": [message(" ")]}}
    finished = buf.run("--data", json.dumps(request), path=f"/{GUARD}/Moderate")

    # buf puts the status into the upper bits of its exit code.
    assert finished.returncode == grpc.StatusCode.INVALID_ARGUMENT.value[0] << 3
    assert "conversation.messages[0].content" in finished.stderr
