"""Mix the training rows of the embedded guard: public labelled data, and texts of our own.

    python -m benchmarks.guard_mini.mixture --data FOLDER --output FOLDER

`--data` holds `train/`, `dev/` and `eval/` with `*.jsonl.gz` rows. Written are `train.jsonl.gz` and
`dev.jsonl.gz`; `guard-service tune` takes them. No text that equals or nearly equals one of `eval/`
is written. Same data and seed, same files.
"""

import argparse
import gzip
import json
import math
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.guard_mini.leakage import Fingerprints
from benchmarks.guard_mini.texts import Kind, Texts, read_texts, split_kinds
from guard_service.evaluation.rows import Row, read_rows
from guard_service.moderation import Message, Role

SEED = 11
DEV_KINDS = 0.08
SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "You are a helpful, respectful and honest assistant.",
    "You are a customer support agent of an online shop. Answer briefly.",
    "You are a coding assistant. Answer with code where it helps.",
    "You are a tutor for school children. Explain things simply.",
    "Answer in the language of the user.",
    "You help a security team explain malware and phishing to colleagues.",
    "You are a storyteller.",
    "You are a medical information assistant. You give general information, no diagnosis.",
    "Reply in at most two sentences.",
)


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many rows each part gives, before what leaks is dropped."""

    public_user: int = 70_000
    public_agent: int = 50_000
    look_alikes: int = 70_000
    refusals: int = 16_000
    after_refusal: int = 8_000
    exchanges: int = 6_000
    buried: int = 9_000
    beginnings: int = 8_000


class Mixer:
    """Draws rows from public data and texts of our own, by one stream of random numbers."""

    def __init__(self, rows: Sequence[Row], texts: Texts, kinds: Sequence[Kind], seed: int) -> None:
        self._random = random.Random(seed)
        self._texts = texts
        self._tempting = [kind for kind in kinds if kind.safe]
        self._pools: dict[tuple[str, str], dict[str, list[Row]]] = {}
        for row in rows:
            sources = self._pools.setdefault((row.role, row.label), {})
            sources.setdefault(row.source.split("/")[0], []).append(row)
        self._harmless = [*texts.exchanges, *_short_exchanges(rows)]
        self._by_category = _by_category(kinds)
        self._unread: dict[tuple[str, str, str], list[Row]] = {}

    def mix(self, sizes: Sizes) -> Iterator[Row]:
        """All parts, one after another."""
        parts: tuple[tuple[int, Callable[[], Row]], ...] = (
            (sizes.public_user, lambda: self._in_context(self._public("user"))),
            (sizes.public_agent, lambda: self._in_context(self._public("agent"))),
            (sizes.look_alikes, lambda: self._in_context(self._look_alike())),
            (sizes.refusals, self._refusal),
            (sizes.after_refusal, self._after_refusal),
            (sizes.exchanges, lambda: self._in_context(self._exchange())),
            (sizes.buried, self._buried),
            (sizes.beginnings, self._beginning),
        )
        for size, draw in parts:
            for _ in range(size):
                yield draw()

    def _public(self, role: str, label: str | None = None) -> Row:
        """A row of public data: labels half and half, sources by the root of their size."""
        label = label or self._random.choice(["safe", "unsafe"])
        sources = self._pools[role, label]
        weights = [math.sqrt(len(rows)) for rows in sources.values()]
        [source] = self._random.choices(list(sources), weights)
        unread = self._unread.setdefault((role, label, source), [])
        if not unread:
            unread.extend(self._random.sample(sources[source], len(sources[source])))
        return unread.pop()

    def _look_alike(self) -> Row:
        """A harmless text that looks harmful, or its unsafe mirror; categories in turn."""
        if self._random.random() < 0.55:
            [kind] = self._random.choices(self._tempting, [each.weight for each in self._tempting])
            return self._own(kind, self._random.choice(kind.safe), "safe", None)
        kind, template, code = self._unsafe_template()
        return self._own(kind, template, "unsafe", (code,))

    def _unsafe_template(self) -> tuple[Kind, str, str]:
        weights = [math.sqrt(len(templates)) for templates in self._by_category.values()]
        [code] = self._random.choices(list(self._by_category), weights)
        templates = self._by_category[code]
        [(kind, template)] = self._random.choices(templates, [kind.weight for kind, _ in templates])
        return kind, template, code

    def _own(self, kind: Kind, template: str, label: str, codes: tuple[str, ...] | None) -> Row:
        text = self._typed(kind.say(template, self._random))
        return _row(f"own-{kind.name}", label, codes, ((Role.USER, text),))

    def _typed(self, text: str) -> str:
        """The text as people type: sometimes in lower case, without its end, or in capitals."""
        chance = self._random.random()
        if chance < 0.12:
            return text.lower()
        if chance < 0.2:
            return text.rstrip(".?!")
        return text.upper() if chance < 0.22 else text

    def _unsafe_request(self) -> str:
        if self._random.random() < 0.5:
            kind, template, _ = self._unsafe_template()
            return kind.say(template, self._random)
        return self._public("user", "unsafe").messages[-1].content

    def _refusal(self) -> Row:
        """An unsafe request that is refused: the answer is safe."""
        refusal = self._random.choice(self._texts.refusals)
        turns = ((Role.USER, self._unsafe_request()), (Role.ASSISTANT, refusal))
        return self._in_context(_row("own-refusal", "safe", None, turns))

    def _after_refusal(self) -> Row:
        """Unsafe turns before a harmless last one, or before a last one as unsafe as they are."""
        earlier = (
            (Role.USER, self._unsafe_request()),
            (Role.ASSISTANT, self._random.choice(self._texts.refusals)),
        )
        unsafe = self._random.random() < 0.3
        draw = self._look_alike if self._random.random() < 0.5 else lambda: self._public("user")
        last = draw()
        while last.unsafe is not unsafe or len(last.messages) > 1:
            last = draw()
        return _behind(earlier, last)

    def _exchange(self) -> Row:
        turns = _said(self._random.choice(self._texts.exchanges))
        if self._random.random() < 0.4:
            return _row("own-exchange", "safe", None, turns[:1])
        return _row("own-exchange", "safe", None, turns)

    def _buried(self) -> Row:
        """A short text before or after a long harmless one, in one message."""
        own = self._look_alike()
        harmless = self._public("user", "safe").messages[-1].content[:1500]
        parts = [harmless, own.messages[-1].content]
        self._random.shuffle(parts)
        text = self._random.choice(["\n\n", "\n", " "]).join(parts)
        return replace(own, messages=(Message(Role.USER, text),))

    def _beginning(self) -> Row:
        """A harmless answer as a stream has it half way."""
        whole = self._public("agent", "safe")
        *earlier, last = whole.messages
        cut = self._random.randint(1, max(1, len(last.content)))
        begun = Message(Role.ASSISTANT, last.content[:cut].strip() or last.content)
        return replace(whole, messages=(*earlier, begun))

    def _in_context(self, row: Row) -> Row:
        """The row behind 1-4 harmless turns, or behind a system prompt, or as it is."""
        chance = self._random.random()
        behind = 0.35 if row.role == "user" else 0.2
        if chance < behind and sum(len(each.content) for each in row.messages) < 2000:
            num_turns = self._random.choice([1, 1, 2, 2, 3, 4])
            turns = [self._random.choice(self._harmless) for _ in range(num_turns)]
            return _behind([each for turn in turns for each in _said(turn)], row)
        if chance < behind + 0.08 and row.messages[0].role is Role.USER:
            return _behind(((Role.SYSTEM, self._random.choice(SYSTEM_PROMPTS)),), row)
        return row


def _said(exchange: tuple[str, str]) -> tuple[tuple[Role, str], ...]:
    return ((Role.USER, exchange[0]), (Role.ASSISTANT, exchange[1]))


def _without_end_tokens(row: Row) -> Row:
    """Some public answers end in the name of another model's end token."""
    messages = (
        Message(each.role, each.content.replace("<|endoftext|>", "").strip() or each.content)
        for each in row.messages
    )
    return replace(row, messages=tuple(messages))


