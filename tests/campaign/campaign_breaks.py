"""Faults that have a beginning and an end, so that another can begin while one lasts.

A break is a generator: up to its `yield` it breaks something, after that it mends it.  Its bound is what it may cost
alone: seconds without a forger, of a cluster all together, of a fleet the longest time.  Bounds are those of
`tests/e2e/faults.py` and `tests/simulation/fleet_schedules.py`; what differs from them is said beside it.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from devkit.pods import WORKERS, Pod
from devkit.proxy import FaultyProxy
from devkit.realapi.client import AdminClient
from devkit.siege import Siege

from campaign_arenas import REFUSALS, Arena, ClusterArena, FleetArena, empty
from campaign_plan import Card
from faults import FAULTS, FENCED_EARLY_S, FORGING_ON_S, LEASE_S, LONGEST_RENEWAL_S
from fleets import cut
from hands import forge_a_release, give_lease_to, lease, make_lease_without_holder, no_room, other_secrets

HAND_OVER_S: Final = 1.0
UNPLANNED_S: Final = LEASE_S + 1
TAKEN_S: Final = FAULTS["the_lease_is_taken_over_by_hand"].bound
END_S: Final = 30.0
"""A pod's processes are gone so long after they were told to end, or killed, or something is wrong with the machine."""
UPGRADED_S: Final = 60.0
"""A StatefulSet's next pod is replaced when the one before is ready: it waits a lease duration, and starts."""
CLUSTER, FLEET = "cluster", "fleet"
BOTH: Final = (CLUSTER, FLEET)


class MissedError(Exception):
    """There was nothing to strike, and why."""


@dataclass(slots=True)
class Stroke:
    """One fault that is being made."""

    pod: Pod
    """Its victim (anyone, if the whole pool is)."""
    hold_s: float
    dice: random.Random
    forging: bool
    """Whether the victim forged when it began."""
    bound_s: float | None = None
    """Where a break knows it better than its kind does."""
    told: list[str] = field(default_factory=list)

    def tell(self, text: str) -> None:
        self.told.append(text)


Make = Callable[[Any, Stroke], Iterator[None]]
Bound = float | Callable[[float], float]
"""Seconds, or what follows from how many seconds it lasted."""


@dataclass(frozen=True, slots=True)
class Break:
    """A kind."""

    card: Card
    make: Make
    bound: dict[str, Bound]
    """For each kind of arena that it is for."""
    real: bool = False
    """Whether it needs a real API server."""

    def bound_s(self, arena: str, lasted_s: float, *, forging: bool) -> float:
        """Who does not forge costs nothing when it is struck, as long as it is struck alone."""
        bound = self.bound[arena]
        if not forging and "pool" not in self.card.victims:
            return 0.0
        return bound(lasted_s) if callable(bound) else bound


BREAKS: dict[str, Break] = {}


def a_break(
    cluster: Bound | None = None,
    fleet: Bound | None = None,
    *,
    weight: int = 1,
    hold: tuple[float, float] = (0.3, 1.5),
    victims: tuple[str, ...] = ("forger",),
    group: str = "",
    alone: bool = False,
    name: str = "",
    real: bool = False,
) -> Callable[[Make], Make]:
    def register(make: Make) -> Make:
        kind = name or make.__name__.replace("_", " ")
        bounds: dict[str, Bound] = {}
        if cluster is not None:
            bounds[CLUSTER] = cluster
        if fleet is not None:
            bounds[FLEET] = fleet
        assert kind not in BREAKS, kind
        BREAKS[kind] = Break(Card(kind, weight, hold, victims, group, alone), make, bounds, real)
        return make

    return register


def cards(arena: str, *, real: bool) -> list[Card]:
    """Of the kinds for this kind of arena, around real API servers or embedded ones."""
    return [each.card for each in BREAKS.values() if arena in each.bound and (real or not each.real)]


MOSTLY_THE_FORGER: Final = ("forger", "forger", "standby")
POOL: Final = ("pool",)


# --- processes that end ---


def _kill_worker(worker: str) -> Make:
    def make(arena: Arena, stroke: Stroke) -> Iterator[None]:
        _signal(stroke.pod.worker_pids().get(worker, 0), signal.SIGKILL)
        yield

    return make


def _signal(pid: int, sig: int) -> None:
    if pid <= 1:
        raise MissedError("no such process")
    try:
        os.kill(pid, sig)
    except ProcessLookupError:
        raise MissedError("it had just ended") from None


for _worker in WORKERS:
    # In a fleet the arbiter holds the pool's lock: its next life asks every member before it grants again.
    a_break(
        cluster=FAULTS[f"sigkill_of_the_{_worker}"].bound,
        fleet=3 if _worker == "actuator" else HAND_OVER_S if _worker in ("arbiter", "elector") else 0,
        victims=MOSTLY_THE_FORGER,
        name=f"SIGKILL of the {_worker}",
    )(_kill_worker(_worker))


