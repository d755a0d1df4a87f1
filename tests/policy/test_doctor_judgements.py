"""What doctor makes of facts: every check is heard of, nothing unseen counts as right, no facts are too odd."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ipc import messages
from ipc.messages import Severity, StartFlag
from policy.doctor import checks
from policy.doctor.findings import Finding, Subject, Unseen, Weight
from policy.doctor.judge import Facts, Settings, Wrong, exit_code, judge
from policy.doctor.node import (
    Answerer,
    CredentialFacts,
    Led,
    NodeFacts,
    Process,
    Scraped,
    Target,
    judge_credentials,
    judge_node,
)
from policy.doctor.pod import Folder, KernelFacts, Notices, PodFacts, WorkerSeen, judge_kernel, judge_pod
from policy.doctor.servers import ApiFacts, Asked, Served, Timing, judge_server, judge_set
from policy.lease import LeaseRecord
from policy.preflight import Identity

NOT_OF_A_HOST = ("emptyDir", "fsGroup", "both containers", "kubectl logs", "shareProcessNamespace", "pod anew")
US = Identity((10001,) * 4, (10001,) * 4, 0)
WANTED = {
    "--shelley-kes-key": ("TARGET_KES_KEY", "/ipc/kes.skey"),
    "--shelley-vrf-key": ("TARGET_VRF_KEY", "/ipc/vrf.skey"),
    "--shelley-operational-certificate": ("TARGET_OP_CERT", "/ipc/node.cert"),
}
GIVEN = {option: path for option, (_, path) in WANTED.items()}
PROCESS = Process(
    pid=7,
    name="cardano-node",
    identity=US,
    argv_seen=True,
    flag=StartFlag.NON_PRODUCING,
    options=GIVEN,
    socket_path="/ipc/node.socket",
    led=tuple(Led(option, path, name, path, same=True) for option, (name, path) in WANTED.items()),
)
NODE = NodeFacts(
    socket_path="/ipc/node.socket",
    socket_problem="",
    socket_checked=True,
    process=PROCESS,
    process_missing="",
    wanted_name="cardano-node",
    actuator=US,
    actuator_known=True,
    ephemeral=True,
    wanted=WANTED,
    metrics_url="http://127.0.0.1:12798/metrics",
    metrics=Scraped(("slot", "forging_enabled", "about_to_lead"), 1000),
    wall_slot=1007,
    slot_length_s=1.0,
    most_tip_lag_s=180.0,
)
RUN = Folder("/run/forge-manager", "", 10001, 0o700, 10001)
POD = PodFacts(
    run_dir=RUN,
    in_memory=True,
    folders=(Folder("/run/forge-manager/actuator", "", 10001, 0o700, 10001),),
    sockets=(("RUN_DIR", "/run/forge-manager/actuator/state.sock"),),
    workers=tuple(WorkerSeen(worker, "", "single-uid", closed=True) for worker in ("actuator", "prober")),
    separations=("single-uid",),
    permissive=False,
    refusals=(),
    warnings=(),
)
KERNEL = KernelFacts(7, (), (), "", "", "", "", "")
KEYS = CredentialFacts((Target("TARGET_KES_KEY", "/ipc", ""),), (), "forgectl")
TIMES = Timing(15, 5.0)
HELD = LeaseRecord("9", "pod-0_6dea1705", 15, 3, seal="aa")
LOCKED = LeaseRecord("9", "mainnet-pool1abcd1-eu/pod-0_6dea1705", 15, 3, seal="aa", members=3, apis=("a", "b", "c"))
SERVED = Served("CardanoLeader", "cardanoleaders in cardano.io/v1", "", (), ("status.leaderPod",))
API = ApiFacts(
    name="own",
    own=True,
    coordinates=False,
    kubectl="kubectl --namespace pools",
    role="cat deploy/rbac/role.yaml",
    account=True,
    version="v1.37.2",
    took_s=(0.01, 0.02, 0.03),
    clock_ahead_s=0.3,
    rights=(Asked("update leases", allowed=True),),
    leader=SERVED,
    lease=HELD,
)
MEMBERS = tuple(
    dataclasses.replace(API, name=name, own=False, coordinates=True, lock=LOCKED, identity=name, cluster=SERVED)
    for name in "abc"
)
FACTS = Facts((), Settings(False, True, TIMES, "l", "p"), POD, KERNEL, NODE, KEYS, (API, *MEMBERS))


def weights(findings: object, check: str) -> list[Weight]:
    return [each.weight for each in findings if each.check == check]  # type: ignore[attr-defined]


def bad(findings: object) -> list[Finding]:
    return [each for each in findings if each.weight is not Weight.INFO]  # type: ignore[attr-defined]


def test_a_pod_of_which_all_is_right_has_nothing_but_what_was_found_right() -> None:
    found = judge(FACTS)
    assert bad(found) == []
    assert exit_code(found, (API,)) == 0


# --- any facts ---

ANY = st.from_type(Facts)


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], deadline=None, max_examples=150)
@given(ANY)
def test_no_facts_are_too_odd_and_every_check_is_heard_of(facts: Facts) -> None:
    found = judge(facts)
    heard = {each.check for each in found}
    assert {check for subject in Subject for check in checks.of(subject)} <= heard
    assert heard <= set(checks.CHECKS)
    apis = facts.apis if not isinstance(facts.apis, Unseen) else ()
    code = exit_code(found, apis)
    assert (code == 0) == all(each.weight is not Weight.ERROR for each in found)
    assert code in (0, 1, 2, 3)


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], deadline=None, max_examples=100)
@given(ANY)
def test_an_error_or_a_warning_always_says_what_to_do(facts: Facts) -> None:
    wrong = [each for each in judge(facts) if each.weight in (Weight.ERROR, Weight.WARNING)]
    said_by_others = set(messages.Check) | {"settings", "node-user"}
    assert [each for each in wrong if not each.remedy and each.check not in said_by_others] == []


@pytest.mark.parametrize("part", ["settings", "pod", "kernel", "node", "credentials", "apis"])
def test_what_was_not_looked_at_is_never_said_to_be_right(part: str) -> None:
    found = judge(dataclasses.replace(FACTS, **{part: Unseen("no rights")}))
    subjects = {
        "settings": ["sandbox-setting", *checks.of(Subject.KUBERNETES), *checks.of(Subject.COORDINATION)],
        "apis": [*checks.of(Subject.KUBERNETES), *checks.of(Subject.COORDINATION)],
    }
    for check in subjects.get(part, checks.of(Subject(part)) if part in list(Subject) else ()):
        assert weights(found, check) == [Weight.NOT_LOOKED_AT]


def test_the_worst_of_a_subject_comes_first() -> None:
    facts = dataclasses.replace(FACTS, pod=dataclasses.replace(POD, in_memory=False, refusals=("no node",)))
    pod = [each.weight for each in judge(facts) if checks.CHECKS[each.check].subject is Subject.POD]
    assert pod[:2] == [Weight.ERROR, Weight.WARNING]


# --- exit codes ---


def error(check: str) -> Finding:
    return Finding(check, Weight.ERROR, "r", "m")


@pytest.mark.parametrize(
    ("wrong", "answers", "code"),
    [
        (("settings",), False, 2),
        (("settings", "node-socket"), True, 2),
        (("kubeconfig",), False, 2),
        (("kubeconfig",), True, 1),
        (("api",), False, 3),
        (("api", "api"), True, 1),
        (("api", "node-socket"), False, 1),
        (("rights",), True, 1),
    ],
)
def test_the_exit_code_tells_usage_and_silence_from_what_is_wrong(
    wrong: tuple[str, ...], answers: bool, code: int
) -> None:
    api = API if answers else dataclasses.replace(API, problem="no answer")
    assert exit_code([error(check) for check in wrong], [api]) == code


def test_mistakes_are_findings_with_their_remedy() -> None:
    why = Unseen("the configuration is wrong")
    found = judge(Facts((Wrong("POOL_ID='x'", "must be a pool id"),), why, why, why, why, why, why))
    (mistake,) = (each for each in found if each.weight is Weight.ERROR)
    assert (mistake.check, mistake.remedy) == ("settings", "must be a pool id")


# --- the pod ---


@pytest.mark.parametrize(
    ("change", "check", "weight"),
    [
        ({"run_dir": dataclasses.replace(RUN, problem="No such file or directory")}, "run-dir", Weight.ERROR),
        ({"run_dir": dataclasses.replace(RUN, uid=5)}, "run-dir", Weight.ERROR),
        ({"run_dir": dataclasses.replace(RUN, mode=0o755)}, "run-dir", Weight.WARNING),
        ({"run_dir": dataclasses.replace(RUN, uid=0, mode=0o777)}, "run-dir", Weight.INFO),
        ({"run_dir": dataclasses.replace(RUN, uid=0, mode=0o777, expected_uid=0)}, "run-dir", Weight.WARNING),
        ({"folders": (Folder("/run/f/elector", "", 5, 0o700, 10001),)}, "run-dir", Weight.ERROR),
        ({"in_memory": False}, "run-dir-memory", Weight.WARNING),
        ({"in_memory": Unseen("gone")}, "run-dir-memory", Weight.NOT_LOOKED_AT),
        ({"sockets": (("NODE_SOCKET", "/" + "x" * 107),)}, "socket-paths", Weight.ERROR),
        ({"sockets": (("NODE_SOCKET", "/" + "x" * 106),)}, "socket-paths", Weight.INFO),
        ({"sockets": (("NODE_SOCKET", "/" + "\N{SNOWMAN}" * 36),)}, "socket-paths", Weight.ERROR),
        ({"workers": (WorkerSeen("prober", "no answer"),)}, "workers", Weight.ERROR),
        ({"workers": (WorkerSeen("elector", "", "single-uid", fails="403"),)}, "workers", Weight.ERROR),
        ({"workers": (WorkerSeen("prober", Unseen("not allowed")),)}, "separation", Weight.NOT_LOOKED_AT),
        ({"workers": (WorkerSeen("prober", "", "uids", closed=True),)}, "separation", Weight.ERROR),
        ({"workers": (WorkerSeen("prober", "", "single-uid"),)}, "separation", Weight.ERROR),
        ({"workers": (WorkerSeen("prober", "", "single-uid"),), "permissive": True}, "separation", Weight.WARNING),
        ({"workers": (WorkerSeen("prober", "", closed=True, violations=("reads",)),)}, "separation", Weight.ERROR),
        ({"refusals": ("no node process",)}, "actuator", Weight.ERROR),
        ({"warnings": ("memlock",)}, "actuator", Weight.WARNING),
    ],
)
def test_what_is_wrong_with_a_pod_is_named(change: dict[str, object], check: str, weight: Weight) -> None:
    assert weights(judge_pod(dataclasses.replace(POD, **change)), check) == [weight]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ({"obstacles": ("no Landlock, one user",)}, "landlock"),
        ({"landlock": 0}, "landlock"),
        ({"seccomp": "refused"}, "seccomp"),
        ({"pidfd": "refused"}, "pidfd"),
        ({"death_timer": "refused"}, "death-timer"),
        ({"death_signal": "refused"}, "death-signal"),
        ({"freezer": "frozen it would not die"}, "freezer"),
        ({"clock_bent_by": 0.083}, "clock-rate"),
        ({"clock_bent_by": -0.006}, "clock-rate"),
    ],
)
def test_what_a_kernel_cannot_do_is_named(change: dict[str, object], check: str) -> None:
    (only,) = bad(judge_kernel(dataclasses.replace(KERNEL, **change), permissive=False))  # type: ignore[arg-type]
    assert only.check == check


@pytest.mark.parametrize("share", [0.0, 0.0005, -0.005])
def test_a_clock_that_is_bent_by_less_than_half_of_what_two_may_differ_by_is_fine(share: float) -> None:
    assert bad(judge_kernel(dataclasses.replace(KERNEL, clock_bent_by=share), permissive=False)) == []


# --- the node ---


def process(**change: object) -> dict[str, object]:
    return {"process": dataclasses.replace(PROCESS, **change)}  # type: ignore[arg-type]


def led(same: bool | Unseen, given: str = "/keys/kes.skey") -> tuple[Led, ...]:
    return (Led("--shelley-kes-key", given, "TARGET_KES_KEY", "/ipc/kes.skey", same),)


@pytest.mark.parametrize(
    ("change", "check", "weight"),
    [
        ({"socket_problem": "does not exist"}, "node-socket", Weight.ERROR),
        ({"socket_checked": False}, "node-socket", Weight.WARNING),
        ({"socket_problem": Unseen("another's volume")}, "node-socket", Weight.NOT_LOOKED_AT),
        ({"process": Unseen("x"), "process_missing": "not visible"}, "node-process", Weight.ERROR),
        ({"process": Unseen("x")}, "node-process", Weight.NOT_LOOKED_AT),
        ({"process": Unseen("x")}, "node-user", Weight.NOT_LOOKED_AT),
        (process(name="node"), "node-process", Weight.WARNING),
        (process(identity=Identity((5,) * 4, US.gids, 0)), "node-user", Weight.ERROR),
        (process(identity=Identity(US.uids, (5,) * 4, 0)), "node-user", Weight.ERROR),
        ({"actuator": Identity(US.uids, US.gids, 1)}, "node-user", Weight.ERROR),
        (process(pid=1), "node-user", Weight.ERROR),
        (process(identity=Unseen("may not be read")), "node-user", Weight.NOT_LOOKED_AT),
        (process(flag=StartFlag.PRODUCING), "node-start", Weight.ERROR),
        (process(flag=StartFlag.NO_CREDENTIALS), "node-start", Weight.ERROR),
        (process(argv_seen=False), "node-start", Weight.NOT_LOOKED_AT),
        (process(options={}), "node-arguments", Weight.ERROR),
        (process(argv_seen=False), "node-arguments", Weight.NOT_LOOKED_AT),
        (process(led=led(False)), "node-files", Weight.ERROR),
        (process(led=led(False, "/ipc/kes.skey")), "node-files", Weight.ERROR),
        (process(led=led(True)), "node-files", Weight.INFO),
        (process(led=led(Unseen("no rights"))), "node-files", Weight.WARNING),
        (process(led=led(Unseen("no rights"), "/ipc/kes.skey")), "node-files", Weight.NOT_LOOKED_AT),
        ({"metrics": "refused"}, "node-metrics", Weight.ERROR),
        ({"metrics": "refused", "socket_problem": "starting"}, "node-metrics", Weight.WARNING),
        ({"metrics": Scraped((), None)}, "node-metrics", Weight.ERROR),
        ({"metrics": Scraped(("slot",), 1)}, "node-metrics", Weight.WARNING),
        ({"metrics": Scraped(("forging_enabled",), None)}, "node-metrics", Weight.WARNING),
        ({"answerer": Answerer(9, "cardano-node")}, "node-metrics", Weight.ERROR),
        ({"answerer": Answerer(0, "")}, "node-metrics", Weight.WARNING),
        ({"wall_slot": 1181}, "node-tip", Weight.ERROR),
        ({"wall_slot": 1180}, "node-tip", Weight.INFO),
        ({"wall_slot": None}, "node-tip", Weight.NOT_LOOKED_AT),
        ({"wall_slot": 940}, "node-tip", Weight.INFO),
        ({"wall_slot": 939}, "node-tip", Weight.WARNING),  # the sidecar bears it: MAX_TIP_LAG
        ({"wall_slot": 820}, "node-tip", Weight.WARNING),
        ({"wall_slot": 819}, "node-tip", Weight.ERROR),
        ({"wall_slot": 939, "most_tip_lag_s": 30.0}, "node-tip", Weight.ERROR),
    ],
)
def test_what_is_wrong_with_a_node_is_named(change: dict[str, object], check: str, weight: Weight) -> None:
    assert weights(judge_node(dataclasses.replace(NODE, **change)), check) == [weight]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("notices", "weight"),
    [
        (None, Weight.INFO),
        (Unseen("silent"), Weight.NOT_LOOKED_AT),
        (Notices("", 3, 0, 0), Weight.INFO),
        (Notices("NOTIFY_SECRET_FILE: No such file", 0, 2, 0), Weight.WARNING),
    ],
)
def test_notices_that_nobody_gets_are_a_warning(notices: Notices | Unseen | None, weight: Weight) -> None:
    (found,) = [each for each in judge_pod(dataclasses.replace(POD, notices=notices)) if each.check == "notices"]
    assert found.weight is weight
    if isinstance(notices, Notices):
        assert notices.problem in found.reason


def test_a_node_that_takes_connections_and_tells_no_metrics_may_hang() -> None:
    facts = dataclasses.replace(NODE, metrics="no answer within 4 s")
    (found,) = [each for each in judge_node(facts) if each.check == "node-metrics"]
    assert found.remedy.startswith("see whether the node hangs or is stopped")
    assert "NODE_METRICS_URL" in found.remedy


def test_findings_of_keys_keep_their_severity_and_their_remedy() -> None:
    expired = messages.Finding(messages.Check.KES_PERIOD, Severity.ERROR, "expired", "rotate now")
    found = list(judge_credentials(dataclasses.replace(KEYS, examined=(expired,))))
    assert weights(found, "kes-period") == [Weight.ERROR]
    assert weights(found, "keys") == [Weight.ERROR]
    assert [each.remedy for each in found if each.check == "kes-period"] == ["rotate now"]


@pytest.mark.parametrize(
    ("in_memory", "weight"),
    [(None, Weight.INFO), (True, Weight.INFO), (False, Weight.WARNING), (Unseen("/ipc: gone"), Weight.NOT_LOOKED_AT)],
)
def test_keys_that_are_written_to_a_disk_are_a_warning(in_memory: bool | Unseen | None, weight: Weight) -> None:
    target = Target("TARGET_KES_KEY", "/ipc", "", in_memory)
    found = list(judge_credentials(dataclasses.replace(KEYS, targets=(target, target))))
    assert weights(found, "targets-memory") == [weight], "once for a folder"


# --- servers ---


@pytest.mark.parametrize(
    ("change", "check", "weight"),
    [
        ({"setup_problem": "not YAML"}, "kubeconfig", Weight.ERROR),
        ({"setup_problem": "not YAML"}, "api", Weight.NOT_LOOKED_AT),
        ({"problem": "refused"}, "api", Weight.ERROR),
        ({"problem": "refused"}, "rights", Weight.NOT_LOOKED_AT),
        ({"no_namespace": "pools"}, "api", Weight.ERROR),
        ({"took_s": ()}, "api-latency", Weight.ERROR),
        ({"took_s": (7.4,)}, "api-latency", Weight.ERROR),
        ({"took_s": (0.1, 2.5, 2.5)}, "api-latency", Weight.ERROR),  # each is given up before it is answered
        ({"took_s": (0.1, 2.3, 2.3)}, "api-latency", Weight.WARNING),
        ({"took_s": (0.1, 0.1, 2.5)}, "api-latency", Weight.WARNING),
        ({"took_s": (0.1, 0.1, 1.2)}, "api-latency", Weight.INFO),
        ({"unanswered": 1}, "api-latency", Weight.WARNING),
        ({"clock_ahead_s": -120.0}, "api-clock", Weight.WARNING),
        ({"clock_ahead_s": 5.5, "clock_unsure_s": 1.0}, "api-clock", Weight.INFO),
        ({"rights": (Asked("update leases", allowed=False),)}, "rights", Weight.ERROR),
        ({"rights": (Asked("update leases", allowed=False),), "account": False}, "rights", Weight.WARNING),
        ({"rights": Unseen("refused")}, "rights", Weight.NOT_LOOKED_AT),
        ({"lease": None}, "lease", Weight.INFO),
        ({"lease": Unseen("403")}, "lease", Weight.NOT_LOOKED_AT),
        ({"lease": dataclasses.replace(HELD, duration_s=30)}, "lease", Weight.ERROR),
        ({"lease": dataclasses.replace(HELD, holder="", duration_s=1)}, "lease", Weight.INFO),
        ({"lease": dataclasses.replace(HELD, holder="pod-0")}, "lease", Weight.WARNING),
        ({"lease": dataclasses.replace(HELD, seal="")}, "lease", Weight.WARNING),
    ],
)
def test_what_is_wrong_with_a_server_is_named(change: dict[str, object], check: str, weight: Weight) -> None:
    found = judge_server(dataclasses.replace(API, **change), TIMES, "l", "p")  # type: ignore[arg-type]
    assert weights(found, check) == [weight]


@pytest.mark.parametrize(
    ("pod", "holder", "wrong"),
    [
        ("two-1", "one-0_6dea1705", True),
        ("one-1", "one-0_6dea1705", False),
        ("one-1", "", False),
        ("one-1", "some-operator", False),
        ("", "one-0_6dea1705", False),
    ],
)
def test_a_lease_of_another_statefulsets_pod_may_be_another_pools(pod: str, holder: str, *, wrong: bool) -> None:
    """Without POOL_ID two pools of one namespace have one Lease by default, and one of them never forges."""
    held = dataclasses.replace(API, lease=dataclasses.replace(HELD, holder=holder))
    reasons = [each.reason for each in judge_server(held, TIMES, "l", "p", pod) if each.weight is Weight.WARNING]
    assert any("held by a pod of one, and this one is of two" in each for each in reasons) is wrong


def test_a_longer_lease_is_no_remedy_for_a_server_that_nobody_who_takes_waits_for() -> None:
    times = Timing(lease_duration_s=60, sleep_interval_s=5)
    slow = dataclasses.replace(API, took_s=(2.6, 2.6, 2.6))
    (found,) = [each for each in judge_server(slow, times, "l", "p") if each.check == "api-latency"]
    assert found.weight is Weight.ERROR
    assert "LEASE_DURATION" not in found.remedy


@pytest.mark.parametrize(
    ("change", "weight"),
    [
        ({"problem": "the definition is not installed"}, Weight.ERROR),
        ({"dropped": ("status.opCertCounter",)}, Weight.WARNING),
        ({"dropped": ("status.leaderPod",)}, Weight.ERROR),
        ({"dropped": Unseen("403")}, Weight.NOT_LOOKED_AT),
    ],
)
def test_a_definition_that_is_missing_or_older_is_named(change: dict[str, object], weight: Weight) -> None:
    leader = dataclasses.replace(SERVED, **change)  # type: ignore[arg-type]
    found = judge_server(dataclasses.replace(API, leader=leader), TIMES, "l", "p")
    assert weights(found, "crd-leader") == [weight]


# --- the set ---


@pytest.mark.parametrize(("count", "weight"), [(1, Weight.INFO), (2, Weight.WARNING), (3, Weight.INFO)])
def test_an_even_number_of_coordination_servers_is_warned_of(count: int, weight: Weight) -> None:
    assert weights(judge_set(MEMBERS[:count], managed=True), "majority") == [weight]


def test_the_own_server_alone_is_a_lock_for_one_cluster_only() -> None:
    own = dataclasses.replace(MEMBERS[0], own=True)
    assert weights(judge_set((own,), managed=True), "majority") == [Weight.WARNING]


def test_one_server_under_two_names_is_an_error() -> None:
    twice = (*MEMBERS[:2], dataclasses.replace(MEMBERS[2], identity="a"))
    (found,) = (each for each in judge_set(twice, managed=True) if each.check == "same-server")
    assert found.weight is Weight.ERROR
    assert "a and c" in found.reason


def test_a_server_that_does_not_tell_who_it_is_is_not_taken_for_another_one() -> None:
    silent = (*MEMBERS[:2], dataclasses.replace(MEMBERS[2], identity=Unseen("403")))
    assert weights(judge_set(silent, managed=True), "same-server") == [Weight.NOT_LOOKED_AT]


@pytest.mark.parametrize(
    "lock",
    [dataclasses.replace(LOCKED, members=5), dataclasses.replace(LOCKED, apis=("a", "b", "x"))],
    ids=["another number", "another server"],
)
def test_a_holder_that_counts_another_set_is_an_error(lock: LeaseRecord) -> None:
    members = (dataclasses.replace(MEMBERS[0], lock=lock), *MEMBERS[1:])
    assert weights(judge_set(members, managed=True), "member-set") == [Weight.ERROR]


def test_without_cluster_management_nothing_of_it_is_asked_for() -> None:
    assert {each.weight for each in judge_set((API,), managed=False)} == {Weight.INFO}


@pytest.mark.parametrize(
    ("pod", "node"),
    [
        ({"run_dir": Folder("/run/f", "No such file or directory", -1, 0, 10001)}, {}),
        ({"run_dir": Folder("/run/f", "", 5, 0o700, 10001)}, {}),
        ({"folders": (Folder("/run/f/elector", "", 5, 0o700, 10001),)}, {}),
        ({"in_memory": False}, {}),
        ({"workers": tuple(WorkerSeen(each, "refused") for each in messages.Worker)}, {}),
        ({"workers": (WorkerSeen(messages.Worker.PROBER, "refused"), WorkerSeen(messages.Worker.ARBITER, ""))}, {}),
        ({}, {"process": Unseen("there is none"), "process_missing": "nobody serves NODE_SOCKET"}),
        ({}, {"socket_problem": "does not exist"}),
        ({}, {"process": dataclasses.replace(PROCESS, led=(Led("--shelley-kes-key", "/a", "T", "/b", same=False),))}),
    ],
)
def test_on_a_host_nobody_is_told_to_do_something_about_a_pod(pod: dict[str, object], node: dict[str, object]) -> None:
    facts = dataclasses.replace(FACTS, pod=dataclasses.replace(POD, **pod), node=dataclasses.replace(NODE, **node))
    in_a_pod, on_a_host = ("\n".join(f"{f.remedy} {f.command}" for f in judge(each)) for each in (facts, host(facts)))
    assert any(word in in_a_pod for word in NOT_OF_A_HOST)
    assert not any(word in on_a_host for word in NOT_OF_A_HOST)


def host(facts: Facts) -> Facts:
    return dataclasses.replace(facts, on_host=True)
