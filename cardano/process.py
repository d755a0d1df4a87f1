"""The node as a process: who serves its socket, what its /proc files say, how it is held and signalled.

A pid is only a number that may be given to another process; here it is either read together with what proves whose
it is (start time, pidfd) or said to be a guess (`find_by_name`).  Nothing is inferred: what cannot be seen is an
exception or a named outcome, never a default.
Formats: proc_pid_status(5), proc_pid_stat(5), proc_pid_cmdline(5); SO_PEERCRED: unix(7); pidfd_open(2).
"""

from __future__ import annotations

import enum
import errno
import os
import select
import signal
import socket
import stat
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ipc.messages import StartFlag
from ipc.peers import peer_of

PROC: Final = Path("/proc")

NON_PRODUCING_FLAGS: Final = frozenset({"--start-as-non-producing-node", "--non-producing-node"})
"""Its two names; which one is the deprecated one depends on the version (cardano-node Parsers.hs)."""
CREDENTIAL_FLAGS: Final = frozenset(
    {
        "--shelley-kes-key",
        "--shelley-vrf-key",
        "--shelley-operational-certificate",
        "--bulk-credentials-file",
        "--shelley-kes-agent-socket",
    }
)

OPTION_OF: Final = {
    "TARGET_KES_KEY": "--shelley-kes-key",
    "TARGET_VRF_KEY": "--shelley-vrf-key",
    "TARGET_OP_CERT": "--shelley-operational-certificate",
    "TARGET_KES_AGENT_SOCKET": "--shelley-kes-agent-socket",
}
"""The variable of ours that says where the sidecar puts a file -> the node's option that says where it looks."""


class NodeGone(Exception):  # noqa: N818  # an event, named as such
    """The process has ended."""


class ProcessUnreadable(Exception):  # noqa: N818
    """The process is there but its /proc files may not be read; the text names what to change."""


@dataclass(frozen=True, slots=True)
class ProcStatus:
    """Of /proc/PID/status, what the fence needs."""

    pid: int
    state: str
    """One letter: R, S, D, T (stopped), Z (zombie), ..."""
    uids: tuple[int, ...]
    """Real, effective, saved, file system."""
    gids: tuple[int, ...]
    groups: tuple[int, ...]
    cap_eff: int
    sighup_caught: bool
    sighup_ignored: bool
    sighup_blocked: bool
    sighup_pending: bool
    """For the process or its main thread: sent, not yet taken."""
    no_new_privs: bool
    seccomp: int
    nested: bool = False
    """In a pid namespace below that of /proc (a container's): it sees us not at all."""


def parse_status(text: str) -> ProcStatus:
    """Parse /proc/PID/status.  Raises ValueError when a field is missing or not as documented.

    Only a line feed ends a line: the kernel escapes that one in a process's name, no other separator, and a name
    must not be able to speak for a field.
    """
    fields: dict[str, str] = {}
    for line in text.split("\n"):
        name, _, value = line.partition(":")
        fields.setdefault(name, value.strip())
    try:
        pending = int(fields["SigPnd"], 16) | int(fields["ShdPnd"], 16)
        return ProcStatus(
            pid=int(fields["Pid"]),
            state=fields["State"][:1],
            uids=_four(fields["Uid"]),
            gids=_four(fields["Gid"]),
            groups=tuple(int(v) for v in fields["Groups"].split()),
            cap_eff=int(fields["CapEff"], 16),
            sighup_caught=bool(int(fields["SigCgt"], 16) & 1),
            sighup_ignored=bool(int(fields["SigIgn"], 16) & 1),
            sighup_blocked=bool(int(fields["SigBlk"], 16) & 1),
            sighup_pending=bool(pending & 1),
            no_new_privs=fields.get("NoNewPrivs", "0") == "1",
            seccomp=int(fields.get("Seccomp", "0")),
            nested=len(fields.get("NSpid", "").split()) > 1,
        )
    except KeyError as error:
        raise ValueError(f"/proc/PID/status without {error.args[0]}") from None


def _four(text: str) -> tuple[int, ...]:
    """Real, effective, saved and file system id."""
    ids = tuple(int(word) for word in text.split())
    if len(ids) != 4:
        raise ValueError("/proc/PID/status: four ids expected")
    return ids


def parse_start_ticks(text: str) -> int:
    """Field 22 of /proc/PID/stat: start time in clock ticks since boot.  The name may hold spaces and brackets."""
    tail = text.rpartition(")")[2].split()
    if len(tail) < 20:
        raise ValueError("/proc/PID/stat is too short")
    return int(tail[19])


def _read(pid: int, name: str) -> bytes:
    try:
        return (PROC / str(pid) / name).read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        raise NodeGone(f"process {pid} has ended") from None
    except PermissionError:
        raise ProcessUnreadable(
            f"/proc/{pid}/{name} may not be read; run node and sidecar with the same runAsUser"
        ) from None


def read_status(pid: int) -> ProcStatus:
    """Raises NodeGone, ProcessUnreadable."""
    return parse_status(_read(pid, "status").decode("utf-8", errors="replace"))


