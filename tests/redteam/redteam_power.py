"""Attempts on other processes, on the network, and on the sandbox itself."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import signal
import socket
import struct
from typing import Any

import redteam_reach  # its attempts come first
from redteam_tools import (
    WORKERS,
    Given,
    HungUpError,
    attempt,
    call,
    connect,
    declares_api,
    first,
    others,
    reaches_the_kernel,
    run,
    siblings,
    unix,
)

HARMLESS = int(signal.SIGURG)
"""Checked like any other signal, and ignored by whoever has no handler for it (signal(7))."""
SEIZE = 0x4206
GONE = (errno.ECONNRESET,)
NAMESPACES = {"user": 0x10000000, "mount": 0x20000, "pid": 0x20000000, "network": 0x40000000}
THREAD_FLAGS = 0x3D0F00


# --- signals ---


@attempt("signals the node with kill")
def _(given: Given) -> object:
    return os.kill(given["node"], HARMLESS)


@attempt("asks whether it may signal the node")
def _(given: Given) -> object:
    return os.kill(given["node"], 0)


@attempt("signals the node's thread with tgkill")
def _(given: Given) -> object:
    return call("tgkill", given["node"], given["node"], HARMLESS)


@attempt("signals the node's thread with tkill")
def _(given: Given) -> object:
    return call("tkill", given["node"], HARMLESS)


def _siginfo() -> Any:
    info = ctypes.create_string_buffer(128)
    struct.pack_into("iii", info, 0, HARMLESS, 0, -1)  # si_code SI_QUEUE: only such may be said to others
    return info


@attempt("queues a signal to the node")
def _(given: Given) -> object:
    return call("rt_sigqueueinfo", given["node"], HARMLESS, ctypes.byref(_siginfo()))


@attempt("queues a signal to the node's thread")
def _(given: Given) -> object:
    return call("rt_tgsigqueueinfo", given["node"], given["node"], HARMLESS, ctypes.byref(_siginfo()))


@attempt("signals the node through a pidfd", allowed=("actuator",))
def _(given: Given) -> object:
    fd = os.pidfd_open(given["node"])
    try:
        return signal.pidfd_send_signal(fd, HARMLESS)
    finally:
        os.close(fd)


@attempt("signals a sibling or supervisord")
def _(given: Given) -> object:
    return first([p for p in others(given) if p != given["node"]], lambda pid: os.kill(pid, HARMLESS))


@attempt("signals a sibling through a pidfd", allowed=("actuator@single-uid", "actuator@names"))
def _(given: Given) -> object:
    def do(pid: int) -> None:
        fd = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(fd, HARMLESS)
        finally:
            os.close(fd)

    return first(siblings(given).values(), do)


@attempt("signals everybody that it may", control="it would reach the test")
def _(given: Given) -> object:
    return os.kill(-1, 0)


@attempt("signals its process group")
def _(given: Given) -> object:
    return os.kill(0, 0)


def _aimed_pipe(owner: int, how: int) -> str:
    """A pipe that signals its owner when it is written to (fcntl(2), F_SETOWN)."""
    reader, writer = os.pipe()
    try:
        if how == fcntl.F_SETOWN:
            fcntl.fcntl(reader, fcntl.F_SETOWN, owner)
        else:
            fcntl.fcntl(reader, how, struct.pack("ii", 1, owner))  # F_OWNER_PID
        fcntl.fcntl(reader, 10, HARMLESS)  # F_SETSIG
        fcntl.fcntl(reader, fcntl.F_SETFL, os.O_ASYNC)
        os.write(writer, b"x")
    finally:
        os.close(reader)
        os.close(writer)
    return f"aimed at {owner}"


@attempt("has a pipe signal the node (F_SETOWN)", allowed=("actuator",))
def _(given: Given) -> object:
    return _aimed_pipe(given["node"], fcntl.F_SETOWN)


@attempt("has a pipe signal the node (F_SETOWN_EX)", allowed=("actuator",))
def _(given: Given) -> object:
    return _aimed_pipe(given["node"], 15)


@attempt("has its standard input signal the node (F_SETOWN)", workers=tuple(w for w in WORKERS if w != "actuator"))
def _(given: Given) -> object:
    fcntl.fcntl(0, fcntl.F_SETOWN, given["node"])
    return "aimed"


@attempt("has a socket signal the node (FIOSETOWN)")
def _(given: Given) -> object:
    with socket.socket(socket.AF_UNIX) as sock:
        fcntl.ioctl(sock, 0x8901, struct.pack("i", given["node"]))
    return "aimed"


@attempt("has a socket signal the node (SIOCSPGRP)")
def _(given: Given) -> object:
    with socket.socket(socket.AF_UNIX) as sock:
        fcntl.ioctl(sock, 0x8902, struct.pack("i", given["node"]))
    return "aimed"


@attempt(
    "has a timer signal the node's thread",
    also=(errno.EINVAL,),
    control="the kernel lets nobody: the thread must be one's own (timer_create(2))",
)
def _(given: Given) -> object:
    event = ctypes.create_string_buffer(64)
    struct.pack_into("Piii", event, 0, 0, HARMLESS, 4, given["node"])  # SIGEV_THREAD_ID
    timer = ctypes.c_int()
    return call("timer_create", 1, ctypes.byref(event), ctypes.byref(timer))


@attempt("has a message queue signal somebody")
def _(given: Given) -> object:
    return reaches_the_kernel("mq_notify", -1, None)


@attempt("has its own death signalled otherwise (PR_SET_PDEATHSIG)")
def _(given: Given) -> object:
    return call("prctl", 1, 0, 0, 0, 0)


@attempt("has a terminal signal somebody (TIOCSTI, TIOCSPGRP, TIOCSCTTY)")
def _(given: Given) -> object:
    def do(request: int) -> str:
        try:
            fcntl.ioctl(1, request, struct.pack("i", 0))
        except OSError as error:
            if error.errno in (errno.ENOTTY, errno.EPERM, errno.EIO, errno.EINVAL):
                return "the kernel answered"
            raise
        return "done"

    return first((0x5412, 0x5410, 0x540E), do)


# --- other processes ---


@attempt("opens a pidfd of the node", allowed=("actuator",))
def _(given: Given) -> object:
    os.close(os.pidfd_open(given["node"]))
    return "opened"


@attempt("takes a descriptor from another process")
def _(given: Given) -> object:
    def do(pid: int) -> str:
        fd = os.pidfd_open(pid)
        try:
            os.close(call("pidfd_getfd", fd, 0, 0))
        finally:
            os.close(fd)
        return "taken"

    return first(others(given), do)


@attempt("traces another process")
def _(given: Given) -> object:
    def do(pid: int) -> str:
        call("ptrace", SEIZE, pid, 0, 0)
        return "traced"

    return first(others(given), do)


@attempt("has its parent trace it", control="a process that is traced stops at its next signal")
def _(given: Given) -> object:
    return call("ptrace", 0, 0, 0, 0)


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


def _somewhere(pid: int) -> int:
    """An address of a process that can be looked at, or one that is as good for being refused."""
    try:
        with open(f"/proc/{pid}/maps") as file:
            return next(int(line.split("-")[0], 16) for line in file if " rw" in line)
    except OSError:
        return 0x400000


def _vm(name: str, pid: int) -> str:
    buffer = ctypes.create_string_buffer(8)
    address = _somewhere(pid)
    local, remote = _Iovec(ctypes.addressof(buffer), 8), _Iovec(address, 8)
    if name == "process_vm_writev":  # what is there already: nothing changes
        call("process_vm_readv", pid, ctypes.byref(local), 1, ctypes.byref(remote), 1, 0)
    call(name, pid, ctypes.byref(local), 1, ctypes.byref(remote), 1, 0)
    return name


@attempt("reads another process's memory")
def _(given: Given) -> object:
    return first(others(given), lambda pid: _vm("process_vm_readv", pid))


@attempt("writes another process's memory")
def _(given: Given) -> object:
    return first(others(given), lambda pid: _vm("process_vm_writev", pid))


@attempt("writes anybody's memory")
def _(given: Given) -> object:
    return reaches_the_kernel("process_vm_writev", given["node"], None, 0, None, 0, 0)


for _file in ("mem", "environ", "maps", "auxv", "stack", "syscall", "pagemap"):

    def _looks(file: str) -> None:
        control = "root" if file in ("stack",) else "uid"

        @attempt(f"opens another process's /proc/PID/{file}", control=control, also=(errno.ENOENT,))
        def do(given: Given) -> object:
            return first(others(given), lambda pid: _opened(f"/proc/{pid}/{file}"))

    _looks(_file)


def _opened(path: str) -> str:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if path.endswith(("mem", "pagemap")):
            return path  # opening it is the right to read
        if not os.read(fd, 16):
            raise OSError(errno.EACCES, "nothing to read")
        return path
    finally:
        os.close(fd)


@attempt("opens another process's descriptors")
def _(given: Given) -> object:
    def do(pid: int) -> str:
        for fd in os.listdir(f"/proc/{pid}/fd"):
            return f"{fd} is {os.readlink(f'/proc/{pid}/fd/{fd}')}"
        raise OSError(errno.EACCES, "none")

    return first(others(given), do)


@attempt("opens a descriptor of another process by a guessed number", also=(errno.ENXIO, errno.ENOENT))
def _(given: Given) -> object:
    def do(path: str) -> str:
        os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))
        return path

    return first([f"/proc/{pid}/fd/{fd}" for pid in others(given) for fd in range(3, 12)], do)


@attempt("follows another process's working directory, root or program")
def _(given: Given) -> object:
    names = ("cwd", "root", "exe", "ns/user")
    return first([f"/proc/{pid}/{name}" for pid in others(given) for name in names], os.readlink)


@attempt("changes another process's limits")
def _(given: Given) -> object:
    def do(pid: int) -> str:
        old = (ctypes.c_uint64 * 2)()
        call("prlimit64", pid, 7, None, ctypes.byref(old))
        call("prlimit64", pid, 7, ctypes.byref(old), None)
        return "set"

    return first(others(given), do)


for _name, _arguments in {
    "kcmp": (0, 0, 0, 0, 0),
    "process_madvise": (-1, None, 0, 0, 0),
    "process_mrelease": (-1, 0),
    "migrate_pages": (0, 0, None, None),
    "move_pages": (0, 0, None, None, None, 0),
    "setpriority": (99, 0, 0),
    "ioprio_set": (99, 0, 0),
    "sched_setaffinity": (0, 0, None),
    "sched_setscheduler": (0, -1, None),
    "sched_setattr": (0, None, 0),
    "setpgid": (-1, -1),
    "wait4": (-1, None, 1, None),
    "ptrace": (-1, 0, 0, 0),
    "perf_event_open": (None, -1, -1, -1, 0),
}.items():

    def _touches(name: str, arguments: tuple[Any, ...]) -> None:
        @attempt(f"reaches the kernel's {name}")
        def do(given: Given) -> object:
            return reaches_the_kernel(name, *arguments)

    _touches(_name, _arguments)


# --- other workers' sockets ---


@attempt("asks a sibling's debug socket", also=GONE)
def _(given: Given) -> object:
    return first(
        siblings(given),
        lambda name: unix(f"{given['run_dir']}/{name}/debug.sock", bytes.fromhex(given["debug_question"])),
    )


@attempt(
    "orders the elector to stand down",
    also=GONE,
    workers=tuple(w for w in WORKERS if w != "elector"),
    control="a pod's own uid may: `tests/cli` shows it",
)
def _(given: Given) -> object:
    return unix(given["run_dir"] + "/elector/command.sock", bytes.fromhex(given["stand_down"]))


@attempt("sends a state of its own on a sibling's state socket", also=GONE, control="nobody can")
def _(given: Given) -> object:
    def do(name: str) -> str:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(1)
            sock.connect(f"{given['run_dir']}/{name}/state.sock")
            said = bytes.fromhex(given["forged_state"])
            sock.sendall(len(said).to_bytes(4, "big") + said)
            try:
                while sock.recv(1 << 16):
                    continue
            except TimeoutError:
                return "it listens"
            except ConnectionResetError:
                pass
        raise HungUpError(errno.ECONNRESET, "hung up")

    return first(siblings(given), do)


@attempt("binds a socket in a sibling's folder")
def _(given: Given) -> object:
    return first(siblings(given), lambda name: _bound(f"{given['run_dir']}/{name}/redteam-bound.sock"))


@attempt("binds a socket in its own folder")
def _(given: Given) -> object:
    return _bound(given["own"] + "/redteam-bound.sock")


def _bound(path: str) -> str:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)
    os.unlink(path)
    return path


@attempt("binds an abstract socket")
def _(given: Given) -> object:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(f"\0redteam-{os.getpid()}")
    return "bound"


@attempt("connects to an abstract socket")
def _(given: Given) -> object:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(1)
        sock.connect("\0" + given["abstract"])
    return "connected"


@attempt("sends a datagram to an abstract socket")
def _(given: Given) -> object:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        return sock.sendto(b"x", "\0" + given["abstract_datagrams"])


@attempt("connects to a stranger's Unix socket by its path", allowed=WORKERS, closed_by=9)
def _(given: Given) -> object:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(1)
        sock.connect(given["stranger_socket"])
    return "connected"


@attempt("listens on a socket that it makes")
def _(given: Given) -> object:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        try:
            sock.connect("\0")  # no listener; but the address that we ask from has been made up (unix(7), autobind)
        except OSError:
            pass
        sock.listen(1)
    return "listens"


# --- the network ---

NAMES = ("prober@names", "elector@names", "arbiter@names")
"""They look up host names where the configuration has some."""
NODE_PORT, API_PORT, OTHER_PORT = "node_port", "api_port", "stranger_port"


for _port, _name, _who in (
    (API_PORT, "the API server", redteam_reach.API),
    (NODE_PORT, "the node's metrics", ("prober",)),
    (OTHER_PORT, "any other port", ()),
    ("metrics_port", "the gateway", ()),
):

    def _connects(port: str, name: str, who: tuple[str, ...]) -> None:
        me = {"metrics_port": "gateway"}.get(port)
        workers = tuple(w for w in WORKERS if w != me)

        @attempt(f"connects to {name}", allowed=who, workers=workers)
        def do(given: Given) -> object:
            return connect(given[port])

        if port in (API_PORT, OTHER_PORT):

            @attempt(f"connects to {name} by IPv6", allowed=who, also=(errno.EAFNOSUPPORT,))
            def six(given: Given) -> object:
                return connect(given[port], family=socket.AF_INET6, host="::ffff:127.0.0.1")

    _connects(_port, _name, _who)


@attempt("connects to any other port by MPTCP", also=(errno.EPROTONOSUPPORT,))
def _(given: Given) -> object:
    return connect(given[OTHER_PORT], protocol=262)


def _made(family: int, kind: int, protocol: int) -> str:
    os.close(call("socket", family, kind, protocol))
    return "made"


def _fast_open(given: Given, send: Any) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        send(sock, ("127.0.0.1", given[OTHER_PORT]))
        return f"sent to {sock.getpeername()}"


@attempt("connects to any other port with its first data (sendto, MSG_FASTOPEN)")
def _(given: Given) -> object:
    return _fast_open(given, lambda sock, to: sock.sendto(b"x", socket.MSG_FASTOPEN, to))


@attempt("connects to any other port with its first data (sendmsg, MSG_FASTOPEN)")
def _(given: Given) -> object:
    return _fast_open(given, lambda sock, to: sock.sendmsg([b"x"], (), socket.MSG_FASTOPEN, to))


@attempt("connects to any other port with TCP_FASTOPEN_CONNECT")
def _(given: Given) -> object:
    def send(sock: socket.socket, to: Any) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, 30, 1)
        sock.connect(to)
        sock.send(b"x")

    return _fast_open(given, send)


@attempt("makes an SMC socket of a TCP socket (TCP_ULP)")
def _(given: Given) -> object:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, 31, b"smc\0")
        sock.connect(("127.0.0.1", given[OTHER_PORT]))
    return "connected"


_HOSTS = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::ffff:127.0.0.1"}


def _reused(given: Given) -> list[socket.socket]:
    """The gateway's listening TCP sockets, duplicates of them."""
    found = []
    for fd in range(3, 256):
        try:
            sock = socket.socket(fileno=os.dup(fd))
        except OSError:
            continue
        if sock.family in (socket.AF_INET, socket.AF_INET6) and sock.type == socket.SOCK_STREAM:
            found.append(sock)
        else:
            sock.close()
    return found


