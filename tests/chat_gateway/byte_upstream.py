"""A model server whose stream is cut at any byte: real HTTP, scripted step by step."""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from chat_gateway.chat import Channel, ChoiceFinished, TextDelta, ToolCallDelta
from tests.chat_gateway.fakes import Crash, Stall, Step
from tests.chat_gateway.upstreams import Asked, Reply, Script, chunk
from tests.serving import until

FIELDS = {
    Channel.CONTENT: "content",
    Channel.REASONING: "reasoning_content",
    Channel.REFUSAL: "refusal",
}

TRAVEL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Settle:
    """The model waits until everything it has written so far was judged, as a slow one would."""


def cut_into(
    steps: Sequence[Step | Settle], num_bytes: int, is_settled: Callable[[], bool]
) -> Script:
    """A script that streams these steps in writes of so many bytes each.

    Characters, JSON and events are cut wherever a write ends. A `Crash` closes the connection.
    """

    async def script(_: Asked, reply: Reply) -> None:
        await reply.start()
        waiting = b""
        for step in steps:
            if isinstance(step, Stall):
                await asyncio.sleep(step.seconds)
            elif isinstance(step, Settle):
                await asyncio.sleep(TRAVEL_SECONDS)
                await until(is_settled)
            elif isinstance(step, Crash):
                await reply.write(waiting + b"data: {")
                reply.cut()
                return
            else:
                waiting += event_bytes(step)
            while len(waiting) >= num_bytes:
                await reply.write(waiting[:num_bytes])
                waiting = waiting[num_bytes:]
                await asyncio.sleep(0)
        await reply.write(waiting + b"data: [DONE]\n\n")
        await reply.end()

    return script


def event_bytes(step: Step) -> bytes:
    """One step as a server-sent event, with characters as UTF-8 rather than escaped."""
    return b"data: %b\n\n" % json.dumps(event_of(step), ensure_ascii=False).encode()


def event_of(step: Step) -> dict[str, object]:
    if isinstance(step, TextDelta):
        return chunk(choice=step.choice, delta={FIELDS[step.channel]: step.text})
    if isinstance(step, ToolCallDelta):
        function = {"name": step.name, "arguments": step.arguments}
        call = {"index": step.index, "id": step.id, "type": "function", "function": function}
        return chunk(choice=step.choice, delta={"tool_calls": [call]})
    assert isinstance(step, ChoiceFinished)
    return chunk(choice=step.choice, finish=step.reason.value)
