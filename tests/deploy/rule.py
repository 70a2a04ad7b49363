"""A rule about rendered manifests: it yields one line per breach."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.deploy.manifests import Manifests

Check = Callable[[Manifests], Iterator[str]]


@dataclass(frozen=True)
class Rule:
    """A check, and the requirements (K numbers) it stands for."""

    check: Check
    numbers: tuple[int, ...]

    @property
    def name(self) -> str:
        return self.check.__name__


RULES: dict[str, Rule] = {}


def rule(*numbers: int) -> Callable[[Check], Check]:
    """Register a check as a rule."""

    def register(check: Check) -> Check:
        assert check.__name__ not in RULES, check.__name__
        RULES[check.__name__] = Rule(check, numbers)
        return check

    return register
