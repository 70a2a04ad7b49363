"""The model card says what a user must know: base, prompt, data, figures, command, licence."""

from pathlib import Path

import pytest
import yaml

from guard_service.policy import default_policy
from guard_service.tuning.curve import plot_log
from guard_service.tuning.data_report import data_report
from guard_service.tuning.model_card import write_model_card
from guard_service.tuning.settings import TuneSettings, load
from tests.guard_service.tuning.rows import asked

POLICY = default_policy("compact")
REPORT = data_report([asked("Bread"), asked("Bombs", unsafe=True)], [], POLICY)
LLAMA_GUARD = "meta-llama/Meta-Llama-Guard-2-8B"
REVISION = "a" * 40


def card_of(output: Path, **more) -> str:
    settings = load(TuneSettings, {"output": output, **more})
    write_model_card(settings, POLICY, REPORT, [Path("data/train.jsonl.gz")])
    return (output / "README.md").read_text(encoding="utf-8")


def test_the_recipe_of_the_card_gives_the_same_settings(tmp_path):
    given = {
        "model": LLAMA_GUARD,
        "revision": REVISION,
        "format": "llama-guard-2",
        "rank": 8,
        "dev": "a.jsonl,b.jsonl",
        "seed": 3,
    }
    recipe = card_of(tmp_path, **given).partition("```yaml\n")[2].partition("```")[0]
    file = tmp_path / "recipe.yaml"
    file.write_text(recipe, encoding="utf-8")

    assert list(yaml.safe_load(recipe)) == ["dev", "model", "revision", "format", "rank", "seed"]
    again = load(TuneSettings, {"config": file, "output": tmp_path})
    first = load(TuneSettings, {"output": tmp_path, **given})
    assert again.model_copy(update={"config": None}) == first


def test_a_hub_model_is_served_at_its_revision(tmp_path):
    card = card_of(tmp_path, model=LLAMA_GUARD, revision=REVISION, quantisation="4bit")

    for part in (f"--model {LLAMA_GUARD}", f"--revision {REVISION}", "--quantisation 4bit"):
        assert part in card
    front = yaml.safe_load(card.split("---")[1])
    assert front["base_model"] == LLAMA_GUARD


def test_the_command_of_the_card_survives_a_shell(tmp_path):
    output = tmp_path / "my guard"
    output.mkdir()

    assert f"--adapter '{output}'\n" in card_of(output)


def test_the_embedded_model_is_served_from_the_cache(tmp_path):
    card = card_of(tmp_path, cache_dir=tmp_path / "cache")

    assert f"--model {tmp_path / 'cache'}/smollm2-135m-instruct-" in card


@pytest.mark.parametrize(("model", "said"), [(LLAMA_GUARD, True), (None, False)])
def test_a_llama_is_named_as_its_licence_asks(tmp_path, model, said):
    assert ("Built with Meta Llama 3" in card_of(tmp_path, model=model)) == said


def test_the_card_says_what_it_was_trained_on_and_how_well(tmp_path):
    best = '{"step": 40, "eval_auroc": 0.91234, "eval_verdict_loss": 0.25}'
    (tmp_path / "dev.json").write_text(best, encoding="utf-8")
    card = card_of(tmp_path)

    assert "at step 40: AUROC 0.9123, verdict loss 0.2500" in card
    assert "Trained on 2 rows (1 unsafe) of train.jsonl.gz" in card
    assert REPORT.digest in card
    assert POLICY.digest in card
    assert "- torch " in card
    assert "No dev rows" not in card


def test_the_card_of_a_run_without_dev_rows_says_so(tmp_path):
    assert "No dev rows were given" in card_of(tmp_path)


@pytest.mark.parametrize("lines", ["", '{"step": 10, "verdict_loss": 0.5, "loss": 0.6}\n'])
def test_the_curve_is_a_picture_however_little_was_logged(tmp_path, lines):
    (tmp_path / "log.jsonl").write_text(lines, encoding="utf-8")

    plot_log(tmp_path / "curve.png", tmp_path / "log.jsonl", "title")

    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
