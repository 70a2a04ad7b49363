"""A tiny model from labelled rows to an adapter that serves, by the command and piece by piece."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from guard_service.engine.protocol import Judgement, Scores
from guard_service.moderation import ConfigurationError
from guard_service.policy import default_policy
from guard_service.prompt_formats import FORMATS
from guard_service.tuning.output_folder import OutputFolder
from guard_service.tuning.run import tune
from guard_service.tuning.settings import TuneSettings, load
from guard_service.weights import adapter_format
from tests.command import Finished, run
from tests.guard_service.tuning.rows import toy_rows, write_rows
from tests.models import SMALL, WIDE_HEADS, random_llama
from tests.running import loaded_engine
from tests.tokenizers import llama3_tokenizer

NUM_STEPS = 50
STOP = 20
RECIPE = f"""\
format: compact
steps: {NUM_STEPS}
step_tokens: 256
learning_rate: 5.0e-3
warm_up_steps: 5
policy_variants: 0
evaluate_every: {STOP}
dtype: float32
device: cpu
num_threads: 1
seed: 7
"""
ROWS, DEV = list(toy_rows(60, seed=1)), list(toy_rows(40, seed=2))


def settings(output: Path, **more: Any) -> TuneSettings:
    return load(TuneSettings, {"config": output.parent / "recipe.yaml", "output": output, **more})


def logged(output: Path, figure: str) -> dict[int, float]:
    """A figure by step; none is logged twice."""
    entries = map(json.loads, (output / "log.jsonl").read_text(encoding="utf-8").splitlines())
    found = [(entry["step"], entry[figure]) for entry in entries if figure in entry]
    assert len(dict(found)) == len(found)
    return dict(found)


@pytest.fixture(autouse=True)
def _own_threads() -> Iterator[None]:
    """A run sets how many threads torch uses."""
    number = torch.get_num_threads()
    yield
    torch.set_num_threads(number)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    (folder / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    write_rows(folder / "train.jsonl", ROWS)
    write_rows(folder / "dev.jsonl", DEV)
    return folder


def run_tune(folder: Path, base: Path, *more: str) -> Finished:
    """The whole command."""
    return run(
        "tune",
        str(folder / "train.jsonl"),
        f"--dev={folder / 'dev.jsonl'}",
        f"--config={folder / 'recipe.yaml'}",
        f"--model={base}",
        f"--output={folder / 'tuned'}",
        *more,
    )


@pytest.fixture(scope="module")
def finished(folder: Path, base_folder: Path) -> Finished:
    return run_tune(folder, base_folder)


@pytest.fixture(scope="module")
def tuned(finished: Finished, folder: Path) -> Path:
    assert finished.status == 0, finished.error
    return folder / "tuned"


def judged(base: Path, adapter: Path) -> list[Scores]:
    """What a server with the adapter says of the dev rows."""
    engine = loaded_engine(base, adapter, prompt_format="compact")
    policy = default_policy("compact")
    engine.prepare(len(policy.categories))
    prompts = [FORMATS["compact"].render(row.conversation, policy) for row in DEV]
    segments = [engine.encode(prompt) for prompt in prompts]
    return engine.score([Judgement(each, len(policy.categories), 0.5) for each in segments])


def test_what_can_be_learnt_is_learnt_and_served(tuned, base_folder):
    auroc = logged(tuned, "eval_auroc")
    scores = judged(base_folder, tuned)
    unsafe = [each.unsafe_probability for each, row in zip(scores, DEV, strict=True) if row.unsafe]
    safe = [
        each.unsafe_probability for each, row in zip(scores, DEV, strict=True) if not row.unsafe
    ]

    assert list(auroc) == [20, 40, 50]
    assert max(auroc.values()) > 0.9
    pairs = [above > below for above in unsafe for below in safe]
    assert sum(pairs) / len(pairs) == pytest.approx(max(auroc.values()), abs=1e-3)
    assert sum(each.first_category[0] > 0.5 for each in scores) > 0.9 * len(scores)


def test_the_adapter_kept_is_the_best_one(tuned):
    best = json.loads((tuned / "dev.json").read_text(encoding="utf-8"))
    auroc, losses = logged(tuned, "eval_auroc"), logged(tuned, "eval_verdict_loss")

    assert best["step"] == max(auroc, key=lambda step: (auroc[step], -losses[step]))
    assert best["eval_auroc"] == auroc[best["step"]]


def test_each_figure_is_said_once_in_words(tuned, finished):
    lines = finished.output.splitlines()
    said = [line for line in lines if line.startswith("step ")]

    assert len(said) == 5 + 3
    assert all("loss" in line and "minutes left" in line for line in said)
    assert sum("examples/s" in line for line in said) == 5
    assert sum("dev AUROC" in line for line in said) == 3
    assert "{" not in finished.output
    assert lines[-1] == f"the adapter is in {tuned}; {tuned / 'README.md'} says how to serve it"


def test_the_folder_tells_how_the_adapter_came_about(tuned, finished, base_folder):
    card = (tuned / "README.md").read_text(encoding="utf-8")
    data = json.loads((tuned / "data.json").read_text(encoding="utf-8"))

    assert data["digest"] in card
    assert data["digest"][:16] in finished.output
    assert default_policy("compact").digest in card
    assert f"--model {base_folder} \\\n    --adapter {tuned}\n" in card
    assert adapter_format(tuned) == "compact"
    assert "step_tokens: 256" in card
    kept = json.loads((tuned / "settings.json").read_text(encoding="utf-8"))
    assert (kept["rank"], kept["policy"]) == (16, default_policy("compact").digest)
    assert not (tuned / "checkpoints" / "README.md").exists()
    assert (tuned / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_no_text_of_a_row_is_written_or_said(tuned, finished):
    texts = [message.content.encode() for row in (*ROWS, *DEV) for message in row.messages]
    files = [file.read_bytes() for file in tuned.rglob("*") if file.is_file()]

    for where in (*files, finished.output.encode(), finished.error.encode()):
        assert not any(text in where for text in texts)


@pytest.mark.usefixtures("tuned")
def test_a_run_does_not_go_on_with_other_settings(folder, base_folder):
    again = run_tune(folder, base_folder, "--resume", "--format=llama-guard-2")

    assert again.status == 78
    assert again.one_line.startswith("format: is llama-guard-2, but compact for the run in ")


def test_the_same_seed_gives_the_same_losses(tuned, folder, base_folder):
    again = folder / "again"
    tune(settings(again, model=str(base_folder)), ROWS, DEV, resume=False, say=lambda _: None)

    assert list(logged(again, "loss")) == [10, 20, 30, 40, 50]
    for figure in ("loss", "verdict_loss", "grad_norm", "eval_verdict_loss"):
        assert logged(again, figure) == logged(tuned, figure)


def test_a_run_that_was_stopped_goes_on_as_if_it_was_not(tuned, folder, base_folder):
    stopped, model = folder / "stopped", str(base_folder)
    first = settings(stopped, model=model, stop_at=STOP)
    tune(first, ROWS, DEV, resume=False, say=lambda _: None)
    assert list(logged(stopped, "loss")) == [10, 20]

    tune(settings(stopped, model=model), ROWS, DEV, resume=True, say=lambda _: None)

    for figure in ("loss", "verdict_loss", "learning_rate", "eval_verdict_loss"):
        assert logged(stopped, figure) == logged(tuned, figure)
    adapters = [each / "adapter_model.safetensors" for each in (stopped, tuned)]
    assert adapters[0].read_bytes() == adapters[1].read_bytes()


def test_a_time_limit_ends_a_run_with_an_adapter(folder, base_folder):
    short = folder / "short"
    limited = settings(short, model=str(base_folder), minutes=1e-6, steps=200)
    tune(limited, ROWS, DEV, resume=False, say=lambda _: None)

    assert max(logged(short, "eval_auroc")) < 200
    assert loaded_engine(base_folder, short, prompt_format="compact").info


def test_an_adapter_of_another_shape_is_not_gone_on_from(tuned, folder, tmp_path):
    random_llama(3, WIDE_HEADS).save_pretrained(tmp_path)
    llama3_tokenizer().save_pretrained(tmp_path)
    more = settings(folder / "more", model=str(tmp_path), adapter=tuned)

    with pytest.raises(ConfigurationError, match=f"adapter: '{tuned}' does not fit this model"):
        tune(more, ROWS, DEV, resume=False, say=lambda _: None)


@pytest.mark.parametrize("evaluate_every", [5, 20])
def test_a_loss_that_is_no_number_ends_the_run_without_an_adapter(folder, tmp_path, evaluate_every):
    broken = random_llama(3, SMALL)
    broken.model.norm.weight.data.fill_(torch.nan)
    broken.save_pretrained(tmp_path)
    llama3_tokenizer().save_pretrained(tmp_path)
    output = folder / f"broken-{evaluate_every}"
    given = settings(output, model=str(tmp_path), evaluate_every=evaluate_every)

    with pytest.raises(ConfigurationError, match=r"learning_rate: the loss at step .* is not a"):
        tune(given, ROWS, DEV, resume=False, say=lambda _: None)
    assert not list(output.rglob("adapter_model.safetensors"))


def test_an_interrupt_leaves_a_checkpoint_and_later_ones_act_as_ever(folder, base_folder):
    output = folder / "interrupted"
    before = signal.getsignal(signal.SIGINT)

    def say(line: str) -> None:
        if line.startswith("step 10 of"):
            signal.raise_signal(signal.SIGINT)
            assert signal.getsignal(signal.SIGINT) is before

    asked = settings(output, model=str(base_folder), checkpoint_minutes=60)
    tune(asked, ROWS, [], resume=False, say=say)

    assert OutputFolder(output).newest_checkpoint().name == "checkpoint-11"
    assert signal.getsignal(signal.SIGINT) is before
