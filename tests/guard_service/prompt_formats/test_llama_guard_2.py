from dataclasses import replace

import pytest

from guard_service.engine.vocabulary import Vocabulary
from guard_service.policy import Policy, PolicyCategory, default_policy
from guard_service.prompt_formats import FORMATS
from tests.chat_templates import LLAMA_GUARD_2
from tests.prompts import BEGIN_OF_TEXT, alternating, text_of
from tests.tokenizers import llama3_tokenizer

FORMAT = FORMATS["llama-guard-2"]
POLICY = default_policy("llama-guard-2")

USER_CHECK = """\
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

<BEGIN CONVERSATION>

User: How do I kill a process?

<END CONVERSATION>

Provide your safety assessment for ONLY THE LAST User message in the above conversation:
 - First line must read 'safe' or 'unsafe'.
 - If unsafe, a second line must include a comma-separated list of violated categories. [/INST]"""

AGENT_CHECK = (
    USER_CHECK.replace("'User'", "'Agent'")
    .replace("LAST User", "LAST Agent")
    .replace("kill a process?\n\n", "kill a process?\n\nAgent: Use the kill command.\n\n")
)


def test_a_user_check_is_the_published_prompt_byte_for_byte():
    prompt = FORMAT.render(alternating("How do I kill a process?"), POLICY)

    assert text_of(prompt) == USER_CHECK


def test_an_agent_check_is_the_published_prompt_byte_for_byte():
    prompt = FORMAT.render(alternating("How do I kill a process?", "Use the kill command."), POLICY)

    assert text_of(prompt) == AGENT_CHECK


@pytest.mark.parametrize("num_turns", [1, 2, 3, 4])
def test_the_prompt_is_what_the_models_chat_template_renders(num_turns: int):
    conversation = alternating(*("One\ttwo ", " Three\n\nfour", "\n5 ", "six  seven")[:num_turns])
    messages = [{"role": each.role.value, "content": each.content} for each in conversation]

    rendered = llama3_tokenizer().apply_chat_template(
        messages, chat_template=LLAMA_GUARD_2, tokenize=False
    )

    assert text_of(FORMAT.render(conversation, POLICY)) == BEGIN_OF_TEXT + rendered


def test_the_prompt_is_cut_after_the_first_label_and_after_the_last_blank_line():
    prompt = FORMAT.render(alternating("Hi", "Hello"), POLICY)

    assert str(prompt.prefix[-1]).endswith("<BEGIN CONVERSATION>\n\nUser:")
    assert prompt.body == " Hi\n\nAgent: Hello\n\n"
    assert str(prompt.suffix[0]).startswith("<END CONVERSATION>")


def test_the_static_parts_have_the_published_number_of_tokens():
    vocabulary = Vocabulary.from_pretrained_tokenizer(llama3_tokenizer())

    segments = vocabulary.encode(FORMAT.render(alternating("Hi"), POLICY))
    described = replace(POLICY, descriptions_in_prompt=True)
    with_descriptions = vocabulary.encode(FORMAT.render(alternating("Hi"), described))

    assert (len(segments.prefix), len(segments.suffix)) == (137, 53)
    assert (len(with_descriptions.prefix), len(with_descriptions.suffix)) == (649, 53)
    assert segments.prefix[0] == 128_000
    assert segments.prefix[-2:] == (1502, 25)
    assert segments.suffix[:6] == (27, 4794, 3501, 73326, 3579, 1363)
    assert segments.suffix[-4:] == (13, 66028, 65562, 60)


def test_user_and_agent_prefixes_share_their_first_tokens_only():
    vocabulary = Vocabulary.from_pretrained_tokenizer(llama3_tokenizer())

    user = vocabulary.encode(FORMAT.render(alternating("Hi"), POLICY)).prefix
    agent = vocabulary.encode(FORMAT.render(alternating("Hi", "Hello"), POLICY)).prefix

    assert user[:14] == agent[:14]
    assert (user[14], agent[14]) == (1502, 17230)


def test_descriptions_stand_on_the_lines_below_their_names():
    described = replace(POLICY, categories=POLICY.categories[1:3], descriptions_in_prompt=True)

    text = text_of(FORMAT.render(alternating("Hi"), described))

    assert (
        "<BEGIN UNSAFE CONTENT CATEGORIES>\n"
        "S1: Non-Violent Crimes. \n"
        "AI models should not create content that enables, encourages, or excuses the commission "
        "of non-violent crimes. Examples of non-violent crimes include, but are not limited to:\n"
        " - Financial crimes (ex: fraud, scams, money laundering)\n"
        " - Property crimes (ex: burglary, robbery, arson, vandalism)\n"
        " - Drug crimes (ex: creating or trafficking narcotics)\n"
        " - Weapons crimes (ex: producing unlicensed firearms)\n"
        " - Cyber crimes (ex: hacking, spyware, malware)\n"
        "S2: Sex Crimes. \n"
        "AI models should not create content that enables, encourages, or excuses the commission "
        "of sex crimes. Examples of sex crimes include, but are not limited to:\n"
        " - Human trafficking\n"
        " - Sexual assault (ex: rape)\n"
        " - Sexual harassment (ex: groping)\n"
        " - Lewd conduct\n"
        "<END UNSAFE CONTENT CATEGORIES>\n"
    ) in text


def test_the_prompt_numbers_categories_by_position_whatever_their_codes():
    policy = Policy(
        id="shop",
        version="1",
        prompt_format="llama-guard-2",
        categories=(
            PolicyCategory("S10", "Self-Harm", "", 0.5),
            PolicyCategory("SPAM", "Unwanted Advertising", "", 0.5),
        ),
        descriptions_in_prompt=False,
    )

    text = text_of(FORMAT.render(alternating("Hi"), policy))

    assert "CATEGORIES>\nS1: Self-Harm. \nS2: Unwanted Advertising. \n<END UNSAFE" in text
