"""Which policies a server offers, and by which it judges when a request names none."""

import pytest

from guard_service.composition import load_engine, read_policies
from guard_service.embedded import MAX_CONTEXT_TOKENS, PROMPT_FORMAT
from guard_service.moderation import ConfigurationError
from guard_service.observer import NullObserver
from guard_service.settings import ServeSettings, load


def policy_file(folder, policy_id, prompt_format="llama-guard-2"):
    letter = "O" if prompt_format == "llama-guard-1" else "S"
    file = folder / f"{policy_id}.yaml"
    file.write_text(
        f'id: {policy_id}\nversion: "1"\nformat: {prompt_format}\ncategories: [{letter}1]\n',
        encoding="utf-8",
    )
    return file


def policies_of(**flags):
    return read_policies(load(ServeSettings, flags))


def test_the_policy_of_the_format_is_always_offered():
    assert list(policies_of()) == ["llama-guard-2"]


def test_policies_from_files_are_offered_beside_it(tmp_path):
    assert list(policies_of(policies=[policy_file(tmp_path, "shop")])) == ["llama-guard-2", "shop"]


def test_the_default_policy_comes_first(tmp_path):
    policies = policies_of(policies=[policy_file(tmp_path, "shop")], default_policy="shop")

    assert list(policies) == ["shop", "llama-guard-2"]


@pytest.mark.parametrize("prompt_format", ["llama-guard-2", "compact"])
@pytest.mark.parametrize("served", ["llama-guard-2", "compact"])
def test_a_policy_is_good_for_every_format_with_the_same_hazards(tmp_path, prompt_format, served):
    file = policy_file(tmp_path, "shop", prompt_format)

    policies = policies_of(model=str(tmp_path), format=served, policies=[file])

    assert list(policies) == ["llama-guard-2", "shop"]


@pytest.mark.parametrize(
    ("policy_id", "prompt_format", "said"),
    [
        (
            "shop",
            "llama-guard-1",
            f"is written for llama-guard-1, the model speaks {PROMPT_FORMAT}",
        ),
        (
            "shop",
            "llama-guard-3",
            f"is written for llama-guard-3, the model speaks {PROMPT_FORMAT}",
        ),
        ("llama-guard-2", "llama-guard-2", "there is already a policy with the id 'llama-guard-2'"),
    ],
)
def test_a_policy_that_cannot_be_offered_is_refused(tmp_path, policy_id, prompt_format, said):
    with pytest.raises(ConfigurationError, match=said):
        policies_of(policies=[policy_file(tmp_path, policy_id, prompt_format)])


def test_an_unknown_default_policy_is_refused():
    with pytest.raises(ConfigurationError, match="'shop' is not allowed; allowed: llama-guard-2"):
        policies_of(default_policy="shop")


@pytest.mark.embedded
def test_the_embedded_guard_reads_no_more_at_once_than_it_was_made_for():
    engine = load_engine(load(ServeSettings), NullObserver())

    assert engine.max_context_tokens <= MAX_CONTEXT_TOKENS == 2048