def _revive(pod: Pod) -> None:
    pod.restart_sidecar_after = None
    pod.revive()


@a_break(1, HAND_OVER_S, weight=3, hold=(0.5, 3), victims=("forger", "forger", "any"), name="SIGTERM of the sidecar")
def sigterm_of_the_sidecar(arena: Arena, stroke: Stroke) -> Iterator[None]:
    if not stroke.pod.sidecar_running():
        raise MissedError("its sidecar is down")
    stroke.pod.terminate()
    yield
    _revive(stroke.pod)


@a_break(UNPLANNED_S, UNPLANNED_S, hold=(1, 6), victims=MOSTLY_THE_FORGER, name="SIGKILL of supervisord")
def sigkill_of_supervisord(arena: Arena, stroke: Stroke) -> Iterator[None]:
    stroke.pod.kill_supervisor()
    yield
    _revive(stroke.pod)


@a_break(UNPLANNED_S, UNPLANNED_S, hold=(1, 17), victims=MOSTLY_THE_FORGER, name="SIGKILL of the whole sidecar")
def sigkill_of_the_sidecar(arena: Arena, stroke: Stroke) -> Iterator[None]:
    stroke.pod.kill_sidecar()
    yield
    _revive(stroke.pod)


def _leave(pod: Pod) -> None:
    """Node and sidecar get SIGTERM together, as the kubelet sends it."""
    pod.restart_node = False
    pod.terminate()
    pod.kill_node(signal.SIGTERM)


def _replace(pod: Pod) -> None:
    """By another of its name: nothing of the old one is left, neither processes nor what they wrote down.

    Raises TimeoutError: its processes do not end, not even by SIGKILL.
    """
    grace, end = time.monotonic() + 10, time.monotonic() + 10 + END_S
    while pod.sidecar_running() or pod.node_pid:
        if time.monotonic() > end:
            raise TimeoutError(f"the processes of {pod.name} do not end")
        if time.monotonic() > grace:
            pod.kill_sidecar()
            pod.kill_node()
        time.sleep(0.02)
    for folder in (pod.run_dir, pod.ipc):
        empty(folder)
    _revive(pod)


@a_break(1, HAND_OVER_S, weight=2, hold=(0.5, 3), victims=MOSTLY_THE_FORGER)
def the_pod_is_replaced(arena: Arena, stroke: Stroke) -> Iterator[None]:
    _leave(stroke.pod)
    yield
    _replace(stroke.pod)


@a_break(3, HAND_OVER_S, hold=(0.5, 2), victims=POOL, alone=True)
def pods_are_upgraded_one_after_another(arena: Arena, stroke: Stroke) -> Iterator[None]:
    """Those of one StatefulSet, the last one first, each when the one before is ready: a hand-over for each at most."""
    pods = arena.together_with(stroke.pod)[::-1]
    stroke.tell(", ".join(pod.name for pod in pods))
    _leave(pods[0])
    yield
    _replace(pods[0])
    for before, pod in itertools.pairwise(pods):
        end = time.monotonic() + UPGRADED_S
        while not before.healthy():
            if time.monotonic() > end:
                stroke.tell(f"{before.name} was not ready after {UPGRADED_S:g} s: the rest was let be")
                return
            time.sleep(0.2)
        _leave(pod)
        _replace(pod)


@a_break(UNPLANNED_S, UNPLANNED_S, hold=(0.5, 10), victims=MOSTLY_THE_FORGER)
def the_pod_is_lost(arena: Arena, stroke: Stroke) -> Iterator[None]:
    """As with its machine; another comes, with an empty RUN_DIR."""
    stroke.pod.restart_node = False
    stroke.pod.kill_node()
    stroke.pod.kill_sidecar()
    yield
    _replace(stroke.pod)


def _end_node(sig: int) -> Make:
    def make(arena: Arena, stroke: Stroke) -> Iterator[None]:
        _signal(stroke.pod.node_pid, sig)
        yield

    return make


a_break(1, HAND_OVER_S, weight=2, victims=MOSTLY_THE_FORGER, name="SIGKILL of the node")(_end_node(signal.SIGKILL))
a_break(1, HAND_OVER_S, weight=2, victims=MOSTLY_THE_FORGER, name="SIGTERM of the node")(_end_node(signal.SIGTERM))


@a_break(1, HAND_OVER_S)
def the_node_ends_by_itself(arena: Arena, stroke: Stroke) -> Iterator[None]:
    _control(stroke.pod, "exit 1")
    yield


