"""`forgectl watch` on a terminal, as an operator meets it: what stands there, and that it is always given back."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import fcntl
import json
import os
import pty
import re
import signal
import struct
import sys
import termios
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pyte
import pytest
from test_forgectl import PATIENCE_S, elector_state, environment, publish, run_dir

from cli import forgectl
from cli.terminal import ENTER, LEAVE
from ipc.debug import DebugServer
from ipc.messages import (
    ArbiterState,
    DebugDecisions,
    DebugWhat,
    Decision,
    ElectorState,
    GatewayState,
    Role,
    Worker,
)
from ipc.pubsub import StatePublisher, listen
from kernel.clock import boottime_ns
from policy import timing

__all__ = ["publish", "run_dir"]  # fixtures

Publish = Callable[..., Awaitable[StatePublisher]]
BROKEN = (
    "import sys; from cli import watching, forgectl\n"
    "def broken(*_, **__): raise AssertionError('a fault of ours')\n"
    "watching.render = broken; sys.argv = ['forgectl', 'watch']; forgectl.main()"
)

SHELL = """
import os, signal, subprocess, sys
def to_the_front():
    os.setpgid(0, 0)
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    os.tcsetpgrp(0, os.getpid())
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)
sys.exit(subprocess.Popen([sys.executable, "-m", "cli.forgectl", "watch"], preexec_fn=to_the_front).wait())
"""
"""What a shell does for a job: only where somebody could continue a process does Ctrl-Z stop it."""


class Watched:
    """A forgectl with a terminal of its own, and what an eye would see there."""

    def __init__(self, run_dir: Path, columns: int, rows: int) -> None:
        self.run_dir = run_dir
        self.screen = pyte.Screen(columns, rows)
        self.raw = bytearray()
        self._stream = pyte.ByteStream(self.screen)
        self._news = asyncio.Event()
        self.master, self.slave = pty.openpty()
        self._size(columns, rows)
        self.settings = termios.tcgetattr(self.slave)
        self.process: asyncio.subprocess.Process

    async def start(self, *arguments: str, program: str = "", **variables: str) -> Watched:
        command = ["-c", program] if program else ["-m", "cli.forgectl", "watch", *arguments]
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            *command,
            env=environment(self.run_dir) | {"TERM": "xterm-256color", "LANG": "C.UTF-8"} | variables,
            cwd=Path(forgectl.__file__).parent.parent,
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.set_blocking(self.master, False)
        asyncio.get_running_loop().add_reader(self.master, self._read)
        return self

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            data = os.read(self.master, 65536)
            self.raw += data
            self._stream.feed(data)
            self._news.set()

    def _size(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def resize(self, columns: int, rows: int) -> None:
        self.screen.resize(rows, columns)
        self._size(columns, rows)

    @property
    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self.screen.display)

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)

    async def until(self, what: Callable[[], bool]) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not what():
                    self._news.clear()
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(0.1):  # not all that is waited for shows on the terminal
                            await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"not seen; there is\n{self.text}") from None

    async def shows(self, *words: str) -> None:
        await self.until(lambda: all(word in self.text for word in words))

    async def ended(self) -> int:
        """Its exit code, when all that it wrote has been read."""
        async with asyncio.timeout(PATIENCE_S):
            code = await self.process.wait()
        await asyncio.sleep(0)
        self._read()
        return code

    def given_back(self) -> bool:
        """Whether the terminal is as it was: the usual screen, a cursor, echo, whole lines."""
        return self.raw.rstrip().endswith(LEAVE.encode()) and termios.tcgetattr(self.slave) == self.settings

    def taken(self) -> bool:
        return not termios.tcgetattr(self.slave)[3] & (termios.ECHO | termios.ICANON)

    async def close(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
            await self.process.wait()
        asyncio.get_running_loop().remove_reader(self.master)
        os.close(self.master)
        os.close(self.slave)


Watch = Callable[..., Awaitable[Watched]]


@pytest.fixture
async def watch(run_dir: Path) -> AsyncIterator[Watch]:
    begun: list[Watched] = []

    async def begin(
        *arguments: str, columns: int = 100, rows: int = 40, program: str = "", **variables: str
    ) -> Watched:
        begun.append(Watched(run_dir, columns, rows))
        return await begun[-1].start(*arguments, program=program, **variables)

    yield begin
    for each in begun:
        await each.close()


def led_by(pod: str, **more: Any) -> ElectorState:
    held_until = boottime_ns() + 3600 * timing.SECOND
    return dataclasses.replace(elector_state(f"{pod}_aa"), holder_until=held_until, since=boottime_ns(), **more)


# --- what it shows ---


async def test_each_new_state_is_shown_and_what_changed_stands_in_the_time_line(watch: Watch, publish: Publish) -> None:
    elector = await publish(Worker.ELECTOR, led_by("pod-1"))
    seen = await watch()
    await seen.shows("UNKNOWN: It is not known who forges", "standby for", "held by pod-1_aa", "role standby")
    elector.publish(led_by("pod-0", role=Role.LEADER, reason="took the lease", fencing_token=5))
    await seen.shows("leader for", "took the lease", "role standby -> leader: took the lease (token 5)")


async def test_seconds_are_counted_while_nothing_is_heard(watch: Watch, publish: Publish) -> None:
    await publish(Worker.ELECTOR, led_by("pod-1"))
    seen = await watch()
    shown: list[int] = []

    def counts() -> bool:
        shown.extend(int(seconds) for seconds in re.findall(r"standby for (\d+) s", seen.text))
        return bool(shown) and shown[-1] >= shown[0] + 2

    await seen.until(counts)
    assert shown == sorted(shown)


async def test_a_worker_that_goes_is_missed_at_once_and_shown_again_when_it_is_back(
    watch: Watch, publish: Publish
) -> None:
    await publish(Worker.ARBITER, ArbiterState(None, "one", cluster_management=False))
    elector = await publish(Worker.ELECTOR, led_by("pod-1"))
    seen = await watch()
    await seen.shows("workers  arbiter ", "elector ", "silent: actuator, prober, gateway")
    elector.close()
    await seen.shows("gone just now: elector")
    await seen.shows("silent: actuator, prober, elector, gateway", "elector alive -> silent")
    await publish(Worker.ELECTOR, led_by("pod-1"))
    await seen.shows("elector silent -> alive", "silent: actuator, prober, gateway")


async def test_while_none_is_heard_it_goes_on_trying_and_says_so(watch: Watch, publish: Publish) -> None:
    seen = await watch()
    await seen.shows("no worker is heard, trying again", "No such file or directory")
    await publish(Worker.ELECTOR, led_by("pod-1"))
    await seen.shows("held by pod-1_aa")
    assert "trying again" not in seen.text


async def test_what_strangers_wrote_speaks_to_no_terminal_and_moves_no_other_line(
    watch: Watch, publish: Publish
) -> None:
    evil = "\x1b[2J\x1b]0;title\x07\r\n漢字" * 3 + "e\u0301\u200b👩‍🚀" + "ｗ" * 200
    await publish(Worker.ELECTOR, led_by("pod-1", reason=evil))
    seen = await watch(columns=80)
    await seen.shows("\\x1b[2J\\x1b]0;title\\x07\\r\\n")
    labels = [line[:9].rstrip() for line in seen.text.splitlines()[1:10]]
    assert labels == ["pod", "why", "forger", "until", "next", "role", "lease", "fence", "grants"]
    assert b"\x1b]0;" not in seen.raw


async def test_another_size_of_the_window_is_another_picture(watch: Watch, publish: Publish) -> None:
    await publish(Worker.ELECTOR, led_by("pod-1", reason="a reason that takes some room in a window"))
    seen = await watch()
    await seen.shows("a reason that takes some room in a window")
    seen.resize(40, 8)
    await seen.until(lambda: "more lines: make the window taller" in seen.screen.display[7])
    assert seen.text.startswith("UNKNOWN: It is not known who forges:")
    seen.resize(120, 40)
    await seen.shows("a reason that takes some room in a window", "grants   elector none")


async def test_colours_are_left_out_where_nobody_wants_them(watch: Watch, publish: Publish) -> None:
    await publish(Worker.ELECTOR, led_by("pod-1"))
    seen = await watch()
    await seen.shows("held by pod-1_aa")
    assert b"\x1b[1;31m" in seen.raw
    plain = await watch(NO_COLOR="1")
    await plain.shows("held by pod-1_aa")
    assert b"\x1b[1;31m" not in plain.raw
    assert b"\x1b[2m" not in plain.raw


async def test_the_time_line_begins_with_what_the_elector_remembers(
    watch: Watch, publish: Publish, run_dir: Path
) -> None:
    fields = {"old": "observer", "new": "standby", "why": "contending", "token": "3"}
    decided = Decision(boottime_ns() - 60 * timing.SECOND, "INFO", "role_changed", "contending", fields)
    server = DebugServer(listen(run_dir / "elector" / "debug.sock"), parent=None)
    server.answer(DebugWhat.DECISIONS, lambda _: DebugDecisions((decided,), 0))
    server.start()
    await publish(Worker.ELECTOR, led_by("pod-1"))
    seen = await watch()
    await seen.shows("role observer -> standby: contending (token 3)", "held by pod-1_aa")
    await seen.until(lambda: "role standby:" not in seen.text)
    server.close()


# --- the terminal is given back ---


@pytest.mark.parametrize("keys", [b"q", b"Q", b"\x03"])
async def test_q_and_ctrl_c_end_it(watch: Watch, publish: Publish, keys: bytes) -> None:
    await publish(Worker.ELECTOR, led_by("pod-1"))
    seen = await watch()
    await seen.shows("held by pod-1_aa")
    assert seen.taken()
    seen.type(keys)
    assert await seen.ended() == 0
    assert seen.given_back()


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
async def test_a_signal_ends_it_by_that_signal(watch: Watch, publish: Publish, sig: signal.Signals) -> None:
    await publish(Worker.ELECTOR, led_by("pod-1"))
    seen = await watch()
    await seen.shows("held by pod-1_aa")
    seen.process.send_signal(sig)
    assert await seen.ended() == -sig
    assert seen.given_back()


async def test_a_fault_of_its_own_gives_the_terminal_back_before_it_is_told(watch: Watch) -> None:
    seen = await watch(program=BROKEN)
    assert await seen.ended() == 1
    assert termios.tcgetattr(seen.slave) == seen.settings
    before, _, after = seen.raw.partition(LEAVE.encode())
    assert b"Traceback" not in before
    assert b"AssertionError: a fault of ours" in after


async def test_ctrl_z_gives_it_back_and_going_on_takes_it_again(watch: Watch, publish: Publish) -> None:
    elector = await publish(Worker.ELECTOR, led_by("pod-1"))
    seen = await watch(program=SHELL)
    await seen.shows("held by pod-1_aa")
    shell = seen.process.pid
    job = int(Path(f"/proc/{shell}/task/{shell}/children").read_text())
    seen.type(b"\x1a")
    await seen.until(lambda: Path(f"/proc/{job}/stat").read_text().rpartition(")")[2].split()[0] == "T")
    await seen.until(seen.given_back)
    elector.publish(led_by("pod-2"))
    seen.screen.reset()
    os.kill(job, signal.SIGCONT)
    await seen.shows("held by pod-2_aa", "UNKNOWN: ")
    assert seen.taken()
    seen.type(b"q")
    assert await seen.ended() == 0
    assert seen.given_back()


async def test_where_nobody_could_continue_it_ctrl_z_changes_nothing(watch: Watch, publish: Publish) -> None:
    elector = await publish(Worker.ELECTOR, led_by("pod-1"))
    seen = await watch()
    await seen.shows("held by pod-1_aa")
    seen.type(b"\x1a")
    elector.publish(led_by("pod-2"))
    await seen.shows("held by pod-2_aa")
    await seen.until(lambda: seen.raw.count(ENTER.encode()) == 1 + seen.raw.count(LEAVE.encode()) and seen.taken())
    seen.type(b"q")
    assert await seen.ended() == 0
    assert seen.given_back()


async def test_a_terminal_that_takes_nothing_does_not_keep_it_from_ending(watch: Watch, publish: Publish) -> None:
    await publish(Worker.ELECTOR, led_by("pod-1"))
    seen = await watch()
    await seen.shows("held by pod-1_aa")
    termios.tcflow(seen.slave, termios.TCOOFF)
    seen.process.send_signal(signal.SIGTERM)
    assert await seen.ended() == -signal.SIGTERM
    assert termios.tcgetattr(seen.slave) == seen.settings
    termios.tcflow(seen.slave, termios.TCOON)


# --- where there is no terminal ---


class Piped:
    """A forgectl whose output is read line by line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def line(self) -> str:
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            return (await self.process.stdout.readline()).decode().rstrip("\n")


