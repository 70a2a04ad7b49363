"""Keys and values of token runs, and the bounded cache that keeps them between forwards."""

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from threading import Lock

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class KeyValues:
    """Keys and values of a run of tokens: per layer a pair of [kv_heads, tokens, head_dim]."""

    layers: tuple[tuple[Tensor, Tensor], ...]

    @property
    def num_tokens(self) -> int:
        """Length of the run."""
        return self.layers[0][0].shape[1]

    @property
    def num_bytes(self) -> int:
        """Memory of all layers."""
        return sum(key.nbytes + value.nbytes for key, value in self.layers)

    def between(self, start: int, stop: int) -> "KeyValues":
        """The tokens from `start` up to `stop`, sharing memory with this run."""
        return KeyValues(tuple((k[:, start:stop], v[:, start:stop]) for k, v in self.layers))

    @staticmethod
    def join(runs: Sequence["KeyValues"], num_tokens: int) -> "KeyValues":
        """The first `num_tokens` tokens of the runs one after another, in memory of their own.

        Owning its memory matters even for a single run: a view would keep its whole batch alive.
        """
        starts = accumulate((run.num_tokens for run in runs), initial=0)
        wanted = [
            run.between(0, min(run.num_tokens, num_tokens - start))
            for run, start in zip(runs, starts, strict=False)
            if start < num_tokens
        ]
        return KeyValues(
            tuple(
                (torch.cat([k for k, _ in layer], dim=1), torch.cat([v for _, v in layer], dim=1))
                for layer in zip(*(run.layers for run in wanted), strict=True)
            )
        )


class KeyValueCache:
    """Least-recently-used memory of runs, bounded in bytes. Thread-safe.

    What is evicted is only computed again: a bound that is too small costs time, never a verdict.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._entries: OrderedDict[Hashable, KeyValues] = OrderedDict()
        self._num_bytes = 0
        self._lock = Lock()

    @property
    def num_bytes(self) -> int:
        """Bytes held now."""
        return self._num_bytes

    def get(self, key: Hashable) -> KeyValues | None:
        """The entry under `key`, which thereby becomes the most recently used one."""
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
            return self._entries.get(key)

    def put(self, key: Hashable, key_values: KeyValues) -> None:
        """Keep an entry, evicting the oldest ones; one larger than the bound is not kept."""
        with self._lock:
            self._forget(key)
            if key_values.num_bytes > self._max_bytes:
                return
            self._entries[key] = key_values
            self._num_bytes += key_values.num_bytes
            while self._num_bytes > self._max_bytes:
                self._forget(next(iter(self._entries)))

    def remove(self, key: Hashable) -> None:
        """Forget an entry, if it is there."""
        with self._lock:
            self._forget(key)

    def _forget(self, key: Hashable) -> None:
        if (entry := self._entries.pop(key, None)) is not None:
            self._num_bytes -= entry.num_bytes