def _row(
    source: str, label: str, codes: tuple[str, ...] | None, turns: Iterable[tuple[Role, str]]
) -> Row:
    messages = tuple(Message(role, text) for role, text in turns)
    role = "agent" if messages[-1].role is Role.ASSISTANT else "user"
    return Row("", source, role, messages, label, codes)  # type: ignore[arg-type]


def _behind(turns: Iterable[tuple[Role, str]], row: Row) -> Row:
    earlier = tuple(Message(role, text) for role, text in turns)
    return replace(row, messages=(*earlier, *row.messages))


def _short_exchanges(rows: Iterable[Row]) -> Iterator[tuple[str, str]]:
    """Harmless question and answer pairs of public data, short enough to stand before a row."""
    for row in rows:
        if row.role == "agent" and not row.unsafe and len(row.messages) == 2:
            asked, answered = (message.content for message in row.messages)
            source = row.source.split("/")[0]
            if len(asked) + len(answered) < 260 and source in _HARMLESS_SOURCES:
                yield asked, answered


_HARMLESS_SOURCES = {
    "codealpaca", "gsm8k", "medquad", "t0_tasks", "dolly_sample", "self_instruct_seed",
    "self_instruct_user", "gpteacher_roleplay", "sgd_dialogues", "taskmaster4",
}  # fmt: skip


