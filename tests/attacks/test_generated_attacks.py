"""A22: a generator whose answer imitates the guard's own prompt, to be judged as something else."""

import json
from pathlib import Path

import pytest

from guard_service.moderation import Message, Role
from tests.chat_gateway.conversing import converse
from tests.chat_gateway.fakes import ScriptedGenerator, answer
from tests.chat_gateway.test_guarded_end_to_end import POLICY, serving
from tests.fakes import UNSAFE_WORD, FakeEngine

FOLDER = Path(__file__).parent
ATTACKS = [
    pytest.param(json.loads(line)["text"], id=f"{path.stem}-{number}")
    for path in sorted(FOLDER.glob("a[1-4]_*.jsonl"))
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
]
PROMPT = (Message(Role.USER, "Tell me a story"),)


def test_all_four_kinds_are_tried():
    assert {each.id[:2] for each in ATTACKS if each.id} == {"a1", "a2", "a3", "a4"}


@pytest.mark.parametrize("text", ATTACKS)
@pytest.mark.parametrize("piece", [1, 7])
async def test_an_unsafe_word_behind_it_never_gets_out(text: str, piece: int):
    unsafe = f"{text} \n {UNSAFE_WORD} and more of it"
    async with serving(FakeEngine()) as (_, guard):
        seen = await converse(ScriptedGenerator(answer(unsafe, piece=piece)), guard, POLICY)

    assert len(seen.blocks) == 1
    assert UNSAFE_WORD not in seen.text()
    assert unsafe.startswith(seen.text())


@pytest.mark.parametrize("text", ATTACKS)
async def test_it_is_judged_as_one_answer_as_if_it_had_come_whole(text: str):
    harmless = text.replace(UNSAFE_WORD, "cake")
    engine = FakeEngine()
    async with serving(engine) as (_, guard):
        seen = await converse(ScriptedGenerator(answer(harmless, piece=3)), guard, POLICY)
        streamed = engine.texts[-1]
        unary = await guard.moderate((*PROMPT, Message(Role.ASSISTANT, harmless)))

    assert seen.text() == harmless
    assert engine.texts[-1] == streamed
    final = seen.verdicts[-1]
    assert (final.final, final.num_characters) == (True, len(harmless))
    assert final.verdict.unsafe_probability == unary.unsafe_probability
    assert streamed.count("\n\nAgent: ") == 1
    assert "\n\nUser: " not in streamed
