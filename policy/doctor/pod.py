"""This pod and its kernel: RUN_DIR, sockets, workers, what the kernel must be able to do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from policy import timing
from policy.doctor.findings import Finding, Unseen, Weight, unseen

LONGEST_SOCKET: Final = 107
"""Bytes (unix(7))."""
_LOG: Final = "journalctl -u forge-manager"
_FOLDER: Final = "a folder in /run, made by RuntimeDirectory= of the sidecar's unit, with User= as it is"
_PERMISSIVE: Final = "a worker that cannot be locked up as declared runs all the same"

MOST_BENT: Final = 1 / (2 * timing.DRIFT_SHARE)
"""Of one machine's clock: half of what those of two may differ by."""


@dataclass(frozen=True, slots=True)
class Folder:
    """RUN_DIR, or a worker's folder in it."""

    path: str
    problem: str
    """Why it cannot be used at all; empty: it is a folder."""
    uid: int
    mode: int
    """Of its owner, group and others."""
    expected_uid: int
    """Whose it should be."""


@dataclass(frozen=True, slots=True)
class WorkerSeen:
    """One worker's last word."""

    worker: str
    problem: str | Unseen
    """Why it did not answer; empty: it did."""
    separation: str = ""
    """How it says that it runs; empty: not yet known."""
    closed: bool = False
    missing: tuple[str, ...] = ()
    violations: tuple[str, ...] = ()
    fails: str = ""
    """What fails it, though it answers; empty: nothing known."""


@dataclass(frozen=True, slots=True)
class Notices:
    """What became of those for NOTIFY_URL, as the prober says."""

    problem: str
    """Why the last attempt came to nothing; empty: it did not."""
    sent: int
    queued: int
    dropped: int


@dataclass(frozen=True, slots=True)
class PodFacts:
    run_dir: Folder
    in_memory: bool | Unseen
    folders: tuple[Folder, ...]
    """The workers', as far as they can be seen."""
    sockets: tuple[tuple[str, str], ...]
    """Whose, and its path."""
    workers: tuple[WorkerSeen, ...] | Unseen
    separations: tuple[str, ...]
    """The ways to run that the configuration leaves."""
    permissive: bool
    refusals: tuple[str, ...] | Unseen
    warnings: tuple[str, ...]
    """Both of the actuator."""
    notices: Notices | Unseen | None = None
    """None: NOTIFY_URL is not set."""
    gateway_files: tuple[tuple[str, str], ...] | Unseen | None = None
    """Of each of its files that cannot be used, the variable, and what is wrong; None: it has none."""
    kept_out: tuple[tuple[str, str], ...] | Unseen = ()
    """What an operator asked for that keeps the pod from taking over, and the command that ends it."""


@dataclass(frozen=True, slots=True)
class KernelFacts:
    """Problems: why it cannot be used; empty: it can."""

    landlock: int
    """Version of the interface; 0: none."""
    lacking: tuple[str, ...]
    """What that version cannot take away, in words."""
    obstacles: tuple[str, ...]
    """Why no sandbox can be closed here."""
    seccomp: str | Unseen
    pidfd: str
    death_timer: str
    death_signal: str
    freezer: str
    """Why a sidecar that is frozen would not die."""
    clock_bent_by: float = 0.0
    """By which share a time service makes the clock run faster, now."""


def judge_pod(facts: PodFacts) -> Iterator[Finding]:
    yield from _run_dir(facts)
    yield from _memory(facts)
    yield from _paths(facts.sockets)
    yield from _workers(facts.workers)
    yield from _separation(facts)
    yield from _actuator(facts)
    yield _notices(facts.notices)
    yield from _gateway_files(facts.gateway_files)
    yield from _kept_out(facts)


def _run_dir(facts: PodFacts) -> Iterator[Finding]:
    found = facts.run_dir
    mount = f"mount a memory-backed emptyDir at {found.path} that uid {found.expected_uid} may write to (fsGroup)"
    if found.problem:
        yield Finding("run-dir", Weight.ERROR, f"RUN_DIR {found.path}: {found.problem}", mount, host_remedy=_FOLDER)
        return
    bad = False
    if found.uid not in (0, found.expected_uid):
        bad = True
        reason = f"RUN_DIR {found.path} belongs to uid {found.uid}, not to {found.expected_uid} or root"
        yield Finding("run-dir", Weight.ERROR, reason, mount, host_remedy=_FOLDER)
    elif found.uid == found.expected_uid and found.mode & 0o066:
        bad = True
        reason = f"RUN_DIR {found.path} is open to others (mode {found.mode:04o})"
        yield Finding("run-dir", Weight.WARNING, reason, "close it", f"chmod go-rw {found.path}")
    for each in facts.folders:
        if each.problem or each.uid != each.expected_uid:
            bad = True
            what = each.problem or f"belongs to uid {each.uid}, not to {each.expected_uid}"
            remedy = "WORKER_UIDS changed, or somebody else made it: make the pod anew, and with it RUN_DIR"
            host = "stop the unit, remove RUN_DIR, start the unit: it makes the folders anew"
            yield Finding("run-dir", Weight.ERROR, f"{each.path}: {what}", remedy, host_remedy=host)
    if not bad:
        yield Finding("run-dir", Weight.INFO, f"RUN_DIR {found.path} is uid {found.uid}'s, mode {found.mode:04o}")


