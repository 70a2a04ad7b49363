"""One fine-tuning run, from labelled rows to an adapter that `serve` loads."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice
from pathlib import Path
from typing import Any

from guard_service import embedded
from guard_service.engine.answer import VerdictWords, verdict_words
from guard_service.engine.vocabulary import Vocabulary
from guard_service.evaluation.rows import Row
from guard_service.moderation import ConfigurationError
from guard_service.policy import Policy
from guard_service.pretrained import Placement, load_llama, load_tokenizer, model_folder
from guard_service.prompt_formats import FORMATS
from guard_service.tuning.examples import Example, ExampleWriter, Question
from guard_service.tuning.forwards import Forward, gather
from guard_service.tuning.model import placement_of, save_adapter, with_lora
from guard_service.tuning.output_folder import OutputFolder
from guard_service.tuning.policy_variants import policy_variants
from guard_service.tuning.progress import BestAdapter, Checkpoints, Clock, Journal
from guard_service.tuning.settings import EMBEDDED_BASE, TuneSettings
from guard_service.tuning.trainer import GuardTrainer
from guard_service.weights import write_adapter_format

import torch  # isort: skip - after the engine package, which sets how OpenMP threads wait
from trl import SFTConfig

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Course:
    """The forwards of all epochs in order, those of the dev rows, and the verdict's tokens."""

    forwards: list[Forward]
    dev: list[Forward]
    words: VerdictWords

    def num_examples(self, forwards_per_step: int) -> list[int]:
        """How many examples have been seen after 0, 1, 2, ... steps."""
        sizes = [len(forward.unsafe) for forward in self.forwards]
        starts = range(0, len(sizes), forwards_per_step)
        steps = (sum(sizes[start : start + forwards_per_step]) for start in starts)
        return list(accumulate(steps, initial=0))


def tune(
    settings: TuneSettings, rows: Sequence[Row], dev: Sequence[Row], *, resume: bool, say: Say
) -> None:
    """Train an adapter on `rows` and leave the best one, by the dev rows, in the output folder.

    Raises:
        ConfigurationError: the model, policy or device cannot be used.
    """
    torch.manual_seed(settings.seed)
    folder = _base_folder(settings)
    tokenizer = load_tokenizer(folder)
    course = plan(settings, tokenizer, rows, dev, say)
    placement = placement_of(settings.dtype, settings.device, settings.quantisation)
    torch.set_num_threads(settings.num_threads or torch.get_num_threads())
    model = _adapted(settings, folder, placement)
    output = OutputFolder(settings.output)
    output.path.mkdir(parents=True, exist_ok=True)
    num_examples = course.num_examples(settings.accumulate)
    num_steps = len(num_examples) - 1
    clock = Clock(output.seconds, settings.minutes and settings.minutes * 60, resumed=resume)

    def save() -> None:
        save_adapter(model, output.path, base_name=settings.model or EMBEDDED_BASE)
        write_adapter_format(output.path, settings.format)

    best = BestAdapter(output.best, save, resumed=resume)
    trainer = GuardTrainer(
        model,
        tokenizer,
        _arguments(settings, placement, evaluates=bool(course.dev)),
        course.forwards,
        course.dev,
        words=course.words,
        verdict_weight=settings.verdict_weight,
        dtype=torch.float32 if placement.dtype == "float32" else torch.bfloat16,
        done=lambda step: max(step / num_steps, clock.share),
        callbacks=[
            clock,
            Checkpoints(settings.checkpoint_minutes * 60, settings.stop_at),
            Journal(output.log, clock, say, num_examples),
            best,
        ],
    )
    say(f"{len(course.forwards)} forwards, {num_steps} steps")
    checkpoint = output.newest_checkpoint() if resume else None
    trainer.train(resume_from_checkpoint=checkpoint and str(checkpoint))
    if not course.dev:
        save()
    elif best.last_step != trainer.state.global_step:
        trainer.evaluate()


def _adapted(settings: TuneSettings, folder: Path, placement: Placement) -> Any:
    # Not eager attention: on a CPU the first step of every new shape takes much longer with it.
    llama = load_llama(folder, placement, attention="sdpa")
    return with_lora(llama, rank=settings.rank, go_on_from=settings.adapter)


