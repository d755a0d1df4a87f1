"""A simulated node as tests see it: started, waited for by what it wrote, looked at, ended."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cardano.metrics import NodeMetrics, parse_metrics
from devkit import record

DEADLINE_S = 60.0
"""Generous: only a machine that stands still needs it."""


def wait_until(holds: Callable[[], Any], what: str) -> Any:
    """What `holds` returns once it is true."""
    end = time.monotonic() + DEADLINE_S
    while not (found := holds()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {DEADLINE_S:g} s: {what}")
        time.sleep(0.005)
    return found


class SimulatedNode:
    """One process, and the files by which it is known."""

    def __init__(self, folder: Path, keys: Path | None, *options: str) -> None:
        self.folder = folder
        self.socket_path = folder / "node.socket"
        self.record_path = folder / "record"
        self.log = folder / "log"
        command = [sys.executable, "-m", "devkit.node", "run", "--socket-path", str(self.socket_path)]
        command += ["--record", str(self.record_path), "--port-file", str(folder / "port"), "--name", folder.name]
        command += ["--control", str(folder / "control"), "--die-with", str(os.getpid())]
        if keys is not None:
            command += ["--shelley-kes-key", str(keys / "kes.skey"), "--shelley-vrf-key", str(keys / "vrf.skey")]
            command += ["--shelley-operational-certificate", str(keys / "node.cert")]
        self.earlier = len(self.events())
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, *options], cwd=Path(__file__).parents[2], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def events(self) -> list[dict[str, Any]]:
        return record.read(self.record_path)

    def count(self, event: str, **more: str) -> int:
        """How many such events this process wrote."""
        wanted = {"event": event, **more}
        return sum(wanted.items() <= e.items() for e in self.events()[self.earlier :])

    def wait_for(self, event: str, times: int = 1, **more: str) -> None:
        def happened() -> bool:
            assert self.process.poll() is None or self.count(event, **more) >= times, self.log.read_text()
            return self.count(event, **more) >= times

        wait_until(happened, f"{event} {more} {times} times")

    def hup(self) -> None:
        self.process.send_signal(signal.SIGHUP)

    def hup_and_wait(self, outcome: str) -> None:
        """One SIGHUP, until its handler has run to its end with this outcome."""
        before = self.count("reload")
        self.hup()
        self.wait_for("reload", before + 1)
        last = [e for e in self.events() if e["event"] == "reload"][-1]
        assert last["outcome"] == outcome, self.log.read_text()

    def tell(self, command: str) -> str:
        """One command to its control socket; the answer."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(DEADLINE_S)
            sock.connect(str(self.folder / "control"))
            sock.sendall(command.encode() + b"\n")
            return sock.makefile().read().strip()

    def forging(self) -> bool:
        return bool(json.loads(self.tell("state"))["forging"])

    @property
    def url(self) -> str:
        port = wait_until(lambda: (self.folder / "port").exists() and (self.folder / "port").read_text(), "port file")
        return f"http://127.0.0.1:{int(port)}/metrics"

    def text(self) -> str:
        with urllib.request.urlopen(self.url, timeout=DEADLINE_S) as answer:
            return str(answer.read().decode())

    def metrics(self) -> NodeMetrics:
        return parse_metrics(self.text())

    def ends_with(self) -> int:
        """Wait for its end; the exit code."""
        return self.process.wait(DEADLINE_S)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
