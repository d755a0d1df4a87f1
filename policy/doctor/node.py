"""The node beside this sidecar, and the files that pass between them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from ipc import messages
from ipc.messages import Severity, StartFlag
from policy.doctor.findings import Finding, Unseen, Weight, unseen
from policy.fitness import CLOCKS_DIFFER_S, most_ahead_s
from policy.preflight import Identity, cannot_be_ended, cannot_work_together, wrong_arguments


@dataclass(frozen=True, slots=True)
class Led:
    """Where a path that the node was given leads, in its container."""

    option: str
    given: str
    variable: str
    ours: str
    same: bool | Unseen
    """Whether that is the sidecar's own."""


@dataclass(frozen=True, slots=True)
class Scraped:
    """What the metrics had."""

    found: tuple[str, ...]
    """Meanings, as cardano.metrics calls them."""
    slot: int | None
    """Of the tip."""


@dataclass(frozen=True, slots=True)
class Answerer:
    """Another process than the node, where the node's metrics should be."""

    pid: int
    """0: whose it is cannot be seen."""
    name: str


@dataclass(frozen=True, slots=True)
class Process:
    """The process behind NODE_SOCKET, or the only one of its name."""

    pid: int
    name: str
    identity: Identity | Unseen
    argv_seen: bool
    flag: StartFlag
    options: Mapping[str, str]
    """The credential options that it was given."""
    socket_path: str
    """What --socket-path says; empty: it was not given."""
    led: tuple[Led, ...]


@dataclass(frozen=True, slots=True)
class NodeFacts:
    socket_path: str
    socket_problem: str | Unseen
    """Why nobody accepts connections there; empty: somebody does."""
    socket_checked: bool
    """False: DISABLE_SOCKET_CHECK."""
    process: Process | Unseen
    process_missing: str
    """Why there is none that we could see, though we may; counts where `process` is Unseen."""
    wanted_name: str
    """CARDANO_NODE_PROCESS_NAME."""
    actuator: Identity
    actuator_known: bool
    """False: it does not run; that is what it would be."""
    ephemeral: bool
    wanted: Mapping[str, tuple[str, str]]
    """Option -> our variable, its path."""
    metrics_url: str
    metrics: Scraped | str
    """str: why there are none."""
    wall_slot: int | None
    slot_length_s: float
    most_tip_lag_s: float
    answerer: Answerer | None = None
    """None: nobody else is known to answer at the metrics' port."""


def judge_node(facts: NodeFacts) -> Iterator[Finding]:
    yield from _socket(facts)
    yield from _process(facts)
    yield from _metrics(facts)
    yield _tip(facts)


def _socket(facts: NodeFacts) -> Iterator[Finding]:
    if not facts.socket_checked:
        reason = "DISABLE_SOCKET_CHECK is on: the node is judged by its name and its metrics alone"
        yield Finding("node-socket", Weight.WARNING, reason, "for development only: unset DISABLE_SOCKET_CHECK")
    elif isinstance(facts.socket_problem, Unseen):
        yield unseen("node-socket", facts.socket_problem)
    elif facts.socket_problem:
        remedy = (
            "start the node with --socket-path=NODE_SOCKET on a volume that both containers mount at this path; one "
            "that replays its ledger opens it when it is done"
        )
        host = (
            "start the node with --socket-path=NODE_SOCKET, in a folder that both units see and their user may write "
            "to; one that replays its ledger opens it when it is done"
        )
        yield Finding("node-socket", Weight.ERROR, f"NODE_SOCKET: {facts.socket_problem}", remedy, host_remedy=host)
    else:
        yield Finding("node-socket", Weight.INFO, f"{facts.socket_path} accepts connections")


