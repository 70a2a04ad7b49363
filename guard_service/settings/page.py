"""Keep the table of settings in a page fresh: `python -m guard_service.settings.page PAGE`."""

import sys
from pathlib import Path

from guard_service.settings.reference import references
from guard_service.settings.serve import ServeSettings

_HEAD = "| flag | variable | default | allowed | meaning |\n|---|---|---|---|---|\n"


def with_fresh_table(page: str) -> str:
    """The page with its table of settings as it should be."""
    above, _, rest = page.partition(_HEAD)
    _, gap, below = rest.partition("\n\n")
    return above + _HEAD + "\n".join(_rows()) + gap + below


def _rows() -> list[str]:
    return [
        f"| `{each.flag}` | `{each.variable}` | {each.default} | {each.allowed} "
        f"| {each.description} |"
        for each in references(ServeSettings)
    ]


if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(with_fresh_table(page.read_text(encoding="utf-8")), encoding="utf-8")
