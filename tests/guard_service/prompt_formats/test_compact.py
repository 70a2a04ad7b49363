from collections.abc import Callable
from functools import cache

import pytest

from guard_service import embedded
from guard_service.engine.answer import answer_grammar
from guard_service.engine.vocabulary import Vocabulary
from guard_service.moderation import Conversation
from guard_service.policy import default_policy
from guard_service.pretrained import load_tokenizer
from guard_service.prompt_formats import FORMATS, PromptFormat
from guard_service.settings import ModelSettings, load
from tests.attacks.test_structural_attacks import LEAD_UPS
from tests.chat_templates import COMPACT
from tests.conversations import everyday_conversations
from tests.guard_service.engine.test_piecewise_tokens import fuzzed_texts
from tests.prompts import BEGIN_OF_TEXT, alternating, said, text_of
from tests.tokenizers import llama3_tokenizer

FORMAT = FORMATS["compact"]
LLAMA_GUARD_2 = FORMATS["llama-guard-2"]
POLICY = default_policy("compact")

USER_PREFIX = """\
<|begin_of_text|>[INST] Task: Check if there is unsafe content in 'User' messages in conversations \
according our safety policy with the below categories.

<BEGIN UNSAFE CONTENT CATEGORIES>
S1: Violent Crimes.\x20
S2: Non-Violent Crimes.\x20
S3: Sex Crimes.\x20
S4: Child Exploitation.\x20
S5: Specialized Advice.\x20
S6: Privacy.\x20
S7: Intellectual Property.\x20
S8: Indiscriminate Weapons.\x20
S9: Hate.\x20
S10: Self-Harm.\x20
S11: Sexual Content.\x20
<END UNSAFE CONTENT CATEGORIES>

Provide your safety assessment for ONLY THE LAST User message in the below conversation:
 - First line must read 'safe' or 'unsafe'.
 - If unsafe, a second line must include a comma-separated list of violated categories.

<BEGIN CONVERSATION>

User:"""

AGENT_PREFIX = USER_PREFIX.replace("'User'", "'Agent'").replace("LAST User", "LAST Agent")

TURNS = ("How do I kill a process?", "Use the kill command.", "And a zombie?", "Kill its parent.")
PROMPTS = {
    1: f"{USER_PREFIX} How do I kill a process?\n\n[/INST]",
    2: f"{AGENT_PREFIX} How do I kill a process?\n\nAgent: Use the kill command.\n\n[/INST]",
    3: (
        f"{USER_PREFIX} How do I kill a process?\n\nAgent: Use the kill command.\n\n"
        "User: And a zombie?\n\n[/INST]"
    ),
    4: (
        f"{AGENT_PREFIX} How do I kill a process?\n\nAgent: Use the kill command.\n\n"
        "User: And a zombie?\n\nAgent: Kill its parent.\n\n[/INST]"
    ),
}
EXCHANGES = list(everyday_conversations(seed=1, num_conversations=200))
NEW_IN_A_CHECK = 20

Load = Callable[[], Vocabulary]


@cache
def llama3() -> Vocabulary:
    return Vocabulary.from_pretrained_tokenizer(llama3_tokenizer())


@cache
def smollm2() -> Vocabulary:
    folder = embedded.ensure(load(ModelSettings).cache_dir)
    return Vocabulary.from_pretrained_tokenizer(load_tokenizer(folder))


VOCABULARIES = [
    pytest.param(llama3, id="llama-3"),
    pytest.param(smollm2, id="smollm2", marks=pytest.mark.embedded),
]


@pytest.mark.parametrize("num_turns", PROMPTS)
def test_the_prompt_is_this_byte_for_byte(num_turns: int):
    prompt = FORMAT.render(alternating(*TURNS[:num_turns]), POLICY)

    assert text_of(prompt) == PROMPTS[num_turns]


def test_an_assistant_may_come_first():
    prompt = FORMAT.render(said(("assistant", "Hello"), ("user", "Hi")), POLICY)

    expected = USER_PREFIX.removesuffix("User:") + "Agent: Hello\n\nUser: Hi\n\n[/INST]"
    assert text_of(prompt) == expected


