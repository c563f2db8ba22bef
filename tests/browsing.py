"""Chromium for tests of pages: how it is found, and what a page may not do while it is looked at."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Dialog, Page, Playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
# As root and without a graphics card; the others keep the browser itself from asking the network.
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")


def chromium_path(playwright: Playwright) -> str:
    """Return Chromium's path: $SHELFKIN_CHROMIUM, one on the PATH, or Playwright's own; skips where there is none."""
    if named := os.environ.get("SHELFKIN_CHROMIUM"):
        if not shutil.which(named):
            pytest.fail(f"SHELFKIN_CHROMIUM={named} is no program that can be started")
        return named
    on_path = next(filter(None, map(shutil.which, NAMES)), None)
    found = on_path or playwright.chromium.executable_path
    if not Path(found).exists():
        pytest.skip(f"no Chromium: set SHELFKIN_CHROMIUM, or install one of {', '.join(NAMES)} (see README)")
    return found


@contextmanager
def started_chromium() -> Iterator[Browser]:
    """A headless Chromium; skips where there is none, or where it can't start."""
    from playwright.sync_api import Error, sync_playwright

    with sync_playwright() as playwright:
        path = chromium_path(playwright)
        try:
            browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        except Error as error:
            pytest.skip(f"{path} doesn't start here: {error.message.splitlines()[0]}")
        yield browser
        browser.close()


class Watch:
    """What a page did that none may do: errors on the console (a refusal by the content security policy is one),
    dialogs, and requests to anything but this machine. Chromium also reports an answer of an error's status there:
    `allowed_status` is one that was asked for. Where other pages are looked at as well, `console_of` is what the
    addresses of ours hold."""

    def __init__(self, page: Page, allowed_status: int = 200, console_of: str = "") -> None:
        self.complaints: list[str] = []
        self._allowed = f"status of {allowed_status}"
        self._console_of = console_of
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.complaints.append(f"script: {error}"))
        page.on("dialog", self._dialog)
        page.on("request", lambda request: self._request(request.url))

    def _console(self, message: ConsoleMessage) -> None:
        ours = self._console_of in message.location.get("url", "")
        if ours and message.type == "error" and self._allowed not in message.text:
            self.complaints.append(f"console: {message.text}")

    def _dialog(self, dialog: Dialog) -> None:
        self.complaints.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _request(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("data", "blob") and parts.hostname not in ("127.0.0.1", "localhost"):
            self.complaints.append(f"request: {url}")


def sideways_overflow(page: Page) -> int:
    """Return by how many pixels a page is wider than its window."""
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))
