"""Every fault that three pods must survive: how it is made, how it is mended, how long nobody may forge.

A fault is a function that gets a healthy cluster and returns when the pool has come to rest again (one node
forges).  What happened in between is measured from the nodes' own records, not from anything the product says.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cardano.credentials import Source, credential_set
from cardano.kes import KesKey
from cardano.opcert import OperationalCertificate
from devkit import keys, record
from devkit.pods import WORKERS, Cluster, Pod

from hands import forge_a_release, give_lease_to, lease, make_lease_without_holder, other_secrets, put

LEASE_S = 15.0


@dataclass(frozen=True)
class Fault:
    """`bound`: seconds without a forger that are allowed; 0 means none at all."""

    name: str
    bound: float
    make: Callable[[Cluster], None]
    seconds: float = 10.0
    """How long it takes, about: long ones are started first."""


FAULTS: dict[str, Fault] = {}


def fault(bound: float, seconds: float = 10.0) -> Callable[[Callable[[Cluster], None]], Callable[[Cluster], None]]:
    def register(make: Callable[[Cluster], None]) -> Callable[[Cluster], None]:
        FAULTS[make.__name__] = Fault(make.__name__, bound, make, seconds)
        return make

    return register


def settle(cluster: Cluster, seconds: float = 1.0) -> None:
    """Let the records grow, so that a late second forger would be in them."""
    time.sleep(seconds)
    cluster.wait_for_one_forger(30)


def another(cluster: Cluster, than: Pod, seconds: float = 40) -> Pod:
    return cluster.wait_for_one_forger(seconds, other_than=than)


# --- processes that end ---


@fault(bound=1)
def sigterm_of_the_sidecar(cluster: Cluster) -> None:
    leader = cluster.leader()
    began = time.monotonic()
    leader.terminate()
    cluster.wait_for(lambda: not leader.sidecar_running(), 10, "the sidecar ends")
    took = time.monotonic() - began
    assert took < 2 + 1.5 + cluster.patience_s, f"the sidecar took {took:.1f} s to stop"
    another(cluster, leader)
    settle(cluster)
    leader.revive()


@fault(bound=1)
def node_and_sidecar_get_sigterm_together(cluster: Cluster) -> None:
    leader = cluster.leader()
    leader.restart_node = False
    leader.terminate()
    leader.kill_node(signal.SIGTERM)
    another(cluster, leader)
    settle(cluster)
    leader.revive()


@fault(bound=1)
def sigkill_of_the_node(cluster: Cluster) -> None:
    leader = cluster.leader()
    leader.kill_node()
    another(cluster, leader)
    settle(cluster)


@fault(bound=1)
def a_node_restarted_under_the_leader(cluster: Cluster) -> None:
    leader = cluster.leader()
    leader.kill_node(signal.SIGTERM)
    another(cluster, leader)
    cluster.wait_for(leader.healthy, 30, "its node is back")
    settle(cluster, 3)


def _kill_worker(worker: str) -> Callable[[Cluster], None]:
    def make(cluster: Cluster) -> None:
        leader = cluster.leader()
        old = leader.worker_pids()[worker]
        leader.kill_worker(worker)
        cluster.wait_for(lambda: leader.worker_pids().get(worker, old) != old, 20, f"a new {worker}")
        settle(cluster, 6)

    make.__name__ = f"sigkill_of_the_{worker}"
    return make


for _worker in WORKERS:
    fault(bound=3 if _worker == "actuator" else 0)(_kill_worker(_worker))


@fault(bound=LEASE_S + 1, seconds=25)
def sigkill_of_supervisord(cluster: Cluster) -> None:
    leader = cluster.leader()
    leader.kill_supervisor()
    another(cluster, leader)
    settle(cluster)
    leader.revive()


@fault(bound=LEASE_S + 1, seconds=25)
def sigkill_of_the_whole_sidecar_restarted_after_two_seconds(cluster: Cluster) -> None:
    leader = cluster.leader()
    leader.restart_sidecar_after = 2.0
    leader.kill_sidecar()
    cluster.wait_for(lambda: leader not in cluster.forgers(), 3, "its node stops by itself")
    settle(cluster, 5)
    cluster.wait_for(leader.healthy, 40, "the sidecar is back")
    leader.restart_sidecar_after = None


@fault(bound=LEASE_S + 1, seconds=25)
def sigkill_of_the_whole_sidecar_for_good(cluster: Cluster) -> None:
    leader = cluster.leader()
    leader.kill_sidecar()
    cluster.wait_for(lambda: leader not in cluster.forgers(), 3, "its node stops by itself")
    another(cluster, leader)
    settle(cluster)
    leader.revive()


@fault(bound=LEASE_S + 1, seconds=25)
def sigkill_of_everything_in_the_pod(cluster: Cluster) -> None:
    leader = cluster.leader()
    leader.restart_node = False
    leader.kill_node()
    leader.kill_sidecar()
    another(cluster, leader)
    settle(cluster)
    leader.revive()


# --- processes that stand still ---


@fault(bound=LEASE_S + 1, seconds=50)
def sigstop_of_the_whole_sidecar_for_40_s(cluster: Cluster) -> None:
    leader = cluster.leader()
    frozen = leader.freeze_sidecar()
    another(cluster, leader)
    time.sleep(25)
    leader.thaw(frozen)
    settle(cluster, 5)
    cluster.wait_for(leader.healthy, 40, "the sidecar is back")


def _freeze_worker(worker: str) -> Callable[[Cluster], None]:
    def make(cluster: Cluster) -> None:
        leader = cluster.leader()
        pid = leader.worker_pids()[worker]
        leader.kill_worker(worker, signal.SIGSTOP)
        time.sleep(40)
        leader.thaw([pid])
        settle(cluster, 2)

    make.__name__ = f"sigstop_of_the_{worker}_for_40_s"
    return make


# A frozen elector is killed by its watchdog and started anew.  With the age of its last renewal that is nearly as long
# as a grant: on a loaded machine the new one comes a moment too late.
_FROZEN_BOUND: dict[str, float] = {"actuator": 3, "elector": 1}
for _worker in WORKERS:
    fault(bound=_FROZEN_BOUND.get(_worker, 0), seconds=45)(_freeze_worker(_worker))


# --- the API path ---


MOST_REQUESTS_A_SECOND = 8.0
"""One pod's attempts while its API path fails: a retry after 0.4 to 0.6 s, and the status object beside the Lease."""


