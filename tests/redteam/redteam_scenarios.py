"""Pods of which one worker goes bad, several clusters at once, since most of the time is waiting."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from redteam_inside import HOOK, ask
from redteam_pods import SHORT, UID

from devkit.api.embedded import EmbeddedApi, ThreadedApi
from devkit.pods import LEASE, Cluster, Pod
from ipc.frames import FrameReader, frame
from ipc.messages import StandDown, StandDownReply, decode, encode

LANES = 5
LEASE_S = 6.0
WATCH_S = 6.0
"""As long as the term of a leader that is robbed may last."""
ELECTORS = (
    "in a term of its own",
    "in the term that goes on",
    "after a release with a seal of its own",
    "after another has been named",
)
ARBITERS = ("in a term of its own", "after a release with a seal of its own")
TO_ANYBODY = "as a release to whoever is first"
OWN_RELEASE = "as a release that its own seal opens"
Scenario = Callable[[Cluster], None]
SCENARIOS: dict[str, Scenario] = {}


class NotApplicable(Exception):  # noqa: N818
    """This worker has not got what it would take."""


def scenario(name: str) -> Callable[[Scenario], Scenario]:
    def add(do: Scenario) -> Scenario:
        SCENARIOS[name] = do
        return do

    return add


def tell(pod: Pod, worker: str, function: str, argument: object) -> str:
    """Have a worker do something."""
    answer = ask(pod.run_dir / worker / "redteam.sock", function, argument, ("redteam_keys",))
    assert "done" in answer, answer
    return str(answer["done"])


def forge(pod: Pod, worker: str, cluster: Cluster) -> None:
    """From now on its actuator hears nothing else of this worker."""
    tell(pod, worker, "forge", {"worker": worker})
    cluster.wait_for(lambda: "forged" in tell(pod, "actuator", "heard", worker), 20, "its actuator hears it")


def rob(pod: Pod, worker: str, how: str, cluster: Cluster, *, term: int = 0) -> None:
    argument = {"how": how, "term": term, "namespace": cluster.namespace, "lease": LEASE}
    tell(pod, worker, "rob", argument)
    cluster.wait_for(lambda: "True" in tell(pod, worker, "robbed", None), 20, "the Lease is written over")


def declares_api(pod: Pod, worker: str) -> bool:
    answer: dict[str, Any] = ask(pod.run_dir / worker / "redteam.sock", "declares_api", None)
    return bool(answer["done"] == "True")


def stand_down(pod: Pod, seconds: float) -> None:
    """As forgectl does it."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(20)
        sock.connect(str(pod.run_dir / "elector" / "command.sock"))
        sock.sendall(frame(encode(StandDown(seconds, "red team"))))
        (reply,) = FrameReader().feed(sock.recv(4096))
        assert decode(reply, StandDownReply).accepted


def watch(cluster: Cluster, seconds: float) -> None:
    end = time.monotonic() + seconds
    cluster.wait_for(lambda: time.monotonic() > end, seconds + 60, "time passes")


def forged_s(pod: Pod, since: int, until: int | None = None) -> float:
    """Seconds for which its node forged in this time."""
    end = time.monotonic_ns() if until is None else until
    return sum(max(min(each.end, end) - max(each.begin, since), 0) for each in pod.intervals(end)) / 1e9


# --- what happens ---


@scenario("both keys")
def _(cluster: Cluster) -> None:
    (standby,) = cluster.standbys()
    since = time.monotonic_ns()
    for worker in ("elector", "arbiter"):
        forge(standby, worker, cluster)
    cluster.wait_for(lambda: forged_s(standby, since) > 0, 20, "it forges")


def _makes_up_a_grant(worker: str) -> None:
    @scenario(f"{worker} makes up a grant")
    def do(cluster: Cluster) -> None:
        (standby,) = cluster.standbys()
        since = time.monotonic_ns()
        forge(standby, worker, cluster)
        watch(cluster, WATCH_S)
        assert forged_s(standby, since) == 0


def _takes_the_lease(worker: str, how: str) -> None:
    @scenario(f"{worker} takes the Lease {how}")
    def do(cluster: Cluster) -> None:
        (standby,) = cluster.standbys()
        if not declares_api(standby, worker):
            raise NotApplicable("it has no API credentials")
        since = time.monotonic_ns()
        forge(standby, worker, cluster)
        rob(standby, worker, how, cluster)
        watch(cluster, WATCH_S)
        assert cluster.overlap_s(since) == 0
        assert forged_s(standby, since, since + int((LEASE_S - 1) * 1e9)) == 0, "before the leader's term had ended"