def others_hidden() -> str:
    """Why processes of other users cannot be seen here; empty: it is not known that they cannot.

    Every pid namespace has a process 1 while anybody is in it: /proc without one hides it (hidepid, proc(5)).
    """
    if (PROC / "1").exists():
        return ""
    return (
        "/proc hides other users' processes (hidepid; ProtectProc= in a unit): if the node runs, as another user or "
        "hidden, it cannot be found; run both as one user, and mount /proc without hidepid"
    )


def start_ticks(pid: int) -> int:
    """Raises NodeGone, ProcessUnreadable."""
    return parse_start_ticks(_read(pid, "stat").decode("utf-8", errors="replace"))


def read_argv(pid: int) -> tuple[str, ...]:
    """The arguments; empty for a zombie and for a kernel thread.  Raises NodeGone, ProcessUnreadable."""
    return split_arguments(_read(pid, "cmdline"))


def split_arguments(raw: bytes) -> tuple[str, ...]:
    """/proc/PID/cmdline: each argument ends in a NUL, unless the process wrote over them."""
    if not raw:
        return ()
    parts = raw.removesuffix(b"\0").split(b"\0")
    return tuple(part.decode("utf-8", errors="replace") for part in parts)


# --- how it was started ---


def start_flag(argv: Sequence[str]) -> StartFlag:
    """Whether a node started so forges from its bootstrap files by itself.

    Only the flag on the command line is proof that it does not.  `StartAsNonProducingNode` in the node's configuration
    is not looked at: versions differ in whether they read that key at all, and for some the command line's silence
    overrules it (cardano-node POM.hs, Parsers.hs); nor could a closed sandbox read another process's files.
    NO_CREDENTIALS: a relay, whatever else it says; credentials come by flags alone.
    """
    if not argv:
        return StartFlag.UNKNOWN
    if not {word.partition("=")[0] for word in argv} & CREDENTIAL_FLAGS:
        return StartFlag.NO_CREDENTIALS
    return StartFlag.NON_PRODUCING if NON_PRODUCING_FLAGS & set(argv) else StartFlag.PRODUCING


def _argument(argv: Sequence[str], name: str) -> str | None:
    """The value of an option written `--name value` or `--name=value`."""
    for word, following in zip(argv, [*argv[1:], ""], strict=True):
        if word == name:
            return following or None
        if word.startswith(name + "="):
            return word[len(name) + 1 :]
    return None


def credential_options(argv: Sequence[str]) -> dict[str, str]:
    """Which of CREDENTIAL_FLAGS are there, and their values."""
    found = {name: _argument(argv, name) for name in sorted(CREDENTIAL_FLAGS)}
    return {name: value for name, value in found.items() if value is not None}


def wanted_options(targets: Iterable[tuple[str, Path]]) -> dict[str, tuple[str, str]]:
    """The option that a node needs for each target (variable, path) -> that variable and path."""
    return {OPTION_OF[name]: (name, str(path)) for name, path in targets}


def socket_option(argv: Sequence[str]) -> str:
    """The value of --socket-path; empty: it was not given."""
    return _argument(argv, "--socket-path") or ""


# --- who it is ---


class SocketOutcome(enum.StrEnum):
    """What a connection to a socket's path met."""

    ACCEPTS = "accepts"
    """A process that we can see listens there."""
    ACCEPTS_UNSEEN = "accepts-unseen"
    """Somebody listens, in a pid namespace that we cannot see: who, cannot be known."""
    FULL = "full"
    """Somebody listens but does not accept: alive, yet hung or drowned."""
    STALE = "stale"
    """The file was left behind by a process that has ended."""
    MISSING = "missing"
    NOT_A_SOCKET = "not-a-socket"
    FORBIDDEN = "forbidden"
    """The file's mode or its folder's keeps us out."""
    FAILED = "failed"
    """Anything else; `why` has the kernel's words."""


@dataclass(frozen=True, slots=True)
class SocketCheck:
    """What stands behind a socket path."""

    ok: bool
    """Somebody accepts connections there."""
    why: str
    """Why not; empty when ok."""
    pid: int
    """Who called listen(2); 0: nobody, or somebody in a pid namespace that we cannot see."""
    outcome: SocketOutcome = SocketOutcome.FAILED
    uid: int = -1
    gid: int = -1
    """Effective ids of the listener when it called listen(2); -1: not known."""


def check_socket(path: Path) -> SocketCheck:
    """Connect, look who listens, hang up.  Never waits: a full backlog is an answer too."""
    try:
        if not stat.S_ISSOCK(path.stat().st_mode):
            return SocketCheck(False, f"{path} is not a socket", 0, SocketOutcome.NOT_A_SOCKET)
    except OSError as error:
        return _not_connected(path, error)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as sock:
        try:
            sock.connect(str(path))
            peer = peer_of(sock)
        except OSError as error:
            return _not_connected(path, error)
    outcome = SocketOutcome.ACCEPTS if peer.pid > 0 else SocketOutcome.ACCEPTS_UNSEEN
    return SocketCheck(True, "", peer.pid, outcome, peer.uid, peer.gid)


