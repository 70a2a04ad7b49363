"""Keep the table of settings in a page fresh: `python -m chat_gateway.settings.page PAGE`."""

import sys
from pathlib import Path

from chat_gateway.settings.reference import SettingReference, references

_HEAD = "| flag | variable | default | allowed | meaning |\n|---|---|---|---|---|\n"


def with_fresh_table(page: str) -> str:
    """The page with its table of settings as it should be."""
    above, _, rest = page.partition(_HEAD)
    _, gap, below = rest.partition("\n\n")
    return above + _HEAD + "\n".join(map(_row, references())) + gap + below


def _row(each: SettingReference) -> str:
    flag = "-" if each.is_secret else f"`{each.flag}`"
    return f"| {flag} | `{each.variable}` | {each.default} | {each.allowed} | {each.description} |"


if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(with_fresh_table(page.read_text(encoding="utf-8")), encoding="utf-8")
