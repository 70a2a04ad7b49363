"""Programs and renders for the tests of deploy/, and the list of requirements at the end."""

import os
import shutil
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from tests.deploy.api_server import Programs
from tests.deploy.rendering import Renderer
from tests.deploy.requirements import ELSEWHERE, REQUIREMENTS
from tests.deploy.rule import RULES

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / ".venv-tools" / "bin"


@pytest.fixture(scope="session")
def tool() -> Callable[[str], str]:
    """Path of a program of constraints/; without it the test skips, and fails in CI."""

    def find(name: str) -> str:
        path = shutil.which(name, path=str(TOOLS))
        if path is not None:
            return path
        reason = f"{name} is not installed: make deploy-check installs it"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)

    return find


@pytest.fixture(scope="session")
def renderer(tool, tmp_path_factory: pytest.TempPathFactory) -> Renderer:
    return Renderer(tool("kubectl"), tool("helm"), tmp_path_factory.mktemp("rendered"))


@pytest.fixture(scope="session")
def api_programs(tool, needs_binary) -> Programs:
    """What a real API server takes, where the environment names one."""
    return Programs(
        api_server=os.environ["KUBE_APISERVER"],
        etcd=needs_binary(os.environ.get("ETCD", "etcd")),
        kubectl=tool("kubectl"),
        openssl=needs_binary("openssl"),
    )


class Ledger:
    """Which tests spoke about which requirement, and what they said."""

    def __init__(self) -> None:
        self.numbers: dict[str, set[int]] = {}
        self.said: dict[int, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            self.numbers[item.nodeid] = {n for m in item.iter_markers("k") for n in m.args}
            assert self.numbers[item.nodeid] <= REQUIREMENTS.keys(), item.nodeid

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            for number in self.numbers.get(report.nodeid, ()):
                self.said[number][report.outcome].add(_short(report.nodeid))

    def pytest_terminal_summary(self) -> None:
        if any(self.numbers.values()):
            Console(width=160, force_terminal=False).print(self._table())

    def _table(self) -> Table:
        table = Table("K", "requirement", "here", title="Requirements of a deployment")
        table.add_column("proved by", overflow="fold")
        for number, requirement in REQUIREMENTS.items():
            said = self.said[number]
            tests = sorted(set().union(*said.values()))
            tests += [f"{path} (make test)" for path in ELSEWHERE.get(number, ())]
            table.add_row(f"K{number}", requirement, _verdict(said, number), "\n".join(tests))
        return table


def _verdict(said: dict[str, set[str]], number: int) -> str:
    for outcome, word in (("failed", "FAIL"), ("skipped", "skipped"), ("passed", "pass")):
        if said.get(outcome):
            return word
    return "elsewhere" if number in ELSEWHERE else "no test ran"


def _short(nodeid: str) -> str:
    """The rule a test is about, or its file and function without the parameters."""
    test, _, parameters = nodeid.removeprefix("tests/deploy/").partition("[")
    rule = parameters.rstrip("]").partition("-")[0]
    return f"rule {rule}" if rule in RULES else test


_LEDGER = Ledger()


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(_LEDGER, "requirements")
