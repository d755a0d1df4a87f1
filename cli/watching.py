"""What `forgectl watch` does: follows this pod's workers and shows the page's own story of them, live.

The story is made by what makes the page at `/` and `forgectl why` (gateway/story.py, gateway/chronicle.py), of the same
states: the three say the same.  A worker that goes away is sought until it is back.  The time line begins with what
elector and actuator remember of their last transitions, where they may be asked.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from typing import Any, Final

from cli import asking
from cli.asking import Failed, printable, timestamp
from cli.terminal import Terminal
from cli.tracing import Followed
from cli.watch_view import change, render
from config import Config
from gateway import story
from gateway.chronicle import Chronicle, Happened
from gateway.views import WATCHED, Picture
from ipc.messages import DebugDecisions, DebugWhat, Decision, State, Worker
from kernel.clock import boottime_ns

FIRST_S: Final = 1.0
"""What was not heard by then is shown as silent."""
COALESCE_S: Final = 0.05
REMEMBERED: Final = {"role_changed": ("role", Worker.ELECTOR), "fence_changed": ("fence", Worker.ACTUATOR)}
"""Events of the log that are entries of the time line, and who has them."""


def command(config: Config, arguments: argparse.Namespace) -> None:
    """Until interrupted; ends by the signal that ended it.  Raises Failed where no sidecar can ever be heard."""
    asking.need_sidecar(config)
    on_screen = sys.stdout.isatty() and os.environ.get("TERM", "") not in ("", "dumb")
    if arguments.json or arguments.lines or not on_screen:
        asyncio.run(Watch(config).run(Lines(as_json=arguments.json)))
        return
    ended_by = asyncio.run(_on_screen(config))
    if ended_by is not None:
        signal.signal(ended_by, signal.SIG_DFL)
        os.kill(os.getpid(), ended_by)


async def _on_screen(config: Config) -> signal.Signals | None:
    watch = Watch(config)
    with Terminal(watch.changed) as terminal:
        await watch.run(Screen(terminal, colour=not os.environ.get("NO_COLOR")))
        return terminal.signal


class Watch:
    """What is known of this pod."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.chronicle = Chronicle()
        self._began = boottime_ns()
        self._states: dict[Worker, State] = {}
        self._followed = [Followed(self, worker) for worker in (*WATCHED, Worker.GATEWAY)]
        self._wake = asyncio.Event()
        self._earlier: list[Happened] = []
        """Not in the time line yet."""

    # --- for those who are followed (`cli.tracing.Listener`) ---

    def note(self, worker: Worker, event: str, text: str) -> None:
        self.changed()

    def state(self, last: State | None, state: State) -> None:
        self._states[state.worker] = state
        self.changed()

    def changed(self) -> None:
        """Something is to be shown."""
        self._wake.set()

    # --- showing ---

    async def run(self, display: Lines | Screen) -> None:
        """Until the display ends."""
        working = [asyncio.create_task(each.follow()) for each in self._followed]
        self._remember()
        showing = asyncio.create_task(self._show(display))
        try:
            ended, _ = await asyncio.wait([*working, showing], return_when=asyncio.FIRST_COMPLETED)
            for task in ended:
                task.result()
        finally:
            for task in (*working, showing):
                task.cancel()
            await asyncio.gather(*working, showing, return_exceptions=True)

    async def _show(self, display: Lines | Screen) -> None:
        by = time.monotonic() + FIRST_S
        while not all(each.tried for each in self._followed) and time.monotonic() < by and not display.ended:
            await self._news(by - time.monotonic())
        while not display.ended:
            picture = self.picture()
            self.chronicle.note(picture)
            if self._earlier:
                self._begin_earlier()
            page = story_of(picture, self.chronicle, time.time())
            display.show(page, tuple(self.chronicle.entries), self._unheard())
            await self._news(1 - time.time() % 1)

    async def _news(self, seconds: float) -> None:
        """Wait for it, at most so long; what comes in one go is shown in one go."""
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
            await asyncio.sleep(COALESCE_S)
        except TimeoutError:
            return
        finally:
            self._wake.clear()

    def picture(self) -> Picture:
        """What is known now."""
        return Picture(
            config=self.config,
            version="",
            now=boottime_ns(),
            started_at=self._began,
            states=self._states,
            connected={each.worker: each.connected for each in self._followed},
        )

    def _unheard(self) -> str:
        """Why nobody is heard; empty: somebody is."""
        if any(each.connected for each in self._followed):
            return ""
        return "; ".join(dict.fromkeys(f"{each.worker}: {each.why}" for each in self._followed))

    def _remember(self) -> None:
        """In a thread that nobody waits for: a worker that hangs must not keep this from ending."""
        loop = asyncio.get_running_loop()

        def ask() -> None:
            told = _decisions(self.config)
            with contextlib.suppress(RuntimeError):  # it has ended meanwhile
                loop.call_soon_threadsafe(self._take_earlier, told)

        threading.Thread(target=ask, daemon=True).start()

    def _take_earlier(self, told: list[Decision]) -> None:
        self._earlier = [entry for decision in told for entry in remembered(decision)]
        self.changed()

    def _begin_earlier(self) -> None:
        """Put what was before into the time line, once something is there that it can be before."""
        entries = with_earlier(self.chronicle.entries, self._earlier)
        self._earlier = []
        self.chronicle.entries.clear()
        self.chronicle.entries.extend(entries)