def _memory(facts: PodFacts) -> Iterator[Finding]:
    path = facts.run_dir.path
    if isinstance(facts.in_memory, Unseen):
        yield unseen("run-dir-memory", facts.in_memory)
    elif facts.in_memory:
        yield Finding("run-dir-memory", Weight.INFO, f"{path} is in memory")
    else:
        remedy = "make the volume an emptyDir with medium: Memory"
        reason = f"{path} is not in memory: armed keys are written to a disk"
        yield Finding("run-dir-memory", Weight.WARNING, reason, remedy, host_remedy=_FOLDER)


def _paths(sockets: tuple[tuple[str, str], ...]) -> Iterator[Finding]:
    longest = 0
    for whose, path in sockets:
        length = len(path.encode("utf-8", "replace"))
        longest = max(longest, length)
        if length > LONGEST_SOCKET:
            reason = f"{whose}: {path} has {length} bytes, a Unix socket's path at most {LONGEST_SOCKET}"
            yield Finding("socket-paths", Weight.ERROR, reason, "choose a shorter path")
    if longest <= LONGEST_SOCKET:
        yield Finding("socket-paths", Weight.INFO, f"the longest path of a socket has {longest} bytes")


def _workers(workers: tuple[WorkerSeen, ...] | Unseen) -> Iterator[Finding]:
    if isinstance(workers, Unseen):
        yield unseen("workers", workers)
        return
    for each in workers:
        if isinstance(each.problem, Unseen):
            yield unseen("workers", Unseen(f"the {each.worker}: {each.problem.why}"))
    workers = tuple(each for each in workers if not isinstance(each.problem, Unseen))
    if not workers:
        yield unseen("workers", Unseen("there is none that we may ask"))
        return
    silent = [each for each in workers if each.problem]
    if silent and len(silent) == len(workers):
        remedy = "is the sidecar running, and is this its RUN_DIR? see its log"
        reason = f"no worker answers, the {silent[0].worker}'s socket for one: {silent[0].problem}"
        yield Finding("workers", Weight.ERROR, reason, remedy, "kubectl logs POD -c forge-manager", host_command=_LOG)
        return
    for each in silent:
        remedy = "see why in its log; a worker that dies is started again within seconds"
        reason = f"the {each.worker} does not answer: {each.problem}"
        yield Finding("workers", Weight.ERROR, reason, remedy, "kubectl logs POD -c forge-manager", host_command=_LOG)
    failing = [each for each in workers if each.fails]
    for each in failing:
        remedy = "see its last decisions, and what is found of the servers here; of a 403, the role, or the namespace"
        command = f"forgectl inspect {each.worker} --decisions"
        yield Finding("workers", Weight.ERROR, f"the {each.worker}: {each.fails}", remedy, command)
    if not silent and not failing:
        yield Finding("workers", Weight.INFO, f"all answer: {', '.join(each.worker for each in workers)}")


def _separation(facts: PodFacts) -> Iterator[Finding]:
    if isinstance(facts.workers, Unseen):
        yield unseen("separation", facts.workers)
        return
    heard = [each for each in facts.workers if each.problem == ""]
    if not heard:
        yield unseen("separation", Unseen("no worker answers us"))
        return
    audit = "forgectl audit"
    bad = False
    for each in heard:
        if each.separation and each.separation not in facts.separations:
            bad = True
            wanted = " or ".join(facts.separations)
            reason = f"the {each.worker} runs as {each.separation}, by WORKER_UIDS it should as {wanted}"
            remedy = "give forgectl and the sidecar the same environment, or restart the sidecar"
            yield Finding("separation", Weight.ERROR, reason, remedy)
        if each.violations:
            bad = True
            reason = f"the {each.worker} can do what it does not declare: {'; '.join(each.violations)}"
            yield Finding("separation", Weight.ERROR, reason, "see what it is, and restart the sidecar", audit)
        elif not each.closed:
            bad = True
            weight = Weight.WARNING if facts.permissive else Weight.ERROR
            yield Finding("separation", weight, f"the {each.worker} is not locked up", "see what is missing", audit)
    if not bad:
        how = ", ".join(sorted({each.separation or "not told" for each in heard}))
        missing = sorted({text for each in heard for text in each.missing})
        yield Finding("separation", Weight.INFO, "; ".join([f"{how}; all that answer are locked up", *missing]))


