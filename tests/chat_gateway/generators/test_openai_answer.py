"""Whatever JSON a server sends, only text on known channels comes out of it, or an error."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_gateway.chat import (
    ChoiceFinished,
    FinishReason,
    GatewayError,
    GeneratorFailed,
    TextDelta,
    ToolCallDelta,
)
from chat_gateway.generators.openai_answer import AnswerReader
from chat_gateway.generators.sse import EventReader
from tests.chat_gateway.upstreams import chunk

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner)
)


def odd(names: list[str], inner: st.SearchStrategy) -> st.SearchStrategy:
    """An object with some of these names, and a name nobody knows, over mostly fitting values."""
    return st.dictionaries(st.sampled_from([*names, "unknown"]), inner | anything) | anything


functions = odd(["name", "arguments"], st.text(max_size=3))
calls = odd(["index", "id", "function"], st.integers(0, 1) | functions)
deltas = odd(["content", "reasoning", "refusal", "tool_calls"], st.text() | st.lists(calls))
choices = odd(["index", "delta", "finish_reason"], st.integers(0, 2) | deltas | st.just("stop"))
chunks = odd(["choices", "usage", "error"], st.lists(choices, max_size=3))


@given(st.lists(chunks, max_size=4))
def test_any_json_gives_known_events_or_an_error_of_ours(sent: list):
    reader = AnswerReader(2)
    finished: set[int] = set()
    try:
        for chunk in sent:
            for event in reader.read(json.dumps(chunk)):
                assert event.choice in (0, 1)
                assert event.choice not in finished
                if isinstance(event, ChoiceFinished):
                    finished.add(event.choice)
                else:
                    assert isinstance(event, TextDelta | ToolCallDelta)
        list(reader.end())
    except GatewayError:
        return
    assert finished == {0, 1}


def test_an_answer_of_two_choices_is_over_only_when_both_are():
    reader = AnswerReader(2)
    events = list(reader.read(json.dumps(chunk("Hi", finish="stop"))))

    assert isinstance(events[-1], ChoiceFinished)
    with pytest.raises(GeneratorFailed):
        list(reader.end())


def test_a_finish_that_is_said_again_is_heard_once():
    reader = AnswerReader(1)
    finish = json.dumps(chunk(finish="stop"))

    events = [*reader.read(finish), *reader.read(finish), *reader.end()]

    assert events == [ChoiceFinished(0, FinishReason.STOP)]


@given(st.text(alphabet="ab\u00e9\u4f60:\r {}", max_size=30), st.data())
def test_events_are_the_same_wherever_the_bytes_are_split(text: str, data: st.DataObject):
    stream = f"data:{text}\r\n\r\n: ping\n\ndata: one\ndata: two\n\ndata: end\n\n".encode()
    cut = data.draw(st.integers(0, len(stream)))
    reader = EventReader(1000)

    events = [*reader.feed(stream[:cut]), *reader.feed(stream[cut:])]

    assert events == [text.removeprefix(" "), "one\ntwo", "end"]
    assert not reader.is_mid_event


@given(st.binary(max_size=200))
def test_any_bytes_give_events_or_an_error_of_ours(received: bytes):
    reader = EventReader(50)
    try:
        events = list(reader.feed(received))
    except GatewayError:
        return
    assert all(len(event.encode()) <= 50 for event in events)
