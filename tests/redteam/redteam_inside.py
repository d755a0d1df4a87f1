"""Sends code into a worker, or into a process outside of any sandbox, and takes the answer."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PATIENCE_S = 15
HERE = Path(__file__).parent
HOOK = HERE / "hook"
MODULES = ("redteam_tools", "redteam_reach", "redteam_power")


def _connect(sock: socket.socket, door: Path) -> None:
    """A worker that is just being started anew is waited for."""
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            return sock.connect(str(door))
        except (ConnectionRefusedError, FileNotFoundError):
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


def ask(door: Path, function: str, argument: object, modules: Sequence[str] = MODULES) -> dict[str, Any]:
    """The answer of the process behind this door.  Raises OSError, ValueError (it hung up)."""
    request = {
        "modules": [[name, (HERE / f"{name}.py").read_text()] for name in modules],
        "function": function,
        "argument": argument,
    }
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(20)
        _connect(sock, door)
        sock.sendall(json.dumps(request).encode())
        sock.shutdown(socket.SHUT_WR)
        data = bytearray()
        while piece := sock.recv(1 << 16):
            data += piece
    answer: dict[str, Any] = json.loads(data)
    return answer