@a_break(1, HAND_OVER_S, hold=(2, 10), victims=MOSTLY_THE_FORGER)
def the_node_stays_away(arena: Arena, stroke: Stroke) -> Iterator[None]:
    _signal(stroke.pod.node_pid, signal.SIGKILL)
    stroke.pod.restart_node = False
    yield
    stroke.pod.restart_node = True


# --- processes that stand still ---


def _freeze_worker(worker: str) -> Make:
    def make(arena: Arena, stroke: Stroke) -> Iterator[None]:
        pid = stroke.pod.worker_pids().get(worker, 0)
        _signal(pid, signal.SIGSTOP)
        yield
        stroke.pod.thaw([pid])

    return make


for _worker in WORKERS:
    a_break(
        cluster=FAULTS[f"sigstop_of_the_{_worker}_for_40_s"].bound,
        fleet=3 if _worker == "actuator" else HAND_OVER_S if _worker in ("arbiter", "elector") else 0,
        hold=(2, 9),
        victims=MOSTLY_THE_FORGER,
        name=f"SIGSTOP of the {_worker}",
    )(_freeze_worker(_worker))


@a_break(UNPLANNED_S, UNPLANNED_S, hold=(3, 20), victims=MOSTLY_THE_FORGER, name="SIGSTOP of the whole sidecar")
def sigstop_of_the_sidecar(arena: Arena, stroke: Stroke) -> Iterator[None]:
    frozen = stroke.pod.freeze_sidecar()
    yield
    stroke.pod.thaw(frozen)


@a_break(1, HAND_OVER_S, hold=(1, 15), name="SIGSTOP of the node")
def sigstop_of_the_node(arena: Arena, stroke: Stroke) -> Iterator[None]:
    pid = stroke.pod.node_pid
    _signal(pid, signal.SIGSTOP)
    yield
    stroke.pod.thaw([pid])


# --- the node's manners ---


def _control(pod: Pod, command: str) -> None:
    try:
        pod.node_control(command)
    except OSError as error:
        raise MissedError(f"its node does not listen: {error}") from None


def _node_manner(bad: str, good: str) -> Make:
    def make(arena: Arena, stroke: Stroke) -> Iterator[None]:
        _control(stroke.pod, bad)
        yield
        with contextlib.suppress(OSError):  # another node is there meanwhile, which never was bad
            stroke.pod.node_control(good)

    return make


# A node that is deaf, or slow, costs nothing until it is asked for something: that is what comes beside it.
a_break(0, HAND_OVER_S, weight=2, hold=(2, 7), name="the node is deaf to SIGHUP")(_node_manner("deaf on", "deaf off"))
a_break(0, 0, hold=(3, 9), name="the node's metrics hang")(_node_manner("metrics hang", "metrics on"))
a_break(0, 0, hold=(1, 4), name="the node's metrics are gone")(_node_manner("metrics off", "metrics on"))
a_break(
    FAULTS["a_stuck_tip_hands_over_to_a_fresh_one"].bound,
    FAULTS["a_stuck_tip_hands_over_to_a_fresh_one"].bound,
    hold=(2, 15),
    name="the node's tip is stuck",
)(_node_manner("tip-behind 600", "tip-stall off"))


@a_break(0, FAULTS["a_node_that_takes_a_second_to_reload_is_waited_for"].bound, weight=2, hold=(2, 8), victims=POOL)
def every_node_takes_long_to_reload(arena: Arena, stroke: Stroke) -> Iterator[None]:
    length = stroke.dice.randrange(300, 1000)
    stroke.tell(f"{length} ms")
    for pod in arena.pods.pods:
        with contextlib.suppress(OSError):
            pod.node_control(f"reload-ms {length}")
    yield
    for pod in arena.pods.pods:
        with contextlib.suppress(OSError):
            pod.node_control("reload-ms 5")


# --- the API path ---

WAYS: Final[dict[str, Callable[[FaultyProxy], None]]] = {
    "hangs": lambda path: path.hang(),
    "refuses": lambda path: path.refuse(),
    "answers 500": lambda path: path.answer(500),
    "answers 429": lambda path: path.answer(429, {"Retry-After": "1"}),
    "answers 403": lambda path: path.answer(403),
    "answers 409": lambda path: path.answer(409),
    "loses answers": lambda path: path.lose_answers(),
    "takes 0.8 s": lambda path: path.slow(0.8),
}
SHORT_S: Final = FORGING_ON_S - 2
"""An outage that is over by then costs nothing, retries and a last slow renewal included."""


def _without_api(longest_s: float) -> Callable[[float], float]:
    return lambda lasted_s: 0.0 if lasted_s < SHORT_S else longest_s