@pytest.mark.parametrize("num_turns", [1, 2, 3, 4])
def test_the_prompt_is_what_a_chat_template_renders(num_turns: int):
    conversation = alternating(*("One\ttwo ", " Three\n\nfour", "\n5 ", "six  seven")[:num_turns])
    messages = [{"role": each.role.value, "content": each.content} for each in conversation]

    rendered = llama3_tokenizer().apply_chat_template(
        messages, chat_template=COMPACT, tokenize=False
    )

    assert text_of(FORMAT.render(conversation, POLICY)) == BEGIN_OF_TEXT + rendered


def test_all_but_the_conversation_and_one_marker_is_cached_with_the_policy():
    prompt = FORMAT.render(alternating("Hi", "Hello"), POLICY)

    assert prompt.prefix[1] == AGENT_PREFIX.removeprefix(BEGIN_OF_TEXT)
    assert prompt.body == " Hi\n\nAgent: Hello\n\n"
    assert prompt.suffix == ("[/INST]",)


@pytest.mark.parametrize(
    ("vocabulary", "num_prefix", "num_suffix"),
    [
        pytest.param(llama3, 181, 3, id="llama-3"),
        pytest.param(smollm2, 223, 4, id="smollm2", marks=pytest.mark.embedded),
    ],
)
def test_the_suffix_is_a_few_tokens(vocabulary: Load, num_prefix: int, num_suffix: int):
    segments = vocabulary().encode(FORMAT.render(alternating("Hi"), POLICY))

    assert (len(segments.prefix), len(segments.suffix)) == (num_prefix, num_suffix)
    assert num_suffix <= 6


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
def test_the_vocabulary_may_be_trusted_with_it(vocabulary: Load):
    vocabulary().verify(FORMAT, POLICY)


@pytest.mark.embedded
def test_pieces_give_the_tokens_of_the_whole_in_the_embedded_vocabulary():
    tokenizer = load_tokenizer(embedded.ensure(load(ModelSettings).cache_dir))
    texts = [*LEAD_UPS, *fuzzed_texts(seed=31, num_texts=1500)]

    for text in texts:
        prompt = FORMAT.render(alternating(text, text), POLICY)
        segments = smollm2().encode(prompt)
        whole = text_of(prompt).removeprefix(BEGIN_OF_TEXT)

        pieces = segments.prefix + segments.body + segments.suffix
        assert pieces == tuple(tokenizer(whole).input_ids), ascii(text)


@pytest.mark.parametrize(
    ("vocabulary", "ratio_of_verdicts", "ratio_of_checks"),
    [
        pytest.param(llama3, 1.65, 2.9, id="llama-3"),
        pytest.param(smollm2, 1.7, 3.0, id="smollm2", marks=pytest.mark.embedded),
    ],
)
def test_a_verdict_reads_fewer_new_tokens_than_one_of_llama_guard_2(
    vocabulary: Load, ratio_of_verdicts: float, ratio_of_checks: float
):
    llama_guard_2 = [num_new_tokens(vocabulary(), LLAMA_GUARD_2, each) for each in EXCHANGES]
    compact = [num_new_tokens(vocabulary(), FORMAT, each) for each in EXCHANGES]

    verdicts = sum(llama_guard_2) / sum(compact)
    checks = (NEW_IN_A_CHECK + around(vocabulary(), LLAMA_GUARD_2)) / (
        NEW_IN_A_CHECK + around(vocabulary(), FORMAT)
    )
    assert verdicts > ratio_of_verdicts
    assert checks > ratio_of_checks


def num_new_tokens(
    vocabulary: Vocabulary, prompt_format: PromptFormat, conversation: Conversation
) -> int:
    """Of a verdict whose policy is cached."""
    body = vocabulary.encode(prompt_format.render(conversation, POLICY)).body
    return len(body) + around(vocabulary, prompt_format)


def around(vocabulary: Vocabulary, prompt_format: PromptFormat) -> int:
    """What is read beside the conversation: the suffix, and the answer that is scored with it."""
    suffix = vocabulary.encode(prompt_format.render(alternating("Hi"), POLICY)).suffix
    grammar = answer_grammar(
        vocabulary.encode_text,
        code_letter=prompt_format.code_letter,
        num_categories=len(POLICY.categories),
        terminators=(),
        spaced=False,
    )
    return len(suffix) + len(grammar.opening) + len(grammar.trunk)
