"""The node as a process: who serves its socket, what its /proc files say, how it is held and signalled.

Formats: proc_pid_status(5), proc_pid_stat(5), proc_pid_cmdline(5); SO_PEERCRED: unix(7); pidfd_open(2).
"""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import socket
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ipc.messages import StartFlag
from ipc.peers import peer_of

PROC: Final = Path("/proc")
MOST_CONFIG_BYTES: Final = 1024 * 1024

NON_PRODUCING_FLAGS: Final = frozenset({"--start-as-non-producing-node", "--non-producing-node"})
CREDENTIAL_FLAGS: Final = frozenset(
    {
        "--shelley-kes-key",
        "--shelley-vrf-key",
        "--shelley-operational-certificate",
        "--bulk-credentials-file",
        "--shelley-kes-agent-socket",
    }
)


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


def parse_status(text: str) -> ProcStatus:
    """Parse /proc/PID/status.  Raises ValueError when a field is missing or not as documented."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name, value.strip())
    try:
        pending = int(fields["SigPnd"], 16) | int(fields["ShdPnd"], 16)
        return ProcStatus(
            pid=int(fields["Pid"]),
            state=fields["State"][:1],
            uids=tuple(int(v) for v in fields["Uid"].split()),
            gids=tuple(int(v) for v in fields["Gid"].split()),
            groups=tuple(int(v) for v in fields["Groups"].split()),
            cap_eff=int(fields["CapEff"], 16),
            sighup_caught=bool(int(fields["SigCgt"], 16) & 1),
            sighup_ignored=bool(int(fields["SigIgn"], 16) & 1),
            sighup_blocked=bool(int(fields["SigBlk"], 16) & 1),
            sighup_pending=bool(pending & 1),
            no_new_privs=fields.get("NoNewPrivs", "0") == "1",
            seccomp=int(fields.get("Seccomp", "0")),
        )
    except KeyError as error:
        raise ValueError(f"/proc/PID/status without {error.args[0]}") from None


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


def start_ticks(pid: int) -> int:
    """Raises NodeGone, ProcessUnreadable."""
    return parse_start_ticks(_read(pid, "stat").decode("utf-8", errors="replace"))


def read_argv(pid: int) -> tuple[str, ...]:
    """The arguments; empty for a zombie.  Raises NodeGone, ProcessUnreadable."""
    raw = _read(pid, "cmdline")
    return tuple(part.decode("utf-8", errors="replace") for part in raw.split(b"\0")[:-1])


# --- how it was started ---


def start_flag(argv: Sequence[str], read_config: Callable[[str], str | None]) -> StartFlag:
    """Whether a node started so forges from its bootstrap files by itself.

    `read_config` gives the text of the node's configuration file, None when it cannot be read.
    Source: cardano-node Parsers (the flag has had two names) and its configuration StartAsNonProducingNode.
    """
    if not argv:
        return StartFlag.UNKNOWN
    names = {word.partition("=")[0] for word in argv}
    if names & NON_PRODUCING_FLAGS:
        return StartFlag.NON_PRODUCING
    if not names & CREDENTIAL_FLAGS:
        return StartFlag.NO_CREDENTIALS
    path = _argument(argv, "--config")
    if path is not None and _configured_non_producing(read_config(path)):
        return StartFlag.NON_PRODUCING
    return StartFlag.PRODUCING


def _argument(argv: Sequence[str], name: str) -> str | None:
    for word, following in zip(argv, [*argv[1:], ""], strict=True):
        if word == name:
            return following or None
        if word.startswith(name + "="):
            return word[len(name) + 1 :]
    return None


def _configured_non_producing(text: str | None) -> bool:
    if text is None:
        return False
    try:
        parsed = json.loads(text)
    except ValueError:
        return _yaml_says(text, "StartAsNonProducingNode")
    return isinstance(parsed, dict) and parsed.get("StartAsNonProducingNode") is True


def _yaml_says(text: str, key: str) -> bool:
    """`key: true` at the top level of simple YAML, which is what such a file is when it is not JSON."""
    for line in text.splitlines():
        name, separator, value = line.partition(":")
        if separator and name.strip("\"'") == key:
            return value.partition("#")[0].strip().lower() == "true"
    return False


def read_start_flag(pid: int) -> StartFlag:
    """The same for a living process, reading its configuration as it sees it.  Raises NodeGone, ProcessUnreadable."""

    def read_config(path: str) -> str | None:
        base = PROC / str(pid)
        try:
            inside = path if path.startswith("/") else str((base / "cwd").readlink() / path)
            with (base / "root" / inside.lstrip("/")).open("rb") as file:
                return file.read(MOST_CONFIG_BYTES).decode("utf-8", errors="replace")
        except OSError:
            return None

    return start_flag(read_argv(pid), read_config)


# --- who it is ---


@dataclass(frozen=True, slots=True)
class SocketCheck:
    """What stands behind a socket path."""

    ok: bool
    """Somebody accepts connections there."""
    why: str
    """Why not; empty when ok."""
    pid: int
    """Who listens; 0: nobody, or somebody in a pid namespace that we cannot see."""


def check_socket(path: Path) -> SocketCheck:
    """Connect, look who listens, hang up.  Never waits: a full backlog is an answer too."""
    try:
        if not stat.S_ISSOCK(path.stat().st_mode):
            return SocketCheck(False, f"{path} is not a socket", 0)
    except FileNotFoundError:
        return SocketCheck(False, f"{path} does not exist", 0)
    except OSError as error:
        return SocketCheck(False, f"{path}: {error.strerror}", 0)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as sock:
        try:
            sock.connect(str(path))
            return SocketCheck(True, "", peer_of(sock).pid)
        except BlockingIOError:
            return SocketCheck(False, f"{path}: its process does not accept connections", 0)
        except OSError as error:
            why = "nobody listens (a file left behind)" if error.errno == errno.ECONNREFUSED else error.strerror
            return SocketCheck(False, f"{path}: {why}", 0)


@dataclass(frozen=True, slots=True)
class NodeCandidate:
    """A process that may be our node, by its name."""

    pid: int
    names_our_socket: bool


def find_by_name(name: str, socket_path: Path) -> list[NodeCandidate]:
    """Processes of this name, or called so by their first argument.

    One that names another socket is not ours.  If some name our socket, only those are.
    """
    import psutil  # costs memory: only while the node has no socket yet

    wanted = os.path.normpath(socket_path)
    found = []
    for process in psutil.process_iter(["name", "cmdline", "status"]):
        info = process.info
        argv = info["cmdline"] or []
        if process.pid == os.getpid() or not argv or info["status"] == psutil.STATUS_ZOMBIE:
            continue
        if name not in (info["name"], os.path.basename(argv[0])):  # noqa: PTH119  # a name, not a path
            continue
        given = _argument(argv, "--socket-path")
        if given is None or os.path.normpath(given) == wanted:
            found.append(NodeCandidate(process.pid, given is not None))
    ours = [candidate for candidate in found if candidate.names_our_socket]
    return ours or found


class NodeProcess:
    """A process held by a pidfd: its end is an event, and its pid cannot be mistaken for a successor's."""

    def __init__(self, pid: int, ticks: int, fd: int) -> None:
        self.pid = pid
        self.start_ticks = ticks
        self._fd = fd

    @classmethod
    def open(cls, pid: int) -> NodeProcess:
        """Raises NodeGone, ProcessUnreadable."""
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            raise NodeGone(f"process {pid} has ended") from None
        try:
            return cls(pid, start_ticks(pid), fd)
        except (NodeGone, ProcessUnreadable):
            os.close(fd)
            raise

    def fileno(self) -> int:
        """Readable when the process has ended."""
        return self._fd

    def alive(self) -> bool:
        return not select.select([self._fd], [], [], 0)[0]

    def send(self, sig: signal.Signals) -> None:
        """Signal this very process.  Raises NodeGone; PermissionError when the kernel refuses."""
        try:
            signal.pidfd_send_signal(self._fd, sig)
        except ProcessLookupError:
            raise NodeGone(f"process {self.pid} has ended") from None

    def close(self) -> None:
        os.close(self._fd)