def _api_path(how: str) -> Make:
    def make(arena: Arena, stroke: Stroke) -> Iterator[None]:
        WAYS[how](stroke.pod.proxy)
        yield
        stroke.pod.proxy.let_pass()

    return make


for _how in WAYS:
    # Struck at any moment of the renewals: the arbiter's right may be older by one of them than what the others count
    # from.  With answers lost the Lease is renewed up to the last attempt, unknown to the leader.
    _longest = {"loses answers": UNPLANNED_S, "takes 0.8 s": 0.0}.get(_how, FENCED_EARLY_S + LONGEST_RENEWAL_S)
    a_break(
        cluster=_without_api(_longest),
        fleet=HAND_OVER_S,
        hold=(2, 15),
        victims=MOSTLY_THE_FORGER,
        name=f"the pod's API path {_how}",
    )(_api_path(_how))


def _outage(lasted_s: float) -> float:
    """Of a pool's only API: nobody has a right after that, and 2 s after it is back one forges."""
    return 0.0 if lasted_s < SHORT_S else max(0.0, lasted_s - FORGING_ON_S) + 2


def _all_paths(how: str) -> Make:
    def make(arena: Arena, stroke: Stroke) -> Iterator[None]:
        for path in arena.pods.paths:
            WAYS[how](path)
        yield
        for path in arena.pods.paths:
            path.let_pass()

    return make


def _fleet_outage(lasted_s: float) -> float:
    """Of a majority: members that were out of reach count as held for a lease duration, for all but their holder."""
    return _outage(lasted_s) and UNPLANNED_S + _outage(lasted_s)


for _how in ("hangs", "refuses", "answers 500"):
    a_break(
        cluster=_outage,
        fleet=_fleet_outage,
        hold=(2, 12),
        victims=POOL,
        group="api",
        name=f"every API path {_how}",
    )(_all_paths(_how))


@a_break(0, 0, weight=2, hold=(0, 0), victims=POOL, group="api")
def every_connection_is_cut(arena: Arena, stroke: Stroke) -> Iterator[None]:
    """As by a load balancer that is replaced: all watches end at once, and requests that are under way."""
    for path in arena.pods.paths:
        path.refuse()
    for path in arena.pods.paths:
        path.let_pass()
    yield


@a_break(0, HAND_OVER_S, hold=(2, 15), victims=POOL, group="api")
def every_API_path_repeats_writes(arena: Arena, stroke: Stroke) -> Iterator[None]:
    """As something on the way may that gets no answer in time: what arrived arrives once more, later."""
    late_s = stroke.dice.uniform(0.1, 1.5)
    stroke.tell(f"after {late_s:.1f} s")
    for path in arena.pods.paths:
        path.repeat(late_s)
    yield
    for path in arena.pods.paths:
        path.let_pass()


def _cut_off_longest(lasted_s: float) -> float:
    return HAND_OVER_S if lasted_s < SHORT_S else UNPLANNED_S


@a_break(fleet=_cut_off_longest, weight=2, hold=(2, 18), victims=MOSTLY_THE_FORGER, group="api")
def a_pod_is_cut_off_from_every_API_server(arena: FleetArena, stroke: Stroke) -> Iterator[None]:
    how = stroke.dice.choice(["hangs", "refuses"])
    stroke.tell(how)
    paths = [arena.fleet.path(stroke.pod, region) for region in arena.regions]
    for path in paths:
        WAYS[how](path)
    yield
    for path in paths:
        path.let_pass()


# --- the API servers ---


def _some_api(arena: Arena, stroke: Stroke) -> str:
    region = stroke.dice.choice(list(arena.apis))
    if len(arena.apis) > 1:
        stroke.tell(region)
    return region


@a_break(_outage, HAND_OVER_S, weight=2, hold=(0, 6), victims=POOL, group="api")
def an_API_server_is_killed_and_comes_back(arena: Arena, stroke: Stroke) -> Iterator[None]:
    api = arena.apis[_some_api(arena, stroke)]
    api.kill_sync()
    yield
    api.restart_sync()


@a_break(_outage, HAND_OVER_S, hold=(0, 0), victims=POOL, group="api")
def an_API_server_restarts_in_order(arena: Arena, stroke: Stroke) -> Iterator[None]:
    yield
    arena.apis[_some_api(arena, stroke)].restart_sync()


def _stall(program: str) -> Make:
    def make(arena: Arena, stroke: Stroke) -> Iterator[None]:
        pids: dict[str, int] = getattr(arena.apis[_some_api(arena, stroke)], "pids", {})
        pid = pids.get(program, 0)
        _signal(pid, signal.SIGSTOP)
        arena.frozen.add(pid)
        yield
        stroke.pod.thaw([pid])
        arena.frozen.discard(pid)

    return make