@attempt("connects with a socket that it has", workers=("gateway",), control="a fresh process has none")
def _(given: Given) -> object:
    sockets = _reused(given)
    if not sockets:
        raise AssertionError("it must have one")
    try:
        return first(sockets, lambda sock: sock.connect((_HOSTS[sock.family], given[OTHER_PORT])))
    finally:
        for sock in sockets:
            sock.close()


for _label, _family, _kind, _protocol in (
    ("datagrams", socket.AF_INET, socket.SOCK_DGRAM, 0),
    ("IPv6 datagrams", socket.AF_INET6, socket.SOCK_DGRAM, 0),
    ("pings", socket.AF_INET, socket.SOCK_DGRAM, 1),
    ("raw packets", socket.AF_INET, socket.SOCK_RAW, 1),
    ("link-layer packets", 17, socket.SOCK_RAW, 0),
    ("netlink", 16, socket.SOCK_RAW, 0),
    ("virtual machines' sockets", 40, socket.SOCK_STREAM, 0),
    ("the kernel's ciphers", 38, socket.SOCK_SEQPACKET, 0),
    ("SCTP", socket.AF_INET, socket.SOCK_STREAM, 132),
    ("MPTCP", socket.AF_INET, socket.SOCK_STREAM, 262),
    ("SMC", 43, socket.SOCK_STREAM, 0),
    ("UDP-Lite", socket.AF_INET, socket.SOCK_DGRAM, 136),
    ("DCCP", socket.AF_INET, 6, 33),
    ("TIPC", 30, socket.SOCK_SEQPACKET, 0),
    ("XDP", 44, socket.SOCK_RAW, 0),
    ("keys of IPsec", 15, socket.SOCK_RAW, 2),
    ("Bluetooth", 31, socket.SOCK_RAW, 0),
    ("CAN", 29, socket.SOCK_RAW, 1),
):

    def _makes(label: str, family: int, kind: int, protocol: int) -> None:
        allowed = NAMES if label in ("datagrams", "IPv6 datagrams") else ()

        @attempt(f"makes a socket for {label}", allowed=allowed)
        def do(given: Given) -> object:
            return reaches_the_kernel("socket", family, kind, protocol)

    _makes(_label, _family, _kind, _protocol)


