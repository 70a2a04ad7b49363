"""Have every row judged, many at a time; a row without a verdict is unjudged, never safe."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from guard_service.evaluation.rows import Row
from guard_service.moderation import Conversation, ModerationError, Verdict

Moderate = Callable[[Conversation], Awaitable[Verdict]]


@dataclass(frozen=True, slots=True)
class Judged:
    """A row with its verdict, or with the reason why there is none."""

    row: Row
    verdict: Verdict | None
    error: str | None = None


async def judge_rows(
    rows: Sequence[Row],
    moderate: Moderate,
    *,
    concurrency: int,
    on_judged: Callable[[], None],
) -> list[Judged]:
    """One result per row, in order; `on_judged` is called after each."""
    free = asyncio.Semaphore(concurrency)

    async def judge(row: Row) -> Judged:
        async with free:
            judged = await _judge(row, moderate)
        on_judged()
        return judged

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(judge(row)) for row in rows]
    return [task.result() for task in tasks]


async def _judge(row: Row, moderate: Moderate) -> Judged:
    try:
        return Judged(row, await moderate(row.conversation))
    except ModerationError as error:
        return Judged(row, None, f"{type(error).__name__}: {error}")
