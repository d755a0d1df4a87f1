"""A page as a browser shows it, and what it shows: a picture that a test makes, behind the gateway's own HTTP side."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from gateway import story
from gateway.chronicle import Chronicle
from gateway.exposition import Exposition
from gateway.guard import Guard
from gateway.http import Listener, Site
from gateway.metrics import PodCollector
from gateway.totals import Totals
from gateway.views import Picture
from kernel import tcp

if TYPE_CHECKING:
    from playwright.sync_api import Page


WALL_S: Final = 1_795_743_000.0
"""Unix time of the pod when it is first looked at."""


class Served:
    """A picture behind the gateway's own HTTP side, in a thread with a loop of its own."""

    def __init__(self, *pictures: Picture, guard: Guard | None = None) -> None:
        """pictures: one after the other, for the time line; the last one stays."""
        self._guard = guard
        self.chronicle = Chronicle()
        for each in pictures:
            self.chronicle.note(each)
        self.picture = pictures[-1]
        self.told_otherwise: dict[str, object] = {}
        self._began = time.monotonic()
        self.url = ""
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        exposition = Exposition(PodCollector(lambda: self.picture, Totals(), self.chronicle), time.monotonic_ns)
        self._site = Site(lambda: self.picture, exposition, self._story, self._guard)
        listener = Listener(self._site)
        await listener.start(tcp.listen(0, "METRICS_PORT"))
        scheme = "http" if self._guard is None or self._guard.tls is None else "https"
        self.url = f"{scheme}://127.0.0.1:{listener.port}/"
        self._ready.set()
        await self._stop.wait()
        await listener.close()

    def _story(self) -> dict[str, object]:
        told = story.page(self.picture, self.chronicle, WALL_S)
        return told | {"now": WALL_S + time.monotonic() - self._began} | self.told_otherwise

    def tell(self, **otherwise: object) -> None:
        """From now on, these parts of what the page is told are otherwise."""

        def change() -> None:
            self.told_otherwise = otherwise
            self._site.live.changed()

        self._loop.call_soon_threadsafe(change)

    def show(self, picture: Picture) -> None:
        """From now on, to all who look."""

        def change() -> None:
            self.picture = picture
            self.chronicle.note(picture)
            self._site.live.changed()

        self._loop.call_soon_threadsafe(change)

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Meanwhile its connections stand, and it says nothing, as if its machine were gone."""
        goes_on = threading.Event()
        self._loop.call_soon_threadsafe(goes_on.wait)
        try:
            yield
        finally:
            goes_on.set()

    def look_again(self) -> None:
        """At the guard's files."""
        self._loop.call_soon_threadsafe(self._site.look_again)

    def __enter__(self) -> Served:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()


class Watched:
    """A page with what the browser complained of."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        self._expected: list[str] = []
        """Parts of complaints that are none."""
        page.on(
            "console", lambda said: self.complaints.append(said.text) if said.type in ("error", "warning") else None
        )
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def forgive(self, part: str) -> None:
        """What this page is shown makes the browser say so."""
        self._expected.append(part)

    def forgive_unreachable(self) -> None:
        """That nobody answers is what this page is shown, as often as the browser tries again before it is closed."""
        self._expected += ["net::ERR_"]

    def forgive_refusals(self) -> None:
        """That its token is not the right one any more, which ends its stream, is what this page is shown."""
        self._expected += ["status of 401", "net::ERR_"]

    @property
    def unexpected(self) -> list[str]:
        """What it complained of, but for what was to be expected."""
        return [said for said in self.complaints if not any(each in said for each in self._expected)]

    def open(self, url: str) -> None:
        self.page.goto(url)
        self.wait("document.getElementById('link').classList.contains('live')")

    def wait(self, condition: str, seconds: float = 60) -> None:
        """Until this JavaScript is true, without its being evaluated as a string, which the page forbids."""
        self.page.wait_for_function(f"() => {condition}", timeout=seconds * 1000, polling=50)

    def text(self, selector: str) -> str:
        return self.page.inner_text(selector)