for _program in ("kube-apiserver", "etcd"):
    a_break(_outage, HAND_OVER_S, hold=(2, 11), victims=POOL, group="api", name=f"SIGSTOP of {_program}", real=True)(
        _stall(_program)
    )


# --- hands on the Lease ---


UNANSWERED: Final = "the API server did not answer"


def _hand(act: Callable[[ClusterArena, Stroke], object]) -> Make:
    def make(arena: ClusterArena, stroke: Stroke) -> Iterator[None]:
        try:
            act(arena, stroke)
        except TimeoutError:  # it may be done all the same, now or later
            stroke.tell(UNANSWERED)
        except REFUSALS as error:
            raise MissedError(f"the API server did not let it: {str(error)[:80]}") from None
        yield

    return make


def _delete_and_make(arena: ClusterArena, stroke: Stroke) -> None:
    lease(arena.cluster, "DELETE")
    make_lease_without_holder(arena.cluster)


def _give_to_standby(arena: ClusterArena, stroke: Stroke) -> None:
    identity = (stroke.pod.status().get("leader") or {}).get("identity", "")
    if not identity:
        raise MissedError("nobody tells its identity")
    give_lease_to(arena.cluster, identity)


HANDS: Final[dict[str, tuple[float, tuple[str, ...], Callable[[ClusterArena, Stroke], object]]]] = {
    "the Lease is deleted": (0, POOL, lambda arena, _: lease(arena.cluster, "DELETE")),
    "the Lease is made anew without a holder": (0, POOL, _delete_and_make),
    "the holder is erased by hand": (0, POOL, lambda arena, _: give_lease_to(arena.cluster, "")),
    "a release is forged": (0, POOL, lambda arena, _: forge_a_release(arena.cluster)),
    "the Lease is given to a stranger": (TAKEN_S, POOL, lambda arena, _: give_lease_to(arena.cluster, "somebody")),
    "the Lease is given to a pod by hand": (TAKEN_S, ("pool",), _give_to_standby),
}
for _name, (_bound, _victims, _act) in HANDS.items():
    a_break(_bound, hold=(0.2, 2), victims=_victims, group="lease", name=_name)(_hand(_act))


# --- the operator's commands ---


def _tell(pod: Pod, *words: str) -> None:
    """Raises MissedError: it is refused."""
    try:
        done = pod.forgectl(*words)
    except subprocess.TimeoutExpired:  # it may be done all the same: whoever undoes it does so in any case
        return
    if done.returncode != 0:
        raise MissedError(f"forgectl {words[0]}: {done.stderr.strip()[:120]}")


@a_break(1, HAND_OVER_S, weight=2, hold=(0.5, 4), victims=("forger", "forger", "any"), name="forgectl stand-down")
def stand_down(arena: Arena, stroke: Stroke) -> Iterator[None]:
    _tell(stroke.pod, "stand-down", "--no-wait", "--for", f"{max(1, round(stroke.hold_s))}")
    yield


@a_break(1, HAND_OVER_S, weight=2, hold=(1, 5), victims=MOSTLY_THE_FORGER, name="forgectl drain and come-back")
def drain(arena: Arena, stroke: Stroke) -> Iterator[None]:
    _tell(stroke.pod, "drain", "--no-wait", "--reason", "a drill")
    yield

    def back() -> None:
        if not stroke.pod.sidecar_running():
            return
        done = stroke.pod.forgectl("come-back")
        if done.returncode != 0:
            raise OSError(done.stderr)

    arena.insist(back)


@a_break(0, HAND_OVER_S, hold=(1, 5), victims=("any",), group="operator", name="forgectl pause and resume")
def pause(arena: Arena, stroke: Stroke) -> Iterator[None]:
    _tell(stroke.pod, "pause", "--reason", "a drill")
    yield

    def resume() -> None:
        standing = [pod for pod in arena.pods.pods if pod.sidecar_running()]
        if not any(pod.forgectl("resume").returncode == 0 for pod in standing):
            raise OSError("no pod could resume")

    arena.insist(resume)


# --- credentials ---


@a_break(0, 0, weight=3, hold=(0.5, 2), victims=POOL, group="secrets")
def the_credentials_are_rotated(arena: Arena, stroke: Stroke) -> Iterator[None]:
    arena.rotate()
    stroke.tell(f"counter {arena.counter}")
    yield


@a_break(fleet=0, hold=(1, 8), victims=("forger", "any"), group="secrets")
def the_credentials_are_rotated_region_by_region(arena: FleetArena, stroke: Stroke) -> Iterator[None]:
    """The victim's first; all others some time later."""
    first = arena.together_with(stroke.pod)
    arena.counter += 1
    stroke.tell(f"counter {arena.counter}, first in {arena.region_of(stroke.pod)}")
    arena.hand_out(first)
    yield
    arena.hand_out([pod for pod in arena.pods.pods if pod not in first])


