"""Every rule holds for every render, and is seen to fail on a manifest that breaks it."""

from copy import deepcopy

import pytest

from tests.deploy import (  # noqa: F401 - registers the rules
    lifecycle_rules,
    network_rules,
    scheduling_rules,
    security_rules,
    settings_rules,
)
from tests.deploy.breaks import BREAKS, Break
from tests.deploy.rendering import RENDERS
from tests.deploy.rule import RULES, Rule

EVERY_RULE = [
    pytest.param(rule, marks=[pytest.mark.k(number) for number in rule.numbers], id=name)
    for name, rule in RULES.items()
]


@pytest.mark.parametrize("render", RENDERS)
@pytest.mark.parametrize("rule", EVERY_RULE)
def test_the_rule_holds(renderer, rule: Rule, render: str):
    assert list(rule.check(renderer.render(render))) == []


@pytest.mark.parametrize("broken", BREAKS, ids=lambda each: f"{each.rule}-{each.id}")
def test_the_rule_notices(renderer, broken: Break):
    manifests = deepcopy(renderer.render(broken.render))
    broken.change(manifests)

    assert list(RULES[broken.rule].check(manifests)) != []


def test_every_rule_was_seen_to_fail():
    assert RULES.keys() == {broken.rule for broken in BREAKS}