for _worker, _ways in {"elector": ELECTORS, "arbiter": ARBITERS}.items():
    _makes_up_a_grant(_worker)
    for _how in _ways:
        _takes_the_lease(_worker, _how)


@scenario("elector writes a release that is not its own")
def _(cluster: Cluster) -> None:
    (standby,) = cluster.standbys()
    since = time.monotonic_ns()
    rob(standby, "elector", TO_ANYBODY, cluster)
    watch(cluster, WATCH_S)
    assert cluster.overlap_s(since) == 0


def _leader_goes_on(worker: str) -> None:
    @scenario(f"{worker} of a leader grants on")
    def do(cluster: Cluster) -> None:
        leader, (standby,) = cluster.leader(), cluster.standbys()
        since = time.monotonic_ns()
        forge(leader, worker, cluster)
        if worker == "elector":
            tell(leader, worker, "stop_renewing", None)
        else:
            leader.proxy.hang()
        cluster.wait_for_one_forger(40, other_than=leader)
        watch(cluster, 2)
        assert cluster.overlap_s(since) == 0
        assert cluster.leader() is standby


for _worker in ("elector", "arbiter"):
    _leader_goes_on(_worker)


@scenario("arbiter gives its pod a term back")
def _(cluster: Cluster) -> None:
    former = cluster.leader()
    term = former.status()["leader"]["token"]
    stand_down(former, 1)
    cluster.wait_for_one_forger(40, other_than=former)
    cluster.wait_for(lambda: not former.status()["leader"]["reason"].startswith("standing"), 20, "it is back")
    since = time.monotonic_ns()
    forge(former, "arbiter", cluster)
    rob(former, "arbiter", "in a term that its pod once held", cluster, term=term)
    watch(cluster, WATCH_S)
    assert cluster.overlap_s(since) == 0


def _releases_and_grants_on(name: str, *, asks: bool) -> None:
    @scenario(name)
    def do(cluster: Cluster) -> None:
        """Its arbiter is frozen, so that it cannot see the release, and its last word stands."""
        leader, (standby,) = cluster.leader(), cluster.standbys()
        since = time.monotonic_ns()
        if asks:
            tell(leader, "elector", "ask_for_the_key", None)
            cluster.wait_for(lambda: "True" in tell(leader, "elector", "robbed", None), 20, "it has the key")
        tell(leader, "elector", "grant_on", None)
        leader.kill_worker("arbiter", signal.SIGSTOP)
        tell(leader, "elector", "release", None)
        assert cluster.wait_for_one_forger(40, other_than=leader) is standby
        watch(cluster, WATCH_S)
        assert cluster.overlap_s(since) == 0


_releases_and_grants_on("elector of a leader releases and grants on", asks=False)
_releases_and_grants_on("elector of a leader asks for the key and grants on", asks=True)


@scenario("elector of a leader writes a release of its own making while another pod starts")
def _(cluster: Cluster) -> None:
    leader, (newcomer,) = cluster.leader(), cluster.standbys()
    newcomer.terminate()
    cluster.wait_for(lambda: not newcomer.sidecar_running(), 30, "it has ended")
    for worker in ("elector", "arbiter"):
        (newcomer.run_dir / worker / "term").unlink(missing_ok=True)
    newcomer.proxy.refuse()
    newcomer.revive()
    cluster.wait_for(lambda: bool(newcomer.status().get("node", {}).get("fit")), 40, "its node is fit")
    since = time.monotonic_ns()
    forge(leader, "elector", cluster)
    leader.kill_worker("arbiter", signal.SIGSTOP)  # or it would see the newcomer's term at once
    rob(leader, "elector", OWN_RELEASE, cluster)
    newcomer.proxy.let_pass()
    assert cluster.wait_for_one_forger(60, other_than=leader) is newcomer
    watch(cluster, WATCH_S)
    assert cluster.overlap_s(since) == 0


# --- clusters for them ---


class Lanes:
    """Runs scenarios, each in a cluster of its own."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(LANES)

    def submit(self, name: str) -> Future[None]:
        return self._pool.submit(_run, SCENARIOS[name])

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


def _run(do: Scenario) -> None:
    api = ThreadedApi(EmbeddedApi())
    api.start_sync()
    uid = UID if os.getuid() == 0 else None
    try:
        with Cluster(api, 2, environment={"PYTHONPATH": str(HOOK), **SHORT}, uid=uid) as cluster:
            since = time.monotonic_ns()
            try:
                cluster.wait_healthy(90)
                do(cluster)
            except BaseException as error:
                error.add_note(cluster.describe(since))
                raise
    finally:
        api.stop_sync()
