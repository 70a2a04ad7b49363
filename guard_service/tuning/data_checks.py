"""What makes labelled rows unfit to train on: found before a model is loaded, and named by line."""

import re
from collections.abc import Iterator, Sequence

from guard_service.evaluation.rows import PlacedRow
from guard_service.moderation import ConfigurationError, Conversation
from guard_service.policy import Policy

_WORD = re.compile(r"\w+")


def check_rows(
    rows: Sequence[PlacedRow],
    dev: Sequence[PlacedRow],
    held_out: Sequence[PlacedRow],
    policy: Policy,
) -> None:
    """Check what is trained on, what the best checkpoint is chosen by, and that both stay apart.

    Raises:
        ConfigurationError: one line that names the first row that is wrong by file and line.
    """
    if not rows:
        raise ConfigurationError("there is no row to train on")
    if dev and len({each.row.label for each in dev}) == 1:
        raise ConfigurationError(
            f"all dev rows are {dev[0].row.label}: the best checkpoint is chosen by how well both "
            "kinds are told apart"
        )
    for breaches in (
        _wrong_categories([*rows, *dev], policy),
        _contradictions(rows),
        _contradictions(dev),
        _trained_on(dev, rows),
        _leaks([*rows, *dev], held_out),
    ):
        _refuse(breaches)


def _refuse(breaches: Iterator[str]) -> None:
    first = next(breaches, None)
    if first is None:
        return
    num_more = sum(1 for _ in breaches)
    raise ConfigurationError(first + (f" ({num_more} more such rows)" if num_more else ""))


def _wrong_categories(rows: Sequence[PlacedRow], policy: Policy) -> Iterator[str]:
    codes = [each.code for each in policy.categories]
    for each in rows:
        categories = each.row.categories or ()
        if categories and not each.row.unsafe:
            yield f"{each.place}: categories: a safe row has none"
        elif unknown := [code for code in categories if code not in codes]:
            allowed = ", ".join(codes)
            yield f"{each.place}: categories: {unknown[0]} is none of {policy.id}'s: {allowed}"


def _contradictions(rows: Sequence[PlacedRow]) -> Iterator[str]:
    seen: dict[Conversation, PlacedRow] = {}
    for each in rows:
        earlier = seen.setdefault(each.row.messages, each)
        if earlier.row.label != each.row.label:
            yield (
                f"{each.place}: label: {each.row.label}, but the same conversation is "
                f"{earlier.row.label} in {earlier.place}"
            )


def _trained_on(dev: Sequence[PlacedRow], rows: Sequence[PlacedRow]) -> Iterator[str]:
    trained = {each.row.messages: each.place for each in rows}
    for each in dev:
        if place := trained.get(each.row.messages):
            yield f"{each.place}: this dev row is trained on too, in {place}"


def _leaks(rows: Sequence[PlacedRow], held_out: Sequence[PlacedRow]) -> Iterator[str]:
    """Rows whose last message has the words of a held-out row's; one without words is no leak."""
    kept = {_last_words(each): each.place for each in held_out}
    if not kept:
        return
    for each in rows:
        words = _last_words(each)
        if words and words in kept:
            yield f"{each.place}: the last message equals that of a held-out row, {kept[words]}"


def _last_words(each: PlacedRow) -> str:
    return " ".join(_WORD.findall(each.row.messages[-1].content.lower()))
