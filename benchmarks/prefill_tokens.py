"""How many tokens a guard reads for one streamed answer, against sending it the text every time.

Counted, not timed, and without a model: the real pipeline plays labelled answers, each cut to the
wanted number of tokens, at default checkpoints to a guard that always gives the same P(unsafe).
What is read at each check follows from the tokens alone: those after the longest start that was
read before, the suffix, and the words of the answer that are scored in the same pass. Each answer
is played as the first of its chat, and after two others, whose turns are read once or every time.
The embedded engine must count the same on one answer.
"""

import gzip
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Annotated, Any

import typer
from transformers import AutoTokenizer

from benchmarks.guard_models import EMBEDDED_FORMAT, FORMAT, embedded_engine, embedded_folder
from benchmarks.report import Output, Quick, show, write
from benchmarks.workload import DESCRIBED, NAMES, Request
from chat_gateway.chat import ChatMessage, ChatRequest, Judged, TextDelta
from chat_gateway.observer import NullObserver
from chat_gateway.pipeline import ChatPipeline
from chat_gateway.policy import GatewayPolicy
from guard_service.engine.answer import answer_grammar
from guard_service.engine.transformers_engine import TransformersEngine
from guard_service.engine.vocabulary import Vocabulary
from guard_service.moderation import Conversation, Message, Role
from guard_service.policy import Policy
from guard_service.prompt_formats import PromptFormat
from tests.chat_gateway.fakes import FakeGuard, ScriptedGenerator, Stall, answer
from tests.chat_gateway.virtual_time import run_virtually
from tests.tokenizers import llama3_tokenizer

HOUR = 3600.0
SCORES = {"below 0.05: checks far apart": 0.01, "0.05 to 0.2": 0.1, "above 0.2: close": 0.3}


@dataclass(frozen=True, slots=True)
class Read:
    """What one streamed answer cost, in tokens."""

    num_checks: int
    num_new: int
    num_resent: int


def conversations(
    path: Path, vocabulary: Vocabulary, count: int, length: int
) -> list[Conversation]:
    """The first answers of at least this many tokens, cut to as many, with their questions."""
    found: list[Conversation] = []
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            if row["role"] != "agent" or len(found) >= count:
                continue
            *history, last = (Message(Role(m["role"]), m["content"]) for m in row["messages"])
            ends = vocabulary.token_ends(last.content)
            if len(ends) >= length:
                found.append((*history, Message(last.role, last.content[: ends[length - 1]])))
    if len(found) < count:
        raise typer.BadParameter(f"{path} has {len(found)} answers of {length} tokens")
    return found


def after_others(told: Sequence[Conversation]) -> list[Conversation]:
    """Each conversation as the third of a chat, after two others of the same length."""
    return [(*told[i - 2], *told[i - 1], *each) for i, each in enumerate(told)]


async def check_positions(
    conversation: Conversation, vocabulary: Vocabulary, probability: float, tokens_per_second: float
) -> list[int]:
    """How many characters each check of the real pipeline covers, token after token."""
    *history, last = conversation
    ends = vocabulary.token_ends(last.content)
    pieces = [last.content[a:b] for a, b in zip([0, *ends], ends, strict=False)]
    pause = Stall(1 / tokens_per_second)
    script = [step for piece in pieces for step in (pause, TextDelta(0, piece))]
    generator = ScriptedGenerator([*script, *answer("")])
    pipeline = ChatPipeline(FakeGuard(judge=lambda _: probability), generator, NullObserver())
    request = ChatRequest(tuple(ChatMessage(m.role, m.content) for m in history), "scripted")
    told = pipeline.chat(request, GatewayPolicy(), request_id="", deadline=time.monotonic() + HOUR)
    return [
        event.num_characters
        async for event in told
        if isinstance(event, Judged) and event.choice is not None
    ]


def num_answer_tokens(vocabulary: Vocabulary, policy: Policy) -> int:
    """Words of the answer that are scored in the same pass as the prompt."""
    grammar = answer_grammar(
        vocabulary.encode_text,
        code_letter=FORMAT.code_letter,
        num_categories=len(policy.categories),
        terminators=(),
        spaced=False,
    )
    return len(grammar.opening) + len(grammar.trunk)


def read(
    conversation: Conversation,
    positions: Sequence[int],
    vocabulary: Vocabulary,
    prompt_format: PromptFormat,
    policy: Policy,
) -> Read:
    """Tokens of all checks: new ones with sessions, and all of them without."""
    *history, last = conversation
    num_new = num_resent = 0
    known: tuple[int, ...] = ()
    for position in positions:
        grown = (*history, Message(last.role, last.content[:position]))
        segments = vocabulary.encode(prompt_format.render(grown, policy))
        asked = len(segments.suffix) + num_answer_tokens(vocabulary, policy)
        num_new += len(segments.body) - num_common(known, segments.body) + asked
        num_resent += len(segments.prefix) + len(segments.body) + len(segments.suffix)
        known = segments.body
    return Read(len(positions), num_new, num_resent)