@a_break(
    0,
    0,
    hold=(1, 5),
    victims=("forger", "standby"),
    group="secrets",
    name="the pod's secret has an expired certificate",
)
def the_pods_secret_has_an_expired_certificate(arena: Arena, stroke: Stroke) -> Iterator[None]:
    with other_secrets(stroke.pod, kes_period=1):
        yield


@a_break(0, 0, hold=(1, 5), victims=("forger", "standby"), group="secrets", name="a key is missing in the pod's secret")
def a_key_is_missing_in_the_pods_secret(arena: Arena, stroke: Stroke) -> Iterator[None]:
    path = stroke.pod.secrets / stroke.dice.choice(["kes.skey", "vrf.skey", "node.cert"])
    stroke.tell(path.name)
    aside = path.with_name(f".{path.name}.aside")
    path.rename(aside)
    try:
        yield
    finally:
        aside.rename(path)


@a_break(0, 0)
def a_target_link_is_removed(arena: Arena, stroke: Stroke) -> Iterator[None]:
    path: Path = stroke.pod.ipc / stroke.dice.choice(["kes.skey", "vrf.skey", "node.cert"])
    stroke.tell(path.name)
    if not path.is_symlink():
        raise MissedError("there is none")
    path.unlink()
    yield


# --- the disk ---


# Who cannot write down what it must not forget does not renew.
@a_break(UNPLANNED_S, UNPLANNED_S, weight=2, hold=(1, 10), victims=MOSTLY_THE_FORGER, name="RUN_DIR is full")
def run_dir_is_full(arena: Arena, stroke: Stroke) -> Iterator[None]:
    if not stroke.pod.sidecar_running():
        raise MissedError("its sidecar is down")
    with no_room(stroke.pod):
        yield


# --- the crowd ---


@a_break(0, 0, hold=(2, 5), victims=POOL)
def a_crowd_asks_the_gateways(arena: Arena, stroke: Stroke) -> Iterator[None]:
    with Siege([pod for pod in arena.pods.pods if pod.sidecar_running()], scrapers=80, holders=40):
        yield


# --- regions, members, and the pool-wide lock ---


@a_break(fleet=HAND_OVER_S, weight=3, hold=(2, 15), name="a pod's path to one member breaks")
def a_pods_path_to_one_member_breaks(arena: FleetArena, stroke: Stroke) -> Iterator[None]:
    region, how = stroke.dice.choice(arena.regions), stroke.dice.choice(list(WAYS))
    stroke.tell(f"{region} {how}")
    path = arena.fleet.path(stroke.pod, region)
    WAYS[how](path)
    yield
    path.let_pass()


def _cut_off(*, outwards: bool, inwards: bool) -> Make:
    def make(arena: FleetArena, stroke: Stroke) -> Iterator[None]:
        region = arena.region_of(stroke.pod)
        stroke.tell(region)
        forging = arena.fleet.forging_region() == region
        stroke.bound_s = UNPLANNED_S if forging and outwards else HAND_OVER_S
        cut(arena.fleet, region, outwards=outwards, inwards=inwards)
        yield
        for path in arena.fleet.paths:
            path.let_pass()

    return make


for _name, _out, _in in (
    ("a region is cut off", True, True),
    ("a region cannot see the others", True, False),
    ("a region is not seen by the others", False, True),
):
    a_break(fleet=UNPLANNED_S, weight=2, hold=(3, 18), victims=("forger", "any"), group="api", name=_name)(
        _cut_off(outwards=_out, inwards=_in)
    )


@a_break(
    fleet=_fleet_outage,
    hold=(3, 10),
    victims=POOL,
    group="api",
)
def two_of_three_members_are_out_of_reach(arena: FleetArena, stroke: Stroke) -> Iterator[None]:
    """No majority anywhere."""
    away = stroke.dice.sample(arena.regions, 2)
    stroke.tell(" and ".join(away))
    paths = [path for (_, region), path in arena.fleet.proxies.items() if region in away]
    for path in paths:
        path.refuse()
    yield
    for path in paths:
        path.let_pass()


def _lease_by_hand(admin: AdminClient, path: str, act: str) -> bool:
    """Whether the server did it: delete, erase or give (to a stranger)."""
    if act == "delete":
        return admin.request("DELETE", path).code == 200
    admin.merge(path, {"spec": {"holderIdentity": "somebody" if act == "give" else ""}})
    return True


