"""The bounded memory of keys and values."""

import torch

from guard_service.engine.key_values import KeyValueCache, KeyValues
from guard_service.engine.session import KeyValueSession


def run(num_tokens: int, first: float = 0.0) -> KeyValues:
    """Two layers, one head of two numbers: 32 bytes a token."""
    numbers = torch.arange(num_tokens, dtype=torch.float32)[None, :, None].expand(1, -1, 2) + first
    return KeyValues(((numbers, numbers + 100), (numbers + 200, numbers + 300)))


def values(key_values: KeyValues) -> list[float]:
    return key_values.layers[1][1][0, :, 0].tolist()


def test_joined_runs_are_cut_to_the_tokens_asked_for():
    joined = KeyValues.join([run(3), run(4, first=3), run(5, first=7)], 5)

    assert values(joined) == [300, 301, 302, 303, 304]
    assert joined.num_bytes == 5 * 32


def test_a_joined_run_does_not_keep_its_batch_alive():
    batch = run(1000)

    kept = KeyValues.join([batch.between(10, 12)], 2)

    assert kept.layers[0][0].untyped_storage().nbytes() == 2 * 8


def test_the_least_recently_used_run_goes_first():
    cache = KeyValueCache(max_bytes=3 * 32)
    for key in "abc":
        cache.put(key, run(1))
    cache.get("a")

    cache.put("d", run(1))

    assert [key for key in "abcd" if cache.get(key)] == ["a", "c", "d"]
    assert cache.num_bytes == 3 * 32


def test_a_run_larger_than_the_bound_is_not_kept_and_drives_out_no_other():
    cache = KeyValueCache(max_bytes=2 * 32)
    cache.put("a", run(1))
    cache.put("b", run(1))

    cache.put("b", run(3))

    assert [key for key in "ab" if cache.get(key)] == ["a"]
    assert cache.num_bytes == 32


def test_replacing_and_removing_keep_the_account():
    cache = KeyValueCache(max_bytes=1000)
    cache.put("a", run(4))
    cache.put("a", run(1))
    assert cache.num_bytes == 32

    cache.remove("a")
    cache.remove("a")
    assert cache.num_bytes == 0


def test_a_session_recalls_the_common_start_behind_the_same_prefix():
    session = KeyValueSession(KeyValueCache(max_bytes=10_000))
    session.remember((1, 2), (5, 6, 7), [run(10)])

    recalled = session.recall((1, 2), (5, 6, 8, 9))

    assert recalled is not None
    assert values(recalled) == [300, 301]
    assert session.recall((1, 3), (5, 6, 7)) is None
    assert session.recall((1, 2), (9,)) is None


def test_a_closed_session_holds_nothing_and_keeps_nothing_new():
    cache = KeyValueCache(max_bytes=10_000)
    session = KeyValueSession(cache)
    session.remember((1,), (5,), [run(3)])

    session.close()
    session.remember((1,), (5,), [run(3)])

    assert cache.num_bytes == 0
    assert session.recall((1,), (5,)) is None