@contextlib.contextmanager
def sparing_the_api(pods: list[Pod]) -> Iterator[None]:
    """However requests fail inside, these pods do not make a storm of them."""
    before, began = [pod.api_requests() for pod in pods], time.monotonic()
    yield
    seconds = time.monotonic() - began
    for pod, count in zip(pods, before, strict=True):
        made = pod.api_requests() - count
        assert made <= MOST_REQUESTS_A_SECOND * seconds + 5, f"{pod.name} made {made:g} requests in {seconds:.1f} s"


def _break_standbys_api(name: str, breaks: Callable[[Pod], None]) -> Callable[[Cluster], None]:
    def make(cluster: Cluster) -> None:
        leader, standbys = cluster.leader(), cluster.standbys()
        with sparing_the_api(standbys):
            for pod in standbys:
                breaks(pod)
            try:
                time.sleep(6)
            finally:
                for pod in standbys:
                    pod.proxy.let_pass()
        assert cluster.leader() is leader

    make.__name__ = f"the_standbys_api_paths_{name}"
    return make


fault(bound=0)(_break_standbys_api("answer_500", lambda pod: pod.proxy.answer(500)))
fault(bound=0)(_break_standbys_api("answer_429", lambda pod: pod.proxy.answer(429, {"Retry-After": "1"})))
fault(bound=0)(_break_standbys_api("answer_403", lambda pod: pod.proxy.answer(403)))
fault(bound=0)(_break_standbys_api("refuse", lambda pod: pod.proxy.refuse()))


