"""What `forgectl doctor` looks at in the pod: RUN_DIR, workers, kernel, node, files.  It changes nothing."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import platform
import stat
import time
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import urlsplit

from cardano.metrics import parse_metrics
from cardano.process import (
    NodeGone,
    ProcessUnreadable,
    SocketCheck,
    SocketOutcome,
    check_socket,
    credential_options,
    find_by_name,
    others_hidden,
    read_argv,
    read_status,
    socket_option,
    start_flag,
    wanted_options,
)
from cardano.scrape import ScrapeError, fetch
from cardano.slots import slot_at, slot_length_s
from cli.asking import Failed, NotAllowed
from cli.looking import read_states
from config import Config
from gateway import guard
from ipc.messages import ActuatorState, ArbiterState, Body, ElectorState, ProberState, State, Worker
from kernel import needed
from kernel.clock import bent_by, boottime_ns
from kernel.identity import effective
from kernel.libc import LIBC
from kernel.process import filesystem_is_memory
from policy import timing
from policy.doctor.findings import Unseen
from policy.doctor.node import Answerer, CredentialFacts, Led, NodeFacts, Process, Scraped, Target
from policy.doctor.pod import Folder, KernelFacts, Notices, PodFacts, WorkerSeen
from policy.preflight import Identity
from sandbox import landlock
from sandbox.close import obstacles
from sandbox.syscalls import Architecture, number

METRICS_S: Final = 4.0
_LISTEN: Final = "0A"
"""TCP_LISTEN of linux/net/tcp_states.h, as /proc/net/tcp has it."""
_GET_ACTION_AVAIL: Final = 2
_RET_ERRNO: Final = 0x00050000
"""linux/seccomp.h"""

States = dict[Worker, State | Failed]
B = TypeVar("B", bound=Body)


def states(config: Config) -> States:
    """Each worker's, or why there is none."""
    return read_states(config, tuple(Worker))


def elsewhere(config: Config, *workers: Worker) -> Unseen | None:
    """Where each worker has a container, others do not see its volumes.  None: we are one of these, or see all."""
    uid = os.getuid()
    if not config.worker_uids or uid == 0 or uid in {config.worker_uids[worker] for worker in workers}:
        return None
    return Unseen(f"uid {uid} does not see what the {workers[0]} sees: run it in the {workers[0]}'s container")


# --- the pod ---


def pod(config: Config, heard: States) -> PodFacts:
    ours = _sidecars_uid(config)
    folders = tuple(
        _folder(config.worker_dir(worker), config.worker_uids.get(worker, ours))
        for worker in Worker
        if os.path.lexists(config.worker_dir(worker))
    )
    actuator = _actuator(heard)
    silent = heard[Worker.ACTUATOR]
    return PodFacts(
        run_dir=_folder(config.run_dir, ours),
        in_memory=_in_memory(config.run_dir),
        folders=folders,
        sockets=_sockets(config),
        workers=tuple(_worker(worker, answer) for worker, answer in heard.items()),
        separations=("uids", "containers") if config.worker_uids else ("single-uid",),
        permissive=config.sandbox == "permissive",
        refusals=actuator.refusals if actuator is not None else Unseen(f"it does not answer us: {silent}"),
        warnings=actuator.warnings if actuator is not None else (),
        notices=_notices(heard),
        gateway_files=_gateway_files(config),
        kept_out=_kept_out(heard),
    )


def _notices(heard: States) -> Notices | Unseen | None:
    prober = _body(heard, Worker.PROBER, ProberState)
    if prober is None:
        return Unseen(f"the prober does not answer us: {heard[Worker.PROBER]}")
    told = prober.notifications
    if told is None:
        return None
    return Notices(told.problem, told.sent_total, told.queued, told.dropped_total)


def _gateway_files(config: Config) -> tuple[tuple[str, str], ...] | Unseen | None:
    named = (config.gateway_token_file, config.gateway_tls_cert_file, config.gateway_tls_key_file)
    files = [path for path in named if path is not None]
    if not files:
        return None
    if config.worker_uids and not all(os.access(path, os.R_OK) for path in files):
        return Unseen("the gateway's files can be read by its own account, or in its own container, alone")
    return tuple((each.name, each.remedy) for each in guard.mistakes(config))


