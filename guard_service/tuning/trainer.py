"""TRL's trainer on forwards gathered before: loss behind a shared prefix, dev AUROC, time limit."""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch.optim.lr_scheduler import LambdaLR
from transformers import PrinterCallback
from trl import SFTConfig, SFTTrainer

from guard_service.engine.answer import VerdictWords
from guard_service.evaluation.curves import curves
from guard_service.moderation import ConfigurationError
from guard_service.tuning.forwards import Forward
from guard_service.tuning.model import answer_loss, unsafe_probabilities

LOWEST_RATE = 0.02
"""What the learning rate falls to, as a share of its highest."""


class GuardTrainer(SFTTrainer):
    """Takes the forwards in their order; `done` says which share of the run is over after a step.

    `words` are the verdict's first tokens, `dtype` the arithmetic of the products.
    """

    control: Any
    lr_scheduler: LambdaLR | None

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        arguments: SFTConfig,
        forwards: Sequence[Forward],
        dev: Sequence[Forward],
        *,
        words: VerdictWords,
        verdict_weight: float,
        dtype: torch.dtype,
        done: Callable[[int], float],
        callbacks: list[Any],
    ) -> None:
        self._dev, self._words, self._dtype, self._done = dev, words, dtype, done
        self._verdict_weight = verdict_weight
        self._verdict_losses: list[torch.Tensor] = []
        super().__init__(
            model=model,
            args=arguments,
            train_dataset=_places(forwards),
            eval_dataset=_places(dev) if dev else None,
            data_collator=lambda places: {"forward": forwards[places[0]["place"]]},
            processing_class=tokenizer,
            callbacks=callbacks,
        )
        self.remove_callback(PrinterCallback)
        for parameter in model.parameters():
            if parameter.requires_grad:
                # TRL makes the adapter of a quantised base bf16, which loses the last small steps.
                parameter.data = parameter.data.float()

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> LambdaLR:
        """Linear warm-up, then linear to `LOWEST_RATE` as the run's share gets done."""
        del num_training_steps
        if self.lr_scheduler is None:
            rate = partial(_rate, warm_up=self.args.warmup_steps, done=self._done)
            self.lr_scheduler = LambdaLR(optimizer or self.optimizer, rate)
        return self.lr_scheduler

    def compute_loss(self, model: Any, inputs: Any, *_: Any, **__: Any) -> torch.Tensor:
        """The loss of one forward."""
        with self._arithmetic():
            loss, verdict_loss = answer_loss(
                self._llama(model), inputs["forward"], verdict_weight=self._verdict_weight
            )
        self._verdict_losses.append(verdict_loss)
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, with the mean verdict loss since the last time.

        Raises:
            ConfigurationError: a loss is not a number, and no later one will be.
        """
        if "loss" in logs and self._verdict_losses:
            logs["verdict_loss"] = torch.stack(self._verdict_losses).mean().item()
            self._verdict_losses.clear()
        super().log(logs, start_time)
        if not all(math.isfinite(logs.get(loss, 0.0)) for loss in ("loss", "eval_verdict_loss")):
            raise ConfigurationError(
                f"learning_rate: the loss at step {self.state.global_step} is not a number; where "
                "the base is sound, a lower rate or a longer warm-up helps"
            )

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """None for a checkpoint: TRL's would describe a model there is not."""

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Verdict loss and AUROC on the dev rows."""
        self.model.eval()
        unsafe = np.array([label for each in self._dev for label in each.unsafe])
        scores = np.array([p for each in self._dev for p in self._scores(each)])
        metrics = {
            "eval_auroc": float(curves(unsafe, scores, np.ones((1, len(scores)))).auroc[0]),
            "eval_verdict_loss": float(-np.log(np.where(unsafe, scores, 1 - scores) + 1e-9).mean()),
        }
        self.model.train()
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def _scores(self, forward: Forward) -> list[float]:
        with self._arithmetic():
            return unsafe_probabilities(
                self._llama(self.model), forward, safe=self._words.safe, unsafe=self._words.unsafe
            )

    def _llama(self, model: Any) -> Any:
        return self.accelerator.unwrap_model(model).get_base_model()

    def _arithmetic(self) -> AbstractContextManager[Any]:
        """Mixed precision where asked for; the trainer's own covers only the model's `forward`."""
        return torch.autocast(
            self.args.device.type, self._dtype, enabled=self._dtype is not torch.float32
        )


def _places(forwards: Sequence[Forward]) -> Dataset:
    """What the trainer counts and orders; the forwards themselves stay as they are."""
    return Dataset.from_dict({"place": range(len(forwards))})


def _rate(step: int, *, warm_up: int, done: Callable[[int], float]) -> float:
    return min(1.0, (step + 1) / warm_up) * max(LOWEST_RATE, 1.0 - done(step))