@attempt("makes a TCP socket", allowed=("prober", "elector", "arbiter if it has the API"))
def _(given: Given) -> object:
    return _made(socket.AF_INET, socket.SOCK_STREAM, 0)


@attempt("sends a datagram to any other port", allowed=NAMES, closed_by=10)
def _(given: Given) -> object:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        return sock.sendto(b"x", ("127.0.0.1", given[OTHER_PORT]))


@attempt("binds a TCP port")
def _(given: Given) -> object:
    with socket.socket(socket.AF_INET) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(1)
        return sock.getsockname()


@attempt("listens on a TCP port that the kernel chooses")
def _(given: Given) -> object:
    with socket.socket(socket.AF_INET) as sock:
        sock.listen(1)
        return sock.getsockname()


@attempt("listens once more on its own socket")
def _(given: Given) -> object:
    return reaches_the_kernel("listen", -1, 1)


@attempt("sends with io_uring")
def _(given: Given) -> object:
    return reaches_the_kernel("io_uring_setup", 0, None)


# --- programs and processes ---


@attempt("executes a program")
def _(given: Given) -> object:
    return os.execv("/bin/true", ["true"])


@attempt("executes a program through the dynamic linker")
def _(given: Given) -> object:
    linkers = ("/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1")
    return first(linkers, lambda linker: os.execv(linker, ["ld.so", "/bin/true"]))


