"""`forgectl why`: a paragraph that answers, the decisions behind it, and never what nobody knows."""

from __future__ import annotations

import dataclasses
import json
import socket
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from test_forgectl import Run, elector_state, publish, run, run_dir

from cli import asking, why
from config import load
from devkit import states
from gateway.chronicle import Chronicle
from gateway.story import headline
from gateway.views import Picture
from ipc.messages import Body, DebugDecisions, Decision, Fence, State, Worker
from kernel.clock import boottime_ns
from policy import timing

__all__ = ["publish", "run", "run_dir"]  # fixtures

NOW = 1_000 * timing.SECOND


def picture(*bodies: tuple[Worker, Body]) -> Picture:
    heard = {worker: State(worker, "a", 1, 1, 0, NOW, NOW + timing.STATE_VALIDITY, body) for worker, body in bodies}
    return Picture(load({"POD_NAME": "pod-0"}), "3", NOW, 0, heard, {})


def test_the_paragraph_says_who_how_long_why_and_who_is_next() -> None:
    elector = dataclasses.replace(elector_state("pod-1_bb"), holder_until=NOW + 12 * timing.SECOND)
    shown = picture((Worker.ELECTOR, elector))
    told = why.paragraph(shown, headline(shown, Chronicle()))
    assert told.startswith("It is not known whether pod-0 forges: its actuator is silent. pod-1 has the right to.")
    assert "That right lasts 12 s, unless it is renewed." in told
    assert "Why: the actuator is silent; the prober is silent; the arbiter is silent." in told
    assert told.endswith("Next: unknown.")


@pytest.mark.parametrize("fence", Fence)
def test_only_a_proven_fence_is_said_not_to_forge(fence: Fence) -> None:
    actuator = dataclasses.replace(states.actuator(), fence=fence)
    shown = picture((Worker.ELECTOR, elector_state("pod-1_bb")), (Worker.ACTUATOR, actuator))
    told = why.paragraph(shown, headline(shown, Chronicle()))
    assert ("pod-0 does not forge" in told) == (fence is Fence.FENCED)
    assert ("not proven" in told) == (fence is not Fence.FENCED)


def test_of_another_pod_it_says_what_is_known_its_right() -> None:
    elector = dataclasses.replace(elector_state("pod-1_bb"), holder_until=NOW + 12 * timing.SECOND)
    shown = picture((Worker.ELECTOR, elector), (Worker.ACTUATOR, states.actuator()))
    told = why.paragraph(shown, headline(shown, Chronicle()))
    assert told.startswith("pod-0 does not forge. pod-1 has the right to. That right lasts 12 s, unless it is renewed.")


async def test_workers_that_hang_cost_one_wait_together(
    run_dir: Path, run: Run, publish: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    hung = []
    for worker in why.DECIDE:
        hung.append(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        hung[-1].bind(str(run_dir / worker / "debug.sock"))
        hung[-1].listen()
    monkeypatch.setattr(why, "PATIENCE_S", 0.2)
    began = time.monotonic()
    found, unasked = why._decided(load({"RUN_DIR": str(run_dir)}))
    assert time.monotonic() - began < asking.PATIENCE_S  # each one's own wait, without one for all
    assert (found, unasked) == ([], [f"the {worker}: no answer in time: the worker hangs" for worker in why.DECIDE])
    for each in hung:
        each.close()


async def test_it_answers_from_what_there_is_and_names_whom_it_could_not_ask(run: Run, publish: Any) -> None:
    await publish(Worker.ELECTOR, elector_state("pod-1_bb"))
    ran = await run("why")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("It is not known whether pod-0 forges: its actuator is silent. ")
    assert ran.out.count("debug.sock: No such file or directory") == len(why.DECIDE)


async def test_as_json_it_is_json_and_nothing_else(run: Run, publish: Any) -> None:
    await publish(Worker.ELECTOR, elector_state())
    shown = json.loads((await run("why", "--json")).out)
    assert shown["standing"] == "unknown"
    assert shown["forger"] is None
    assert shown["decisions"] == []
    assert len(shown["not_asked"]) == len(why.DECIDE)


async def test_without_a_sidecar_it_is_a_fault_in_one_line(run: Run) -> None:
    ran = await run("why")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.endswith("; is the sidecar running here?\n")


def test_decisions_of_all_workers_are_one_story_the_latest_last(monkeypatch: pytest.MonkeyPatch) -> None:
    began = boottime_ns()

    def ask(*_: object) -> ExitStack:
        return ExitStack()

    def answer(config: object, worker: Worker, *_: object) -> DebugDecisions:
        at = began + list(why.DECIDE).index(worker) * timing.MILLISECOND
        return DebugDecisions((Decision(at, "INFO", "event", f"{worker} spoke", {"token": "4"}),) * 5, 0)

    monkeypatch.setattr(why.asking, "ask", ask)
    monkeypatch.setattr(why.asking, "answer", answer)
    found, unasked = why._decided(load({}))
    assert unasked == []
    assert len(found) == why.MOST
    assert [worker for worker, _ in found] == sorted((w for w, _ in found), key=why.DECIDE.index)
    assert found[-1][0] is Worker.ACTUATOR
