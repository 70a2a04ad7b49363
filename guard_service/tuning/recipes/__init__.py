"""Recipes that ship with the package: settings of `guard-service tune` that are known to work."""

from pathlib import Path

_FOLDER = Path(__file__).parent


def recipe_names() -> list[str]:
    """Names of the recipes."""
    return sorted(file.stem for file in _FOLDER.glob("*.yaml"))


def recipe_file(name_or_file: str) -> Path:
    """The file of the recipe of this name; any other text is a path."""
    if name_or_file in recipe_names():
        return _FOLDER / f"{name_or_file}.yaml"
    return Path(name_or_file)
