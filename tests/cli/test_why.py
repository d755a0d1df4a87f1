"""`forgectl why`: a paragraph that answers, the decisions behind it, and never what nobody knows."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from test_forgectl import Run, elector_state, publish, run, run_dir

from cli import why
from config import load
from gateway.chronicle import Chronicle
from gateway.story import headline
from gateway.views import Picture
from ipc.messages import Body, DebugDecisions, Decision, State, Worker
from kernel.clock import boottime_ns
from policy import timing

__all__ = ["publish", "run", "run_dir"]  # fixtures

NOW = 1_000 * timing.SECOND


def picture(*bodies: tuple[Worker, Body]) -> Picture:
    states = {worker: State(worker, "a", 1, 1, 0, NOW, NOW + timing.STATE_VALIDITY, body) for worker, body in bodies}
    return Picture(load({"POD_NAME": "pod-0"}), "3", NOW, 0, states, {})


def test_the_paragraph_says_who_how_long_why_and_who_is_next() -> None:
    elector = dataclasses.replace(elector_state("pod-1_bb"), holder_until=NOW + 12 * timing.SECOND)
    shown = picture((Worker.ELECTOR, elector))
    told = why.paragraph(shown, headline(shown, Chronicle()))
    assert told.startswith("pod-0 does not forge. It is not known who forges: workers of this pod are silent.")
    assert "That right lasts 12 s, unless it is renewed." in told
    assert "Why: the actuator is silent; the prober is silent; the arbiter is silent." in told
    assert told.endswith("Next: unknown.")


async def test_it_answers_from_what_there_is_and_names_whom_it_could_not_ask(run: Run, publish: Any) -> None:
    await publish(Worker.ELECTOR, elector_state("pod-1_bb"))
    ran = await run("why")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("pod-0 does not forge. ")
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

    def told(config: object, worker: Worker, *_: object) -> DebugDecisions:
        at = began + list(why.DECIDE).index(worker) * timing.MILLISECOND
        return DebugDecisions((Decision(at, "INFO", "event", f"{worker} spoke", {"token": "4"}),) * 5, 0)

    monkeypatch.setattr(why.asking, "told", told)
    found, unasked = why._decided(load({}))
    assert unasked == []
    assert len(found) == why.MOST
    assert [worker for worker, _ in found] == sorted((w for w, _ in found), key=why.DECIDE.index)
    assert found[-1][0] is Worker.ACTUATOR