def _kept_out(heard: States) -> tuple[tuple[str, str], ...] | Unseen:
    said, arbiter = _body(heard, Worker.ELECTOR, ElectorState), _body(heard, Worker.ARBITER, ArbiterState)
    if said is None:
        return Unseen(f"the elector does not answer us: {heard[Worker.ELECTOR]}")
    found, left_s = [], (said.standing_down_until - boottime_ns()) / timing.SECOND
    if said.drained:
        found.append((f"it is drained, until `forgectl come-back`: {said.drained}", "forgectl come-back"))
    elif left_s > 0:
        found.append((f"it stands down for {left_s:.0f} s more", "forgectl come-back"))
    if said.paused:
        reason = f"the lease is paused {said.paused}: should its pod fail, nobody takes over"
        found.append((reason, f"forgectl resume --lease {said.lease.rpartition('/')[2]}"))
    pool = arbiter.pool if arbiter is not None else None
    if pool is not None and pool.paused:
        reason = f"the pool-wide lock is paused {pool.paused}: should its cluster fail, nobody takes over"
        found.append((reason, "forgectl resume"))
    return tuple(found)


def _sidecars_uid(config: Config) -> int:
    """Who runs the sidecar: ourselves, unless we are root and its folders are another's."""
    if os.getuid() != 0 or config.worker_uids:
        return os.getuid()
    try:
        return config.worker_dir(Worker.ACTUATOR).stat().st_uid
    except OSError:
        return 0


def _folder(path: Path, expected_uid: int) -> Folder:
    try:
        info = path.stat()
    except OSError as error:
        return Folder(str(path), error.strerror or str(error), -1, 0, expected_uid)
    problem = "" if stat.S_ISDIR(info.st_mode) else "is no folder"
    return Folder(str(path), problem, info.st_uid, stat.S_IMODE(info.st_mode) & 0o777, expected_uid)


def _in_memory(path: Path) -> bool | Unseen:
    try:
        return filesystem_is_memory(path)
    except OSError as error:
        return Unseen(f"{path}: {error.strerror or error}")


def _sockets(config: Config) -> tuple[tuple[str, str], ...]:
    found = [("RUN_DIR", str(path(worker))) for worker in Worker for path in (config.state_socket, config.debug_socket)]
    found += [("RUN_DIR", str(config.command_socket)), ("NODE_SOCKET", str(config.node_socket))]
    if config.kes_agent:
        found += [
            ("SOURCE_KES_AGENT_SOCKET", str(config.source_kes_agent_socket)),
            ("TARGET_KES_AGENT_SOCKET", str(config.target_kes_agent_socket)),
        ]
    return tuple(found)


def _worker(worker: Worker, answer: State | Failed) -> WorkerSeen:
    if isinstance(answer, Failed):
        return WorkerSeen(worker, Unseen(str(answer)) if isinstance(answer, NotAllowed) else str(answer))
    box = answer.sandbox
    body = answer.body
    cut_off = isinstance(body, ElectorState) and not body.api_ok
    fails = "the API server does not answer it, or refuses" if cut_off else ""
    return WorkerSeen(worker, "", box.separation, box.closed, box.missing, box.violations, fails)


def _actuator(heard: States) -> ActuatorState | None:
    return _body(heard, Worker.ACTUATOR, ActuatorState)


def _body(heard: States, worker: Worker, kind: type[B]) -> B | None:
    """What this worker says; None: it does not answer us."""
    answer = heard[worker]
    return answer.body if isinstance(answer, State) and isinstance(answer.body, kind) else None


# --- the kernel ---


def kernel(config: Config) -> KernelFacts:
    version = landlock.abi()
    return KernelFacts(
        landlock=version,
        lacking=landlock.missing(version, datagrams=False),
        obstacles=obstacles(config),
        seccomp=_seccomp(),
        pidfd=needed.pidfd(),
        death_timer=needed.death_timer(),
        death_signal=needed.death_signal(),
        freezer=_freezer(),
        clock_bent_by=bent_by(),
    )


def _seccomp() -> str | Unseen:
    architecture = Architecture.of(platform.machine())
    call = number("seccomp", architecture) if architecture is not None else None
    if call is None:
        return Unseen(f"no system call numbers for {platform.machine()}")
    action = ctypes.c_uint32(_RET_ERRNO)
    asked = (ctypes.c_long(call), ctypes.c_ulong(_GET_ACTION_AVAIL), ctypes.c_ulong(0), ctypes.byref(action))
    if int(LIBC.syscall(*asked)) == 0:
        return ""
    return f"system calls cannot be filtered: {os.strerror(ctypes.get_errno())}"


