"""The kinds of faults: all that were asked for, each with a bound, a victim and one end."""

from __future__ import annotations

import errno
import inspect
import resource
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from devkit.pods import WORKERS

from campaign_breaks import BOTH, BREAKS, CLUSTER, FLEET, cards, scripts
from campaign_parts import planned_rounds
from faults import FAULTS
from hands import no_room

ASKED = {
    CLUSTER: [
        *(f"SIGKILL of the {worker}" for worker in WORKERS),
        *(f"SIGSTOP of the {worker}" for worker in WORKERS),
        *("SIGKILL of supervisord", "SIGKILL of the whole sidecar", "SIGSTOP of the whole sidecar"),
        *("SIGKILL of the node", "SIGTERM of the node", "SIGSTOP of the node"),
        *("SIGTERM of the sidecar", "the pod is replaced", "the pod is lost"),
        *("the node is deaf to SIGHUP", "every node takes long to reload", "the node's metrics hang"),
        *("an API server is killed and comes back", "SIGSTOP of kube-apiserver", "SIGSTOP of etcd"),
        *("the pod's API path hangs", "the pod's API path loses answers", "every API path refuses"),
        *("the Lease is deleted", "the holder is erased by hand", "the Lease is given to a stranger"),
        *("forgectl stand-down", "forgectl drain and come-back", "the credentials are rotated"),
        *("RUN_DIR is full", "pods are upgraded one after another", "the node stays away"),
        *("every connection is cut", "every API path repeats writes"),
    ],
    FLEET: [
        *(f"SIGKILL of the {worker}" for worker in WORKERS),
        *("an API server is killed and comes back", "a pod's path to one member breaks"),
        *("a region is cut off", "a region cannot see the others", "a region is not seen by the others"),
        *("two of three members are out of reach", "the pool's lock is deleted"),
        *("a region is disabled", "an override forces a region", "priorities change"),
        *("a region's health check fails", "a region is lost with its API server"),
        *("the credentials are rotated", "the credentials are rotated region by region", "RUN_DIR is full"),
        *("pods are upgraded one after another", "the pod is replaced", "the node stays away"),
        *("forgectl stand-down", "forgectl drain and come-back", "forgectl pause and resume"),
        *("forgectl disable and enable", "forgectl switchover"),
        *("a pod is cut off from every API server", "every connection is cut", "every API path repeats writes"),
        *("the pool's lock is given to a stranger", "a region's Lease is deleted"),
        *("a region's Lease is given to a stranger", "a regions object is deleted on one member"),
    ],
}


@pytest.mark.parametrize("arena", BOTH)
def test_every_kind_that_was_asked_for_is_in_the_deck(arena: str) -> None:
    assert set(ASKED[arena]) <= {card.kind for card in cards(arena, real=True)}


@pytest.mark.parametrize("kind", sorted(BREAKS))
def test_a_break_has_one_end_a_victim_and_a_bound_that_only_grows(kind: str) -> None:
    found = BREAKS[kind]
    assert inspect.isgeneratorfunction(found.make)
    assert set(found.card.victims) <= {"forger", "standby", "any", "pool"}
    assert 0 <= found.card.hold_s[0] <= found.card.hold_s[1] <= 20
    for arena in found.bound:
        bounds = [found.bound_s(arena, lasted, forging=True) for lasted in (0, 1, 5, 8, 10, 20, 60)]
        assert all(bound >= 0 for bound in bounds)
        assert bounds == sorted(bounds)


def test_who_does_not_forge_costs_nothing_when_he_is_struck_alone() -> None:
    assert BREAKS["SIGKILL of the whole sidecar"].bound_s(CLUSTER, 5, forging=True) == 16
    assert BREAKS["SIGKILL of the whole sidecar"].bound_s(CLUSTER, 5, forging=False) == 0
    assert BREAKS["every API path hangs"].bound_s(CLUSTER, 12, forging=False) > 0


def test_an_outage_that_is_over_before_the_right_is_costs_nothing() -> None:
    outage = BREAKS["every API path refuses"]
    assert outage.bound_s(CLUSTER, 5, forging=True) == 0
    assert outage.bound_s(CLUSTER, 6, forging=True) == 2
    assert outage.bound_s(CLUSTER, 40, forging=True) == FAULTS["all_api_paths_refuse_for_40_s"].bound


def test_short_campaigns_leave_the_long_scripts_out() -> None:
    short, long = scripts(30), scripts(float("inf"))
    assert len(long) == len(FAULTS)
    assert 0 < len(short) < len(long)
    assert all(card.alone for card in long)


@pytest.mark.parametrize("arena", BOTH)
def test_twenty_minutes_of_a_seed_can_be_planned(arena: str) -> None:
    plan = planned_rounds(arena, 7, 20, real=True)
    kinds = {fault.kind for _, planned in zip(range(90), plan, strict=False) for fault in planned.faults}
    assert set(ASKED[arena]) <= kinds


@pytest.mark.parametrize("arena", BOTH)
def test_programs_of_a_real_api_server_are_left_in_peace_where_there_are_none(arena: str) -> None:
    real, embedded = ({card.kind for card in cards(arena, real=real)} for real in (True, False))
    assert real - embedded == {"SIGSTOP of kube-apiserver", "SIGSTOP of etcd"}


WRITER = """
import sys
for line in sys.stdin:
    try:
        with open(sys.argv[1], "w") as file:
            file.write("x")
        print(0, flush=True)
    except OSError as error:
        print(error.errno, flush=True)
"""


def test_where_there_is_no_room_a_worker_can_write_no_file_and_afterwards_it_can_again(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-S", "-c", WRITER, str(tmp_path / "file")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:

        def outcome() -> int:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("\n")
            process.stdin.flush()
            return int(process.stdout.readline())

        class Pod:
            name = "pod-0"
            looked = threading.Event()

            def worker_pids(self) -> dict[str, int]:
                if resource.prlimit(process.pid, resource.RLIMIT_FSIZE)[0] == 0:
                    self.looked.set()
                return {"elector": process.pid}

        pod: Any = Pod()
        assert outcome() == 0
        with no_room(pod):
            assert pod.looked.wait(30)
            assert outcome() == errno.EFBIG
        assert outcome() == 0
        process.communicate()