def _process(facts: NodeFacts) -> Iterator[Finding]:
    of_process = ("node-user", "node-start", "node-arguments", "node-files")
    process = facts.process
    if isinstance(process, Unseen):
        if facts.process_missing:
            remedy = "set shareProcessNamespace: true in the pod, and see that the node runs"
            host = (
                "see that the node's unit runs, with --socket-path=NODE_SOCKET; the sidecar's may not have "
                "ProtectProc= (docs/bare-metal.md), and a node in docker needs --pid=host"
            )
            yield Finding("node-process", Weight.ERROR, facts.process_missing, remedy, host_remedy=host)
        else:
            yield unseen("node-process", process)
        for check in of_process:
            yield unseen(check, Unseen(facts.process_missing or process.why))
        return
    named = process.name == facts.wanted_name
    more = (
        ""
        if named
        else f"; CARDANO_NODE_PROCESS_NAME is {facts.wanted_name}: before its socket is there nobody finds it"
    )
    weight, remedy = (Weight.INFO, "") if named else (Weight.WARNING, f"set CARDANO_NODE_PROCESS_NAME={process.name}")
    yield Finding("node-process", weight, f"pid {process.pid}, {process.name}{more}", remedy)
    yield _user(facts, process)
    yield _start(process)
    yield from _arguments(facts, process)
    yield from _files(facts, process)


def _user(facts: NodeFacts, process: Process) -> Finding:
    if isinstance(process.identity, Unseen):
        return unseen("node-user", process.identity)
    if len(process.identity.uids) < 3 or len(process.identity.gids) < 3:
        return unseen("node-user", Unseen("the kernel did not tell all its ids"))
    if len(facts.actuator.uids) < 2 or len(facts.actuator.gids) < 2:
        return unseen("node-user", Unseen("the actuator's ids are not known"))
    against = cannot_work_together(facts.actuator, process.identity, ephemeral=facts.ephemeral)
    if against := against or cannot_be_ended(process.pid):
        reason, _, remedy = against.rpartition("; ")
        return Finding("node-user", Weight.ERROR, reason, remedy)
    whose = "the actuator" if facts.actuator_known else "the actuator, which does not run now"
    reason = f"uid {process.identity.uids[1]}, gid {process.identity.gids[1]}, as {whose}"
    return Finding("node-user", Weight.INFO, reason)


def _start(process: Process) -> Finding:
    remedy = "start it with --start-as-non-producing-node (newer versions: --non-producing-node)"
    match process.flag if process.argv_seen else StartFlag.UNKNOWN:
        case StartFlag.NON_PRODUCING:
            return Finding("node-start", Weight.INFO, "started as a non-producing node")
        case StartFlag.PRODUCING:
            reason = "started as a producing node: it forges from its bootstrap files before anybody told it to"
            return Finding("node-start", Weight.ERROR, reason, remedy)
        case StartFlag.NO_CREDENTIALS:
            return Finding("node-start", Weight.ERROR, "started as a relay: no option names a key", remedy)
    return unseen("node-start", Unseen("its arguments cannot be seen"))


def _arguments(facts: NodeFacts, process: Process) -> Iterator[Finding]:
    if not process.argv_seen:
        yield unseen("node-arguments", Unseen("its arguments cannot be seen"))
        return
    problem, _ = wrong_arguments(process.options, facts.wanted)
    if problem:
        reason, _, remedy = problem.partition("; ")
        wanted = " ".join(f"{option}={path}" for option, (_, path) in facts.wanted.items())
        yield Finding("node-arguments", Weight.ERROR, reason, f"{remedy}: {wanted}" if wanted else remedy)
        return
    if process.socket_path and process.socket_path != facts.socket_path:
        reason = f"--socket-path is {process.socket_path}, NODE_SOCKET {facts.socket_path}"
        if facts.socket_checked and facts.socket_problem:
            yield Finding("node-arguments", Weight.ERROR, reason, f"--socket-path={facts.socket_path}")
            return
        yield Finding("node-arguments", Weight.INFO, f"{reason}: the volume is mounted elsewhere there")
        return
    yield Finding("node-arguments", Weight.INFO, f"it was given {', '.join(process.options) or 'what is wanted'}")


