"""The actuator's loop: whatever goes wrong in a step, the others have their turn and hear of it."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import cast

import pytest

import kernel.plainstage
from config import load
from devkit import keys
from ipc.messages import ActuatorState, StartFlag, Startup
from kernel.clock import boot_id, boottime_ns
from workers.actuator import Actuator
from workers.runtime import Context

from surroundings import Surroundings

NODE = f"node-{os.getpid()}"
"""No other process has it."""
NAMES = {"KES_KEY": "kes.skey", "VRF_KEY": "vrf.skey", "OP_CERT": "node.cert"}


@pytest.fixture
async def around(tmp_path: Path) -> Surroundings:
    """Of an actuator with good keys and without a node."""
    keys.generate(tmp_path / "secrets", kes_period=keys.current_kes_period("mainnet"))
    (tmp_path / "ipc").mkdir()
    (tmp_path / "run" / "actuator").mkdir(parents=True)
    environment = {
        **{f"SOURCE_{variable}": str(tmp_path / "secrets" / name) for variable, name in NAMES.items()},
        **{f"TARGET_{variable}": str(tmp_path / "ipc" / name) for variable, name in NAMES.items()},
        "NODE_SOCKET": str(tmp_path / "ipc" / "node.socket"),
        "CARDANO_NODE_PROCESS_NAME": NODE,
        "RUN_DIR": str(tmp_path / "run"),
        "POD_NAME": "pod-0",
        "CREDENTIAL_MODE": "file",
    }
    return Surroundings(load(environment))


@pytest.fixture
async def start(around: Surroundings) -> AsyncIterator[Callable[[], Surroundings]]:
    """Has it run."""
    running: list[asyncio.Task[None]] = []

    def begin() -> Surroundings:
        running.append(asyncio.create_task(Actuator(cast("Context", around)).run()))
        return around

    yield begin
    around.stopping.set()
    for task in running:
        await task


async def test_keys_that_cannot_be_written_are_said_and_hold_nobody_up(
    monkeypatch: pytest.MonkeyPatch, start: Callable[[], Surroundings], tmp_path: Path
) -> None:
    tries = []

    def no_room(path: Path, content: object) -> None:
        tries.append(path)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(kernel.plainstage, "write_new", no_room)
        around = start()
        said = await around.until(ActuatorState, lambda s: s.startup is Startup.FAILED)
        assert said.startup_reason == f"{tmp_path}/ipc/.kes.skey.forge-manager: No space left on device"
        assert said.startup_reason in said.refusals
        others = 0
        while len(tries) < 3:
            await asyncio.sleep(0)
            others += 1
        assert others > 1000, "its pauses are pauses"
    await around.until(ActuatorState, lambda s: s.startup is Startup.OFFERED)


async def test_a_target_that_is_a_folder_is_named(start: Callable[[], Surroundings], tmp_path: Path) -> None:
    around = start()
    await around.until(ActuatorState, lambda s: s.startup is Startup.OFFERED)
    for target in (tmp_path / "ipc").iterdir():
        target.unlink()
    (tmp_path / "ipc" / "node.cert").mkdir()
    said = await around.until(ActuatorState, lambda s: s.startup is Startup.FAILED)
    assert said.startup_reason.startswith(f"{tmp_path}/ipc/node.cert is a folder, and the node wants a file there")


BECOMES = "import json, os; os.execv(*json.loads(input()))"
WAITS = "import time; time.sleep(600)"
RELAY = "was given neither a key nor --socket-path: it is taken for a relay"


async def test_a_script_of_the_nodes_name_that_becomes_the_node_is_judged_by_the_nodes_arguments(
    start: Callable[[], Surroundings], tmp_path: Path
) -> None:
    options = (
        *("--shelley-kes-key", f"{tmp_path}/ipc/kes.skey", "--shelley-vrf-key", f"{tmp_path}/ipc/vrf.skey"),
        *("--shelley-operational-certificate", f"{tmp_path}/ipc/node.cert"),
    )
    becomes = [NODE, "-c", BECOMES]
    around = start()
    with subprocess.Popen(becomes, executable=sys.executable, stdin=subprocess.PIPE, text=True) as node:
        try:
            assert node.stdin is not None
            said = await around.until(ActuatorState, lambda s: any(RELAY in refusal for refusal in s.refusals))
            assert said.node is None
            node.stdin.write(json.dumps([sys.executable, [NODE, "-c", WAITS, "run", *options]]) + "\n")
            node.stdin.flush()
            await around.until(
                ActuatorState,
                lambda s: s.node is not None and s.node.flag is StartFlag.PRODUCING and not s.node.problem,
            )
        finally:
            node.kill()


async def test_beside_a_relay_that_names_no_socket_the_node_is_offered_its_files_and_found_when_it_starts(
    start: Callable[[], Surroundings], tmp_path: Path
) -> None:
    around = start()
    options = ("--shelley-kes-key", f"{tmp_path}/ipc/kes.skey", "--start-as-non-producing-node")
    relay = subprocess.Popen([NODE, "-c", WAITS, "run"], executable=sys.executable)
    try:
        said = await around.until(ActuatorState, lambda s: any(RELAY in refusal for refusal in s.refusals))
        assert str(relay.pid) in str(said.refusals)
        assert said.startup is Startup.OFFERED
        with subprocess.Popen([NODE, "-c", WAITS, "run", *options], executable=sys.executable) as node:
            try:
                found = await around.until(ActuatorState, lambda s: s.node is not None)
                assert found.node is not None
                assert found.node.pid == node.pid
            finally:
                node.kill()
    finally:
        relay.kill()
        relay.wait()


async def test_what_was_wrong_with_a_node_that_ends_again_and_again_is_told_between_its_starts(
    start: Callable[[], Surroundings],
) -> None:
    around = start()
    with subprocess.Popen([NODE, "-c", WAITS, "--shelley-kes-key", "k"], executable=sys.executable) as node:
        try:
            await around.until(ActuatorState, lambda s: s.node is not None and bool(s.node.problem))
        finally:
            node.kill()
    said = await around.until(
        ActuatorState, lambda s: any(r.startswith("of the node that ended last: ") for r in s.refusals)
    )
    assert "the node was started without --shelley-vrf-key" in str(said.refusals)


async def test_a_node_that_ends_is_a_warning(
    start: Callable[[], Surroundings], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    around = start()
    with subprocess.Popen([NODE, "-c", WAITS, "--shelley-kes-key", "k"], executable=sys.executable) as node:
        try:
            await around.until(ActuatorState, lambda s: s.node is not None)
        finally:
            node.kill()
    await around.until(ActuatorState, lambda s: s.node is None)
    levels = {getattr(each, "event", ""): each.levelname for each in caplog.records}
    assert (levels["node_found"], levels["node_gone"]) == ("INFO", "WARNING")


@pytest.mark.parametrize(
    ("note", "void"),
    [
        (None, False),
        (json.dumps({"boot": "another", "void_before": 12345}), False),
        ("nonsense", True),
        ("{}", True),
    ],
)
async def test_without_a_note_of_this_boot_grants_count_and_with_one_that_cannot_be_read_none_from_before(
    start: Callable[[], Surroundings], tmp_path: Path, note: str | None, void: bool
) -> None:
    if note is not None:
        (tmp_path / "run/actuator/jump").write_text(note)
    before = boottime_ns()
    said = await start().until(ActuatorState, lambda _: True)
    assert (said.void_before >= before) is void
    assert void or said.void_before == 0


async def test_what_a_jump_of_the_clock_made_void_stays_so_in_the_next_life(
    monkeypatch: pytest.MonkeyPatch, around: Surroundings, start: Callable[[], Surroundings], tmp_path: Path
) -> None:
    earlier = Actuator(cast("Context", around))
    monkeypatch.setattr(earlier._wall, "jumped", lambda: True)
    earlier._wall_clock_jumped()
    earlier._close(asyncio.get_running_loop())
    assert json.loads((tmp_path / "run/actuator/jump").read_text())["boot"] == boot_id()
    said = await start().until(ActuatorState, lambda _: True)
    assert said.void_before == earlier._void_before > 0
