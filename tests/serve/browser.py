"""Chromium for tests: Debian's, or playwright's own; without one the tests that need it skip with one sentence."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")


@contextmanager
def chromium() -> Iterator:
    """A headless browser."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="browser tests need the package playwright"
    )
    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    with playwright.sync_playwright() as driver:
        try:
            browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        except playwright.Error:
            pytest.skip("browser tests need Chromium and none is here; run `make chromium`")
        yield browser
        browser.close()


class Watched:
    """A page of which everything is noted that it must not do: errors, and requests to other hosts."""

    def __init__(self, browser, url: str, **context) -> None:
        self.url, self.faults = url, []
        self.page = browser.new_context(**context).new_page()
        self.page.set_default_timeout(30_000)
        self.page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        self.page.on("console", self._said)
        self.page.on("request", self._asked)

    def _said(self, message) -> None:
        refused = (
            "status of 4" in message.text
        )  # what the browser notes of an answer that the page shows in words
        if message.type in ("error", "warning") and not refused:
            self.faults.append(f"{message.type}: {message.text}")

    def _asked(self, request) -> None:
        if not request.url.startswith((self.url, "blob:", "data:")):
            self.faults.append(f"another host: {request.url}")

    def open(self, path: str = "/"):
        """The page after its start."""
        self.page.goto(self.url + path)
        self.page.locator("#next li").first.wait_for()
        return self.page

    def answered(self, number: int = 1) -> None:
        """Wait until so many answers are whole."""
        self.page.locator(".answer[aria-busy=false]").nth(number - 1).wait_for()