def _lock_by_hand(act: str) -> Make:
    def make(arena: FleetArena, stroke: Stroke) -> Iterator[None]:
        chosen = stroke.dice.choice([arena.regions, [stroke.dice.choice(arena.regions)]])
        stroke.tell(", ".join(chosen))
        if act == "give":  # one of three is no majority
            stroke.bound_s = TAKEN_S if len(chosen) > 1 else HAND_OVER_S
        done = 0
        for region in chosen:
            admin = arena.fleet.admins[region]
            try:
                done += _lease_by_hand(admin, arena.lock_path, act)
            except TimeoutError:
                stroke.tell(UNANSWERED)
                done += 1
            except REFUSALS:
                continue
        if not done:
            raise MissedError("no server let it")
        yield

    return make


a_break(fleet=0, hold=(0.2, 2), victims=POOL, group="lease", name="the pool's lock is deleted")(_lock_by_hand("delete"))
a_break(fleet=0, hold=(0.2, 2), victims=POOL, group="lease", name="the holder of the pool's lock is erased")(
    _lock_by_hand("erase")
)

a_break(fleet=TAKEN_S, hold=(0.2, 2), victims=POOL, group="lease", name="the pool's lock is given to a stranger")(
    _lock_by_hand("give")
)


def _region_lease_by_hand(act: str) -> Make:
    """Of a region's own election."""

    def make(arena: FleetArena, stroke: Stroke) -> Iterator[None]:
        region = arena.region_of(stroke.pod)
        stroke.tell(region)
        try:
            done = _lease_by_hand(arena.fleet.admins[region], arena.lease_path, act)
        except TimeoutError:
            stroke.tell(UNANSWERED)
        except REFUSALS as error:
            raise MissedError(f"the API server did not let it: {str(error)[:80]}") from None
        else:
            if not done:
                raise MissedError("the API server did not let it")
        yield

    return make


for _name, _act in (
    ("a region's Lease is deleted", "delete"),
    ("the holder of a region's Lease is erased", "erase"),
    ("a region's Lease is given to a stranger", "give"),
):
    # Who loses its region's Lease to somebody hands the pool's lock to another region.
    a_break(
        fleet=HAND_OVER_S if _act == "give" else 0,
        hold=(0.2, 2),
        victims=MOSTLY_THE_FORGER,
        group="lease",
        name=_name,
    )(_region_lease_by_hand(_act))


@a_break(fleet=HAND_OVER_S, hold=(0.2, 3), victims=POOL, group="operator")
def a_regions_object_is_deleted_on_one_member(arena: FleetArena, stroke: Stroke) -> Iterator[None]:
    region, on = stroke.dice.choice(arena.regions), stroke.dice.choice(arena.regions)
    stroke.tell(f"that of {region} on {on}")
    try:
        done = arena.fleet.admins[on].request("DELETE", arena.fleet.object_path(region)).code == 200
    except REFUSALS as error:
        raise MissedError(f"the API server did not let it: {str(error)[:80]}") from None
    if not done:
        raise MissedError("it was not there")
    yield


@a_break(fleet=UNPLANNED_S + LEASE_S, hold=(1, 12), victims=POOL)
def the_sidecars_of_all_leaders_are_killed(arena: FleetArena, stroke: Stroke) -> Iterator[None]:
    """One in each region."""
    killed = [pod for pod in arena.pods.pods if (pod.status().get("leader") or {}).get("role") == "leader"]
    stroke.tell(", ".join(pod.name for pod in killed))
    for pod in killed:
        pod.kill_sidecar()
    yield
    for pod in killed:
        _revive(pod)


@a_break(fleet=UNPLANNED_S, hold=(2, 15), victims=("forger", "any"), group="api")
def a_region_is_lost_with_its_API_server(arena: FleetArena, stroke: Stroke) -> Iterator[None]:
    region = arena.region_of(stroke.pod)
    stroke.tell(region)
    pods = arena.fleet.regions[region]
    forging = any(pod in pods for pod in arena.pods.forgers())  # the victim, or another one of its region
    stroke.bound_s = UNPLANNED_S if forging else HAND_OVER_S
    for pod in pods:
        pod.restart_node = False
        pod.kill_node()
        pod.kill_sidecar()
    arena.apis[region].kill_sync()
    yield
    arena.apis[region].restart_sync()
    for pod in pods:
        _revive(pod)


# --- the operator's edits ---


def _edit(make: Callable[[FleetArena, Stroke], Callable[[], object]]) -> Make:
    """The edit; and, given back by it, the one that undoes it."""

    def made(arena: FleetArena, stroke: Stroke) -> Iterator[None]:
        try:
            undo = make(arena, stroke)
        except REFUSALS as error:
            raise MissedError(f"no API server took the edit: {str(error)[:80]}") from None
        yield
        arena.insist(undo)

    return made