def plan(
    settings: TuneSettings, tokenizer: Any, rows: Sequence[Row], dev: Sequence[Row], say: Say
) -> Course:
    """Tokenise and gather all rows; those that are too long are left out and counted.

    Raises:
        ConfigurationError: the model cannot be asked in the format, or too few rows are left.
    """
    random_ = random.Random(settings.seed)  # noqa: S311 - an order, not a secret
    policy = settings.taught_policy()
    vocabulary = Vocabulary.from_pretrained_tokenizer(tokenizer)
    vocabulary.verify(FORMATS[settings.format], policy)
    if tokenizer.eos_token_id is None:
        raise ConfigurationError("model: its tokenizer names no token that ends an answer")
    writer = ExampleWriter(
        vocabulary, FORMATS[settings.format], policy, end_token=tokenizer.eos_token_id
    )
    say(f"tokenising {len(rows) + len(dev)} rows")
    questions = _fitting(settings, "training", writer.questions(rows), say)
    dev_questions = _fitting(settings, "dev", writer.questions(dev), say)
    if len(labels := {each.row.label for each in dev_questions}) == 1:
        raise ConfigurationError(
            f"all dev rows of at most {settings.max_tokens} tokens are {labels.pop()}"
        )
    forwards: list[Forward] = []
    for _ in _epochs(settings, forwards):
        epoch = _epoch(settings, writer, policy, questions, random_)
        forwards += gather(epoch, max_tokens=settings.step_tokens, random_=random_)
    if not forwards:
        raise ConfigurationError(
            "no row is left to train on: all are unsafe of unknown categories, and variants of the "
            "policy leave categories out"
        )
    if settings.steps is not None:
        del forwards[settings.steps * settings.accumulate :]
    examples = [example for each in dev_questions if (example := writer.example(each))]
    order = random.Random(settings.seed)  # noqa: S311
    return Course(
        forwards,
        gather(examples, max_tokens=settings.step_tokens, random_=order),
        verdict_words(vocabulary.encode_text, spaced=False),
    )


def _fitting(
    settings: TuneSettings, kind: str, questions: Sequence[Question], say: Say
) -> list[Question]:
    fitting = [each for each in questions if len(each.tokens) <= settings.max_tokens]
    if questions and not fitting:
        raise ConfigurationError(f"all {kind} rows have more than {settings.max_tokens} tokens")
    if num_longer := len(questions) - len(fitting):
        say(f"{num_longer} {kind} rows have more than {settings.max_tokens} tokens: left out")
    return fitting


def _epochs(settings: TuneSettings, forwards: Sequence[Forward]) -> Iterator[None]:
    """As many as asked for, or as are needed for the steps that are asked for."""
    if settings.steps is None:
        yield from (None for _ in range(settings.epochs))
    else:
        while len(forwards) < settings.steps * settings.accumulate:
            yield


def _epoch(
    settings: TuneSettings,
    writer: ExampleWriter,
    policy: Policy,
    questions: Sequence[Question],
    random_: random.Random,
) -> list[Example]:
    """One example of each question, a share of them under variants of the policy.

    There are as many variants as fill forwards of their own.
    """
    num_varied = sum(len(each.tokens) for each in questions) * settings.policy_variants
    num_variants = max(1, round(num_varied / settings.step_tokens / 4))
    variants = list(islice(policy_variants(policy, random_), num_variants))
    examples = (
        writer.example(
            each,
            random_.choice(variants) if random_.random() < settings.policy_variants else policy,
        )
        for each in questions
    )
    return [example for example in examples if example is not None]


def _base_folder(settings: TuneSettings) -> Path:
    if settings.model is None:
        return embedded.ensure(settings.cache_dir)
    return model_folder(settings.model, settings.revision)


def _arguments(settings: TuneSettings, placement: Placement, *, evaluates: bool) -> SFTConfig:
    """The trainer's arguments: one gathered forward is one batch, in the order they are planned."""
    return SFTConfig(
        output_dir=str(settings.output / "checkpoints"),
        num_train_epochs=1,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=settings.accumulate,
        train_sampling_strategy="sequential",
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=False,
        learning_rate=settings.learning_rate,
        warmup_steps=settings.warm_up_steps,
        weight_decay=0.0,
        adam_beta2=0.98,
        max_grad_norm=1.0,
        activation_checkpointing=False,
        bf16=False,
        fp16=False,
        eval_strategy="steps" if evaluates else "no",
        eval_steps=settings.evaluate_every,
        save_strategy="no",
        save_total_limit=2,
        logging_steps=10,
        logging_nan_inf_filter=False,
        disable_tqdm=True,
        report_to="none",
        use_cpu=placement.resolved_device() == "cpu",
        seed=settings.seed,
    )
