"""The actuator's loop: whatever goes wrong in a step, the others have their turn and hear of it."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import cast

import pytest

import kernel.plainstage
from config import load
from devkit import keys
from ipc.messages import ActuatorState, Startup
from workers.actuator import Actuator
from workers.runtime import Context

from surroundings import Surroundings

NAMES = {"KES_KEY": "kes.skey", "VRF_KEY": "vrf.skey", "OP_CERT": "node.cert"}


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Callable[[], Surroundings]]:
    """Of an actuator that runs, with good keys and without a node: starts it."""
    keys.generate(tmp_path / "secrets", kes_period=keys.current_kes_period("mainnet"))
    (tmp_path / "ipc").mkdir()
    (tmp_path / "run" / "actuator").mkdir(parents=True)
    environment = {
        **{f"SOURCE_{variable}": str(tmp_path / "secrets" / name) for variable, name in NAMES.items()},
        **{f"TARGET_{variable}": str(tmp_path / "ipc" / name) for variable, name in NAMES.items()},
        "NODE_SOCKET": str(tmp_path / "ipc" / "node.socket"),
        "CARDANO_NODE_PROCESS_NAME": "a-node-that-is-nowhere",
        "RUN_DIR": str(tmp_path / "run"),
        "POD_NAME": "pod-0",
        "CREDENTIAL_MODE": "file",
    }
    made = Surroundings(load(environment))
    running: list[asyncio.Task[None]] = []

    def begin() -> Surroundings:
        running.append(asyncio.create_task(Actuator(cast("Context", made)).run()))
        return made

    yield begin
    made.stopping.set()
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