JUST_RENEWED_S = 11.5
"""Of the 12.85 s that a renewal gives: none is under way of which the arbiter's watch would tell no more.

The arbiter's right is then older by one renewal than what the others count from: 5 s more without a forger.
"""


def _seconds_left(pod: Pod) -> float:
    """Of the grant that ends first."""
    grants = pod.status().get("grants") or {}
    return min(float((grants.get(worker) or {}).get("seconds_left", 0)) for worker in ("elector", "arbiter"))


def _break_leaders_api(name: str, breaks: Callable[[Pod], None]) -> Callable[[Cluster], None]:
    def make(cluster: Cluster) -> None:
        leader = cluster.leader()
        cluster.wait_for(lambda: _seconds_left(leader) > JUST_RENEWED_S, 20, "the leader renews")
        with sparing_the_api(cluster.pods):
            breaks(leader)
            try:
                another(cluster, leader)
                settle(cluster)
            finally:
                leader.proxy.let_pass()
        settle(cluster, 3)

    make.__name__ = f"the_leaders_api_path_{name}"
    return make


FENCED_EARLY_S = 4.0
"""A leader cut off from the API fences 2.65 s before its lease ends (margin 2, drift 0.15, lead 0.5); then the others
see it expire, and one of them arms."""

fault(bound=FENCED_EARLY_S, seconds=30)(_break_leaders_api("hangs", lambda pod: pod.proxy.hang()))
fault(bound=FENCED_EARLY_S, seconds=30)(_break_leaders_api("refuses", lambda pod: pod.proxy.refuse()))
fault(bound=FENCED_EARLY_S, seconds=30)(_break_leaders_api("answers_500", lambda pod: pod.proxy.answer(500)))
fault(bound=FENCED_EARLY_S, seconds=30)(
    _break_leaders_api("answers_429", lambda pod: pod.proxy.answer(429, {"Retry-After": "1"}))
)
fault(bound=FENCED_EARLY_S, seconds=30)(_break_leaders_api("answers_409", lambda pod: pod.proxy.answer(409)))
# Here the lease is renewed, without the leader's knowledge, up to its last attempt.
fault(bound=LEASE_S + 1, seconds=30)(_break_leaders_api("loses_answers", lambda pod: pod.proxy.lose_answers()))


@fault(bound=0, seconds=35)
def the_leaders_api_path_takes_a_second(cluster: Cluster) -> None:
    leader = cluster.leader()
    leader.proxy.slow(1.0)
    try:
        time.sleep(25)
    finally:
        leader.proxy.let_pass()
    settle(cluster, 6)  # a renewal on the healthy path: a slow one takes its own length from the right
    assert cluster.leader() is leader


def _all_api_gone(seconds: float, how: str) -> Callable[[Cluster], None]:
    def make(cluster: Cluster) -> None:
        with sparing_the_api(cluster.pods):
            for proxy in cluster.proxies:
                getattr(proxy, how)()
            try:
                time.sleep(seconds)
            finally:
                for proxy in cluster.proxies:
                    proxy.let_pass()
        back = time.monotonic_ns()
        cluster.wait_for_one_forger(20)
        late = cluster.gap_s(back)
        assert late <= 2 + 1.5 + cluster.patience_s, f"{late:.2f} s without a forger after the API was back"
        settle(cluster, 3)

    make.__name__ = f"all_api_paths_{how}_for_{seconds:g}_s"
    return make


