"""The list of requirements is whole: each is proved by a test here or named with one elsewhere."""

import re
from pathlib import Path

from tests.deploy.rendering import ROOT
from tests.deploy.requirements import ELSEWHERE, REQUIREMENTS
from tests.deploy.test_rules import RULES


def test_every_requirement_is_proved_somewhere():
    marked = {
        int(number)
        for path in Path(__file__).parent.glob("test_*.py")
        for number in re.findall(r"pytest\.mark\.k\((\d+)\)", path.read_text(encoding="utf-8"))
    }
    ruled = {number for rule in RULES.values() for number in rule.numbers}

    assert REQUIREMENTS.keys() - marked - ruled - ELSEWHERE.keys() == set()


def test_what_is_proved_elsewhere_is_there():
    paths = [path for paths in ELSEWHERE.values() for path in paths]

    assert [path for path in paths if not (ROOT / path).is_file()] == []