@pytest.fixture
async def piped(run_dir: Path) -> AsyncIterator[Callable[..., Awaitable[Piped]]]:
    begun: list[Piped] = []

    async def begin(*arguments: str) -> Piped:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "cli.forgectl", "watch", *arguments),
            env=environment(run_dir) | {"TERM": "xterm"},
            cwd=Path(forgectl.__file__).parent.parent,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
        )
        begun.append(Piped(process))
        return begun[-1]

    yield begin
    for each in begun:
        if each.process.returncode is None:
            each.process.kill()
        await each.process.communicate()


async def every_worker(publish: Publish) -> StatePublisher:
    """Those whose silence would be news are there; answers the elector."""
    await publish(Worker.GATEWAY, GatewayState(1, {}))
    return await publish(Worker.ELECTOR, led_by("pod-1"))


async def test_without_a_terminal_each_change_is_a_line(
    piped: Callable[..., Awaitable[Piped]], publish: Publish
) -> None:
    elector = await every_worker(publish)
    seen = await piped()
    assert (await seen.line()).endswith("Z pod unknown: It is not known who forges: workers of this pod are silent")
    assert (await seen.line()).endswith("Z role standby: the lease is held (token 4)")
    assert (await seen.line()).endswith("Z lease pod-1_aa: default/cardano-node-leader (token 4)")
    elector.publish(led_by("pod-1", role=Role.LEADER, reason="took\x1b it"))
    assert (await seen.line()).endswith("Z role standby -> leader: took\\x1b it (token 4)")
    seen.process.send_signal(signal.SIGINT)
    assert await seen.process.wait() == -signal.SIGINT