def _files(facts: NodeFacts, process: Process) -> Iterator[Finding]:
    if not process.argv_seen:
        yield unseen("node-files", Unseen("its arguments cannot be seen"))
        return
    if not process.led:
        yield unseen("node-files", Unseen("it was given no path of a key"))
        return
    fine = []
    for each in process.led:
        told = f"{each.option} {each.given}"
        if isinstance(each.same, Unseen):
            if each.given == each.ours:
                yield unseen("node-files", Unseen(f"{told}: {each.same.why}"))
                continue
            reason = f"{told}, and {each.variable} is {each.ours}; whether that is one file: {each.same.why}"
            yield Finding("node-files", Weight.WARNING, reason, f"give the node {each.option}={each.ours}")
        elif each.same:
            fine.append(each.option)
        else:
            reason = (
                f"{told} does not lead to {each.variable} {each.ours}: it cannot be armed, or forges with keys that "
                "nobody takes away"
            )
            remedy = f"mount one volume at one path in both containers, and give the node {each.option}={each.ours}"
            host = f"give the node {each.option}={each.ours}, and let its unit see that path"
            yield Finding("node-files", Weight.ERROR, reason, remedy, host_remedy=host)
    if fine:
        yield Finding("node-files", Weight.INFO, f"these lead to the sidecar's: {', '.join(fine)}")


def _metrics(facts: NodeFacts) -> Iterator[Finding]:
    url = facts.metrics_url
    remedy = (
        "set NODE_METRICS_URL to the port of the node's configuration (hasPrometheus, or PrometheusSimple of the new "
        "tracing)"
    )
    if isinstance(facts.metrics, str):
        up = facts.socket_problem == ""
        if up:  # its kernel accepts connections for a process that is stopped, too
            remedy = f"see whether the node hangs or is stopped (its log; its state in ps); else {remedy}"
        reason = f"{url}: {facts.metrics}: that the node stopped cannot be proven by them"
        yield Finding("node-metrics", Weight.ERROR if up else Weight.WARNING, reason, remedy)
        return
    found = set(facts.metrics.found)
    if not found:
        yield Finding("node-metrics", Weight.ERROR, f"{url} answers, with no metric of a cardano-node", remedy)
        return
    bad = facts.answerer is not None
    if facts.answerer is not None and not isinstance(facts.process, Unseen):
        yield _of_another(facts.answerer, facts.process, url)
    if not found & {"forging_enabled", "about_to_lead"}:
        bad = True
        reason = f"{url} has no metric of forging: that the node stopped cannot be proven by them"
        remedy = "have the node trace Forge (TraceForge); older versions show them once they have forged"
        yield Finding("node-metrics", Weight.WARNING, reason, remedy)
    if "slot" not in found:
        bad = True
        reason = f"{url} has no slot of the tip: a node on a stale chain is not noticed"
        yield Finding("node-metrics", Weight.WARNING, reason, "have the node trace ChainDB (TraceChainDb)")
    if not bad:
        yield Finding("node-metrics", Weight.INFO, f"{url} has {', '.join(sorted(found))}")


def _of_another(answerer: Answerer, process: Process, url: str) -> Finding:
    """What a relay on the same host says of itself would be taken for the proof that the producer stopped."""
    another_node = answerer.name == process.name
    who = f"process {answerer.pid} ({answerer.name})" if answerer.pid else "another process"
    reason = (
        f"{url} is answered by {who}, and the node is process {process.pid}: what it says proves nothing of the node"
    )
    remedy = (
        "set NODE_METRICS_URL to the port of the node's own configuration, which no other node on this host may have"
    )
    return Finding("node-metrics", Weight.ERROR if another_node else Weight.WARNING, reason, remedy)


def _tip(facts: NodeFacts) -> Finding:
    if isinstance(facts.metrics, str):
        return unseen("node-tip", Unseen(f"no metrics: {facts.metrics}"))
    if facts.metrics.slot is None:
        return unseen("node-tip", Unseen("its metrics do not tell"))
    if facts.wall_slot is None:
        return unseen("node-tip", Unseen("no calendar of this network is known: name its genesis (SHELLEY_GENESIS)"))
    ahead = (facts.metrics.slot - facts.wall_slot) * facts.slot_length_s
    if ahead > CLOCKS_DIFFER_S:
        unfit = ahead > most_ahead_s(facts.most_tip_lag_s)
        reason = f"its tip is {ahead:.0f} s ahead of the wall clock: it is of another network, or this clock is behind"
        if not unfit:
            reason += f" (MAX_TIP_LAG bears {facts.most_tip_lag_s:.0f} s)"
        remedy = "set CARDANO_NETWORK (or SHELLEY_GENESIS) to the node's network; look at this machine's clock"
        return Finding("node-tip", Weight.ERROR if unfit else Weight.WARNING, reason, remedy)
    lag = max(0.0, -ahead)
    reason = f"its tip is {lag:.0f} s behind the wall clock; MAX_TIP_LAG allows {facts.most_tip_lag_s:.0f} s"
    if lag > facts.most_tip_lag_s:
        remedy = (
            "let it catch up with its peers; look at its topology, at this machine's clock, and whether "
            "CARDANO_NETWORK is the node's network"
        )
        return Finding("node-tip", Weight.ERROR, reason, remedy)
    return Finding("node-tip", Weight.INFO, reason)


