"""A file of policies says what it means, or is refused with the place of the mistake."""

from dataclasses import fields
from pathlib import Path

import pytest

from chat_gateway.composition import read_policies
from chat_gateway.policy import GatewayPolicy, Mode
from chat_gateway.policy_file import PolicyEntry, load_policies
from chat_gateway.settings import load
from guard_service.moderation import ConfigurationError, Phase

WHOLE = """
policies:
  - id: careful
    guard_policy_id: strict-guard
    mode: buffer
    parallel_prompt_check: true
    judge_earlier_turns: true
    fail_open: [prompt]
    refusal: "Not here."
    error_on_blocked_prompt: true
    checkpoints: {first_characters: 10, every_characters: 20}
    hold_from: 0.3
    max_hold_seconds: 1.5
    max_hold_characters: 100
    release_after_hold: true
  - id: plain
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "policies.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_every_field_of_a_policy_can_be_written(tmp_path: Path):
    policies = load_policies(written(tmp_path, WHOLE))

    careful = policies["careful"]
    assert (careful.mode, careful.fail_open, careful.hold_from) == (
        Mode.BUFFER,
        frozenset({Phase.PROMPT}),
        0.3,
    )
    assert careful.checkpoints.first_characters == 10
    assert careful.checkpoints.max_every_characters == 640
    assert policies["plain"] == GatewayPolicy(id="plain")


def test_the_file_knows_every_field_of_a_policy():
    assert list(PolicyEntry.model_fields) == [field.name for field in fields(GatewayPolicy)]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("policies: []", "policies"),
        ("policy: []", "policies"),
        ("- id: x", "the file"),
        ("policies: [{id: x, mod: strict}]", "policies[0].mod"),
        ("policies: [{id: x, mode: loose}]", "policies[0].mode"),
        ("policies: [{id: x, fail_open: [everything]}]", "policies[0].fail_open"),
        ("policies: [{id: x, hold_from: 1.5}]", "policies[0].hold_from"),
        ("policies: [{id: 'a b'}]", "policies[0].id"),
        ("policies: [{id: x}, {id: x}]", "repeated: x"),
        ("policies: [{id: x, id: y}]", "field given twice: id"),
        ("policies: [{id: x, checkpoints: {first_characters: 0}}]", "checkpoints"),
        ("policies: [", "not valid YAML"),
        ("policies: [{id: 2026-02-30}]", "looks like a date"),
    ],
)
def test_a_mistake_is_refused_with_its_place(tmp_path: Path, text: str, place: str):
    with pytest.raises(ConfigurationError, match=r"policies\.yaml") as refused:
        load_policies(written(tmp_path, text))

    assert place in str(refused.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(ConfigurationError, match=r"nowhere\.yaml"):
        load_policies(tmp_path / "nowhere.yaml")


def test_without_a_file_one_strict_policy_holds():
    policies = read_policies(load())

    assert policies.default == GatewayPolicy()
    assert list(policies.offered) == ["default"]


def test_a_request_may_name_only_what_is_selectable(tmp_path: Path):
    flags = {"policies": str(written(tmp_path, WHOLE)), "default_policy": "plain"}

    assert list(read_policies(load(flags)).offered) == ["plain"]
    with_choice = read_policies(load({**flags, "selectable_policies": "careful"}))
    assert set(with_choice.offered) == {"plain", "careful"}


@pytest.mark.parametrize("name", ["default_policy", "selectable_policies"])
def test_a_policy_that_does_not_exist_cannot_be_chosen(tmp_path: Path, name: str):
    flags = {"policies": str(written(tmp_path, WHOLE)), name: "unknown"}

    with pytest.raises(ConfigurationError, match="careful, plain"):
        read_policies(load(flags))
