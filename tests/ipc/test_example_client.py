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

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "decisions.go"
GO = shutil.which("go")
PATIENCE_S = 250
pytestmark = [
    pytest.mark.timeout(300),  # the compiler, on a busy machine
    pytest.mark.skipif(GO is None, reason="the example is a Go program, and Go is not installed"),
]
TOLD = (
    Decision(1, "INFO", "started", "", {}),
    Decision(31244649158771, "WARNING", "role_changed", "a \x1b[2J" + "ü" * 40, {"role": "leader", "token": "7"}),
    Decision(2**63, "ERROR", "e" * 31, "x" * 300, {f"name{n}": "y" * n for n in range(20)}),
)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("go")
    built = folder / "decisions"
    assert GO is not None
    home = {"HOME": str(folder), "GOCACHE": str(folder / "cache"), "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=mod"}
    environment = {"PATH": os.environ.get("PATH", os.defpath), "GO111MODULE": "off"} | home
    subprocess.run([GO, "build", "-o", built, EXAMPLE], env=environment, cwd=folder, check=True, timeout=PATIENCE_S)
    return built


@pytest.fixture
async def path(tmp_path: Path) -> AsyncIterator[Path]:
    yield tmp_path / "debug.sock"
    await asyncio.sleep(0)


async def ran(program: Path, path: Path) -> tuple[int | None, str, str]:
    process = await asyncio.create_subprocess_exec(program, path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    async with asyncio.timeout(PATIENCE_S):
        out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def test_it_prints_each_decision_on_a_line_that_cannot_speak_to_a_terminal(program: Path, path: Path) -> None:
    many = tuple(Decision(n, "INFO", "e", "m", {}) for n in range(250))
    server = DebugServer(listen(path), parent=None)
    server.answer(DebugWhat.DECISIONS, lambda _: DebugDecisions((*TOLD, *many[: 256 - len(TOLD)]), 300))
    server.start()
    code, out, err = await ran(program, path)
    server.close()
    lines = out.splitlines()
    assert (code, err, len(lines)) == (0, "", len(TOLD) + len(many))
    assert lines[0] == '1 INFO started: "" map[]'
    assert lines[1].startswith('31244649158771 WARNING role_changed: "a \\x1b[2Jüü')
    assert lines[1].endswith('map["role":"leader" "token":"7"]')
    assert lines[2].startswith(f"{2**63} ERROR {'e' * 31}: ")


async def test_a_refusal_and_a_closed_door_end_it_with_words(program: Path, path: Path) -> None:
    server = DebugServer(listen(path), parent=None)
    server.start()
    code, out, err = await ran(program, path)
    assert (code, out) == (1, "")
    assert "this worker does not answer decisions" in err
    server.close()
    code, out, err = await ran(program, path)
    assert (code, out) == (1, "")
    assert "connection refused" in err


async def test_who_may_not_ask_is_told_so(program: Path, path: Path) -> None:
    server = DebugServer(listen(path), parent=os.getpid())  # our children are its siblings
    server.start()
    code, _, err = await ran(program, path)
    server.close()
    assert code == 1
    assert "may this user ask?" in err or "connection reset" in err or "broken pipe" in err