LONGEST_RENEWAL_S = 5.0
"""SLEEP_INTERVAL: the last renewal before a fault may be this old."""
FORGING_ON_S = LEASE_S - 2.65 - LONGEST_RENEWAL_S
"""So long at least a leader forges on without an API."""
fault(bound=0, seconds=12)(_all_api_gone(6, "refuse"))
fault(bound=0, seconds=12)(_all_api_gone(6, "hang"))
fault(bound=40 - FORGING_ON_S + 2, seconds=50)(_all_api_gone(40, "refuse"))
fault(bound=40 - FORGING_ON_S + 2, seconds=50)(_all_api_gone(40, "hang"))


# --- hands on the Lease ---


@fault(bound=0)
def the_lease_is_deleted(cluster: Cluster) -> None:
    lease(cluster, "DELETE")
    settle(cluster, 8)


@fault(bound=0, seconds=20)
def the_lease_is_deleted_and_made_anew_without_a_holder(cluster: Cluster) -> None:
    """As `kubectl replace --force` does with a manifest."""
    lease(cluster, "DELETE")
    make_lease_without_holder(cluster)
    settle(cluster, 8)


@fault(bound=0, seconds=20)
def the_holder_is_erased_by_hand(cluster: Cluster) -> None:
    give_lease_to(cluster, "")
    settle(cluster, 8)


@fault(bound=0, seconds=20)
def a_release_is_forged(cluster: Cluster) -> None:
    """As a pod's elector gone bad could do it: all is right but the key."""
    forge_a_release(cluster)
    settle(cluster, 8)


@fault(bound=LEASE_S + 6, seconds=30)
def the_lease_is_taken_over_by_hand(cluster: Cluster) -> None:
    """The stranger's term is respected for a whole lease duration; the leader notices at its next renewal."""
    give_lease_to(cluster, "somebody")
    cluster.wait_for(lambda: not cluster.forgers(), 10, "the leader stops")
    cluster.wait_for_one_forger(40)
    settle(cluster)


@fault(bound=LEASE_S + 6, seconds=30)
def the_lease_is_given_to_a_standby_by_hand(cluster: Cluster) -> None:
    standby = cluster.standbys()[0]
    identity = standby.status()["leader"]["identity"]
    give_lease_to(cluster, identity)
    cluster.wait_for(lambda: not cluster.forgers(), 10, "the leader stops")
    cluster.wait_for_one_forger(40)
    settle(cluster)


# --- files ---


@fault(bound=0)
def a_target_link_is_removed(cluster: Cluster) -> None:
    leader = cluster.leader()
    target = leader.ipc / "kes.skey"
    target.unlink()
    cluster.wait_for(target.is_symlink, 5, "the link is back")
    settle(cluster, 2)


@fault(bound=1)
def a_target_is_replaced_by_a_real_key_and_the_fence_still_works(cluster: Cluster) -> None:
    leader = cluster.leader()
    target = leader.ipc / "vrf.skey"
    target.unlink()
    target.write_bytes((leader.secrets / "vrf.skey").read_bytes())
    cluster.wait_for(target.is_symlink, 5, "our link stands there again")
    leader.terminate()
    another(cluster, leader)
    settle(cluster)
    leader.revive()


def _says_why(pod: Pod, word: str) -> bool:
    code, body = pod.get("/ready")
    return code == 503 and word in body


@fault(bound=1)
def a_source_secret_is_missing_at_the_moment_of_promotion(cluster: Cluster) -> None:
    leader = cluster.leader()
    poor, rich = cluster.standbys()
    secret = (poor.secrets / "kes.skey").read_bytes()
    (poor.secrets / "kes.skey").unlink()
    try:
        leader.terminate()
        cluster.wait_for(lambda: cluster.forgers() == [rich], 20, "the one with its secrets forges")
        settle(cluster)
        cluster.wait_for(lambda: _says_why(poor, "SOURCE_KES_KEY"), 10, "it says which secret is missing")
    finally:
        (poor.secrets / "kes.skey").write_bytes(secret)
    leader.revive()


