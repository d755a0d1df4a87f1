"""The arbiter's part across clusters: what it says at its start, and that what it held is kept over a restart."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import cast

import pytest

from bench.arbiters import actuator, elector
from config import Config, load
from ipc.messages import ElectorState, Grant, LockPhase, Role, Worker
from kernel.clock import boottime_ns
from kube.session import ApiSession
from policy import timing
from policy.arbitration import Cluster, ClusterSpec, ForgeState, Override, Verdict
from policy.pool_lock import Kept, Term
from workers.clusters import Clusters
from workers.coordination import Around, Coordination
from workers.notebook import Notebook
from workers.pool_lock import NOTES, PoolLockKeeper

LEADS = elector("pod-0")
STANDBY = dataclasses.replace(LEADS, role=Role.STANDBY)
UNSETTLED = dataclasses.replace(LEADS, settled=False)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    given = {"RUN_DIR": str(tmp_path), "POD_NAME": "pod-0", "KUBECONFIG": "/unused", "CLUSTER_REGION": "r"}
    config = load(given | {"ENABLE_CLUSTER_MANAGEMENT": "true", "POOL_ID": "pool1abcdefghijklmno"})
    config.worker_dir(Worker.ARBITER).mkdir()
    return config


@pytest.fixture
def restarted(config: Config) -> Coordination:
    """Of an arbiter whose earlier life held the lock a moment ago; it has no answer of an API server yet."""
    folder, now = config.worker_dir(Worker.ARBITER), boottime_ns()
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


FORGE = Override(enabled=True, force_state=ForgeState.ENABLED, force_priority=1)


@pytest.mark.parametrize("spec", [ClusterSpec(), ClusterSpec(ForgeState.ENABLED), ClusterSpec(override=FORGE)])
def test_what_the_clusters_objects_say_gives_no_right_without_the_lock(
    config: Config, monkeypatch: pytest.MonkeyPatch, spec: ClusterSpec
) -> None:
    """They all agree that this cluster forges; but no coordination API has confirmed the lock."""
    ours = Cluster(config.forge_cluster_name, "r", spec, ready=True, prefers_itself=True, leader="pod-0", ours=True)
    monkeypatch.setattr(Clusters, "views", lambda _: [ours])
    monkeypatch.setattr(Clusters, "known", True)
    monkeypatch.setattr(Clusters, "token", 41)
    monkeypatch.setattr(Clusters, "spec", lambda _: spec)
    coordination, began = Coordination(config, [cast("ApiSession", object())], lambda: None), boottime_ns()
    for seconds in range(0, 120, 5):
        judged = coordination.judge(began + seconds * timing.SECOND, Around(LEADS, actuator(None), None, False))
        assert judged.pool.wanted == config.forge_cluster_name
        assert judged.grant is None


# --- what is said at the start ---


class Still:
    """In place of what asks API servers."""

    def start(self) -> None:
        return


def told(tmp_path: Path, caplog: pytest.LogCaptureFixture, **given: str) -> dict[str, tuple[str, str]]:
    """Event -> level and text, of what is logged when an arbiter with these settings starts."""
    least = {"RUN_DIR": str(tmp_path), "POD_NAME": "pod-0", "KUBECONFIG": "/unused", "CLUSTER_REGION": "r"}
    config = load(least | {"ENABLE_CLUSTER_MANAGEMENT": "true", "POOL_ID": "pool1abcdefghijklmno"} | given)
    config.worker_dir(Worker.ARBITER).mkdir(parents=True)
    members = [cast("ApiSession", object()) for _ in config.coordination_kubeconfigs]
    made = Coordination(config, members, lambda: None)
    made._keeper, made._clusters = cast("PoolLockKeeper", Still()), cast("Clusters", Still())
    caplog.clear()
    with caplog.at_level(logging.INFO, "arbiter"):
        made.start()
    return {vars(record)["event"]: (record.levelname, record.getMessage()) for record in caplog.records}


def test_a_lock_on_ones_own_api_server_is_warned_of_with_the_remedy_unless_it_was_asked_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """In each of three regions with the same environment it is another lock."""
    level, text = told(tmp_path / "unset", caplog)["own_coordination"]
    assert level == "WARNING"
    assert "set it to own if every cluster of the pool does use this very one" in text
    level, text = told(tmp_path / "set", caplog, COORDINATION_KUBECONFIGS="own")["own_coordination"]
    assert level == "INFO"
    assert "set it to own" not in text
    assert told(tmp_path / "other", caplog, COORDINATION_KUBECONFIGS="/a") == {}


def test_with_several_coordination_apis_a_namespace_that_was_not_set_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    three = {"COORDINATION_KUBECONFIGS": "own,/a,/b", "NAMESPACE": "cardano-eu"}
    level, text = told(tmp_path / "unset", caplog, **three)["namespace_by_default"]
    assert level == "WARNING"
    assert "looked for in cardano-eu, this pod's NAMESPACE" in text
    assert told(tmp_path / "set", caplog, COORDINATION_NAMESPACE="cardano", **three) == {}


@pytest.mark.parametrize(("members", "even"), [("own", 0), ("own,/a", 2), ("own,/a,/b", 0), ("own,/a,/b,/c", 4)])
def test_an_even_number_of_coordination_apis_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, members: str, even: int
) -> None:
    said = told(tmp_path / "run", caplog, COORDINATION_KUBECONFIGS=members, COORDINATION_NAMESPACE="cardano")
    assert ("even_members" in said) is bool(even)
    if even:
        assert said["even_members"][0] == "WARNING"
        (record,) = (each for each in caplog.records if vars(each)["event"] == "even_members")
        assert vars(record)["members"] == even
