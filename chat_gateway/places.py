"""How many requests are answered at the same time, whichever door they came through."""

from collections.abc import Iterator
from contextlib import contextmanager

from chat_gateway.chat import TooBusy

RETRY_SECONDS = 1.0


class Places:
    """So many places, each for one request; every door of one gateway shares them."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._num_taken = 0

    @property
    def num_taken(self) -> int:
        """Requests being answered."""
        return self._num_taken

    @contextmanager
    def one(self) -> Iterator[None]:
        """A place while the context lasts.

        Raises:
            TooBusy: all are taken.
        """
        if self._num_taken >= self._number:
            raise TooBusy(
                f"{self._num_taken} requests at once, the most this gateway takes"
                " (max_concurrent_requests)",
                RETRY_SECONDS,
            )
        self._num_taken += 1
        try:
            yield
        finally:
            self._num_taken -= 1