@attempt("executes a program by its descriptor")
def _(given: Given) -> object:
    fd = os.open("/bin/true", os.O_PATH | os.O_CLOEXEC)
    try:
        argv = (ctypes.c_char_p * 2)(b"true", None)
        return call("execveat", fd, b"", argv, None, 0x1000)
    finally:
        os.close(fd)


@attempt("executes a file that it made in memory")
def _(given: Given) -> object:
    fd = os.memfd_create("redteam", 0)
    try:
        os.write(fd, b"#!/bin/true\n")
        argv = (ctypes.c_char_p * 2)(b"true", None)
        return call("execveat", fd, b"", argv, None, 0x1000)
    finally:
        os.close(fd)


def _child(pid: int) -> str:
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return "a child was born"


@attempt("forks")
def _(given: Given) -> object:
    return _child(call("fork"))


@attempt("forks with clone")
def _(given: Given) -> object:
    return _child(call("clone", int(signal.SIGCHLD), 0, 0, 0, 0))


@attempt("forks with vfork", control="Python cannot survive the child that shares its stack")
def _(given: Given) -> object:
    return _child(call("vfork"))


@attempt("forks with clone3")
def _(given: Given) -> object:
    arguments = (ctypes.c_uint64 * 11)()
    arguments[4] = int(signal.SIGCHLD)
    return _child(call("clone3", ctypes.byref(arguments), 88))


