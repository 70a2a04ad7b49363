"""Server-sent events out of a stream of bytes, within bounds."""

from collections.abc import Iterator

from chat_gateway.chat import GeneratorFailed


class EventReader:
    """Collects bytes into events. An event longer than `max_event_bytes` is refused."""

    def __init__(self, max_event_bytes: int) -> None:
        self._max_event_bytes = max_event_bytes
        self._unread = bytearray()
        self._data: list[str] = []
        self._num_data_bytes = 0

    @property
    def is_mid_event(self) -> bool:
        """Whether an event has begun that is not complete."""
        return bool(self._unread.strip() or self._data)

    def feed(self, received: bytes) -> Iterator[str]:
        """The data of every event that these bytes complete.

        Raises:
            GeneratorFailed: an event is too long or no UTF-8.
        """
        self._unread += received
        while (end := self._unread.find(b"\n")) >= 0:
            line = bytes(self._unread[:end]).removesuffix(b"\r")
            del self._unread[: end + 1]
            self._count(len(line))
            if not line and self._data:
                yield "\n".join(self._data)
                self._data.clear()
                self._num_data_bytes = 0
            elif line.startswith(b"data:"):
                self._num_data_bytes += len(line)
                self._data.append(_text(line[len(b"data:") :].removeprefix(b" ")))
        self._count(len(self._unread))

    def _count(self, num_more_bytes: int) -> None:
        if self._num_data_bytes + num_more_bytes > self._max_event_bytes:
            raise GeneratorFailed("the model's server sent an event that is too long")


def _text(line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError:
        # The cause would carry the server's text into a log.
        raise GeneratorFailed("the model's server sent text that is no UTF-8") from None
