"""The simulated node's life: SIGHUP, credentials, forging, socket, metrics, and a socket by which tests control it.

Semantics (cardano-node Run.hs, Protocol/Shelley.hs): credentials are read when the process starts (missing: it
exits; VRF readable by others: it refuses).  Until a handler is installed a SIGHUP kills it.  During replay an early
handler takes SIGHUP without effect on forging, but writes forging_enabled 0.  Once consensus is up the real handler
is installed, the socket opened, and last the initial forging set from what was read at the start, unless it is
non-producing: a disabling SIGHUP in between is overwritten.
On SIGHUP it reads VRF, certificate, KES; only a file that does not exist disables; any other error changes nothing.
Each SIGHUP is a handler of its own: two in flight may land in either order.  The gauge changes before forging does.
Forging, it counts a leadership check at once and then at each slot.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any, Final

from cardano.slots import NETWORKS, epoch_of, kes_period_at, slot_at, slot_length_s, slot_phase
from devkit import node_credentials
from devkit.node import NAME
from devkit.node_credentials import Refused
from devkit.node_options import parser

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NAME: Final = 15
_TIP_BEHIND: Final = 7
"""Slots by which a healthy tip is usually behind the wall clock: blocks come every 20 s on average."""
_NAMES: Final = {
    "classic": {
        "forging": "forging_enabled",
        "lead": "Forge_forge_about_to_lead_int",
        "adopted": "Forge_adopted_int",
        "start": "nodeStartTime_int",
    },
    "new": {
        "forging": "forging_enabled_int",
        "lead": "Forge_about_to_lead_counter",
        "adopted": "Forge_adopted_counter",
        "start": "node_start_time_int",
    },
    "nosuffix": {
        "forging": "forging_enabled",
        "lead": "Forge_about_to_lead",
        "adopted": "Forge_adopted",
        "start": "node_start_time",
    },
}


class Node:
    """The process."""

    def __init__(self, options: argparse.Namespace, paths: node_credentials.Paths | None) -> None:
        self.options = options
        self.calendar = NETWORKS.get(options.network)
        self.paths = paths
        self.forging = False
        self.gauge = 1 if options.gauge_starts_at_1 else 0
        self.checks = 0
        self.has_key = paths is not None and paths.agent is None
        """An agent gives one when it is asked; without, the node counts leadership checks and signs nothing."""
        self.adopted = 0
        self.certificate: node_credentials.Certificate | None = None
        self.deaf: bool = options.deaf
        self.reload_s = options.reload_ms / 1000
        self.cancel_s = options.cancel_ms / 1000
        self.metrics = "hang" if options.metrics_hang else "on"
        self.stalled_slot: int | None = None
        self.replaying = True
        self.started_at = int(time.time())
        self._last_slot = -1
        self._record = os.open(options.record, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644) if options.record else -1
        self._stopping = False
        self._wake = asyncio.Event()
        self._landing = asyncio.Event()
        self._landing.set()
        self._held: list[asyncio.Event] = []
        self._exit = 0
        self._reloads: set[asyncio.Task[None]] = set()
        self._socket: asyncio.Server | None = None

    def note(self, event: str, **more: str) -> None:
        """One line of the record, in one write."""
        if self._record >= 0:
            line = {"t": time.monotonic_ns(), "event": event, "node": self.options.name, **more}
            os.write(self._record, (json.dumps(line) + "\n").encode())

    @staticmethod
    def say(text: str) -> None:
        print(f"[{NAME}] {text}", flush=True)

    # --- forging ---

    def start_up(self) -> bool:
        """What is done before any handler is there; False: the node must not start."""
        self.note("start")
        if self.paths is not None:
            try:
                node_credentials.check_vrf_permissions(self.paths.vrf)
                self.certificate = node_credentials.read(self.paths)
            except (OSError, Refused) as error:
                self.say(f"cannot start: {error}")
                return False
        self.note("read")
        time.sleep(self.options.early_ms / 1000)
        return True

    async def set_block_forging(self, on: bool) -> None:
        """The gauge changes first; the forging thread follows."""
        self.gauge = int(on)
        if self.cancel_s:
            await asyncio.sleep(self.cancel_s)
        if on != self.forging:
            self.forging = on
            self.note("on" if on else "off")
        self.check_leadership(again=True)

    def check_leadership(self, *, again: bool = False) -> None:
        """Once for each slot; `again`: also for a slot that was checked, as each new forging thread does."""
        slot = self.slot()
        if self.forging and (again or slot != self._last_slot):
            self._last_slot = slot
            self.checks += 1
            self.note("slot")

    async def reload(self) -> None:
        """One handler run for one SIGHUP: the files are read half way through."""
        half, landing = self.reload_s / 2, self._landing
        await asyncio.sleep(half)
        outcome = self._read_again()
        await asyncio.sleep(half)
        await landing.wait()
        self.note("reload", outcome=outcome)
        if outcome != "unchanged":
            await self.set_block_forging(outcome == "enabled")

    def _read_again(self) -> str:
        if self.paths is None:
            self.say("block forging disabled: no credentials were given")
            return "disabled"
        try:
            self.certificate = node_credentials.read(self.paths)
            self.has_key = self.paths.agent is None or node_credentials.agent_answers(self.paths.agent)
        except FileNotFoundError as error:
            self.say(f"block forging disabled: {error.filename} does not exist")
            return "disabled"
        except Refused as error:
            self.say(f"BlockForgingUpdateError: {error}; block forging is not reconfigured")
            return "unchanged"
        self.say("block forging enabled")
        return "enabled"

    def on_hup(self) -> None:
        self.note("hup")
        if self.deaf:
            return
        if self.replaying:
            self.say("SIGHUP: not effective until consensus has started")
            self.gauge = 0
            return
        task = asyncio.get_running_loop().create_task(self.reload())
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)

    # --- life ---

    async def run(self) -> int:
        """From handlers to the end; the exit code."""
        options, loop = self.options, asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self.on_hup)
        loop.add_signal_handler(signal.SIGTERM, self.stop)
        loop.add_signal_handler(signal.SIGINT, self.stop)
        self.note("handler")
        await self._serve_metrics()
        await self._serve_control()
        if not await self._stopped_within(options.replay_seconds):
            self.replaying = False
            await self._open_socket()
            self.note("up")
            if not await self._stopped_within(options.flag_gap_ms / 1000):
                if not options.non_producing and self.paths is not None:
                    await self.set_block_forging(True)
                await self._count_slots()
        for task in self._reloads:
            task.cancel()
        self.cancel_s = 0
        await self.set_block_forging(False)
        self.note("stop")
        await asyncio.sleep(options.stop_ms / 1000)
        options.socket_path.unlink(missing_ok=True)
        return self._exit

    def stop(self) -> None:
        self._stopping = True
        self._wake.set()

    async def _stopped_within(self, seconds: float) -> bool:
        """Wait so long, unless woken; whether the end has come."""
        if seconds > 0 and not self._stopping:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._wake.wait()
        self._wake.clear()
        return self._stopping

    async def _count_slots(self) -> None:
        """At each slot's beginning, until told to stop."""
        while True:
            now = time.time()
            phase = slot_phase(self.calendar, now)
            left = slot_length_s(self.calendar) - (phase if phase is not None else now % 1)
            if await self._stopped_within(max(left, 0.001)):
                return
            self.check_leadership()

    def slot(self) -> int:
        """By the wall clock."""
        now = time.time()
        slot = slot_at(self.calendar, now)
        return slot if slot is not None else int(now)

    async def _open_socket(self) -> None:
        """Bind and listen, in place of whatever an earlier process left there."""
        path: Path = self.options.socket_path
        path.unlink(missing_ok=True)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.bind(str(path))
        self._socket = await asyncio.start_unix_server(self._greet, sock=sock)

    def _close_socket(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self.options.socket_path.unlink(missing_ok=True)

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(0.5):
                await reader.read(1)
        writer.close()

    # --- metrics ---

    async def _serve_metrics(self) -> None:
        server = await asyncio.start_server(self._answer, "127.0.0.1", self.options.port)
        port = server.sockets[0].getsockname()[1]
        if self.options.port_file:
            temporary = self.options.port_file.with_suffix(".new")
            temporary.write_text(f"{port}\n")
            temporary.rename(self.options.port_file)

    def exposition(self) -> str:
        """No tip before consensus is up, no checks and no blocks before the first, no KES before it forged once."""
        names, suffix = _NAMES[self.options.metric_style], "" if self.options.metric_style == "nosuffix" else "_int"
        values = {names["start"]: self.started_at, names["forging"]: self.gauge}
        if not self.replaying:
            slot = self.stalled_slot if self.stalled_slot is not None else self.slot() - _TIP_BEHIND
            values |= {f"slotNum{suffix}": slot, f"blockNum{suffix}": slot // 20, f"epoch{suffix}": self._epoch(slot)}
        if self.checks:
            values[names["lead"]] = self.checks
            if self.adopted:
                values[names["adopted"]] = self.adopted
            values |= {f"{name}{suffix}": value for name, value in self._kes().items()}
        return "".join(f"cardano_node_metrics_{name} {value}\n" for name, value in values.items())

    def _epoch(self, slot: int) -> int:
        epoch = epoch_of(self.calendar, slot)
        return epoch if epoch is not None else slot // 500

    def _kes(self) -> dict[str, int]:
        """KES gauges; they stay when forging ends (issue 5751)."""
        if self.certificate is None:
            return {}
        start, now = self.certificate.start_period, kes_period_at(self.calendar, time.time())
        expiry = start + (self.calendar or NETWORKS["mainnet"]).max_kes_evolutions
        current = now if now is not None else start
        good = start <= current < expiry
        return {
            "currentKESPeriod": current if good else 0,
            "remainingKESPeriods": expiry - current if good else 0,
            "operationalCertificateStartKESPeriod": start,
            "operationalCertificateExpiryKESPeriod": expiry,
        }

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ours = (TimeoutError, ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError)
        with contextlib.suppress(*ours):
            async with asyncio.timeout(5):
                await reader.readuntil(b"\r\n\r\n")
            while self.metrics == "hang":  # noqa: ASYNC110  # a test changes it through the control socket
                await asyncio.sleep(0.05)
            if self.metrics == "on":
                body = self.exposition().encode()
                head = f"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n\r\n"
                writer.write(head.encode() + body)
                await writer.drain()
        writer.close()

    # --- control, for those who test ---

    async def _serve_control(self) -> None:
        if self.options.control:
            self.options.control.unlink(missing_ok=True)
            await asyncio.start_unix_server(self._control, path=str(self.options.control))

    async def _control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, ValueError):
            words = (await reader.readline()).decode().split()
            writer.write((await self._obey(words) + "\n").encode())
            await writer.drain()
        writer.close()

    async def _obey(self, words: list[str]) -> str:
        """Do one command; `ok`, what was asked for, or `unknown command`.

        hold on|off, release: reloads that begin while held land, after reading, only when released.  proceed: end the
        replay or the gap before the initial forging now.  adopt: a block of its own, while it forges.
        """
        match words:
            case ["deaf", "on" | "off" as state]:
                self.deaf = state == "on"
            case ["reload-ms", number] if number.isdigit():
                self.reload_s = int(number) / 1000
            case ["hold", "on" | "off" as state]:
                self._hold(state == "on")
            case ["release"]:
                for landing in self._held:
                    landing.set()
            case ["proceed"]:
                self._wake.set()
            case ["adopt"] if self.forging and self.has_key:
                self.adopted += 1
            case ["cancel-ms", number] if number.isdigit():
                self.cancel_s = int(number) / 1000
            case ["tip-stall", "on" | "off" as state]:
                self.stalled_slot = self.slot() - _TIP_BEHIND if state == "on" else None
            case ["tip-behind", number] if number.isdigit():
                self.stalled_slot = self.slot() - int(number)
            case ["metrics", "on" | "off" | "hang" as state]:
                self.metrics = state
            case ["socket", "off"]:
                self._close_socket()
            case ["socket", "on"] if not self.replaying:
                self._close_socket()
                await self._open_socket()
            case ["exit", code] if code.isdigit():
                self._exit = int(code)
                self.stop()
            case ["state"]:
                return json.dumps(self._state())
            case _:
                return "unknown command"
        return "ok"

    def _hold(self, on: bool) -> None:
        """Whether reloads that begin from now on wait for a release after they have read."""
        self._landing = asyncio.Event()
        if on:
            self._held.append(self._landing)
        else:
            self._landing.set()

    def _state(self) -> dict[str, Any]:
        return {
            "forging": self.forging,
            "gauge": self.gauge,
            "checks": self.checks,
            "replaying": self.replaying,
            "key": self.has_key,
            "counter": self.certificate.counter if self.certificate is not None else None,
        }


async def _run(options: argparse.Namespace, paths: node_credentials.Paths | None) -> int:
    node = Node(options, paths)
    return await node.run() if node.start_up() else 1


def main() -> None:
    """Be called cardano-node, then be one."""
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_NAME, NAME.encode(), 0, 0, 0)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # who started us may ignore it (nohup); a container engine does not
    options = parser().parse_args()
    if options.die_with is not None:
        libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != options.die_with:
            sys.exit(1)
    try:
        paths = node_credentials.paths(
            options.shelley_vrf_key,
            options.shelley_operational_certificate,
            options.shelley_kes_key,
            options.shelley_kes_agent_socket,
        )
    except Refused as error:
        Node.say(f"cannot start: {error}")
        sys.exit(1)
    sys.exit(asyncio.run(_run(options, paths)))


if __name__ == "__main__":
    main()
