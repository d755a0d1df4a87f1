"""Days of one pool: short ones in every run, and that what a worker holds too much is seen and named."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from days import (
    BYTES,
    COUNTED,
    DISK,
    OBJECTS,
    POOLS,
    Holding,
    ended,
    grown,
    held,
    is_calm,
    is_for_an_upgrade,
    old_keys,
)

PROGRAM = Path(__file__).with_name("days.py")


@pytest.mark.parametrize("pool", [kind.name for kind in POOLS])
@pytest.mark.timeout(600)
def test_three_short_days_of_a_pool_break_nothing_and_leave_nothing_behind(pool: str) -> None:
    """Rotation, upgrade, a node that flaps, faults; the third is one on which workers live on and are compared."""
    options = ["--days", "3", "--hours", "0.2", "--seed", "1", "--pool", pool]
    done = subprocess.run(
        [sys.executable, str(PROGRAM), *options],
        capture_output=True,
        text=True,
        check=False,
        timeout=580,
        env=os.environ | {"PYTHONHASHSEED": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(f"{pool}: day ") == 3
    assert "(calm)" in done.stdout
    assert done.stdout.endswith(f"{pool}: held\n")


HOLDING = Holding(
    workers={"pod-0 elector": Counter({"": 30_000, "dict": 200}), "pod-1 elector": Counter({"": 20_000, "dict": 100})},
    lives={"pod-0 elector": 1, "pod-1 elector": 2},
    disk={"pod-0": 1000},
    everything=50_000,
    blocks=200_000,
    tasks=30,
    fds=9,
)


def test_what_stays_is_no_finding() -> None:
    assert grown(HOLDING, HOLDING, lived=False) == grown(HOLDING, HOLDING, lived=True) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"everything": 60_000}, "objects of the whole process: 50000 -> 60000"),
        ({"blocks": 230_000}, "pieces of memory of the whole process: 200000 -> 230000"),
        ({"tasks": 31 + COUNTED}, f"tasks: 30 -> {31 + COUNTED}"),
        ({"fds": 10 + COUNTED}, f"descriptors: 9 -> {10 + COUNTED}"),
        ({"disk": {"pod-0": 1001 + DISK}}, f"pod-0: bytes written down: 1000 -> {1001 + DISK}"),
    ],
)
def test_what_there_is_more_of_is_said(changes: dict[str, object], said: str) -> None:
    now = dataclasses.replace(HOLDING, **changes)  # type: ignore[arg-type]
    assert grown(HOLDING, now, lived=False) == [said]


@pytest.mark.parametrize("lived", [True, False])
@pytest.mark.parametrize(("objects", "size"), [(OBJECTS + 50, 0), (1, BYTES * 2)])
def test_a_worker_that_holds_more_is_named_with_what_it_is(objects: int, size: int, *, lived: bool) -> None:
    more = HOLDING.workers["pod-0 elector"] + Counter({"": size, "Observed": objects})
    now = dataclasses.replace(HOLDING, workers=HOLDING.workers | {"pod-0 elector": more})
    (said,) = grown(HOLDING, now, lived=lived)
    assert said.startswith("pod-0 elector holds 200 ->" if lived else "any elector holds 200 ->")
    assert f"Observed +{objects}" in said


def test_a_worker_that_was_started_anew_is_not_compared_with_the_one_before() -> None:
    more = HOLDING.workers["pod-0 elector"] + Counter({"Observed": 1000})
    now = dataclasses.replace(
        HOLDING, workers=HOLDING.workers | {"pod-0 elector": more}, lives=HOLDING.lives | {"pod-0 elector": 99}
    )
    assert grown(HOLDING, now, lived=True) == []


def test_a_worker_that_was_started_anew_on_a_calm_day_is_named() -> None:
    """It began empty: what it held before was compared with nothing."""
    now = dataclasses.replace(HOLDING, lives={"pod-0 elector": 1, "pod-1 elector": 99})
    assert ended(HOLDING, HOLDING) == []
    assert ended(HOLDING, now) == ["pod-1 elector was started anew"]
    assert ended(HOLDING, dataclasses.replace(HOLDING, lives={"pod-1 elector": 2})) == [
        "pod-0 elector was started anew"
    ]


def test_of_twenty_four_days_six_are_for_an_upgrade_and_none_of_these_is_calm() -> None:
    upgrades = [day for day in range(1, 25) if is_for_an_upgrade(day)]
    assert upgrades == [2, 7, 10, 14, 19, 22]
    assert not any(is_calm(day) for day in upgrades)


def test_who_forges_with_keys_of_before_the_last_rotation_is_named() -> None:
    def pod(*, forging: bool, with_keys: int) -> Any:
        node = SimpleNamespace(forging=forging, with_keys=with_keys, keys=SimpleNamespace(source=4))
        return SimpleNamespace(name=f"pod-{with_keys}", node=node)

    assert old_keys([pod(forging=True, with_keys=4), pod(forging=False, with_keys=2)]) == []
    assert old_keys([pod(forging=True, with_keys=3)]) == ["pod-3 forges with set 3, and 4 is in its secret"]


async def test_what_a_task_holds_is_what_can_be_reached_from_its_frames_and_not_the_program() -> None:
    class Worker:
        def __init__(self) -> None:
            self.kept: list[bytes] = []
            self.again = lambda: self.kept
            self.module = os

        async def run(self) -> None:
            await asyncio.Event().wait()

    worker = Worker()
    task = asyncio.create_task(worker.run())
    await asyncio.sleep(0)
    before = held([task])
    worker.kept += [bytes([n]) * 1000 for n in range(50)]
    after = held([task])
    task.cancel()
    assert after["bytes"] - before["bytes"] == 50
    assert after[""] - before[""] > 50_000
    assert before["module"] == 0
    assert before.total() - before[""] < 200