# --- credentials ---


@dataclass(frozen=True, slots=True)
class Target:
    """The folder of one TARGET_*."""

    variable: str
    folder: str
    problem: str
    """Why nothing can be put there; empty: it can."""
    in_memory: bool | Unseen | None = None
    """None: no key is written there, or what is written is no secret."""


@dataclass(frozen=True, slots=True)
class CredentialFacts:
    targets: tuple[Target, ...] | Unseen
    examined: tuple[messages.Finding, ...] | Unseen
    by: str
    """Who examined them."""


_WEIGHTS = {Severity.ERROR: Weight.ERROR, Severity.WARNING: Weight.WARNING, Severity.INFO: Weight.INFO}


def judge_credentials(facts: CredentialFacts) -> Iterator[Finding]:
    yield from _targets(facts.targets)
    yield from _targets_memory(facts.targets)
    if isinstance(facts.examined, Unseen):
        yield unseen("keys", facts.examined)
        return
    worst = _worst(facts.examined)
    if worst is Severity.ERROR:
        reason = f"examined by {facts.by}: a node cannot forge with them"
        yield Finding("keys", Weight.ERROR, reason, "as below", "forgectl check")
    else:
        yield Finding("keys", Weight.INFO, f"examined by {facts.by}: a node can forge with them")
    for each in facts.examined:
        yield Finding(each.check, _WEIGHTS[each.severity], each.reason, each.remedy)


def _worst(findings: Iterable[messages.Finding]) -> Severity:
    rank = list(Severity)
    return min((each.severity for each in findings), key=rank.index, default=Severity.INFO)


def _targets(targets: tuple[Target, ...] | Unseen) -> Iterator[Finding]:
    if isinstance(targets, Unseen):
        yield unseen("targets", targets)
        return
    wrong: dict[tuple[str, str], list[str]] = {}
    for each in targets:
        if each.problem:
            wrong.setdefault((each.folder, each.problem), []).append(each.variable)
    for (folder, problem), names in wrong.items():
        remedy = f"mount the volume that the node shares at {folder}, writable for the actuator's user"
        host = (
            f"let the unit make {folder} (RuntimeDirectory=, in /run), or make it for the unit's user, with a drop-in "
            f"that has ReadWritePaths={folder}"
        )
        reason = f"{', '.join(names)}: {folder}: {problem}"
        yield Finding("targets", Weight.ERROR, reason, remedy, host_remedy=host)
    if not wrong:
        folders = ", ".join(sorted({each.folder for each in targets}))
        yield Finding("targets", Weight.INFO, f"to be written to: {folders or 'none'}")


def _targets_memory(targets: tuple[Target, ...] | Unseen) -> Iterator[Finding]:
    if isinstance(targets, Unseen):
        yield unseen("targets-memory", targets)
        return
    known = {each.folder: each.in_memory for each in targets if each.in_memory is not None}
    for folder, in_memory in known.items():
        if isinstance(in_memory, Unseen):
            yield unseen("targets-memory", in_memory)
        elif in_memory:
            yield Finding("targets-memory", Weight.INFO, f"{folder} is in memory")
        else:
            reason = (
                f"{folder} is not in memory: with CREDENTIAL_MODE=file an armed node's keys are written to a disk, and "
                "are there still after a power cut: a node that comes up before the sidecar may forge with them, "
                "whoever has the right by then"
            )
            remedy = (
                "make the volume that the node shares an emptyDir with medium: Memory; without Kubernetes name a "
                "folder in /run"
            )
            yield Finding("targets-memory", Weight.WARNING, reason, remedy)
    if not known:
        yield Finding("targets-memory", Weight.INFO, "no key is written there, only links")