_SOCKET_ERRORS: Final = {
    errno.ENOENT: (SocketOutcome.MISSING, "does not exist"),
    errno.ECONNREFUSED: (SocketOutcome.STALE, "nobody listens (a file left behind)"),
    errno.EAGAIN: (SocketOutcome.FULL, "its process does not accept connections"),
    errno.EACCES: (SocketOutcome.FORBIDDEN, "permission denied"),
}


def _not_connected(path: Path, error: OSError) -> SocketCheck:
    # An error without a number is Python's own: the path is longer than a socket address may be (107 bytes).
    outcome, why = _SOCKET_ERRORS.get(error.errno or 0, (SocketOutcome.FAILED, error.strerror or str(error)))
    return SocketCheck(False, f"{path}: {why}", 0, outcome)


@dataclass(frozen=True, slots=True)
class NodeCandidate:
    """A process that may be our node, by its name: a hint, good only until its socket exists."""

    pid: int
    names_our_socket: bool
    """Its arguments name our socket's path; False: they name none, or another."""
    other_socket: str = ""
    """The one that it names instead, though it was given one of `files`; empty: it names ours or none."""
    relay: bool = False
    """It names no socket and was given no key: somebody else's relay, or a script that is not the node yet."""


def find_by_name(
    name: str, socket_path: Path, *, supervisor: int | None = None, files: Collection[Path] = ()
) -> list[NodeCandidate]:
    """Processes of this name, or called so by their first argument.

    One that names another socket is not ours, unless it was given one of `files` for its keys; then somebody is wrong
    about the socket.  If some name our socket, only those are; else, if some were given keys, only those.  More than
    one left: it cannot be said by name which is ours.  Never ourselves, a zombie or a kernel thread, nor a child of
    `supervisor`: a process can call itself what it likes, and a worker gone bad must not pass for the node.
    """
    import psutil  # costs memory: only while the node has no socket yet

    wanted = os.path.normpath(socket_path)
    found = []
    for process in psutil.process_iter(["name", "cmdline", "ppid"]):
        info = process.info
        argv = info["cmdline"] or []
        if supervisor is not None and info["ppid"] == supervisor:
            continue
        if process.pid == os.getpid() or not argv:  # zombies and kernel threads have no arguments
            continue
        if name not in (info["name"], os.path.basename(argv[0])):  # noqa: PTH119  # a name, not a path
            continue
        given = _argument(argv, "--socket-path")
        if given is None or _means(given, wanted):
            relay = given is None and start_flag(argv) is StartFlag.NO_CREDENTIALS
            found.append(NodeCandidate(process.pid, given is not None, relay=relay))
        elif {Path(path) for path in credential_options(argv).values()} & set(files):
            found.append(NodeCandidate(process.pid, False, given))
    ours = [candidate for candidate in found if candidate.names_our_socket]
    return ours or [candidate for candidate in found if not candidate.relay] or found


def _means(given: str, wanted: str) -> bool:
    """Whether a path of that process can be ours; its working directory is not ours to see (Landlock's ptrace rule)."""
    path = os.path.normpath(given)
    if os.path.isabs(path):  # noqa: PTH117
        return path == wanted
    while path.startswith("../"):
        path = path.removeprefix("../")
    return wanted.endswith("/" + path)


class NodeProcess:
    """A process held by a pidfd: its end is an event, and its pid cannot be mistaken for a successor's."""

    def __init__(self, pid: int, ticks: int, fd: int) -> None:
        self.pid = pid
        self.start_ticks = ticks
        """Start time in clock ticks since boot: with the pid, who it is, as long as this machine is up."""
        self._fd = fd

    @classmethod
    def open(cls, pid: int) -> NodeProcess:
        """Hold a process.  Raises NodeGone, ProcessUnreadable; ValueError for what is no process id."""
        if pid <= 0:
            raise ValueError(f"{pid} is no process id")
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            raise NodeGone(f"process {pid} has ended") from None
        try:
            held = cls(pid, start_ticks(pid), fd)
        except (NodeGone, ProcessUnreadable, ValueError):
            os.close(fd)
            raise
        if not held.alive():  # then the ticks may be a successor's
            held.close()
            raise NodeGone(f"process {pid} has ended")
        return held

    def fileno(self) -> int:
        """Readable when the process has ended.  For select and asyncio; the descriptor stays ours."""
        return self._fd

    def alive(self) -> bool:
        """Whether it has not ended; a zombie has."""
        if self._fd < 0:
            return False
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        return not poll.poll(0)

    def send(self, sig: signal.Signals) -> None:
        """Signal this very process, through its pidfd: whoever has its pid later gets nothing.

        Raises NodeGone; PermissionError when the kernel refuses.
        """
        if not self.alive():  # a signal to a zombie would be called a success
            raise NodeGone(f"process {self.pid} has ended")
        try:
            signal.pidfd_send_signal(self._fd, sig)
        except ProcessLookupError:
            raise NodeGone(f"process {self.pid} has ended") from None

    def close(self) -> None:
        """Let go of it.  Harmless when done twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
