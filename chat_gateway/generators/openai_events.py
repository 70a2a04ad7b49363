"""The stream of an OpenAI-compatible server, from its bytes to the events of an answer."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from chat_gateway.chat import GeneratorEvent, GeneratorFailed
from chat_gateway.generators.openai_answer import AnswerReader
from chat_gateway.generators.sse import EventReader

_END = "[DONE]"


async def answer_events(
    received: AsyncIterator[bytes],
    num_choices: int,
    *,
    max_event_bytes: int = 2**20,
    max_answer_bytes: int = 2**26,
) -> AsyncGenerator[GeneratorEvent, None]:
    """The events of an answer of `num_choices` choices; nothing is read after the end mark.

    Raises:
        GeneratorFailed: the bytes are no such stream, too many, or end too early.
        TooBusy, InvalidChat: the server says so.
    """
    answer = AnswerReader(num_choices)
    async with aclosing(_data(received, max_event_bytes, max_answer_bytes)) as events:
        async for data in events:
            for event in answer.read(data):
                yield event
    for event in answer.end():
        yield event


async def _data(
    received: AsyncIterator[bytes], max_event_bytes: int, max_answer_bytes: int
) -> AsyncGenerator[str, None]:
    """The data of each event until the end mark, or until the stream ends cleanly."""
    reader = EventReader(max_event_bytes)
    num_bytes = 0
    async for piece in received:
        num_bytes += len(piece)
        if num_bytes > max_answer_bytes:
            raise GeneratorFailed("the model's server did not stop talking")
        for data in reader.feed(piece):
            if data.strip() == _END:
                return
            yield data
    if reader.is_mid_event:
        raise GeneratorFailed("the model's server stopped in the middle of an event")
