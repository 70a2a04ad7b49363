"""What is said and kept while a run goes on: clock, log, checkpoints, the best adapter."""

import json
import math
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

_SAID = {
    "loss": "loss",
    "verdict_loss": "verdict loss",
    "eval_verdict_loss": "dev verdict loss",
    "eval_auroc": "dev AUROC",
}


class Clock(TrainerCallback):
    """Seconds trained, those before a resume included; ends a run whose time is over.

    `file` keeps them with every checkpoint, and is read for a run that is resumed.
    """

    def __init__(self, file: Path, limit_seconds: float | None, *, resumed: bool) -> None:
        self._file = file
        self._limit = limit_seconds
        self._spent = float(file.read_text()) if resumed and file.exists() else 0.0
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds trained."""
        return self._spent + time.monotonic() - self._began

    @property
    def share(self) -> float:
        """Used share of the time limit; 0 without one."""
        return self.seconds / self._limit if self._limit else 0.0

    def seconds_left(self, done: float) -> float:
        """How long it will still take, where a share of `done` of all steps is over."""
        by_steps = self.seconds * (1 / done - 1) if done else math.inf
        by_limit = self._limit - self.seconds if self._limit else math.inf
        return max(0.0, min(by_steps, by_limit))

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Loading does not count."""
        self._began = time.monotonic()

    def on_save(self, *_: Any, **__: Any) -> None:
        """Keep the time with the checkpoint."""
        self._file.write_text(f"{self.seconds:.1f}", encoding="utf-8")

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Stop when the time is over."""
        del args, state
        control.should_training_stop |= self.share >= 1


class Checkpoints(TrainerCallback):
    """A checkpoint at least every `seconds`, and one where the run stops early.

    The first SIGINT or SIGTERM stops it after the step under way; the next ones act as ever.
    """

    def __init__(self, seconds: float, stop_at: int | None) -> None:
        self._seconds = seconds
        self._stop_at = stop_at
        self._last = time.monotonic()
        self._is_asked_to_stop = False
        self._handlers: dict[int, Any] = {}

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Take the signals."""
        for number in (signal.SIGINT, signal.SIGTERM):
            self._handlers[number] = signal.signal(number, self._stop)

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Give them back."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Ask for what is due."""
        del args
        control.should_training_stop |= self._is_asked_to_stop or state.global_step == self._stop_at
        if control.should_training_stop or time.monotonic() - self._last > self._seconds:
            control.should_save = True
            self._last = time.monotonic()

    def _stop(self, *_: Any) -> None:
        self._is_asked_to_stop = True
        self.on_train_end()


class Journal(TrainerCallback):
    """Every logged figure as a JSON line in `file`, and those for people in a line by `say`.

    `num_examples` holds how many examples have been seen after 0, 1, 2, ... steps.
    """

    def __init__(
        self, file: Path, clock: Clock, say: Callable[[str], None], num_examples: Sequence[int]
    ) -> None:
        self._file = file
        self._clock = clock
        self._say = say
        self._num_examples = num_examples
        self._last = (0, 0.0)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Start to count examples per second."""
        del args, control
        self._last = (state.global_step, self._clock.seconds)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float],
        **_: Any,
    ) -> None:
        """Write one entry."""
        del args, control
        step, seconds = state.global_step, self._clock.seconds
        entry = {"step": step, "seconds": round(seconds, 1), **logs}
        with self._file.open("a", encoding="utf-8") as journal:
            journal.write(json.dumps(entry) + "\n")
        figures = [f"{name} {logs[key]:.4f}" for key, name in _SAID.items() if key in logs]
        last_step, last_seconds = self._last
        self._last = (step, seconds)
        if not figures:
            return
        if step > last_step:
            num_seen = self._num_examples[step] - self._num_examples[last_step]
            figures.append(f"{num_seen / (seconds - last_seconds):.1f} examples/s")
        minutes = self._clock.seconds_left(step / state.max_steps) / 60
        figures.append(f"{minutes:.1f} minutes left")
        self._say(f"step {step} of {state.max_steps}: {', '.join(figures)}")


class BestAdapter(TrainerCallback):
    """Saves the adapter whenever its dev AUROC is the highest so far, its figures in `file`.

    Of equal ones the lower verdict loss counts.
    """

    def __init__(self, file: Path, save: Callable[[], None], *, resumed: bool) -> None:
        self._file = file
        self._save = save
        self._best = json.loads(file.read_text()) if resumed and file.exists() else None
        self.last_step: int | None = None

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float],
        **_: Any,
    ) -> None:
        """Compare and save."""
        del args, control
        self.last_step = state.global_step
        if self._best is None or _merit(metrics) > _merit(self._best):
            self._best = {"step": state.global_step, **metrics}
            self._save()
            self._file.write_text(json.dumps(self._best), encoding="utf-8")


def _merit(metrics: dict[str, float]) -> tuple[float, float]:
    return metrics["eval_auroc"], -metrics["eval_verdict_loss"]
