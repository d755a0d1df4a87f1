"""forgectl as a process of its own: begun with what a test gives it and nothing else, and what came of it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from asyncio.subprocess import Process
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cli import forgectl

PATIENCE_S = 60
FORGECTL = ("-m", "cli.forgectl")


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


async def begin(
    environment: Mapping[str, str], *words: str, program: tuple[str, ...] = FORGECTL, stdout: int = subprocess.PIPE
) -> Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, *program, *words),
        env=environment,
        cwd=Path(forgectl.__file__).parent.parent,
        stdout=stdout,
        stderr=subprocess.PIPE,
    )


async def ended(process: Process) -> Ran:
    """What it printed until it ended by itself, which it must without a trace."""
    async with asyncio.timeout(PATIENCE_S):
        out, err = await process.communicate()
    assert process.returncode is not None
    assert b"Traceback" not in err, err.decode()
    return Ran(process.returncode, (out or b"").decode(), err.decode())