def _disable(arena: FleetArena, stroke: Stroke) -> Callable[[], object]:
    region = arena.region_of(stroke.pod)
    stroke.tell(region)
    arena.say(region, {"forgeState": "Disabled"}, stroke.dice)
    return lambda: arena.say(region, {"forgeState": "Priority-based"}, stroke.dice)


def _enable_two(arena: FleetArena, stroke: Stroke) -> Callable[[], object]:
    chosen = stroke.dice.sample(arena.regions, 2)
    stroke.tell(" and ".join(chosen))
    for region in chosen:
        arena.say(region, {"forgeState": "Enabled"}, stroke.dice)

    def undo() -> None:
        for region in chosen:
            arena.say(region, {"forgeState": "Priority-based"}, stroke.dice)

    return undo


def _override(arena: FleetArena, stroke: Stroke) -> Callable[[], object]:
    region = stroke.dice.choice(arena.regions)
    stroke.tell(region)
    until = (datetime.now(UTC) + timedelta(seconds=stroke.hold_s * stroke.dice.choice([0.5, 2]))).isoformat()
    override = {"enabled": True, "reason": "a drill", "expiresAt": until, "forceState": "Enabled"}
    arena.say(region, {"override": override}, stroke.dice)
    return lambda: arena.say(region, {"override": {"enabled": False, "forceState": None}}, stroke.dice)


def _priorities(arena: FleetArena, stroke: Stroke) -> Callable[[], object]:
    for _ in range(6):
        arena.say(stroke.dice.choice(arena.regions), {"priority": stroke.dice.randrange(1, 1000)}, stroke.dice)
        time.sleep(0.2 * stroke.dice.random())

    def undo() -> None:
        for number, region in enumerate(arena.regions):
            arena.say(region, {"priority": number + 1}, stroke.dice)

    return undo


def _unhealthy(arena: FleetArena, stroke: Stroke) -> Callable[[], object]:
    region = arena.region_of(stroke.pod)
    stroke.tell(region)
    arena.endpoints.bad.add(region)
    return lambda: arena.endpoints.bad.discard(region)


def _unhealthy_everywhere(arena: FleetArena, stroke: Stroke) -> Callable[[], object]:
    arena.endpoints.bad.update(arena.regions)
    return arena.endpoints.bad.clear


def _switchover(arena: FleetArena, stroke: Stroke) -> Callable[[], object]:
    region = stroke.dice.choice(arena.regions)
    stroke.tell(region)
    by = stroke.dice.choice(arena.pods.pods)
    _tell(by, "switchover", region, "--no-wait", "--for", "1h")
    return lambda: _tell_any(arena, "override", region, "--clear", "--yes")


def _disable_by_command(arena: FleetArena, stroke: Stroke) -> Callable[[], object]:
    region = arena.region_of(stroke.pod)
    stroke.tell(region)
    _tell(stroke.dice.choice(arena.pods.pods), "disable", region, "--for", "1h", "--yes")
    return lambda: _tell_any(arena, "enable", region)


def _tell_any(arena: FleetArena, *words: str) -> None:
    """From whichever pod can.  OSError: none can."""
    if not any(pod.forgectl(*words).returncode == 0 for pod in arena.pods.pods):
        raise OSError(f"no pod could: forgectl {' '.join(words)}")


EDITS: Final[dict[str, tuple[tuple[str, ...], tuple[float, float], int, Any]]] = {
    "a region is disabled": (("forger", "forger", "any"), (1, 6), 3, _disable),
    "forgectl disable and enable": (("forger", "any"), (1, 6), 1, _disable_by_command),
    "forgectl switchover": (POOL, (1, 6), 2, _switchover),
    "two regions are enabled": (POOL, (1, 6), 2, _enable_two),
    "an override forces a region": (POOL, (2, 6), 2, _override),
    "priorities change": (POOL, (0.5, 3), 2, _priorities),
    "a region's health check fails": (("forger", "any"), (3, 8), 2, _unhealthy),
    "all health checks fail": (POOL, (3, 8), 1, _unhealthy_everywhere),
}
for _name, (_victims, _hold, _weight, _act) in EDITS.items():
    a_break(fleet=HAND_OVER_S, weight=_weight, hold=_hold, victims=_victims, group="operator", name=_name)(_edit(_act))


# --- whole stories ---


def scripts(longest_s: float) -> list[Card]:
    """The fault tests' own, for a cluster: each plays its round by itself."""
    return [
        Card(f"script: {name.replace('_', ' ')}", 1, (0, 0), POOL, alone=True)
        for name, fault in sorted(FAULTS.items())
        if fault.seconds <= longest_s
    ]
