"""The arbiter's part across clusters right after a restart: what it held is kept until it knows why not to."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import cast

import pytest

from bench.arbiters import actuator, elector
from config import load
from ipc.messages import ElectorState, Grant, LockPhase, Role, Worker
from kernel.clock import boottime_ns
from kube.session import ApiSession
from policy import timing
from policy.arbitration import Verdict
from policy.pool_lock import Kept, Term
from workers.coordination import Around, Coordination
from workers.notebook import Notebook
from workers.pool_lock import NOTES

LEADS = elector("pod-0")
STANDBY = dataclasses.replace(LEADS, role=Role.STANDBY)
UNSETTLED = dataclasses.replace(LEADS, settled=False)


@pytest.fixture
def restarted(tmp_path: Path) -> Coordination:
    """Of an arbiter whose earlier life held the lock a moment ago; it has no answer of an API server yet."""
    given = {"RUN_DIR": str(tmp_path), "POD_NAME": "pod-0", "KUBECONFIG": "/unused", "CLUSTER_REGION": "r"}
    config = load(given | {"ENABLE_CLUSTER_MANAGEMENT": "true", "POOL_ID": "pool1abcdefghijklmno"})
    folder, now = config.worker_dir(Worker.ARBITER), boottime_ns()
    folder.mkdir()
    grant = Grant(f"{config.forge_cluster_name}/pod-0_abcd", 3, now + 12 * timing.SECOND, now, exclusive=True)
    kept = Kept(phase=LockPhase.HELD, term=Term(3, "key", now), granted=grant, highest=3)
    notes = {"instance": "abcd", "kept": dataclasses.asdict(kept), "seen": {}}
    Notebook(folder, logging.getLogger("test"), NOTES).keep(notes)
    return Coordination(config, [cast("ApiSession", object())], lambda: None)


def _phase(
    restarted: Coordination, heard: ElectorState | None, *, after_s: float = 0, stopping: bool = False
) -> LockPhase:
    around = Around(heard, actuator(None) if heard is not None else None, None, stopping)
    judged = restarted.judge(boottime_ns() + int(after_s * timing.SECOND), around)
    assert (judged.grant is not None) == (judged.pool.phase is LockPhase.HELD)
    return judged.pool.phase


@pytest.mark.parametrize("heard", [None, UNSETTLED, LEADS])
def test_the_lock_is_kept_while_it_is_not_known_what_the_clusters_say(
    restarted: Coordination, heard: ElectorState | None
) -> None:
    assert _phase(restarted, heard) is LockPhase.HELD
    assert _phase(restarted, heard, after_s=8) is LockPhase.HELD


def test_the_lock_is_let_go_when_nothing_is_heard_for_long(restarted: Coordination) -> None:
    assert _phase(restarted, LEADS) is LockPhase.HELD
    assert _phase(restarted, LEADS, after_s=10.5) is LockPhase.DRAINING


def test_the_lock_is_let_go_at_once_by_whom_the_elector_tells_that_it_does_not_lead(restarted: Coordination) -> None:
    assert _phase(restarted, None) is LockPhase.HELD
    assert _phase(restarted, STANDBY) is LockPhase.DRAINING


def test_the_lock_is_let_go_at_once_by_whoever_is_asked_to_stop(restarted: Coordination) -> None:
    assert _phase(restarted, LEADS, stopping=True) is LockPhase.DRAINING


def test_only_who_reaches_a_majority_of_the_coordination_apis_says_that_it_should_forge(
    restarted: Coordination,
) -> None:
    first = Verdict((), want=True, place=0, successor="", why="it is the best", look_again=0)
    now = boottime_ns()
    cut_off = restarted._preferred(now, first, 0)
    assert (cut_off.status, cut_off.reason) == (False, "MajorityLost")
    assert restarted._preferred(now, first, 1).status
    assert not restarted._preferred(now, dataclasses.replace(first, place=1), 1).status


def test_only_who_could_take_the_lock_when_it_is_released_says_that_it_should_forge(restarted: Coordination) -> None:
    """On this word a holder lets go: who has not seen a member yet counts it as held, and would leave a gap."""
    first = Verdict((), want=True, place=0, successor="", why="it is the best", look_again=0)
    assert _phase(restarted, STANDBY) is LockPhase.DRAINING
    assert restarted._preferred(boottime_ns(), first, 1).status, "it has the lock yet"
    lock = restarted._keeper.lock
    lock.phase, lock.term = LockPhase.IDLE, None
    unsure = restarted._preferred(boottime_ns(), first, 1)
    assert (unsure.status, unsure.reason) == (False, "NotSureYet")
    lock.saw(0, None, boottime_ns(), read=True)
    later = boottime_ns() + 16 * timing.SECOND
    assert restarted._preferred(later, first, 1).status
