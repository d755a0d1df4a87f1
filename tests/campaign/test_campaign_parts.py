"""How a part plays its rounds: whatever goes wrong is told, and nothing that was seen is lost."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import campaign_arenas
import campaign_judge as judge
import campaign_parts as parts
import campaign_plan as plan
from campaign_arenas import FleetArena
from campaign_breaks import BREAKS, CLUSTER, Break
from campaign_logs import Reader
from campaign_oracle import Turn
from campaign_parts import Part, Setting


class NoPods:
    """A pool without a pod."""

    pods: tuple[Any, ...] = ()
    patience_s = 0.0

    def forgers(self) -> list[Any]:
        return []

    def wait_healthy(self, seconds: float) -> None:
        raise ZeroDivisionError("of our own")

    def describe(self, since: int) -> str:
        raise TimeoutError("nobody answers")


class Arena:
    """What a part asks of one, without a process."""

    name = "cluster"
    apis: dict[str, Any] = {}  # noqa: RUF012  # never changed
    home = True

    def __init__(self, root: Path) -> None:
        self.pods, self.root = NoPods(), root
        self.healed = 0
        self.told: list[str] = []
        self.wrong: list[str] = []
        self.token = 3

    def victim(self, whom: str, dice: object) -> Any:
        class Pod:
            name = "pod-0"

        return Pod()

    def heal(self) -> None:
        self.healed += 1

    def insist(self, mend: Callable[[], object]) -> None:
        mend()

    def leases(self) -> list[list[str]]:
        return []

    def disturbed(self) -> None:
        pass

    def settle_debts(self) -> bool:
        return True

    def unrest(self) -> list[str]:
        return []

    def contradictions(self) -> list[str]:
        return self.wrong

    def turn(self) -> Turn:
        return Turn("pod-0", self.token)

    def transitions(self) -> int:
        return -1

    def nodes(self, now: int) -> dict[str, Any]:
        return {}

    def close(self) -> None:
        pass


@pytest.fixture
def arena(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Arena:
    made = Arena(tmp_path)
    monkeypatch.setattr(parts, "ClusterArena", lambda: made)
    return made


@pytest.fixture
def part(arena: Arena, tmp_path: Path) -> Part:
    made = Part(Setting("cluster", 1, 0.0, 0.0, time.monotonic_ns(), tmp_path))
    made._arena = arena  # type: ignore[assignment]
    return made


def a_round() -> judge.Round:
    now = time.monotonic_ns()
    return judge.Round(1, now, now)


def test_a_fault_of_the_campaigns_own_is_a_told_failure_and_the_results_are_there(part: Part) -> None:
    results = part.run()
    assert not results["held"]
    (told,) = (each for each in results["violations"] if "the campaign itself failed" in each)
    assert "ZeroDivisionError: of our own" in told
    assert results["rounds"] == []


def test_what_is_logged_while_the_pool_starts_is_no_rounds_and_its_rotation_explains_what_it_may(
    part: Part, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    log.write_text(
        "".join(
            json.dumps({"level": "ERROR", "event": event, "message": "what it is"}) + "\n"
            for event in ("credential_finding", "term_unreadable")
        )
    )
    reader = Reader("pod-0", log)
    part._read_of_the_start([reader])
    (told,) = part.trouble
    assert "term_unreadable: what it is" in told
    assert reader.unexpected([]) == []


def test_a_fault_that_breaks_off_counts_as_one_that_struck_and_all_is_mended(
    part: Part, arena: Arena, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(arena: object, stroke: object) -> Iterator[None]:
        yield from ()
        raise KeyError("elector")

    monkeypatch.setitem(BREAKS, "half", Break(plan.Card("half"), half, {CLUSTER: 5.0}))
    played = a_round()
    part._strike(plan.Round(1, (plan.Planned("half", "forger", 0.0, 0.0, 1),), 0.0), played)
    (fault,) = played.faults
    assert (fault.missed, fault.bound_s, arena.healed) == ("", 5.0, 1)
    assert fault.told.startswith("broke off: KeyError")


def test_a_pool_at_rest_that_goes_on_contradicting_itself_is_a_violation_and_the_campaign_goes_on(
    part: Part, arena: Arena, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "AGREE_S", 0.0)
    played = a_round()
    arena.wrong = ["the Lease names somebody"]
    assert part._at_rest(played)
    assert played.notes == ["at rest, and contradicts itself: the Lease names somebody"]
    assert "the Lease names somebody" not in part.remarks


def test_a_token_that_fell_since_the_last_rest_is_a_violation_but_after_a_hand_on_the_clusters_lease(
    part: Part, arena: Arena
) -> None:
    assert part._at_rest(a_round())
    played, arena.token = a_round(), 2
    assert part._at_rest(played)
    assert played.notes == ["at rest, and contradicts itself: the fencing token fell from 3 to 2"]
    played, arena.token = a_round(), 1
    played.faults.append(judge.Fault("the Lease is made anew without a holder", "pool", played.began, played.began))
    assert part._at_rest(played)
    assert played.notes == []


def test_a_pool_that_does_not_come_to_rest_says_why(part: Part, arena: Arena, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "READY_S", 0.0)
    monkeypatch.setattr(arena, "unrest", lambda: ["pod-1 is not ready: no reason"])
    played = a_round()
    with pytest.raises(parts.BrokenError):
        part._recover(played)
    assert played.notes[0].endswith("pod-1 is not ready: no reason")
    assert arena.healed == 1
    (file,) = part.setting.folder.glob("evidence-*")
    assert "the pods cannot be described: TimeoutError('nobody answers')" in file.read_text()


class Leader:
    """A fleet of which the forger says this."""

    def __init__(self, pool: dict[str, Any]) -> None:
        self._pool = pool

    def leader(self) -> Leader:
        return self

    def status(self) -> dict[str, Any]:
        return {"pool": self._pool}


def a_fleet(**pool: Any) -> FleetArena:
    made = object.__new__(FleetArena)
    made.disturbed()
    made.fleet = Leader(pool)  # type: ignore[assignment]
    made.apis = dict.fromkeys(("a", "b"))  # type: ignore[arg-type]
    return made


ABLE = {"region": "b", "eligible": True, "priority": 2}


def test_a_fleet_is_at_rest_when_the_region_forges_that_should_and_every_other_could() -> None:
    at_home = a_fleet(wanted="a", cluster="a", clusters=[ABLE])
    assert at_home._not_home() == []
    assert at_home.home
    assert a_fleet(wanted="b", cluster="a", clusters=[ABLE])._not_home() != []
    assert a_fleet(wanted="a", cluster="a", clusters=[ABLE | {"eligible": False}])._not_home() != []
    unwell = a_fleet(wanted="a", cluster="a", clusters=[ABLE | {"priority": 102}])
    assert unwell._not_home() != []
    assert not unwell.home
    assert a_fleet()._not_home() != []


WELL = {"ready": {"ready": True}, "leader": {"role": "leader"}, "workers": {"elector": {"connected": True}}}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({}, []),
        ({"ready": {"ready": False, "reasons": ["a reason"]}}, ["pod-0 is not ready: a reason"]),
        ({"workers": {"elector": {"connected": False}}}, ["pod-0: elector cannot be heard"]),
        ({"leader": {"role": "observer"}}, ["pod-0 forges, and its elector does not lead"]),
    ],
)
def test_a_pool_is_at_rest_when_one_forges_all_are_ready_and_each_worker_lives(
    change: dict[str, Any], why: list[str]
) -> None:
    class Pod:
        name = "pod-0"

        def status(self) -> dict[str, Any]:
            return WELL | change

    class Pods:
        pods = (Pod(),)

        def forgers(self) -> tuple[Pod, ...]:
            return self.pods

    arena = object.__new__(campaign_arenas.ClusterArena)
    arena.pods = Pods()  # type: ignore[assignment]
    assert arena.unrest() == why


def test_a_region_whose_way_home_takes_long_is_waited_for_no_longer_and_the_next_round_knows_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fleet = a_fleet(wanted="b", cluster="a", clusters=[ABLE])
    monkeypatch.setattr(campaign_arenas, "HOME_S", 0.0)
    assert fleet._not_home() == []
    assert not fleet.home
