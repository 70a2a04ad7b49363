"""Policies: which categories a model is asked about, in what words, and where unsafe begins."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from types import MappingProxyType

from guard_service.moderation import ConfigurationError
from guard_service.policy_file import CategoryEntry, PolicyFile, parse_policy_file

_HAZARDS_OF: Mapping[str, str] = MappingProxyType({"compact": "llama-guard-2"})


@dataclass(frozen=True, slots=True)
class PolicyCategory:
    """A hazard. `threshold` is the P(unsafe) in (0, 1] from which on it counts.

    `code` is what verdicts say; the prompt numbers categories by position instead.
    """

    code: str
    name: str
    description: str
    threshold: float


@dataclass(frozen=True, slots=True)
class Policy:
    """What one verdict is asked about. `digest` is the SHA-256, in hex, of everything else."""

    id: str
    version: str
    prompt_format: str
    categories: tuple[PolicyCategory, ...]
    descriptions_in_prompt: bool
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        facts = {
            "id": self.id,
            "version": self.version,
            "prompt_format": self.prompt_format,
            "categories": [asdict(category) for category in self.categories],
            "descriptions_in_prompt": self.descriptions_in_prompt,
        }
        canonical = json.dumps(facts, sort_keys=True).encode()
        object.__setattr__(self, "digest", hashlib.sha256(canonical).hexdigest())

    @property
    def lowest_threshold(self) -> float:
        """The P(unsafe) below which no category can be violated."""
        return min(category.threshold for category in self.categories)


def load_policy(path: Path) -> Policy:
    """The policy in a YAML file.

    Raises:
        ConfigurationError: one line that names the file, the field and what is allowed.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path}: is not UTF-8 text") from error
    return _build(parse_policy_file(text, str(path)), str(path))


def hazards_of(format_name: str) -> str:
    """The format whose hazards are a format's own: itself, or the one it is another wording of.

    Where two formats share their hazards, a code means the same in both, and so does a policy.
    """
    return _HAZARDS_OF.get(format_name, format_name)


@cache
def default_policy(format_name: str) -> Policy:
    """The policy a prompt format's model was trained with; `format_name` is one of `FORMATS`."""
    source = f"{hazards_of(format_name)}.yaml"
    shipped = resources.files("guard_service") / "policies" / source
    return _build(parse_policy_file(shipped.read_text(encoding="utf-8"), source), source)


def _build(file: PolicyFile, source: str) -> Policy:
    return Policy(
        id=file.id,
        version=file.version,
        prompt_format=file.format,
        categories=tuple(
            _category(entry, file, f"{source}: categories[{index}]")
            for index, entry in enumerate(file.categories)
        ),
        descriptions_in_prompt=file.descriptions_in_prompt,
    )


def _category(entry: CategoryEntry, file: PolicyFile, place: str) -> PolicyCategory:
    name, description = entry.name, entry.description
    if name is None or description is None:
        official = {each.code: each for each in default_policy(file.format).categories}
        if entry.code in official:
            name = name or official[entry.code].name
            description = official[entry.code].description if description is None else description
        elif name is None:
            allowed = ", ".join(official)
            raise ConfigurationError(
                f"{place}.name: needed, {entry.code} is not one of {file.format}'s own: {allowed}"
            )
    if file.descriptions_in_prompt and not description:
        raise ConfigurationError(f"{place}.description: needed with descriptions_in_prompt")
    return PolicyCategory(
        code=entry.code,
        name=name,
        description=description or "",
        threshold=file.threshold if entry.threshold is None else entry.threshold,
    )
