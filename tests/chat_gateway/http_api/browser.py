"""The page in a real browser."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from playwright.async_api import ConsoleMessage, Page, ViewportSize, async_playwright

DESKTOP = ViewportSize(width=1280, height=800)
PHONE = ViewportSize(width=390, height=844)

QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@dataclass
class Visit:
    """A page and everything it complained about or asked another server for."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)

    def hear(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    async def answered(self) -> None:
        """Wait until nothing is being answered."""
        await self.page.locator("#log[aria-busy=false]").wait_for()


@asynccontextmanager
async def visit(
    chromium: str, url: str, *, viewport: ViewportSize = DESKTOP, dark: bool = False
) -> AsyncIterator[Visit]:
    """Open a page in the Chromium at this path; content security violations are complaints."""
    phone = viewport == PHONE
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=QUIET)
        context = await browser.new_context(
            viewport=viewport,
            color_scheme="dark" if dark else "light",
            has_touch=phone,
            is_mobile=phone,
            device_scale_factor=2 if phone else 1,
        )
        page = await context.new_page()
        visited = Visit(page)
        page.on("console", visited.hear)
        page.on("pageerror", lambda error: visited.complaints.append(str(error)))
        page.on(
            "request",
            lambda request: request.url.startswith(url) or visited.strangers.append(request.url),
        )
        await page.goto(url)
        await page.locator("#policy option").first.wait_for(state="attached")
        yield visited
        await browser.close()
