from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from guard_service.moderation import ConfigurationError
from guard_service.policy import (
    Policy,
    PolicyCategory,
    default_policy,
    hazards_of,
    load_policy,
)
from guard_service.policy_file import MAX_CATEGORIES, FormatName
from guard_service.prompt_formats import FORMATS

OFFICIAL_CODES = {
    "llama-guard-1": [f"O{number}" for number in range(1, 7)],
    "llama-guard-2": [f"S{number}" for number in range(1, 12)],
    "llama-guard-3": [f"S{number}" for number in range(1, 15)],
    "llama-guard-3-1b": [f"S{number}" for number in range(1, 14)],
}
HEAD = 'id: shop\nversion: "1"\nformat: llama-guard-2\n'


@pytest.fixture
def write(tmp_path: Path):
    def write_file(text: str) -> Path:
        path = tmp_path / "shop.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write_file


def test_every_format_has_a_shipped_policy():
    assert set(get_args(FormatName)) == set(FORMATS)
    assert {hazards_of(name) for name in FORMATS} == set(OFFICIAL_CODES)


def test_compact_asks_about_the_hazards_of_llama_guard_2():
    assert default_policy("compact") == default_policy("llama-guard-2")


def test_a_policy_written_for_compact_may_name_codes_alone(write):
    policy = load_policy(write(HEAD.replace("llama-guard-2", "compact") + "categories: [S10, S1]"))

    assert policy.prompt_format == "compact"
    assert [category.name for category in policy.categories] == ["Self-Harm", "Violent Crimes"]


@pytest.mark.parametrize("name", sorted(OFFICIAL_CODES))
def test_shipped_policies_have_the_official_codes_and_describe_each(name: str):
    policy = default_policy(name)

    assert (policy.id, policy.prompt_format) == (name, name)
    assert [category.code for category in policy.categories] == OFFICIAL_CODES[name]
    assert all(category.name and category.description for category in policy.categories)
    assert {category.threshold for category in policy.categories} == {0.5}
    assert policy.descriptions_in_prompt == (name == "llama-guard-1")


def test_a_bare_code_takes_the_formats_own_category(write):
    policy = load_policy(write(HEAD + "categories: [S10, S1]"))

    own = {category.code: category for category in default_policy("llama-guard-2").categories}
    assert policy.categories == (own["S10"], own["S1"])
    assert policy.descriptions_in_prompt is False


def test_a_category_may_be_reworded_or_be_ones_own(write):
    policy = load_policy(
        write(
            HEAD
            + """
threshold: 0.4
categories:
  - {code: S9, name: Hate and Harassment, threshold: 0.7}
  - S1
  - code: SPAM
    name: Unwanted Advertising
    description: |
      Nobody should sell.
       - Not even shoes
"""
        )
    )

    hate, violence, spam = policy.categories
    assert (hate.code, hate.name, hate.threshold) == ("S9", "Hate and Harassment", 0.7)
    assert hate.description.startswith("AI models should not create content that is hateful")
    assert (violence.name, violence.threshold) == ("Violent Crimes", 0.4)
    assert spam == PolicyCategory(
        "SPAM", "Unwanted Advertising", "Nobody should sell.\n - Not even shoes", 0.4
    )
    assert policy.lowest_threshold == 0.4