@fault(bound=1)
def a_standby_whose_certificate_has_expired_is_passed_over(cluster: Cluster) -> None:
    leader = cluster.leader()
    poor, rich = cluster.standbys()
    with other_secrets(poor, kes_period=1):
        cluster.wait_for(lambda: _says_why(poor, "the certificate expired"), 10, "it is known before it is needed")
        leader.terminate()
        cluster.wait_for(lambda: cluster.forgers() == [rich], 20, "the one with good keys forges")
        settle(cluster)
    cluster.wait_for(poor.healthy, 30, "with good keys it could forge")
    leader.revive()


@fault(bound=0)
def the_secret_goes_bad_under_the_one_who_forges(cluster: Cluster) -> None:
    leader = cluster.leader()
    with other_secrets(leader, kes_period=1):

        def known() -> bool:
            return "error" in {each["severity"] for each in leader.status()["credentials"]["findings"]}

        cluster.wait_for(known, 10, "it is known")
        settle(cluster, 3)
        assert cluster.forgers() == [leader]


@fault(bound=0, seconds=20)
def a_rotation_under_the_one_who_forges(cluster: Cluster) -> None:
    """The files change one after another; in what is exposed each certificate is that of the key beside it."""
    leader = cluster.leader()
    before = _hups(leader)
    with other_secrets(leader, counter=7):
        _takes_up(cluster, leader, 7, before)
    _goes_back(cluster, leader, before)


def _takes_up(cluster: Cluster, leader: Pod, counter: int, hups_before: int) -> None:
    """Its node has the certificate with this counter, by one SIGHUP; what is exposed meanwhile belongs together."""
    end = time.monotonic() + 10 + cluster.patience_s
    while (found := json.loads(leader.node_control("state"))["counter"]) != counter:
        assert time.monotonic() < end, f"the node has the certificate with counter {found}"
        _look_at_the_exposed(leader)
    settle(cluster, 3)
    assert _hups(leader) == hups_before + 1
    assert cluster.forgers() == [leader]


def _goes_back(cluster: Cluster, leader: Pod, hups_before: int) -> None:
    cluster.wait_for(lambda: _hups(leader) == hups_before + 2, 10, "the first set is taken up again")
    settle(cluster)
    assert cluster.leader() is leader


@fault(bound=0, seconds=20)
def a_rotation_by_the_kubelets_swap_under_the_one_who_forges(cluster: Cluster) -> None:
    """As Kubernetes mounts a secret: the files are links through `..data`, which is moved to another folder."""
    leader = cluster.leader()
    before = _hups(leader)
    with _as_the_kubelet_mounts_it(leader) as swap:
        settle(cluster)
        assert _hups(leader) == before, "the same set, mounted in another way, is no rotation"
        swap(keys.generate(leader.secrets / "..second", kes_period=keys.current_kes_period("mainnet"), counter=9))
        _takes_up(cluster, leader, 9, before)
    _goes_back(cluster, leader, before)


@contextlib.contextmanager
def _as_the_kubelet_mounts_it(pod: Pod) -> Iterator[Callable[[keys.KeySet], None]]:
    """The pod's secrets behind `..data`; what swaps them for another set."""
    names = ("kes.skey", "vrf.skey", "node.cert")
    before = {name: (pod.secrets / name).read_bytes() for name in names}
    first = pod.secrets / "..first"
    first.mkdir()
    for name in names:
        shutil.copy2(pod.secrets / name, first / name)

    def swap_to(folder: Path) -> None:
        for path in (folder, *folder.iterdir()):
            if os.getuid() == 0:
                os.chown(path, pod.secrets.stat().st_uid, pod.secrets.stat().st_gid)
        (pod.secrets / "..data_tmp").symlink_to(folder.name)
        (pod.secrets / "..data_tmp").rename(pod.secrets / "..data")

    swap_to(first)
    for name in names:
        (pod.secrets / f".{name}").symlink_to(f"..data/{name}")
        (pod.secrets / f".{name}").rename(pod.secrets / name)
    try:
        yield lambda made: swap_to(made.folder)
    finally:
        for name, content in before.items():
            put(pod.secrets / name, content)
        (pod.secrets / "..data").unlink()
        shutil.rmtree(first)
        shutil.rmtree(pod.secrets / "..second", ignore_errors=True)