@attempt("makes a thread outside of its process")
def _(given: Given) -> object:
    return reaches_the_kernel("clone3", None, 0)


@attempt("maps memory that can be written and executed")
def _(given: Given) -> object:
    return call("mmap", 0, 4096, 7, 0x22, -1, 0) != 0


@attempt("makes memory executable")
def _(given: Given) -> object:
    address = call("mmap", 0, 4096, 3, 0x22, -1, 0)
    try:
        return call("mprotect", address, 4096, 5)
    finally:
        call("munmap", address, 4096)


# --- the sandbox itself ---


@attempt("makes itself dumpable again")
def _(given: Given) -> object:
    return call("prctl", 4, 1, 0, 0, 0)


for _name, _flag in NAMESPACES.items():

    def _unshares(name: str, flag: int) -> None:
        @attempt(f"makes a {name} namespace", control="root")
        def do(given: Given) -> object:
            return call("unshare", flag)

        @attempt(f"starts a process in a {name} namespace", control="root")
        def start(given: Given) -> object:
            return _child(call("clone", flag | int(signal.SIGCHLD), 0, 0, 0, 0))

    _unshares(_name, _flag)


@attempt("makes a thread in a namespace of its own", control="the kernel lets nobody")
def _(given: Given) -> object:
    return call("clone", THREAD_FLAGS | NAMESPACES["network"], 0, 0, 0, 0)