def _freezer(of_us: Path = Path("/proc/self/cgroup"), mounted: Path = Path("/sys/fs/cgroup/freezer")) -> str:
    """The root group has no freezer.state and cannot be frozen; in a namespace of its own a group is called / too."""
    try:
        groups = [line.split(":", 2) for line in of_us.read_text("utf-8", "surrogateescape").splitlines()]
    except OSError:
        groups = []  # no cgroups, or nothing of /proc
    ours = [path for _, controllers, path in groups if "freezer" in controllers.split(",")]
    if ours and (ours != ["/"] or (mounted / "freezer.state").exists()):
        return (
            "we are in a cgroup v1 freezer: while the container is frozen the kernel cannot end it, its node forges "
            "on, and another pod takes over"
        )
    return ""


# --- the node ---


async def node(config: Config, heard: States) -> NodeFacts:
    """In METRICS_S at most."""
    found = check_socket(config.node_socket)
    scraping = asyncio.create_task(_scrape(config.node_metrics_url))
    wanted = wanted_options(config.targets.values())
    process, missing = await asyncio.to_thread(
        _process, config, found
    )  # many files: the servers' answers come meanwhile
    actuator, known = _actuators_identity(config, heard)
    return NodeFacts(
        socket_path=str(config.node_socket),
        socket_problem=elsewhere(config, Worker.ACTUATOR) or _socket_problem(config, found),
        socket_checked=not config.disable_socket_check,
        process=process,
        process_missing=missing,
        wanted_name=config.cardano_node_process_name,
        actuator=actuator,
        actuator_known=known,
        ephemeral=config.credential_mode != "file",
        wanted=wanted,
        metrics_url=config.node_metrics_url,
        metrics=await scraping,
        wall_slot=slot_at(config.calendar, time.time()),
        slot_length_s=slot_length_s(config.calendar),
        most_tip_lag_s=config.max_tip_lag,
        answerer=_answerer(config.node_metrics_url, process.pid) if isinstance(process, Process) else None,
    )


def _socket_problem(config: Config, found: SocketCheck) -> str | Unseen:
    """What keeps us out need not keep the actuator out: root without CAP_DAC_OVERRIDE, by `kubectl exec`, may less."""
    actuators = config.worker_uids.get(Worker.ACTUATOR, _sidecars_uid(config))
    if found.outcome is SocketOutcome.FORBIDDEN and os.getuid() != actuators:
        return Unseen(f"{found.why} to uid {os.getuid()}, which is not the actuator's ({actuators})")
    return found.why


async def _scrape(url: str) -> Scraped | str:
    try:
        metrics = parse_metrics(await fetch(url, METRICS_S))
    except ScrapeError as error:
        return str(error)
    return Scraped(tuple(metrics.aliases), metrics.slot)


def _answerer(url: str, node: int) -> Answerer | None:
    """Who else listens on this machine where the node's metrics should be; None: it is the node, or cannot be known."""
    parts = urlsplit(url)
    if parts.hostname not in ("127.0.0.1", "localhost", "::1"):
        return None
    listening = _listening(parts.port or 80)
    try:
        if not listening or listening & _sockets_of(node):
            return None
    except OSError:
        return None
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # another user's, or gone
            if listening & _sockets_of(int(process.name)):
                return Answerer(int(process.name), _name(int(process.name)))
    return Answerer(0, "")