def _hups(pod: Pod) -> int:
    return sum(event["event"] == "hup" for event in record.read(pod.record_file))


def _look_at_the_exposed(pod: Pod) -> None:
    """By one descriptor of the folder: a set that is replaced meanwhile is read as it was, or not at all."""
    target = (pod.ipc / "kes.skey").readlink().parent
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it was removed meanwhile
        folder = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            contents = []
            for name in ("kes.skey", "vrf.skey", "node.cert"):
                with open(name, "rb", opener=lambda path, flags: os.open(path, flags, dir_fd=folder)) as file:
                    contents.append(Source(name, file.read()))
        finally:
            os.close(folder)
        found = credential_set(*contents)
        assert isinstance(found.kes, KesKey)
        assert isinstance(found.certificate, OperationalCertificate)
        assert found.kes.verification_key == found.certificate.hot_key


# --- the node's manners ---


@fault(bound=LEASE_S + 1, seconds=30)
def a_node_that_ignores_sighup_is_killed_before_the_lease_may_pass(cluster: Cluster) -> None:
    leader = cluster.leader()
    leader.node_control("deaf on")
    leader.proxy.refuse()
    pid = leader.node_pid
    try:
        cluster.wait_for(lambda: leader.node_pid != pid, 20, "the deaf node is killed")
        another(cluster, leader)
    finally:
        leader.proxy.let_pass()
    settle(cluster)


@fault(bound=1, seconds=25)
def a_deaf_node_at_a_calm_hand_over_is_ended_before_the_lease_is_released(cluster: Cluster) -> None:
    leader = cluster.leader()
    leader.node_control("deaf on")
    pid = leader.node_pid
    done = leader.forgectl("stand-down", "--for", "15")
    assert done.returncode == 0, done.stderr
    another(cluster, leader)
    cluster.wait_for(lambda: leader.node_pid != pid, 5, "the deaf node ends")
    settle(cluster)
    leader.forgectl("come-back")


@fault(bound=1, seconds=45)
def a_frozen_node_is_killed_and_replaced(cluster: Cluster) -> None:
    """Its record says `on` until it is killed: it could go on at any moment."""
    leader = cluster.leader()
    pid = leader.node_pid
    leader.kill_node(signal.SIGSTOP)
    another(cluster, leader)
    assert leader.node_pid != pid, "another forges, and the frozen node lives"
    settle(cluster)


@fault(bound=LEASE_S + 1, seconds=30)
def a_frozen_node_whose_pod_has_no_api_is_killed_before_the_lease_may_pass(cluster: Cluster) -> None:
    leader = cluster.leader()
    leader.proxy.hang()
    leader.kill_node(signal.SIGSTOP)
    try:
        another(cluster, leader)
        settle(cluster)
    finally:
        leader.proxy.let_pass()


@fault(bound=0, seconds=20)
def a_node_without_metrics_forges_on_until_it_is_unfit_for_long(cluster: Cluster) -> None:
    leader = cluster.leader()
    leader.node_control("metrics hang")
    try:
        time.sleep(10)
        assert cluster.leader() is leader
    finally:
        leader.node_control("metrics on")


@fault(bound=10, seconds=25)
def a_node_that_takes_the_signal_and_never_forges_hands_over(cluster: Cluster) -> None:
    leader = cluster.leader()
    poor, rich = cluster.standbys()
    pid = poor.node_pid
    poor.node_control("deaf on")
    try:
        assert rich.forgectl("stand-down", "--for", "3").returncode == 0
        leader.terminate()
        cluster.wait_for(lambda: cluster.forgers() == [rich], 25, "the other forges")
        settle(cluster, 2)
        assert poor.node_pid == pid, "it was killed though it never forged"
    finally:
        poor.node_control("deaf off")
    leader.revive()


