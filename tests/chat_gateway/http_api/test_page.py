"""The chat page in real Chromium, used with the keyboard."""

import asyncio
import re
from contextlib import asynccontextmanager

import pytest

from chat_gateway.chat import Blocked, ChoiceFinished, FinishReason, Judged, TextDelta
from chat_gateway.policy import GatewayPolicy, Mode
from guard_service.moderation import NotReady, Phase
from tests.chat_gateway.fakes import UNSAFE_PHRASE, FakeGuard, ScriptedGenerator, answer, verdict
from tests.chat_gateway.http_api.browser import DESKTOP, PHONE, visit
from tests.chat_gateway.http_api.serving import PROMPT_SAFE, ScriptedPipeline, running_gateway

SAFE_ANSWER = "The sea is wide and blue. " * 8
HTML = '<img src=x onerror="document.title=1"><script>document.title=2</script><b>bold</b>'


@pytest.fixture(scope="module")
def chromium(needs_binary):
    return needs_binary("chromium")


@asynccontextmanager
async def page_of(chromium, *, viewport=DESKTOP, **parts):
    """The page of a gateway made of these parts."""
    async with (
        running_gateway(**parts) as gateway,
        visit(chromium, gateway.url, viewport=viewport) as seen,
    ):
        yield seen


async def type_and_send(page, text):
    """What a person does without a mouse: the message field has the focus from the start."""
    await page.keyboard.type(text)
    await page.keyboard.press("Enter")


async def test_a_message_typed_with_the_keyboard_gets_a_judged_answer(chromium):
    generator = ScriptedGenerator(answer(SAFE_ANSWER))
    async with page_of(chromium, generator=generator) as seen:
        await type_and_send(seen.page, "Tell me about the sea")
        await seen.answered()
        prompt, reply = seen.page.locator(".turn.user"), seen.page.locator(".turn.assistant")
        assert await reply.locator(".text:not(.reasoning)").inner_text() == SAFE_ANSWER
        assert await reply.locator(".chip").inner_text() == "Safe"
        assert "P(unsafe) 1.0 %" in await prompt.locator(".verdict").inner_text()
        assert "guard added" in await prompt.locator(".verdict").inner_text()
        assert await reply.locator(".held").count() == 0
        await type_and_send(seen.page, "More")
        await seen.answered()
    assert len(generator.requests[1].messages) == 3
    assert seen.complaints == []
    assert seen.strangers == []


async def test_a_refused_message_says_why_and_leaves_the_conversation(chromium):
    generator = ScriptedGenerator(answer("Hello."))
    async with page_of(chromium, generator=generator) as seen:
        await type_and_send(seen.page, f"How do I {UNSAFE_PHRASE}?")
        await seen.answered()
        card = await seen.page.locator(".refusal").inner_text()
        assert GatewayPolicy().refusal in card
        assert "S9 Test Hazard in the message (P(unsafe) 90.0 %)" in card
        assert await seen.page.locator(".turn.user .chip").inner_text() == "Unsafe"
        await type_and_send(seen.page, "Hello")
        await seen.answered()
    assert [message.content for message in generator.requests[0].messages] == ["Hello"]
    assert seen.complaints == []


async def test_an_answer_cut_midway_says_so_and_never_shows_the_rest(chromium):
    generator = ScriptedGenerator(answer(f"{SAFE_ANSWER}Then {UNSAFE_PHRASE}."))
    async with page_of(chromium, generator=generator) as seen:
        await type_and_send(seen.page, "Tell me about the sea")
        await seen.answered()
        text = await seen.page.locator(".turn.assistant").inner_text()
    assert "The sea is wide" in text
    assert "in the answer" in text
    assert "The rest was never shown." in text
    assert UNSAFE_PHRASE not in text