async def test_as_json_each_change_is_an_object(piped: Callable[..., Awaitable[Piped]], publish: Publish) -> None:
    elector = await every_worker(publish)
    seen = await piped("--json")
    told = [json.loads(await seen.line()) for _ in range(3)]
    assert [each["about"] for each in told] == ["pod", "role", "lease"]
    elector.publish(led_by("pod-1", role=Role.LEADER, reason="took it", fencing_token=5))
    last = json.loads(await seen.line())
    assert last.keys() == {"time", "about", "old", "new", "why", "token"}
    assert (last["about"], last["old"], last["new"], last["token"]) == ("role", "standby", "leader", 5)


async def test_without_a_terminal_it_goes_on_trying_too(
    piped: Callable[..., Awaitable[Piped]], publish: Publish
) -> None:
    seen = await piped()
    assert "workers none is heard, trying again: actuator: No such file or directory" in await seen.line()
    assert "pod unknown" in await seen.line()
    await publish(Worker.ELECTOR, led_by("pod-1"))
    assert "role standby" in await seen.line()


@pytest.mark.parametrize("term", ["dumb", ""])
async def test_a_terminal_that_can_nothing_gets_lines(watch: Watch, publish: Publish, term: str) -> None:
    await publish(Worker.ELECTOR, led_by("pod-1"))
    seen = await watch(TERM=term)
    await seen.shows("Z role standby: the lease is held (token 4)")
    assert b"\x1b" not in seen.raw
    seen.type(b"\x03")
    assert await seen.ended() == -signal.SIGINT