@fault(bound=1 + 1 + 1)
def a_node_that_takes_a_second_to_reload_is_waited_for(cluster: Cluster) -> None:
    for pod in cluster.pods:
        pod.node_control("reload-ms 1000")
    leader = cluster.leader()
    pid = leader.node_pid
    try:
        leader.terminate()
        another(cluster, leader)
        settle(cluster)
        assert leader.node_pid == pid, "it was killed though it obeyed"
    finally:
        for pod in cluster.pods:
            pod.node_control("reload-ms 5")
    leader.revive()


@fault(bound=1)
def forgectl_stand_down_hands_over(cluster: Cluster) -> None:
    leader = cluster.leader()
    done = leader.forgectl("stand-down", "--for", "5")
    assert done.returncode == 0, done.stderr
    another(cluster, leader)
    settle(cluster, 6)


@fault(bound=30, seconds=35)
def a_stuck_tip_hands_over_to_a_fresh_one(cluster: Cluster) -> None:
    leader = cluster.leader()
    leader.node_control("tip-behind 600")
    try:
        another(cluster, leader, 40)
        settle(cluster)
    finally:
        leader.node_control("tip-stall off")


# --- maintenance ---


def _told(pod: Pod, *words: str) -> str:
    done = pod.forgectl(*words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _paused(pod: Pod) -> str:
    return str(pod.status()["paused"])


@fault(bound=8, seconds=25)
def a_node_dies_in_a_pause_and_its_pod_alone_forges_again(cluster: Cluster) -> None:
    leader = cluster.leader()
    assert f"It stays with {leader.name}" in _told(leader, "pause", "--for", "1h", "--reason", "a drill")
    try:
        cluster.wait_for(lambda: all("a drill" in _paused(pod) for pod in cluster.pods), 15, "every pod knows")
        leader.kill_node()
        cluster.wait_for(lambda: not leader.status()["forging"], 5, "the node is gone")
        cluster.wait_for_one_forger(40)
        assert cluster.leader() is leader
    finally:
        _told(leader, "resume")
    cluster.wait_for(lambda: not any(_paused(pod) for pod in cluster.pods), 15, "every pod knows that it is over")


@fault(bound=LEASE_S + 30, seconds=60)
def a_leader_is_lost_in_a_pause_and_nobody_takes_over_before_it_is_resumed(cluster: Cluster) -> None:
    leader, other = cluster.leader(), cluster.standbys()[0]
    _told(other, "pause")
    cluster.wait_for(lambda: all(_paused(pod) for pod in cluster.pods), 15, "every pod knows")
    leader.terminate()
    try:
        time.sleep(LEASE_S + 3)
        assert not cluster.forgers()
        assert f"{leader.name} alone may take the lease" in str(other.status()["leader"]["reason"])
    finally:
        _told(other, "resume")
    another(cluster, leader)
    leader.revive()
    settle(cluster)


@fault(bound=1, seconds=20)
def a_drained_leader_stays_out_over_the_restart_of_its_elector(cluster: Cluster) -> None:
    leader = cluster.leader()
    assert "until `forgectl come-back`" in _told(leader, "drain", "--reason", "new disk")
    try:
        another(cluster, leader)
        before = leader.status()["workers"]["elector"]["pid"]
        leader.kill_worker("elector")

        def reborn() -> bool:
            elector = leader.status()["workers"]["elector"]
            return elector["alive"] and elector["pid"] != before

        cluster.wait_for(reborn, 20, "its next life")
        assert leader.status()["drained"] == "new disk"
        assert any("new disk" in reason for reason in leader.status()["ready"]["reasons"])
    finally:
        _told(leader, "come-back")
    settle(cluster)
