"""A simulated cardano-node: a real process that treats SIGHUP, files and its own metrics as the real one does.

    python -m devkit.node run --socket-path P --record F --port 0 --port-file F --control P [node's own flags]

Semantics (cardano-node Run.hs, Protocol/Shelley.hs): credentials are read when the process starts (missing: it
exits; VRF readable by others: it refuses).  During replay an early handler takes SIGHUP without effect on forging.
Then the real handler is installed, the socket opened, and last the initial forging is set unless it is non-producing.
On SIGHUP it reads VRF, certificate, KES; only a file that does not exist disables; any other error changes nothing.
Forging, it counts a leadership check at each slot.  What it did stands in its record (`devkit.record`).
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, Final

NAME: Final = "cardano-node"
_SHELLEY: Final = {"mainnet": (1596059091, 4492800), "preprod": (1655769600, 86400), "preview": (1666656000, 0)}
_STYLES: Final = {
    "classic": ("forging_enabled", "Forge_forge_about_to_lead_int", "slotNum_int", "blockNum_int", "epoch_int"),
    "new": ("forging_enabled_int", "Forge_about_to_lead_counter", "slotNum_int", "blockNum_int", "epoch_int"),
    "nosuffix": ("forging_enabled", "Forge_about_to_lead", "slotNum", "blockNum", "epoch"),
}


class Refused(Exception):  # noqa: N818
    """The credentials were read but not accepted."""


class Node:
    """The process."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.forging = False
        self.gauge = 1 if options.gauge_starts_at_1 else 0
        self.checks = 0
        self.deaf = options.deaf
        self.reload_s = options.reload_ms / 1000
        self.metrics = "hang" if options.metrics_hang else "on"
        self.stalled_slot: int | None = None
        self.replaying = True
        self._record = os.open(options.record, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644) if options.record else -1
        self._stop = asyncio.Event()
        self._exit = 0
        self._reloads: set[asyncio.Task[None]] = set()
        self._socket: asyncio.Server | None = None

    def note(self, event: str) -> None:
        """One line of the record, in one write."""
        if self._record >= 0:
            line = {"t": time.monotonic_ns(), "event": event, "node": self.options.name}
            os.write(self._record, (json.dumps(line) + "\n").encode())

    @staticmethod
    def say(text: str) -> None:
        print(f"[{NAME}] {text}", flush=True)

    # --- credentials ---

    def credential_paths(self) -> tuple[Path, Path, Path] | None:
        given = (
            self.options.shelley_vrf_key,
            self.options.shelley_operational_certificate,
            self.options.shelley_kes_key,
        )
        return given if all(given) else None

    def read_credentials(self) -> None:
        """In the node's order.  Raises FileNotFoundError (disables) or Refused (changes nothing)."""
        paths = self.credential_paths()
        if paths is None:
            raise FileNotFoundError("no credential flags")
        vrf, cert, kes = paths
        try:
            if vrf.stat().st_mode & 0o077:
                raise Refused(f"{vrf}: other users may read it")
            _cbor(vrf, "VrfSigningKey_PraosVRF", 2 + 64)
            hot = _hot_key(_cbor(cert, "NodeOperationalCertificate", None))
            signing = _cbor(kes, "KesSigningKey_ed25519_kes_2^6", 3 + 608)[3:]
        except FileNotFoundError:
            raise
        except OSError as error:
            raise Refused(f"{error.filename}: {error.strerror}") from None
        if hashlib.blake2b(signing[-64:], digest_size=32).digest() != hot:
            raise Refused("MismatchedKesKey")

    def set_forging(self, on: bool) -> None:
        self.gauge = int(on)
        if on != self.forging:
            self.forging = on
            self.note("on" if on else "off")

    async def reload(self) -> None:
        """One handler run for one SIGHUP."""
        await asyncio.sleep(self.reload_s)
        try:
            self.read_credentials()
        except FileNotFoundError:
            self.say("block forging disabled: credentials missing")
            self.set_forging(False)
        except Refused as error:
            self.say(f"BlockForgingUpdateError: {error}; block forging is not reconfigured")
        else:
            self.say("block forging enabled")
            self.set_forging(True)

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
        options, loop = self.options, asyncio.get_running_loop()
        self.note("start")
        if self.credential_paths() is not None:
            try:
                self.read_credentials()
            except (FileNotFoundError, Refused) as error:
                self.say(f"cannot start: {type(error).__name__}: {error}")
                return 1
        loop.add_signal_handler(signal.SIGHUP, self.on_hup)
        loop.add_signal_handler(signal.SIGTERM, self._stop.set)
        loop.add_signal_handler(signal.SIGINT, self._stop.set)
        await self._serve_metrics()
        await self._serve_control()
        if options.replay_seconds and await self._stopped_within(options.replay_seconds):
            return self._exit
        self.replaying = False
        await self._open_socket()
        if await self._stopped_within(options.flag_gap_ms / 1000):
            return self._exit
        if not options.non_producing and self.credential_paths() is not None:
            self.set_forging(True)
        self.say("up")
        await self._count_slots()
        self.set_forging(False)
        self.note("stop")
        await asyncio.sleep(options.stop_ms / 1000)
        options.socket_path.unlink(missing_ok=True)
        return self._exit

    async def _stopped_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._stop.wait()
        except TimeoutError:
            return False
        return True

    async def _count_slots(self) -> None:
        """Slots begin at whole seconds of the wall clock, as on every public network."""
        while not await self._stopped_within(1 - time.time() % 1):
            if self.forging:
                self.checks += 1
                self.note("slot")

    def slot(self) -> int:
        start, first = _SHELLEY.get(self.options.network, (0, 0))
        return first + int(time.time()) - start

    async def _open_socket(self) -> None:
        path: Path = self.options.socket_path
        path.unlink(missing_ok=True)
        self._socket = await asyncio.start_unix_server(self._greet, path=str(path))

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(0.5):
                await reader.read(1)
        except (TimeoutError, ConnectionError):
            pass
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
        slot = self.stalled_slot if self.stalled_slot is not None else self.slot() - 7
        forging, checks, slots, blocks, epochs = _STYLES[self.options.metric_style]
        values = {forging: self.gauge, slots: slot, blocks: slot // 20, epochs: slot // 432000}
        if self.checks or self.forging:
            values[checks] = self.checks
        values["remainingKESPeriods_int"] = 60
        return "".join(f"cardano_node_metrics_{name} {value}\n" for name, value in values.items())

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(5):
                await reader.readuntil(b"\r\n\r\n")
            while self.metrics == "hang":  # noqa: ASYNC110  # a test changes it through the control socket
                await asyncio.sleep(0.05)
            if self.metrics == "on":
                body = self.exposition().encode()
                head = f"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n\r\n"
                writer.write(head.encode() + body)
                await writer.drain()
        except (TimeoutError, ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        writer.close()

    # --- control, for those who test ---

    async def _serve_control(self) -> None:
        if self.options.control:
            self.options.control.unlink(missing_ok=True)
            await asyncio.start_unix_server(self._control, path=str(self.options.control))

    async def _control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        words = (await reader.readline()).decode().split()
        writer.write((self._obey(words) + "\n").encode())
        await writer.drain()
        writer.close()

    def _obey(self, words: list[str]) -> str:
        match words:
            case ["deaf", state]:
                self.deaf = state == "on"
            case ["reload-ms", number]:
                self.reload_s = int(number) / 1000
            case ["tip-stall", state]:
                self.stalled_slot = self.slot() if state == "on" else None
            case ["tip-behind", number]:
                self.stalled_slot = self.slot() - int(number)
            case ["metrics", state]:
                self.metrics = state
            case ["socket", "off"] if self._socket is not None:
                self._socket.close()
            case ["exit", code]:
                self._exit = int(code)
                self._stop.set()
            case _:
                return "unknown command"
        return "ok"


def _cbor(path: Path, kind: str, size: int | None) -> bytes:
    """The CBOR bytes of a text envelope of this type.  Raises Refused, FileNotFoundError, OSError."""
    try:
        envelope: Any = json.loads(path.read_text())
        raw = bytes.fromhex(envelope["cborHex"])
        if envelope["type"] != kind or (size is not None and len(raw) != size):
            raise Refused(f"{path.name}: not a {kind}")
    except (ValueError, KeyError, TypeError):
        raise Refused(f"{path.name}: not a text envelope") from None
    return raw


def _hot_key(certificate: bytes) -> bytes:
    """[[hot key, counter, period, signature], cold key]: the hot key is the first byte string."""
    if certificate[:2] != b"\x82\x84" or certificate[2:4] != b"\x58\x20":
        raise Refused("node.cert: not an operational certificate")
    return certificate[4:36]


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="devkit.node", description=__doc__.splitlines()[0])
    made.add_argument("run", choices=["run"])
    made.add_argument("--socket-path", type=Path, required=True)
    made.add_argument("--port", type=int, default=0, help="of the metrics; 0: any")
    made.add_argument("--port-file", type=Path)
    made.add_argument("--record", type=Path)
    made.add_argument("--control", type=Path)
    made.add_argument("--name", default="node")
    made.add_argument("--network", default="mainnet")
    made.add_argument("--shelley-kes-key", type=Path)
    made.add_argument("--shelley-vrf-key", type=Path)
    made.add_argument("--shelley-operational-certificate", type=Path)
    made.add_argument(
        "--start-as-non-producing-node", "--non-producing-node", dest="non_producing", action="store_true"
    )
    made.add_argument("--replay-seconds", type=float, default=0.0)
    made.add_argument("--flag-gap-ms", type=float, default=0.0)
    made.add_argument("--reload-ms", type=float, default=5.0)
    made.add_argument("--stop-ms", type=float, default=50.0)
    made.add_argument("--deaf", action="store_true")
    made.add_argument("--metrics-hang", action="store_true")
    made.add_argument("--metric-style", choices=sorted(_STYLES), default="classic")
    made.add_argument("--gauge-starts-at-1", action="store_true")
    for ignored in ("--config", "--topology", "--database-path", "--host-addr"):
        made.add_argument(ignored)
    return made


def main() -> None:
    """Be called cardano-node, by argument and by name, then run."""
    if os.environ.get("DEVKIT_NODE") != "1":
        os.environ["DEVKIT_NODE"] = "1"
        # An interpreter called by another name does not find its own library.
        os.environ["PYTHONHOME"] = f"{sys.base_prefix}:{sys.base_exec_prefix}"
        os.execv(sys.executable, [NAME, "-P", "-S", __file__, *sys.argv[1:]])  # noqa: S606
    libc = ctypes.CDLL(None)
    libc.prctl(15, NAME.encode(), 0, 0, 0)  # PR_SET_NAME
    if parent := os.environ.get("DEVKIT_PARENT"):
        libc.prctl(1, int(signal.SIGKILL), 0, 0, 0)  # PR_SET_PDEATHSIG
        if os.getppid() != int(parent):
            sys.exit(1)
    node_options = parser().parse_args()
    sys.exit(asyncio.run(_run(node_options)))


async def _run(options: argparse.Namespace) -> int:
    return await Node(options).run()


if __name__ == "__main__":
    main()
