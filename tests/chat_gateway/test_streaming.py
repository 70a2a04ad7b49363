"""What is held, in which order it is let go, and when the guard is asked."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_gateway.chat import (
    Channel,
    ChatMessage,
    ChoiceFinished,
    FinishReason,
    GeneratorFailed,
    InvalidChat,
    TextDelta,
    TokenUsage,
    ToolCall,
    ToolCallDelta,
)
from chat_gateway.pacing import Pace
from chat_gateway.policy import Checkpoints
from chat_gateway.streaming import HeldChoice
from chat_gateway.transcript import Transcript, conversation_of
from guard_service.moderation import Role
from tests.chat_gateway.conversing import transcript_of, user

STOP = ChoiceFinished(0, FinishReason.STOP)
CHECKPOINTS = Checkpoints(first_characters=10, every_characters=100, max_every_characters=400)

texts = st.builds(TextDelta, st.just(0), st.text(max_size=5), st.sampled_from(Channel))
tool_calls = st.builds(
    ToolCallDelta, st.just(0), st.integers(0, 2), st.text(max_size=5), st.just("c"), st.just("f")
)


def holding(*events) -> HeldChoice:
    held = HeldChoice(0)
    for now, event in enumerate(events):
        held.add(event, float(now))
    return held


@given(st.lists(texts | tool_calls, max_size=12), st.integers(0, 40))
def test_what_is_released_is_always_a_prefix_of_the_transcript(events, end):
    held = holding(*events, STOP)
    whole = held.transcript.text

    first = held.release(end)
    rest = held.release_all()

    assert whole == transcript_of(events, 0)
    assert whole.startswith(transcript_of(first.events, 0))
    assert len(transcript_of(first.events, 0)) <= end
    assert transcript_of([*first.events, *rest.events], 0) == whole
    assert rest.events[-1] == STOP
    assert held.num_held == 0


def test_a_piece_is_released_only_when_all_of_it_was_judged():
    held = holding(TextDelta(0, "abc"), TextDelta(0, "def"))

    assert held.release(5).events == (TextDelta(0, "abc"),)
    assert held.release(6).events == (TextDelta(0, "def"),)


def test_the_finish_waits_for_the_final_verdict_even_when_all_text_was_judged():
    held = holding(TextDelta(0, "abc"), STOP)

    assert held.release(3).events == (TextDelta(0, "abc"),)
    assert held.release(3, final=True).events == (STOP,)


def test_a_release_says_how_long_its_oldest_text_had_waited():
    held = holding(TextDelta(0, "abc"), TextDelta(0, "def"))

    released = held.release(6)

    assert (released.num_characters, released.arrived) == (6, 0.0)


@pytest.mark.parametrize("event", [TokenUsage(1, 1), TextDelta(0, "more")])
def test_what_has_no_place_in_a_choice_is_refused(event):
    held = holding(STOP) if isinstance(event, TextDelta) else holding()

    with pytest.raises(GeneratorFailed):
        held.add(event, 0.0)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.text(min_size=1, max_size=4))), st.data())
def test_what_the_guard_is_sent_adds_up_to_the_transcript(parts, data):
    transcript, sent = Transcript(), ""
    for kind, text in parts:
        transcript.append(kind, text)
        if data.draw(st.booleans()):
            sent += transcript.take_unsent()
    sent += transcript.take_unsent()

    assert sent == transcript.text
    assert transcript.num_characters == transcript.num_sent == len(sent)
    assert transcript.is_blank == (not sent.strip())


def test_text_that_ends_in_blanks_is_not_blank():
    transcript = Transcript()
    transcript.append("content", "word")
    transcript.append("content", "\n")

    assert not transcript.is_blank


def test_what_is_said_beside_a_tool_call_is_part_of_the_conversation():
    call = ToolCall("c1", "look", "{}")
    messages = (ChatMessage(Role.ASSISTANT, "Wait.", tool_calls=(call,)), user("And?"))

    assert conversation_of(messages)[0].content == "Wait.\n\nlook({})"


@pytest.mark.parametrize("last", [ChatMessage(Role.ASSISTANT, " "), user(" ")])
def test_no_blank_message_hides_that_the_assistant_has_the_last_word(last):
    before = (user("Go on."), ChatMessage(Role.ASSISTANT, "Well,"), user("Yes?"))
    messages = before if last.role is Role.ASSISTANT else before[:2]

    with pytest.raises(InvalidChat):
        conversation_of((*messages, last))


def test_the_first_check_comes_early_and_the_next_one_further_on():
    pace = Pace(CHECKPOINTS)

    assert not pace.is_due(9, "word.")
    assert pace.is_due(10, "word")
    pace.checked()
    assert not pace.is_due(99, "word")
    assert pace.is_due(100, "word")


def test_a_sentence_end_brings_a_check_forward():
    pace = Pace(CHECKPOINTS)
    pace.checked()

    assert pace.is_due(50, "done. ")
    assert pace.is_due(50, 'done."')
    assert pace.is_due(50, "done\n")
    assert not pace.is_due(50, "3.14")
    assert not pace.is_due(49, "done.")


def test_low_scores_widen_the_distance_and_high_ones_close_it():
    pace = Pace(CHECKPOINTS)
    pace.checked()
    for probability, distance in ((0.01, 200), (0.01, 400), (0.01, 400), (0.1, 100), (0.4, 10)):
        pace.scored(probability)
        assert pace.is_due(distance, "word")
        assert not pace.is_due(distance - 1, "word")