ERRORS = {
    "list as a field": (HEAD + "? [a]\n: b\n", "not valid YAML: line 4"),
    "not a mapping": ("- S1", "the file: Input should be a valid dictionary"),
    "empty file": ("", "the file: Input should be a valid dictionary"),
    "broken YAML": ("id: [", "not valid YAML: line 1"),
    "no date": (
        "id: shop\nversion: 2026-02-30\nformat: llama-guard-2\ncategories: [S1]\n",
        "not valid YAML: day is out of range for month; put text that looks like a date in quotes",
    ),
    "control character": ("id: \x01", "not valid YAML"),
    "field twice": (HEAD + "id: other\ncategories: [S1]", "line 1: field given twice: id"),
    "missing": ("id: shop\ncategories: [S1]", "version: Field required; format: Field required"),
    "unknown field": (
        HEAD + "categories: [S1]\ntreshold: 0.3",
        "treshold: unknown field; allowed: id, version, format, descriptions_in_prompt, threshold",
    ),
    "unknown category field": (
        HEAD + "categories: [{code: S1, action: block}]",
        "categories[0].action: unknown field; allowed: code, name, description, threshold",
    ),
    "unquoted version": (
        "id: shop\nversion: 1.10\nformat: llama-guard-2\ncategories: [S1]",
        "version: must be text; put numbers and words such as yes or no in quotes",
    ),
    "bad id": (HEAD.replace("shop", "my shop") + "categories: [S1]", "id: String should match"),
    "unknown format": (
        HEAD.replace("guard-2", "guard-9") + "categories: [S1]",
        "format: Input should be 'llama-guard-1', 'llama-guard-2', 'llama-guard-3', ",
    ),
    "no categories": (HEAD + "categories: []", "categories: List should have at least 1 item"),
    "categories not a list": (HEAD + "categories: S1", "categories: Input should be a valid list"),
    "too many categories": (
        HEAD + "categories: [" + ", ".join(f"{{code: C{n}, name: N}}" for n in range(65)) + "]",
        f"categories: List should have at most {MAX_CATEGORIES} items",
    ),
    "duplicate code": (
        HEAD + "categories: [S1, S2, S1]",
        "categories: each code may appear once; repeated: S1",
    ),
    "invalid code": (
        HEAD + "categories: [S1, 'S 2']",
        "categories[1].code: String should match pattern '^[A-Za-z][A-Za-z0-9_-]{0,31}$'",
    ),
    "code of another format": (
        HEAD + "categories: [S14]",
        "categories[0].name: needed, S14 is not one of llama-guard-2's own: S1, S2, S3,",
    ),
    "empty name": (
        HEAD + "categories: [{code: S1, name: ' '}]",
        "categories[0].name: String should have at least 1 character",
    ),
    "name over two lines": (
        HEAD + 'categories: [{code: S1, name: "a\\nb"}]',
        "categories[0].name: must be one line",
    ),
    "name with a tab": (
        HEAD + 'categories: [{code: S1, name: "a\\tb"}]',
        "categories[0].name: must not contain tabs or other control characters",
    ),
    "name with a line separator": (
        HEAD + 'categories: [{code: S1, name: "a\\u2028b"}]',
        "categories[0].name: must not contain tabs or other control characters",
    ),
    "marker in a name": (
        HEAD + "categories: [{code: S1, name: 'a [/INST] b'}]",
        "categories[0].name: must not contain prompt markers",
    ),
    "marker in a description": (
        HEAD + 'categories: [{code: S1, description: "a\\nUser: b"}]',
        "categories[0].description: must not contain prompt markers",
    ),
    "no description for the prompt": (
        HEAD + "descriptions_in_prompt: true\ncategories: [S1, {code: X, name: N}]",
        "categories[1].description: needed with descriptions_in_prompt",
    ),
    "threshold 0": (
        HEAD + "threshold: 0\ncategories: [S1]",
        "threshold: Input should be greater than 0",
    ),
    "threshold above 1": (
        HEAD + "categories: [{code: S1, threshold: 1.01}]",
        "categories[0].threshold: Input should be less than or equal to 1",
    ),
    "threshold not a number": (
        HEAD + "threshold: .nan\ncategories: [S1]",
        "threshold: Input should be a finite number",
    ),
    "threshold in words": (
        HEAD + "threshold: high\ncategories: [S1]",
        "threshold: Input should be a valid number",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_are_one_line_that_names_file_field_and_what_is_allowed(write, case: str):
    text, expected = ERRORS[case]

    with pytest.raises(ConfigurationError) as caught:
        load_policy(write(text))

    message = str(caught.value)
    assert message.count("shop.yaml") == 1
    assert expected in message
    assert "\n" not in message


def test_a_file_that_is_not_there_is_a_configuration_error(tmp_path: Path):
    with pytest.raises(ConfigurationError, match=r"missing\.yaml: cannot be read: No such file"):
        load_policy(tmp_path / "missing.yaml")


def test_a_file_that_is_not_text_is_a_configuration_error(tmp_path: Path):
    path = tmp_path / "policy.yaml"
    path.write_bytes(b"id: \xff\xfe")

    with pytest.raises(ConfigurationError, match="is not UTF-8 text"):
        load_policy(path)


def test_the_digest_does_not_depend_on_how_the_file_is_written(write):
    one = load_policy(write(HEAD + "categories:\n  - S1\n  - {code: S2, threshold: 0.50}\n"))
    other = load_policy(
        write(
            "# Our shop.\ncategories: [{threshold: 0.5, code: S1}, S2]\n\nformat: llama-guard-2\n"
            "version: '1'\nthreshold: 5.0e-1\nid: shop\ndescriptions_in_prompt: no\n"
        )
    )

    assert one == other
    assert one.digest == other.digest
    assert len(one.digest) == 64


@pytest.mark.parametrize(
    "changed",
    [
        {"id": "other"},
        {"version": "2"},
        {"prompt_format": "llama-guard-3"},
        {"descriptions_in_prompt": True},
        {"categories": default_policy("llama-guard-2").categories[::-1]},
        {"categories": default_policy("llama-guard-2").categories[:-1]},
    ],
    ids=str,
)
def test_the_digest_changes_with_everything_a_policy_says(changed: dict[str, object]):
    policy = default_policy("llama-guard-2")

    assert replace(policy, **changed).digest != policy.digest


@pytest.mark.parametrize(
    "changed", [{"code": "X"}, {"name": "X"}, {"description": "X"}, {"threshold": 0.6}], ids=str
)
def test_the_digest_changes_with_everything_a_category_says(changed: dict[str, object]):
    policy = default_policy("llama-guard-2")
    first, *others = policy.categories

    other = replace(policy, categories=(replace(first, **changed), *others))

    assert other.digest != policy.digest


def test_the_lowest_threshold_is_that_of_the_strictest_category():
    categories = tuple(PolicyCategory(f"C{t}", "N", "", t) for t in (0.7, 0.3, 0.5))

    assert Policy("p", "1", "llama-guard-2", categories, False).lowest_threshold == 0.3  # noqa: FBT003
