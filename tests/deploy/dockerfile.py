"""The Dockerfile as stages with their instructions, enough of it for the tests."""

import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"


@dataclass
class Stage:
    """What one FROM begins: its base and its instructions in order."""

    base: str
    instructions: list[tuple[str, str]] = field(default_factory=list)


def read_dockerfile(path: Path = DOCKERFILE) -> tuple[dict[str, str], dict[str, Stage]]:
    """The arguments before the first stage, and the stages by name."""
    text = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", path.read_text("utf-8"), flags=re.MULTILINE))
    arguments: dict[str, str] = {}
    stages: dict[str, Stage] = {}
    current: Stage | None = None
    for line in filter(None, map(str.strip, text.splitlines())):
        word, rest = line.split(maxsplit=1)
        if word == "FROM":
            base, _, name = rest.split()
            stages[name] = current = Stage(base)
        elif current is None:
            name, _, value = rest.partition("=")
            arguments[name] = value
        else:
            current.instructions.append((word, rest.strip()))
    return arguments, stages


class Image:
    """What a target's whole line of stages comes to."""

    def __init__(self, name: str) -> None:
        _, stages = read_dockerfile()
        self.instructions: list[tuple[str, str]] = []
        while name in stages:
            self.instructions[:0] = stages[name].instructions
            name = stages[name].base

    def all(self, word: str) -> list[str]:
        return [rest for each, rest in self.instructions if each == word]

    def last(self, word: str) -> str:
        return self.all(word)[-1]

    def command(self, word: str) -> list[str]:
        """An instruction in exec form; what needs a shell is no JSON."""
        return json.loads(self.last(word)[self.last(word).index("[") :])

    @property
    def variables(self) -> dict[str, str]:
        pairs = [pair for rest in self.all("ENV") for pair in shlex.split(rest)]
        return dict(pair.split("=", 1) for pair in pairs)

    @property
    def ports(self) -> set[int]:
        return {int(port) for rest in self.all("EXPOSE") for port in rest.split()}
