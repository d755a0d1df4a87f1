"""A browser, where `make test-page` has brought what it needs; without that there is nothing to collect here."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "gateway"))

from browsing import Watched

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
if not (CHROMIUM and find_spec("playwright") and find_spec("axe_playwright_python")):
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as running:
        made = running.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        yield made
        made.close()


class Watch(Protocol):
    def __call__(
        self, width: int = 1100, height: int = 900, *, dark: bool = False, password: str = ""
    ) -> AbstractContextManager[Watched]:
        """A page of its own.  password: what its user gives when the browser asks; empty: it does not."""


@pytest.fixture
def watch(browser: Browser) -> Iterator[Watch]:
    """Pages, none of which may have complained in the end."""
    opened: list[Watched] = []

    @contextmanager
    def made(width: int = 1100, height: int = 900, *, dark: bool = False, password: str = "") -> Iterator[Watched]:
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            locale="en-GB",
            timezone_id="UTC",
            http_credentials={"username": "anybody", "password": password} if password else None,
            ignore_https_errors=True,
        )
        try:
            opened.append(Watched(context.new_page()))
            yield opened[-1]
        finally:
            context.close()

    yield made
    assert [complaint for each in opened for complaint in each.unexpected] == []