def engine_new_tokens(
    engine: TransformersEngine, conversation: Conversation, positions: Sequence[int]
) -> int:
    """The same count by the engine itself, with a session of its own."""
    *history, last = conversation
    session = engine.open_session()
    num_new = 0
    for position in positions:
        grown = (*history, Message(last.role, last.content[:position]))
        judgement = Request(grown, NAMES).judgement(engine)
        [scores] = engine.score([replace(judgement, session=session)])
        if isinstance(scores, Exception):
            raise scores
        segments = judgement.segments
        whole = len(segments.prefix) + len(segments.body) + len(segments.suffix)
        num_new += whole - scores.num_cached_tokens
    session.close()
    return num_new


def confirm(vocabulary: Vocabulary, conversation: Conversation, tokens_per_second: float) -> None:
    """Compare one count with the engine's.

    Raises:
        RuntimeError: they differ.
    """
    engine = embedded_engine()
    engine.prepare(len(NAMES.categories))
    positions = run_virtually(check_positions(conversation, vocabulary, 0.01, tokens_per_second))
    engine_new_tokens(engine, conversation, positions[:1])  # the prefix is read once only
    counted = read(conversation, positions, vocabulary, EMBEDDED_FORMAT, NAMES)
    by_engine = engine_new_tokens(engine, conversation, positions)
    by_engine += counted.num_checks * num_answer_tokens(vocabulary, NAMES)
    if by_engine != counted.num_new:
        raise RuntimeError(f"the engine reads {by_engine} new tokens, {counted.num_new} counted")


def num_common(left: Iterable[int], right: Iterable[int]) -> int:
    """Length of the common start."""
    return next(
        (i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b),
        min(len(tuple(left)), len(tuple(right))),
    )


def rows_of(
    name: str,
    vocabulary: Vocabulary,
    prompt_format: PromptFormat,
    told: Sequence[Conversation],
    tokens_per_second: float,
) -> list[dict[str, Any]]:
    """One line for each kind of scores and each policy, on one vocabulary."""
    rows = []
    history = mean(
        sum(len(vocabulary.encode_text(message.content)) for message in each[:-2]) for each in told
    )
    for scores, probability in SCORES.items():
        positions = [
            run_virtually(check_positions(each, vocabulary, probability, tokens_per_second))
            for each in told
        ]
        for policy in (NAMES, DESCRIBED):
            segments = vocabulary.encode(prompt_format.render(told[0], policy))
            reads = [
                read(each, at, vocabulary, prompt_format, policy)
                for each, at in zip(told, positions, strict=True)
            ]
            rows.append(
                {
                    "vocabulary": name,
                    "format": prompt_format.name,
                    "P(unsafe)": scores,
                    "policy": "described" if policy.descriptions_in_prompt else "names",
                    "history": history,
                    "prefix": len(segments.prefix),
                    "suffix + answer": len(segments.suffix) + num_answer_tokens(vocabulary, policy),
                    "checks": mean(each.num_checks for each in reads),
                    "re-sent": mean(each.num_resent for each in reads),
                    "new": mean(each.num_new for each in reads),
                    "x fewer": sum(e.num_resent for e in reads) / sum(e.num_new for e in reads),
                }
            )
    return rows


def main(
    data: Annotated[Path, typer.Argument(help="Gzipped JSON lines of labelled answers.")],
    *,
    answers: int = 20,
    length: int = 500,
    tokens_per_second: float = 50.0,
    quick: Quick = False,
    output: Output = None,
) -> None:
    """Count for the embedded model's vocabulary and for Llama 3's."""
    embedded = AutoTokenizer.from_pretrained(embedded_folder())
    rows = []
    for name, tokenizer, prompt_format in (
        ("embedded", embedded, EMBEDDED_FORMAT),
        ("Llama 3", llama3_tokenizer(), FORMAT),
    ):
        vocabulary = Vocabulary.from_pretrained_tokenizer(tokenizer)
        told = conversations(data, vocabulary, 2 if quick else answers, length)
        for chats in (told, after_others(told)):
            rows += rows_of(name, vocabulary, prompt_format, chats, tokens_per_second)
        if name == "embedded":
            confirm(vocabulary, told[0], tokens_per_second)
    show(f"Mean of {len(told)} answers of {length} tokens", rows)
    results = {"answers": len(told), "tokens": length, "rows": rows}
    write("prefill_tokens", results, quick=quick, output=output)


if __name__ == "__main__":
    typer.run(main)
