"""Settings of a run: recipes that ship, the policy that is taught, and the documented table."""

from pathlib import Path

import pytest
import yaml

from guard_service.configuration.reference import references, with_fresh_table
from guard_service.moderation import ConfigurationError
from guard_service.tuning.recipes import recipe_file, recipe_names
from guard_service.tuning.settings import TuneSettings, load
from guard_service.weights import write_adapter_format

PAGE = Path(__file__).parents[3] / "docs" / "tuning.md"


def test_the_recipes_are_found_by_name_and_other_files_by_path():
    assert recipe_names() == ["embedded", "llama-guard-2-8b-24gb"]
    assert recipe_file("embedded").is_file()
    assert recipe_file("my/recipe.yaml") == Path("my/recipe.yaml")


def test_an_adapter_is_not_taught_another_format_by_an_oversight(tmp_path):
    write_adapter_format(tmp_path, "llama-guard-2")

    with pytest.raises(ConfigurationError, match="speaks llama-guard-2, not compact"):
        load(TuneSettings, {"adapter": tmp_path})
    assert load(TuneSettings, {"adapter": tmp_path, "format": "llama-guard-2"}).adapter == tmp_path


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_holds_settings_that_are_allowed(name):
    file = recipe_file(name)
    settings = load(TuneSettings, {"config": file})

    for setting, value in yaml.safe_load(file.read_text(encoding="utf-8")).items():
        assert getattr(settings, setting) == value


@pytest.mark.parametrize("alone", [False, True])
def test_the_recipe_for_24_gb_fits_by_the_arithmetic_of_the_documentation(alone):
    settings = load(TuneSettings, {"config": recipe_file("llama-guard-2-8b-24gb")})
    prefix, shortest, longest_answer = 649, 64, 40
    rows = 1 if alone else settings.step_tokens // shortest
    tokens = settings.max_tokens + longest_answer if alone else settings.step_tokens
    weights = 32 * 218.1e6 * (0.5 + 4 / 64) + 2 * 128_256 * 4096 * 2
    adapter = 32 * 81_920 * settings.rank * 16
    kept = 32 * 1024 * (193 * (tokens + prefix) + 20 * rows * prefix)
    others = 1.9 * 2**30

    assert settings.quantisation == "4bit"
    assert (weights + adapter + kept + others) / 2**30 < 20


def test_each_recipe_is_named_in_the_documentation():
    page = PAGE.read_text(encoding="utf-8")

    assert all(f"--config {name}" in page for name in recipe_names())


def test_a_policy_of_other_hazards_is_not_taught(tmp_path):
    policy = tmp_path / "policy.yaml"
    policy.write_text(
        "{id: shop, version: '1', format: llama-guard-3, categories: [{code: S1}]}\n",
        encoding="utf-8",
    )

    settings = load(TuneSettings, {"policy": policy, "format": "llama-guard-3"})
    assert settings.taught_policy().id == "shop"
    with pytest.raises(ConfigurationError, match="is written for llama-guard-3, taught is compact"):
        load(TuneSettings, {"policy": policy}).taught_policy()


@pytest.mark.parametrize(
    ("changed", "kept"),
    [
        ({"steps": 9, "minutes": 1, "num_threads": 1, "output": "x", "dev": "y"}, True),
        ({"rank": 4}, False),
        ({"format": "llama-guard-2"}, False),
        ({"learning_rate": 1e-3}, False),
        ({"adapter": "x"}, False),
        ({"seed": 1}, False),
    ],
)
def test_a_resumed_run_shares_what_decides_what_is_learnt(changed, kept):
    began = load(TuneSettings, {}).kept_on_resume()

    assert (load(TuneSettings, changed).kept_on_resume() == began) == kept


def test_a_resumed_run_shares_its_policy_wherever_the_file_lies(tmp_path):
    text = "{id: shop, version: '1', format: compact, categories: [{code: S1}]}\n"
    files = [tmp_path / name for name in ("a.yaml", "b.yaml", "c.yaml")]
    for file, version in zip(files, "112", strict=True):
        file.write_text(text.replace("'1'", f"'{version}'"), encoding="utf-8")
    first, moved, raised = (load(TuneSettings, {"policy": file}) for file in files)

    assert moved.kept_on_resume() == first.kept_on_resume()
    assert raised.kept_on_resume() != first.kept_on_resume()


def test_every_setting_says_what_it_means_and_what_is_allowed():
    for setting in references(TuneSettings):
        assert setting.description.endswith(".")
        assert setting.allowed


def test_the_documented_table_is_fresh():
    page = PAGE.read_text(encoding="utf-8")

    fresh = with_fresh_table(page, references(TuneSettings))
    assert page == fresh, "run: python -m guard_service.tuning.page " + str(PAGE)
    assert all(f"`{setting.variable}`" in page for setting in references(TuneSettings))
