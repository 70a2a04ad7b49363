"""What labelled rows are made of: counts by source, category, role, turns and length."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby

from guard_service.evaluation.rows import Row
from guard_service.moderation import Phase
from guard_service.policy import Policy

FEW_ROWS = 50
"""A category with fewer rows is hardly learnt."""

SMALL_SHARE = 0.05
"""A label with a smaller share of a role's rows is hardly learnt."""

UNKNOWN = "unknown"

_TURNS = (1, 2, 3, 4, 8)
_CHARACTERS = (50, 200, 800, 3200)


@dataclass(frozen=True, slots=True)
class Balance:
    """So many rows, of which so many are unsafe."""

    num_rows: int
    num_unsafe: int

    @classmethod
    def of(cls, rows: Sequence[Row]) -> "Balance":
        """The balance of these rows."""
        return cls(len(rows), sum(row.unsafe for row in rows))


Groups = Mapping[str, Balance]


@dataclass(frozen=True, slots=True)
class DataReport:
    """What is trained on. `digest` is the SHA-256, in hex, of all rows in their order, dev last.

    `num_repeated` counts the rows whose conversation stands in an earlier row too: repeating rows
    is how a mixture gives them weight. A row counts in each of its categories; unsafe rows that
    name none are under `UNKNOWN`.
    """

    digest: str
    rows: Balance
    dev: Balance
    num_repeated: int
    roles: Groups
    categories: Groups
    turns: Groups
    characters: Groups
    sources: Groups
    warnings: tuple[str, ...]

    def as_json(self) -> str:
        """The whole report."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"


def data_report(rows: Sequence[Row], dev: Sequence[Row], policy: Policy) -> DataReport:
    """The report of rows that passed the checks; the groups are those of the training rows."""
    roles = _grouped(rows, lambda row: [row.role])
    listed = _grouped(rows, lambda row: set(row.categories or ([UNKNOWN] if row.unsafe else [])))
    codes = [each.code for each in policy.categories]
    categories = {code: listed.get(code, Balance(0, 0)) for code in (*codes, UNKNOWN)}
    sources = _grouped(rows, lambda row: [row.source])
    return DataReport(
        digest=_digest(rows, dev),
        rows=Balance.of(rows),
        dev=Balance.of(dev),
        num_repeated=len(rows) - len({row.messages for row in rows}),
        roles=roles,
        categories=categories,
        turns=_ranged(rows, _TURNS, _num_turns),
        characters=_ranged(rows, _CHARACTERS, _num_characters),
        sources=dict(sorted(sources.items(), key=lambda item: -item[1].num_rows)),
        warnings=(*_one_sided(roles), *_rare(categories)),
    )


def _grouped(rows: Iterable[Row], groups_of: Callable[[Row], Iterable[str]]) -> dict[str, Balance]:
    members: dict[str, list[Row]] = {}
    for row in rows:
        for group in groups_of(row):
            members.setdefault(group, []).append(row)
    return {name: Balance.of(members[name]) for name in sorted(members)}


def _ranged(
    rows: Sequence[Row], ends: Sequence[int], size_of: Callable[[Row], int]
) -> dict[str, Balance]:
    """Groups by size, the smallest first; each number of `ends` is the largest size of a group."""
    starts = (1, *(end + 1 for end in ends))
    names = [
        str(end) if start == end else f"{start}-{end}"
        for start, end in zip(starts, ends, strict=False)
    ]
    names.append(f"{starts[-1]} and more")

    def name_of(row: Row) -> str:
        size = size_of(row)
        return names[sum(size > end for end in ends)]

    found = _grouped(rows, lambda row: [name_of(row)])
    return {name: found[name] for name in names if name in found}


def _num_turns(row: Row) -> int:
    """Messages of one side in a row are one turn, as in a prompt."""
    return sum(1 for _ in groupby(row.messages, key=lambda message: Phase.of(message.role)))


def _num_characters(row: Row) -> int:
    return sum(len(message.content) for message in row.messages)


def _one_sided(roles: Groups) -> Iterable[str]:
    for role, balance in roles.items():
        for label, number in (
            ("unsafe", balance.num_unsafe),
            ("safe", balance.num_rows - balance.num_unsafe),
        ):
            if number < SMALL_SHARE * balance.num_rows:
                yield f"only {number} of {balance.num_rows} rows of the {role} are {label}"


def _rare(categories: Groups) -> Iterable[str]:
    rare = [
        f"{code} ({balance.num_rows})"
        for code, balance in categories.items()
        if code != UNKNOWN and balance.num_rows < FEW_ROWS
    ]
    if rare:
        yield f"fewer than {FEW_ROWS} rows of {', '.join(rare)}"


def _digest(rows: Sequence[Row], dev: Sequence[Row]) -> str:
    digest = hashlib.sha256()
    for part in (rows, dev):
        for row in part:
            taught = (
                row.label,
                row.categories,
                [(message.role, message.content) for message in row.messages],
            )
            digest.update(json.dumps(taught).encode() + b"\n")
        digest.update(b"\n")
    return digest.hexdigest()
