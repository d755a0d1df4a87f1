"""The example client of docs/ is a client: what it prints is what a debug socket tells."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ipc.debug import DebugServer
from ipc.messages import DebugDecisions, DebugWhat, Decision
from ipc.pubsub import listen

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "decisions.mjs"
NODE = shutil.which("node")
PATIENCE_S = 100
pytestmark = pytest.mark.skipif(NODE is None, reason="the example is for Node, which is not installed")
TOLD = (
    Decision(1, "INFO", "started", "", {}),
    Decision(31244649158771, "WARNING", "role_changed", "a \x1b[2J" + "ü" * 40, {"role": "leader", "token": "7"}),
    Decision(2**63, "ERROR", "e" * 31, "x" * 300, {f"name{n}": "y" * n for n in range(20)}),
)


@pytest.fixture
async def path(tmp_path: Path) -> AsyncIterator[Path]:
    yield tmp_path / "debug.sock"
    await asyncio.sleep(0)


async def ran(path: Path) -> tuple[int | None, str, str]:
    assert NODE is not None
    process = await asyncio.create_subprocess_exec(NODE, EXAMPLE, path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    async with asyncio.timeout(PATIENCE_S):
        out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def test_it_prints_each_decision_on_a_line_that_cannot_speak_to_a_terminal(path: Path) -> None:
    many = tuple(Decision(n, "INFO", "e", "m", {}) for n in range(250))
    server = DebugServer(listen(path), parent=None)
    server.answer(DebugWhat.DECISIONS, lambda _: DebugDecisions((*TOLD, *many[: 256 - len(TOLD)]), 300))
    server.start()
    code, out, err = await ran(path)
    server.close()
    lines = out.splitlines()
    assert (code, err, len(lines)) == (0, "", len(TOLD) + len(many))
    assert lines[0] == '1 INFO started: "" {}'
    assert lines[1].startswith('31244649158771 WARNING role_changed: "a \\u001b[2J\\u{fc}\\u{fc}')
    assert lines[1].endswith('{"role":"leader","token":"7"}')
    assert lines[2].startswith(f"{2**63} ERROR {'e' * 31}: ")
    assert out.replace("\n", "").isprintable()


async def test_a_refusal_and_a_closed_door_end_it_with_words(path: Path) -> None:
    server = DebugServer(listen(path), parent=None)
    server.start()
    code, out, err = await ran(path)
    assert (code, out) == (1, "")
    assert "this worker does not answer decisions" in err
    server.close()
    code, out, err = await ran(path)
    assert (code, out) == (1, "")
    assert "ECONNREFUSED" in err


async def test_who_may_not_ask_is_told_so(path: Path) -> None:
    server = DebugServer(listen(path), parent=os.getpid())  # our children are its siblings
    server.start()
    code, _, err = await ran(path)
    server.close()
    assert code == 1
    assert "may this user ask?" in err
