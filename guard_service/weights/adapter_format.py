"""The prompt format an adapter was fine-tuned for, kept in a file beside its tensors."""

import json
from pathlib import Path
from typing import get_args

from guard_service.moderation import ConfigurationError
from guard_service.policy_file import FormatName

FILE_NAME = "guard.json"


def write_adapter_format(folder: Path, prompt_format: str) -> None:
    """Write into an adapter's folder which format it speaks."""
    text = json.dumps({"prompt_format": prompt_format}, indent=2)
    (folder / FILE_NAME).write_text(text + "\n", encoding="utf-8")


def adapter_format(folder: Path) -> str | None:
    """The format an adapter was fine-tuned for; None for one that does not say.

    Raises:
        ConfigurationError: the file cannot be read, or names none that there is.
    """
    file = folder / FILE_NAME
    if not file.is_file():
        return None
    try:
        name = json.loads(file.read_text(encoding="utf-8"))["prompt_format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(f"{file}: does not name a prompt_format") from error
    if name not in get_args(FormatName):
        allowed = ", ".join(get_args(FormatName))
        raise ConfigurationError(
            f"{file}: prompt_format: '{name}' is not allowed; allowed: {allowed}"
        )
    return str(name)
