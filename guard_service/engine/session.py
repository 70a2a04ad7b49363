"""Memory for a conversation that is judged again and again as it grows."""

from collections.abc import Sequence

from guard_service.engine.key_values import KeyValueCache, KeyValues


class KeyValueSession:
    """Keys and values of a growing body of tokens behind one prefix, until closed or evicted."""

    def __init__(self, cache: KeyValueCache) -> None:
        self._cache = cache
        self._prefix: tuple[int, ...] = ()
        self._body: tuple[int, ...] = ()
        self._closed = False

    def recall(self, prefix: tuple[int, ...], body: tuple[int, ...]) -> KeyValues | None:
        """The run of the longest start of `body` that was computed behind the same prefix."""
        run = self._cache.get(self)
        if run is None or prefix != self._prefix:
            return None
        num_common = _num_common(self._body, body)
        return run.between(0, num_common) if num_common else None

    def remember(
        self, prefix: tuple[int, ...], body: tuple[int, ...], runs: Sequence[KeyValues]
    ) -> None:
        """Keep the keys and values of `body`, with which the joined runs begin."""
        if self._closed or not body:
            return
        self._prefix, self._body = prefix, body
        self._cache.put(self, KeyValues.join(runs, len(body)))
        if self._closed:  # closed by the event loop while this thread was writing
            self._cache.remove(self)

    def close(self) -> None:
        """Free the memory. Calling it twice is harmless."""
        self._closed = True
        self._cache.remove(self)


def _num_common(left: tuple[int, ...], right: tuple[int, ...]) -> int:
    """Length of the common start; growing text re-merges at most its last few tokens."""
    for i, (a, b) in enumerate(zip(left, right, strict=False)):
        if a != b:
            return i
    return min(len(left), len(right))