def _actuator(facts: PodFacts) -> Iterator[Finding]:
    if isinstance(facts.refusals, Unseen):
        yield unseen("actuator", facts.refusals)
        return
    for text in facts.refusals:
        yield Finding("actuator", Weight.ERROR, f"it would not arm: {text}", "as it says; see the other findings too")
    for text in facts.warnings:
        yield Finding("actuator", Weight.WARNING, text, "as it says")
    if not facts.refusals and not facts.warnings:
        yield Finding("actuator", Weight.INFO, "it could arm at once, and warns of nothing")


def _notices(notices: Notices | Unseen | None) -> Finding:
    if notices is None:
        return Finding("notices", Weight.INFO, "NOTIFY_URL is not set: nobody is told of anything")
    if isinstance(notices, Unseen):
        return unseen("notices", notices)
    told = f"{notices.sent} sent, {notices.queued} waiting, {notices.dropped} given up"
    if notices.problem:
        remedy = "see that the receiver answers and takes notices, and NOTIFY_SECRET_FILE (docs/notifications.md)"
        return Finding("notices", Weight.WARNING, f"the last attempt failed: {notices.problem}; {told}", remedy)
    return Finding("notices", Weight.INFO, told)


def _gateway_files(files: tuple[tuple[str, str], ...] | Unseen | None) -> Iterator[Finding]:
    if isinstance(files, Unseen):
        yield unseen("gateway-files", files)
        return
    for variable, problem in files or ():
        mend = "mend the secret, which is read anew within seconds (docs/runbooks/GatewayFileUnusable.md)"
        yield Finding("gateway-files", Weight.ERROR, f"the file of {variable} {problem}", mend)
    if not files:
        told = "can be used" if files is not None else "are not set: its port speaks plain HTTP to everybody"
        yield Finding("gateway-files", Weight.INFO, f"the gateway's token and certificate {told}")


def _kept_out(facts: PodFacts) -> Iterator[Finding]:
    if isinstance(facts.kept_out, Unseen):
        yield unseen("kept-out", facts.kept_out)
        return
    for reason, command in facts.kept_out:
        yield Finding("kept-out", Weight.WARNING, reason, "end it, if it is not wanted any more", command)
    if not facts.kept_out:
        yield Finding("kept-out", Weight.INFO, "no stand-down, drain or pause is in force")


def judge_sandbox_setting(permissive: bool) -> Finding:
    if permissive:
        return Finding("sandbox-setting", Weight.WARNING, f"SANDBOX=permissive: {_PERMISSIVE}", "set SANDBOX=enforce")
    return Finding("sandbox-setting", Weight.INFO, "SANDBOX=enforce")


def judge_kernel(facts: KernelFacts, *, permissive: bool) -> Iterator[Finding]:
    if facts.obstacles:
        weight = Weight.WARNING if permissive else Weight.ERROR
        for text in facts.obstacles:
            yield Finding("landlock", weight, text, "as it says, or accept less with SANDBOX=permissive")
    elif facts.landlock == 0:
        reason = "no Landlock: files are guarded by their owners and modes alone"
        yield Finding(
            "landlock", Weight.WARNING, reason, "Linux 5.13 or newer, with landlock in the boot parameter lsm"
        )
    else:
        yield Finding("landlock", Weight.INFO, "; ".join(facts.lacking) or f"Landlock ABI {facts.landlock}")
    if isinstance(facts.seccomp, Unseen):
        yield unseen("seccomp", facts.seccomp)
    else:
        yield _feature(
            "seccomp",
            facts.seccomp,
            "system calls can be filtered",
            "a kernel with CONFIG_SECCOMP_FILTER, and a seccomp profile of the container that allows seccomp",
        )
    yield _feature("pidfd", facts.pidfd, "processes can be held by pidfd", "Linux 5.3 or newer")
    remedy = "use the container engine's default seccomp profile, or none"
    yield _feature("death-timer", facts.death_timer, "timers on CLOCK_BOOTTIME can be had", remedy)
    yield _feature("death-signal", facts.death_signal, "the kernel signals for a process that died", remedy)
    if facts.freezer:
        remedy = "let nothing freeze the sidecar's container (pause, checkpoint, commit), or boot with cgroup v2"
        yield Finding("freezer", Weight.WARNING, facts.freezer, remedy)
    else:
        yield Finding("freezer", Weight.INFO, "no cgroup v1 freezer holds us: a frozen process can die")
    yield _clock_rate(facts.clock_bent_by)


def _clock_rate(share: float) -> Finding:
    how = f"a time service makes the clock run {abs(share):.2%} {'faster' if share > 0 else 'slower'} now"
    if abs(share) <= MOST_BENT:
        return Finding("clock-rate", Weight.INFO, how)
    reason = f"{how}: clocks of two machines may differ by {1 / timing.DRIFT_SHARE:.0%} (A2 in safety.md)"
    return Finding("clock-rate", Weight.WARNING, reason, "have it correct more slowly (chrony: maxslewrate 1000)")


def _feature(check: str, problem: str, fine: str, remedy: str) -> Finding:
    if problem:
        return Finding(check, Weight.ERROR, problem, remedy)
    return Finding(check, Weight.INFO, fine)
