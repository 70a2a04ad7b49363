"""When the guard is asked about a growing answer: early, often while in doubt, else seldom."""

import re

from chat_gateway.policy import Checkpoints

CALM = 0.05
"""Below this P(unsafe) the next checks come further apart."""
DOUBTFUL = 0.2
"""From this P(unsafe) on they come as close as they can."""

_SENTENCE_END = re.compile(r"""[.!?…。！？]["')\]]*(\s|$)|\n""")  # noqa: RUF001


class Pace:
    """How many new characters are gathered before the next check."""

    def __init__(self, checkpoints: Checkpoints) -> None:
        self._checkpoints = checkpoints
        self._distance = checkpoints.first_characters
        self._is_first = True

    def is_due(self, num_unsent: int, newest: str) -> bool:
        """Whether to check now that `num_unsent` characters wait, the last ones in `newest`."""
        if num_unsent >= self._distance:
            return True
        is_halfway = not self._is_first and num_unsent >= self._distance // 2
        return is_halfway and _SENTENCE_END.search(newest) is not None

    def checked(self) -> None:
        """A check was asked for."""
        if self._is_first:
            self._is_first = False
            self._distance = self._checkpoints.every_characters

    def scored(self, probability: float) -> None:
        """A check came back with this P(unsafe)."""
        if probability < CALM:
            self._distance = min(2 * self._distance, self._checkpoints.max_every_characters)
        elif probability < DOUBTFUL:
            self._distance = self._checkpoints.every_characters
        else:
            self._distance = self._checkpoints.first_characters
