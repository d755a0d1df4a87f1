"""`forgectl alive`: a health check that asks whether workers speak, and nothing about forging."""

from __future__ import annotations

import argparse
import os
from typing import Any

import pytest
from test_forgectl import Run, elector_state, publish, run, run_dir

from cli import alive
from cli.asking import Failed
from config import load
from devkit.pod import UIDS
from devkit.states import actuator
from ipc.messages import ArbiterState, GatewayState, ProberState, State, Worker
from kernel.clock import boottime_ns
from policy import timing

__all__ = ["publish", "run", "run_dir"]  # fixtures

SAID = {
    Worker.ACTUATOR: actuator(),
    Worker.ARBITER: ArbiterState(None, "the lease is not ours", cluster_management=False),
    Worker.ELECTOR: elector_state("somebody-else"),
    Worker.GATEWAY: GatewayState(8000, {}),
    Worker.PROBER: ProberState(False, 0, ("no node process",), None, 0, None, ()),
}
"""A standby without a node."""


async def test_a_pod_whose_workers_all_speak_is_alive_whatever_they_say(run: Run, publish: Any) -> None:
    for worker, body in SAID.items():
        await publish(worker, body)
    ran = await run("alive")
    assert (ran.code, ran.out, ran.err) == (0, "alive: prober, elector, arbiter, actuator, gateway\n", "")


async def test_one_that_is_silent_is_named_and_the_pod_is_not_alive(run: Run, publish: Any) -> None:
    for worker, body in SAID.items():
        if worker is not Worker.ARBITER:
            await publish(worker, body)
    ran = await run("alive")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("forgectl: silent: arbiter (")
    assert ";" not in ran.err.partition("; is the sidecar")[0]


def test_one_whose_last_word_has_expired_is_silent_too(monkeypatch: pytest.MonkeyPatch) -> None:
    now = boottime_ns()
    ends = dict.fromkeys(SAID, now + 60 * timing.SECOND) | {Worker.PROBER: now}
    states = {worker: State(worker, "a", 1, 1, 0, now, ends[worker], body) for worker, body in SAID.items()}
    monkeypatch.setattr(alive, "read_states", lambda config, workers: states)
    with pytest.raises(Failed, match=r"^silent: prober \(its last word has expired\)$"):
        alive._alive(load({"RUN_DIR": "/nowhere"}), argparse.Namespace())


def test_where_each_worker_has_a_container_the_one_of_our_user_is_asked() -> None:
    ours = {**UIDS, "prober": os.getuid() or 4711}
    config = load({"WORKER_UIDS": ",".join(f"{name}={uid}" for name, uid in ours.items())})
    asked = alive.ours(config)
    assert asked == ((Worker.PROBER,) if os.getuid() else tuple(Worker)), "root may ask all of them"
    assert alive.ours(load({})) == tuple(Worker)
