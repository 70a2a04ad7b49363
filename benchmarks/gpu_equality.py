"""Whether this engine says on a device what plain transformers says there."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from benchmarks.gpu_subject import THRESHOLD, Prompts, Scaffold, Subject
from guard_service.engine.answer import Tokens
from guard_service.engine.protocol import Scores

WHOLE_LIST_TOKENS = 26
"""Enough for a list of every category."""

Bodies = Sequence[Tokens]


@dataclass(frozen=True, slots=True)
class Said:
    """P(unsafe), NaN where the answer cannot be read, and the categories listed."""

    probability: float
    codes: tuple[int, ...]

    @property
    def unsafe(self) -> bool:
        """Whether it counts as unsafe."""
        return self.probability >= THRESHOLD


def equality(subject: Subject, scaffold: Scaffold, batch: int) -> list[dict[str, Any]]:
    """Against `generate` alone: this engine alone and in batches, and `generate` in batches.

    The last says what the arithmetic itself is worth: the same code, only padded.
    """
    bodies = subject.prompts.bodies
    groups = [bodies[i : i + batch] for i in range(0, len(bodies), batch)]
    alone = [said for body in bodies for said in _generated(subject, scaffold, [body])]
    others = {
        "engine, alone": [said for body in bodies for said in _scored(subject, scaffold, [body])],
        f"engine, {batch} at once": [
            said for group in groups for said in _scored(subject, scaffold, group)
        ],
        f"generate, {batch} padded": [
            said for group in groups for said in _generated(subject, scaffold, group)
        ],
    }
    return [
        {
            "variant": name,
            "dtype": str(subject.model.dtype).removeprefix("torch."),
            "layers": subject.model.config.num_hidden_layers,
            "texts": len(alone),
            "unsafe": sum(each.unsafe for each in alone),
            **_compare(alone, judged),
        }
        for name, judged in others.items()
    ]


def _scored(subject: Subject, scaffold: Scaffold, bodies: Bodies) -> list[Said]:
    return [
        Said(scores.unsafe_probability, tuple(index for index, _ in scores.listed))
        if isinstance(scores, Scores)
        else Said(math.nan, ())
        for scores in subject.score(scaffold, bodies)
    ]


def _generated(subject: Subject, scaffold: Scaffold, bodies: Bodies) -> list[Said]:
    """A list is read off the text, as anybody would; a repeated category counts once."""
    output = subject.generate(
        scaffold, bodies, WHOLE_LIST_TOKENS, return_dict_in_generate=True, output_logits=True
    )
    written = output.sequences[:, -len(output.logits) :].tolist()
    words = subject.prompts.words
    unsafe, safe = (
        output.logits[0].float()[:, list(ids)].logsumexp(1).tolist()
        for ids in (words.unsafe, words.safe)
    )
    return [
        Said(1 / (1 + math.exp(safe_logit - unsafe_logit)), _codes(subject.prompts, tokens))
        for tokens, unsafe_logit, safe_logit in zip(written, unsafe, safe, strict=True)
    ]


def _codes(prompts: Prompts, tokens: Sequence[int]) -> tuple[int, ...]:
    numbers = [number for (number,) in prompts.grammar.numbers]
    return tuple(dict.fromkeys(numbers.index(token) for token in tokens if token in numbers))


def _compare(alone: Sequence[Said], judged: Sequence[Said]) -> dict[str, Any]:
    pairs = list(zip(alone, judged, strict=True))
    distances = [abs(one.probability - other.probability) for one, other in pairs]
    readable = [distance for distance in distances if not math.isnan(distance)]
    both = [(one, other) for one, other in pairs if one.unsafe and other.unsafe]
    return {
        "unreadable": len(pairs) - len(readable),
        "max |dP|": max(readable, default=None),
        "mean |dP|": mean(readable) if readable else None,
        "verdicts off": sum(one.unsafe != other.unsafe for one, other in pairs),
        "first off": sum(one.codes[:1] != other.codes[:1] for one, other in both),
        "lists off": sum(one.codes != other.codes for one, other in both),
    }