def _by_category(kinds: Iterable[Kind]) -> dict[str, list[tuple[Kind, str]]]:
    found: dict[str, list[tuple[Kind, str]]] = {}
    for kind in kinds:
        for code, templates in kind.unsafe.items():
            found.setdefault(code, []).extend((kind, each) for each in templates)
    return dict(sorted(found.items()))


def write(rows: Iterable[Row], held_out: Fingerprints, file: Path) -> None:
    """Write the rows that are not, and do not nearly equal, one that is held out."""
    written = dropped = 0
    with gzip.GzipFile(file, "wb", mtime=0) as binary:
        for row in rows:
            if held_out.covers(row.messages[-1].content):
                dropped += 1
                continue
            written += 1
            entry = {
                "id": str(written),
                "source": row.source,
                "role": row.role,
                "messages": [{"role": m.role.value, "content": m.content} for m in row.messages],
                "label": row.label,
                "categories": row.categories,
            }
            binary.write(json.dumps(entry, ensure_ascii=False).encode() + b"\n")
    print(f"{file}: {written} rows; {dropped} dropped that stand in a held-out file")


def main() -> None:
    """Read, mix, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of train, dev and eval")
    parser.add_argument("--output", type=Path, required=True, help="folder for the two files")
    parser.add_argument("--seed", type=int, default=SEED)
    given = parser.parse_args()
    texts = read_texts()
    train_kinds, dev_kinds = split_kinds(texts.kinds, DEV_KINDS, given.seed)
    folds = {
        name: [_without_end_tokens(row) for row in read_rows(sorted((given.data / name).glob("*")))]
        for name in ("train", "dev", "eval")
    }
    held_out = Fingerprints(row.messages[-1].content for row in folds["eval"])
    given.output.mkdir(parents=True, exist_ok=True)
    train = Mixer(folds["train"], texts, train_kinds, given.seed).mix(Sizes())
    write(train, held_out, given.output / "train.jsonl.gz")
    dev = Mixer(folds["dev"], texts, dev_kinds, given.seed).mix(DEV_SIZES)
    write(dev, held_out, given.output / "dev.jsonl.gz")


DEV_SIZES = Sizes(
    public_user=1000, public_agent=800, look_alikes=1500, refusals=200,
    after_refusal=200, exchanges=0, buried=200, beginnings=100,
)  # fmt: skip

if __name__ == "__main__":
    main()
