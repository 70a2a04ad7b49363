"""YAML in which every field stands once, with errors of one line."""

from collections.abc import Hashable
from typing import Any

import yaml

from guard_service.moderation import ConfigurationError


def load_yaml(text: str) -> Any:
    """What `text` holds: plain values, mappings and lists.

    Raises:
        ConfigurationError: `not valid YAML`, with the line and the problem.
    """
    try:
        return yaml.load(text, Loader=_UniqueKeyLoader)  # noqa: S506 - it is a safe loader
    except yaml.YAMLError as error:
        raise ConfigurationError(f"not valid YAML: {_problem(error)}") from error
    except ValueError as error:  # of a value that only looks like a date or a number
        raise ConfigurationError(
            f"not valid YAML: {error}; put text that looks like a date in quotes"
        ) from error


class _UniqueKeyLoader(yaml.SafeLoader):
    """Plain YAML lets the last of two equal keys win; here that is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if repeated := {key for key in keys if keys.count(key) > 1}:
            raise yaml.constructor.ConstructorError(
                problem=f"field given twice: {min(repeated)}", problem_mark=node.start_mark
            )
        return super().construct_mapping(node, deep)


def _problem(error: yaml.YAMLError) -> str:
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return "unreadable characters"
    return f"line {error.problem_mark.line + 1}: {error.problem}"