def _listening(port: int) -> set[str]:
    """Of the sockets that listen on this TCP port what /proc/PID/fd calls them: proc_pid_net(5)."""
    found = set()
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path("/proc/net", table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                    found.add(f"socket:[{fields[9]}]")
    return found


def _sockets_of(pid: int) -> set[str]:
    """And its other open files.  Raises OSError."""
    found = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            found.add(str(entry.readlink()))
    return found


def _process(config: Config, found: SocketCheck) -> tuple[Process | Unseen, str]:
    """And why there is none, if that is wrong."""
    name = config.cardano_node_process_name
    pid = found.pid
    if found.ok and not pid:
        return Unseen("it cannot be seen"), "NODE_SOCKET answers, but its process is not visible"
    if not pid:
        candidates = find_by_name(name, config.node_socket)
        if candidates and candidates[0].relay and not config.disable_socket_check:
            return Unseen("there is none"), (
                f"process {candidates[0].pid}, named {name}, was given neither a key nor --socket-path (a relay, if it "
                "is not the node), and nobody serves NODE_SOCKET"
            )
        if not candidates:
            missing = f"no process is named {name}, and nobody serves NODE_SOCKET"
            return Unseen("there is none"), "; ".join(filter(None, (missing, others_hidden())))
        if len(candidates) > 1:
            return Unseen(f"{len(candidates)} processes are named {name}, and nobody serves NODE_SOCKET"), ""
        pid = candidates[0].pid
    try:
        return _looked_at(config, pid), ""
    except NodeGone as error:
        return Unseen(str(error)), ""
    except ProcessUnreadable as error:
        return Unseen(str(error)), ""


def _looked_at(config: Config, pid: int) -> Process:
    """Raises NodeGone, ProcessUnreadable."""
    status, argv = read_status(pid), read_argv(pid)
    nested = status.nested and not read_status(os.getpid()).nested
    options = credential_options(argv)
    wanted = wanted_options(config.targets.values())
    return Process(
        pid=pid,
        name=_name(pid),
        identity=Identity(status.uids, status.gids, status.cap_eff, nested),
        argv_seen=bool(argv),
        flag=start_flag(argv),
        options=options,
        socket_path=socket_option(argv),
        led=tuple(
            Led(option, options[option], variable, path, _leads_to(pid, options[option], Path(path)))
            for option, (variable, path) in wanted.items()
            if option in options
        ),
    )


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text("utf-8", "replace").rstrip("\n")
    except OSError:
        return "without a name"


def _leads_to(pid: int, given: str, ours: Path) -> bool | Unseen:
    """Whether the folder of a path as that process sees it is the folder of ours, and the file's name the same."""
    base = f"/proc/{pid}/root" if given.startswith("/") else f"/proc/{pid}/cwd/"
    try:
        theirs = Path(base + given).parent.stat()
    except FileNotFoundError:
        return False
    except OSError as error:
        return Unseen(f"its files cannot be seen ({error.strerror or error})")
    try:
        mine = ours.parent.stat()
    except OSError as error:
        return Unseen(f"{ours.parent}: {error.strerror or error}")
    return (theirs.st_dev, theirs.st_ino, Path(given).name) == (mine.st_dev, mine.st_ino, ours.name)


def _actuators_identity(config: Config, heard: States) -> tuple[Identity, bool]:
    """And whether that is a running one's."""
    answer = heard[Worker.ACTUATOR]
    if isinstance(answer, State):
        try:
            status = read_status(answer.pid)
        except (NodeGone, ProcessUnreadable):
            status = None  # in another pid namespace
        if status is not None and status.uids[1] == config.worker_uids.get(Worker.ACTUATOR, status.uids[1]):
            return Identity(status.uids, status.gids, status.cap_eff), True
    uid = config.worker_uids.get(Worker.ACTUATOR)
    if uid is not None:
        return Identity((uid,) * 4, (uid,) * 4, 0), False
    capabilities = 0 if os.getuid() == 0 else effective()  # the sidecar drops them; root's own shell has them all
    return Identity((os.getuid(),) * 4, (os.getgid(),) * 4, capabilities), False


# --- credentials ---


def credentials(config: Config, heard: States) -> CredentialFacts:
    from cli import examining  # with CBOR and libsodium

    unseen = elsewhere(config, Worker.ACTUATOR)
    targets = unseen or tuple(
        Target(variable, str(path.parent), _not_writable(path.parent), _keys_in_memory(config, path))
        for variable, path in config.targets.values()
    )
    actuator = _actuator(heard)
    cold = () if unseen is not None else examining.cold_keys_beside(config)
    if actuator is not None and actuator.findings:  # it knows more: counters that were used, what the node uses
        return CredentialFacts(targets, (*cold, *actuator.findings), "the actuator")
    if unseen is not None:
        return CredentialFacts(targets, unseen, "")
    findings, closed = examining.of_sources(config)
    if not closed:
        return CredentialFacts(targets, (*cold, *findings), "forgectl")
    return CredentialFacts(
        targets, Unseen(f"we may not read {', '.join(closed)}, and the actuator says nothing of them"), ""
    )


def _keys_in_memory(config: Config, path: Path) -> bool | Unseen | None:
    """Of the folder of a target; None: what the actuator puts there is a link, or the certificate."""
    if config.credential_mode != "file" or path == config.target_op_cert:
        return None
    return _in_memory(path.parent)


def _not_writable(folder: Path) -> str:
    if not folder.is_dir():
        return "is no folder" if folder.exists() else "does not exist"
    return "" if os.access(folder, os.W_OK | os.X_OK, effective_ids=True) else "may not be written to by our user"