@attempt("enters another process's namespaces", control="root")
def _(given: Given) -> object:
    def do(pid: int) -> str:
        fd = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        try:
            call("setns", fd, 0)
        finally:
            os.close(fd)
        return "entered"

    return first(others(given), do)


@attempt("mounts a file system over the secrets", control="mounting would change what the pod sees")
def _(given: Given) -> object:
    return call("mount", b"none", os.fsencode(os.path.dirname(given["kes"])), b"tmpfs", 0, None)


for _name, _arguments in {
    "mount": (None, None, None, 0, None),
    "umount2": (None, 0),
    "open_tree": (-1, None, 0),
    "move_mount": (-1, None, -1, None, 0),
    "fsopen": (None, 0),
    "fsmount": (-1, 0, 0),
    "mount_setattr": (-1, None, 0, None, 0),
    "pivot_root": (None, None),
    "chroot": (None,),
    "setns": (-1, 0),
    "setuid": (-1,),
    "setgid": (-1,),
    "setresuid": (-1, -1, -1),
    "setresgid": (-1, -1, -1),
    "setgroups": (-1, None),
    "setfsuid": (-1,),
    "capset": (None, None),
    "seccomp": (1, 0, None),
    "landlock_create_ruleset": (None, 0, 0),
    "landlock_restrict_self": (-1, 0),
    "personality": (0xFFFFFFFF,),
    "bpf": (-1, None, 0),
    "userfaultfd": (-1,),
    "keyctl": (-1, 0, 0, 0, 0),
    "add_key": (None, None, None, 0, 0),
    "request_key": (None, None, None, 0),
    "init_module": (None, 0, None),
    "finit_module": (-1, None, 0),
    "delete_module": (None, 0),
    "kexec_load": (0, 0, None, 0),
    "reboot": (0, 0, 0, None),
    "swapon": (None, 0),
    "acct": (1,),
    "syslog": (-1, None, 0),
    "sethostname": (None, -1),
    "settimeofday": (None, None),
    "clock_settime": (-1, None),
    "clock_adjtime": (-1, None),
    "quotactl": (-1, None, 0, None),
    "iopl": (-1,),
    "ioperm": (-1, 0, 0),
    "modify_ldt": (-1, None, 0),
    "shmget": (0, 0, 0),
    "semget": (0, -1, 0),
    "msgget": (-1, 0),
    "mq_open": (None, 0, 0, None),
    "setsid": (),
    "setitimer": (-1, None, None),
    "memfd_secret": (-1,),
    "splice": (-1, None, -1, None, 0, 0),
    "sendfile": (-1, -1, None, 0),
    "copy_file_range": (-1, None, -1, None, 0, 0),
    "pkey_mprotect": (0, 0, 0, -1),
    "remap_file_pages": (0, 0, 0, 0, 0),
}.items():

    def _calls(name: str, arguments: tuple[Any, ...]) -> None:
        control = "it would leave its session" if name == "setsid" else "uid"

        @attempt(f"reaches the kernel's call {name}", control=control)
        def do(given: Given) -> object:
            return reaches_the_kernel(name, *arguments)

    _calls(_name, _arguments)


for _option, _name in {
    24: "PR_CAPBSET_DROP",
    8: "PR_SET_KEEPCAPS",
    22: "PR_SET_SECCOMP",
    28: "PR_SET_SECUREBITS",
    36: "PR_SET_CHILD_SUBREAPER",
    47: "PR_CAP_AMBIENT",
    35: "PR_SET_MM",
    0x59616D61: "PR_SET_PTRACER",
    59: "PR_SET_SYSCALL_USER_DISPATCH",
}.items():

    def _controls(option: int, name: str) -> None:
        @attempt(f"sets {name}")
        def do(given: Given) -> object:
            return reaches_the_kernel("prctl", option, -1, -1, -1, -1)

    _controls(_option, _name)


__all__ = ["declares_api", "run"]
