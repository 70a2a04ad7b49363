"""Text out of tokens as they come: whole characters, and nothing of a stop string."""

from hypothesis import given
from hypothesis import strategies as st

from chat_gateway.generators.transformers.stop_strings import StopStrings
from chat_gateway.generators.transformers.whole_characters import WholeCharacters


def decode_bytes(tokens) -> str:
    """A vocabulary with a token for each byte, the hardest there is."""
    return bytes(tokens).decode(errors="replace")


@given(st.text())
def test_a_character_appears_with_its_last_byte(text: str):
    characters = WholeCharacters(decode_bytes)
    pieces = [characters.push(byte) for byte in text.encode()]

    assert "".join(pieces) + characters.finish() == text.rstrip("\ufffd")
    if "\ufffd" not in text:
        assert [piece for piece in pieces if piece] == list(text)


@given(st.binary())
def test_tokens_of_no_text_read_as_they_do_all_at_once(tokens: bytes):
    characters = WholeCharacters(decode_bytes)
    text = "".join(characters.push(token) for token in tokens) + characters.finish()

    assert text == decode_bytes(tokens).rstrip("\ufffd")


def test_an_unfinished_character_is_dropped_at_the_end():
    characters = WholeCharacters(decode_bytes)

    assert [characters.push(byte) for byte in b"a\xe4\xbd"] == ["a", "", ""]
    assert characters.finish() == ""


pieces_of_text = st.lists(st.text("abc", max_size=4))
stop_strings = st.lists(st.text("abc", min_size=1, max_size=4), max_size=3)


@given(pieces_of_text, stop_strings)
def test_the_text_ends_where_the_first_stop_string_begins(pieces: list[str], stops: list[str]):
    reader = StopStrings(stops)
    shown = ""
    arrived = ""
    for piece in pieces:
        if reader.met:
            break
        arrived += piece
        shown += reader.push(piece)
        assert not any(stop in shown for stop in stops)
    shown += reader.finish()

    starts = [arrived.find(stop) for stop in stops if stop in arrived]
    assert reader.met == bool(starts)
    assert shown == arrived[: min(starts, default=len(arrived))]


@given(pieces_of_text, stop_strings)
def test_only_the_beginning_of_a_stop_string_is_held_back(pieces: list[str], stops: list[str]):
    reader = StopStrings(stops)
    arrived = shown = ""
    for piece in pieces:
        arrived += piece
        shown += reader.push(piece)
        if reader.met:
            return
        held = arrived[len(shown) :]
        assert not held or any(stop.startswith(held) for stop in stops)
