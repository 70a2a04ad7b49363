"""Windows: nothing lost, everything fits, borders where a reader would put them."""

import random
import re

from hypothesis import given
from hypothesis import strategies as st

from guard_service.moderation import Message, Role
from guard_service.windows import LABEL_TOKENS, windows


def word_ends(text: str) -> list[int]:
    return [match.end() for match in re.finditer(r"\s*\S+|\s+$", text)]


def split(conversation, room):
    return windows(tuple(conversation), room=room, token_ends=word_ends)


def user(text: str) -> Message:
    return Message(Role.USER, text)


def assistant(text: str) -> Message:
    return Message(Role.ASSISTANT, text)


def num_tokens(window) -> int:
    return sum(LABEL_TOKENS + len(word_ends(message.content)) for message in window)


def words(count: int, name: str = "w") -> str:
    return " ".join(f"{name}{i}" for i in range(count))


def test_a_conversation_that_fits_is_its_own_window():
    conversation = (user("one two"), assistant("three"))

    assert split(conversation, 40) == [conversation]


def test_every_window_fits_and_no_word_is_lost():
    conversation = (user(words(300, "a")), assistant(words(50, "b")), user(words(700, "c")))

    parts = split(conversation, 100)

    assert all(num_tokens(part) <= 100 for part in parts)
    seen = {word for part in parts for message in part for word in message.content.split()}
    assert seen == {word for message in conversation for word in message.content.split()}


def test_windows_overlap_so_a_phrase_on_the_border_is_read_whole():
    text = words(500)

    parts = split([user(text)], 100)

    for i in range(499):
        phrase = f"w{i} w{i + 1} "
        assert any(phrase in f"{part[0].content} " for part in parts), phrase


def test_windows_end_where_sentences_end():
    text = " ".join(f"This is sentence number {i}." for i in range(100))

    parts = split([user(text)], 103)

    assert all(part[-1].content.endswith(".") for part in parts)
    assert all(part[0].content.startswith("This") for part in parts)


def test_windows_end_where_turns_end_and_keep_the_roles():
    turns = [(user if i % 2 == 0 else assistant)(words(20, f"t{i}x")) for i in range(20)]

    parts = split(turns, 100)

    for part in parts:
        assert part[-1] in turns
    assert parts[-1][-1] == turns[-1]


def test_growing_text_leaves_closed_windows_alone():
    history = (user(words(30, "q")),)
    text = words(400)

    before = split((*history, assistant(words(300))), 100)
    after = split((*history, assistant(text)), 100)

    assert len(before) > 2
    assert after[: len(before) - 1] == before[:-1]


@given(
    st.lists(st.text(min_size=1, max_size=400).filter(str.strip), min_size=1, max_size=6),
    st.integers(min_value=40, max_value=120),
)
def test_all_characters_are_covered_whatever_the_text(texts, room):
    conversation = [user(t) if i % 2 == 0 else assistant(t) for i, t in enumerate(texts)]

    parts = split(conversation, room)

    assert parts
    assert all(message.content.strip() for part in parts for message in part)
    for text in texts:
        left = "".join(text.split())
        pieces = ["".join(m.content.split()) for part in parts for m in part]
        covered = set()
        for piece in pieces:
            start = left.find(piece)
            while start >= 0:
                covered.update(range(start, start + len(piece)))
                start = left.find(piece, start + 1)
        assert covered == set(range(len(left)))


def test_unspaced_text_is_cut_where_tokens_end():
    text = "".join(random.Random(1).choices("abcdef", k=5000))

    parts = windows((user(text),), room=200, token_ends=lambda t: [*range(3, len(t), 3), len(t)])

    joined = parts[0][0].content
    for part in parts[1:]:
        content = part[0].content
        overlap = next(n for n in range(len(content), -1, -1) if joined.endswith(content[:n]))
        joined += content[overlap:]
    assert joined == text