def story_of(picture: Picture, chronicle: Chronicle, wall_s: float) -> dict[str, Any]:
    """The page, but for the gateway, which is another process here."""
    page = story.page(picture, chronicle, wall_s)
    gateway = picture.states.get(Worker.GATEWAY)
    page["status"]["workers"][str(Worker.GATEWAY)] = {
        "alive": picture.fresh(Worker.GATEWAY) is not None,
        "connected": picture.connected.get(Worker.GATEWAY, False),
        "up_seconds": picture.seconds_since(gateway.started_at) if gateway is not None else None,
    }
    return page


# --- what was before ---


def _decisions(config: Config) -> list[Decision]:
    """Of those who may be asked."""
    found: list[Decision] = []
    for _, worker in REMEMBERED.values():
        try:
            found += asking.told(config, worker, DebugWhat.DECISIONS, DebugDecisions).decisions
        except Failed:
            continue  # the time line begins now
    return found


def remembered(decision: Decision) -> Iterable[Happened]:
    """The entry of the time line that a worker's decision is; nothing: it is none."""
    about, _ = REMEMBERED.get(decision.event, ("", None))
    said = decision.fields
    token = said.get("token", "")
    if about and said.keys() >= {"old", "new", "why"} and token.isdecimal() and len(token) < 20:
        yield Happened(decision.at, about, said["old"], said["new"], said["why"], int(token))


def with_earlier(entries: Iterable[Happened], earlier: Iterable[Happened]) -> list[Happened]:
    """The time line with what was before it; what it only began with is not told twice."""
    seen = list(entries)
    began: dict[str, int] = {}
    for each in seen:
        began.setdefault(each.about, each.at)
    before = [each for each in earlier if each.at < began.get(each.about, each.at + 1)]
    last = {each.about: each.new for each in before}
    kept = [each for each in seen if each.old or last.get(each.about) != each.new]
    return sorted([*before, *kept], key=lambda each: each.at)


# --- showing ---


class Screen:
    """A whole terminal."""

    def __init__(self, terminal: Terminal, *, colour: bool) -> None:
        self._terminal, self._colour = terminal, colour

    @property
    def ended(self) -> bool:
        return self._terminal.ended

    def show(self, page: dict[str, Any], entries: Sequence[Happened], unheard: str) -> None:
        columns, rows = self._terminal.size
        self._terminal.draw(render(page, columns, rows, unheard=unheard, colour=self._colour))


class Lines:
    """A line for each change from now on, for ever."""

    ended = False

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._began = boottime_ns()
        self._standing = self._title = self._unheard = ""
        self._told: frozenset[Happened] = frozenset()

    def show(self, page: dict[str, Any], entries: Sequence[Happened], unheard: str) -> None:
        now, headline = boottime_ns(), page["headline"]
        if unheard and not self._unheard:
            self._line(Happened(now, "workers", "", "none is heard, trying again", unheard, 0))
        self._unheard = unheard
        if (headline["standing"], headline["title"]) != (self._standing, self._title):
            self._line(Happened(now, "pod", self._standing, headline["standing"], headline["title"], 0))
            self._standing, self._title = headline["standing"], headline["title"]
        for each in entries:
            if each not in self._told and each.at >= self._began:
                self._line(each)
        self._told = frozenset(entries)

    def _line(self, each: Happened) -> None:
        said = dataclasses.asdict(each) | {"time": timestamp(each.at)}
        del said["at"]
        print(json.dumps(said) if self._as_json else printable(f"{said['time']} {change(said)}"), flush=True)