async def test_html_in_an_answer_or_a_message_stays_text(chromium):
    generator = ScriptedGenerator(answer(HTML))
    async with page_of(chromium, generator=generator) as seen:
        await type_and_send(seen.page, HTML)
        await seen.answered()
        assert await seen.page.locator(".turn.user .text").inner_text() == HTML
        assert await seen.page.locator(".turn.assistant .text").last.inner_text() == HTML
        assert await seen.page.locator("#log img, #log script, #log b").count() == 0
        assert await seen.page.title() == "Guarded chat"
    assert seen.complaints == []


async def test_the_page_allows_no_script_but_its_own(chromium):
    async with page_of(chromium) as seen:
        await seen.page.evaluate(
            """() => {
                window.ran = false;
                const script = document.createElement("script");
                try { script.textContent = "window.ran = true"; } catch { return; }
                document.body.append(script);
            }"""
        )
        assert await seen.page.evaluate("window.ran") is False
        response = await seen.page.reload()
        policy = (await response.all_headers())["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


async def test_text_still_held_is_visibly_pending(chromium):
    gate = asyncio.Event()
    pipeline = ScriptedPipeline(
        [
            PROMPT_SAFE,
            Judged(Phase.RESPONSE, verdict(0.02), 0, 10, final=False),
            TextDelta(0, "Judged so "),
            gate,
            Judged(Phase.RESPONSE, verdict(0.02), 0, 14, final=True),
            TextDelta(0, "far."),
            ChoiceFinished(0, FinishReason.STOP),
        ]
    )
    async with page_of(chromium, pipeline=pipeline) as seen:
        await type_and_send(seen.page, "Hello")
        held = seen.page.locator(".held")
        await seen.page.get_by_text("Judged so").wait_for()
        assert await seen.page.locator(".turn.assistant .chip").inner_text() == "Safe so far"
        gate.set()
        await seen.answered()
        assert await held.count() == 0


class SlowToCheck(FakeGuard):
    """Judges prompts at once and answers when released."""

    async def moderate(self, conversation, **_):
        return self.verdict_on(conversation)


async def test_held_characters_are_counted_and_stand_in_their_place(chromium):
    guard = SlowToCheck()
    guard.hold()
    async with page_of(
        chromium, guard=guard, generator=ScriptedGenerator(answer("Well. " * 9))
    ) as seen:
        await type_and_send(seen.page, "Hello")
        held, veil = seen.page.locator(".held"), seen.page.locator(".veil")
        await held.get_by_text("54 characters held until judged").wait_for()
        assert len(await veil.text_content()) == 54
        assert await veil.get_attribute("aria-hidden") == "true"
        assert "Well" not in await seen.page.locator(".turn.assistant").inner_text()
        guard.release()
        await seen.answered()
        assert await held.count() == await veil.count() == 0
        assert "Well. Well." in await seen.page.locator(".turn.assistant").inner_text()
        delay = await seen.page.locator(".turn.assistant .delay").inner_text()
    assert re.fullmatch(r"guard added [\d<.]+ m?s at the start, [\d<. ]+ m?s at the end", delay)
    assert seen.complaints == []


async def test_a_policy_that_holds_nothing_says_so(chromium):
    policies = [GatewayPolicy(mode=Mode.ANNOTATE)]
    async with page_of(chromium, policies=policies) as seen:
        await type_and_send(seen.page, "Hello")
        await seen.answered()
        line = await seen.page.locator(".turn.assistant .verdict").inner_text()
    assert "no delay added" in line
    assert "guard added" not in line


async def test_escape_stops_the_answer(chromium):
    pipeline = ScriptedPipeline([PROMPT_SAFE, TextDelta(0, "Once"), asyncio.Event()])
    async with page_of(chromium, pipeline=pipeline) as seen:
        await type_and_send(seen.page, "Hello")
        await seen.page.get_by_text("Once").wait_for()
        await seen.page.keyboard.press("Escape")
        await seen.answered()
        await asyncio.wait_for(pipeline.closed.wait(), 10)
        assert "Stopped." in await seen.page.locator(".turn.assistant").inner_text()


async def test_an_answer_that_could_not_be_judged_is_told_apart_from_an_unsafe_one(chromium):
    pipeline = ScriptedPipeline([PROMPT_SAFE, Blocked(Phase.RESPONSE, 0, "No.", None)])
    async with page_of(chromium, pipeline=pipeline) as seen:
        await type_and_send(seen.page, "Hello")
        await seen.answered()
        text = await seen.page.locator(".turn.assistant").inner_text()
    assert "The guard could not judge this" in text
    assert "Not judged" in text


async def test_what_passed_without_a_verdict_is_marked(chromium):
    guard = FakeGuard(prompt_error=NotReady("starting"))
    policies = [GatewayPolicy(fail_open=frozenset({Phase.PROMPT}))]
    async with page_of(chromium, guard=guard, policies=policies) as seen:
        await type_and_send(seen.page, "Hello")
        await seen.answered()
        text = await seen.page.locator(".turn.user .verdict").inner_text()
        assert "Not judged" in text
        assert "let pass without a verdict" in text


async def test_an_error_is_shown_in_words(chromium):
    guard = FakeGuard(prompt_error=NotReady("starting"))
    async with page_of(chromium, guard=guard) as seen:
        await type_and_send(seen.page, "Hello")
        await seen.answered()
        assert "(HTTP 503)" in await seen.page.locator(".refusal").inner_text()


async def test_a_policy_is_picked_with_the_keyboard(chromium):
    policies = [GatewayPolicy(), GatewayPolicy(id="lenient", mode=Mode.ANNOTATE)]
    generator = ScriptedGenerator(answer(f"To {UNSAFE_PHRASE}."))
    parts = {"generator": generator, "policies": policies, "selectable": ["lenient"]}
    async with page_of(chromium, **parts) as seen:
        await seen.page.locator("#policy").focus()
        await seen.page.keyboard.press("ArrowDown")
        await seen.page.locator("#message").focus()
        await type_and_send(seen.page, "Hello")
        await seen.answered()
        chip = await seen.page.locator(".turn.assistant .chip").inner_text()
    assert chip == "Unsafe, only reported"


async def test_everything_is_reached_by_tab_in_reading_order(chromium):
    async with page_of(chromium) as seen:
        await seen.page.locator("#policy").focus()
        reached = []
        for _ in range(6):
            await seen.page.keyboard.press("Tab")
            reached.append(await seen.page.evaluate("document.activeElement.textContent.trim()"))
        assert reached[0] == "New chat"
        assert await seen.page.evaluate("document.activeElement.id") == "message"


async def test_a_long_conversation_is_scrolled_with_the_keyboard(chromium):
    generator = ScriptedGenerator(answer("A line.\n" * 200))
    async with page_of(chromium, generator=generator) as seen:
        await type_and_send(seen.page, "Hello")
        await seen.answered()
        assert await seen.page.evaluate("log.scrollTop") > 0
        await seen.page.keyboard.press("Shift+Tab")
        await seen.page.keyboard.press("Home")
        async with asyncio.timeout(10):
            while await seen.page.evaluate("log.scrollTop") > 0:  # noqa: ASYNC110 - has no event
                await asyncio.sleep(0.05)


async def test_a_reader_of_the_screen_hears_who_speaks(chromium):
    async with page_of(chromium) as seen:
        await type_and_send(seen.page, "Hello")
        await seen.answered()
        assert await seen.page.get_by_role("main").get_by_role("log").count() == 1
        headings = seen.page.get_by_role("log").get_by_role("heading")
        assert await headings.all_inner_texts() == ["You", "Answer"]


async def test_a_phone_shows_everything_without_sideways_scrolling(chromium):
    generator = ScriptedGenerator(answer("word" * 100 + " https://example.com/" + "x" * 200))
    async with page_of(chromium, viewport=PHONE, generator=generator) as seen:
        await type_and_send(seen.page, "a" * 200)
        await seen.answered()
        overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert await seen.page.evaluate(overflow) == 0
        assert await seen.page.evaluate("log.scrollWidth - log.clientWidth") == 0
