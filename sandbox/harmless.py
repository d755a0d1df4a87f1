"""For each system call, arguments with which it changes nothing even where it is allowed and we are root.

With them the kernel itself never answers ENOSYS, unless it has no such call, and the filter of `sandbox.seccomp`
always does: so one look tells whether the filter lets a call through, without using what it would give.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Final

from sandbox.seccomp import (
    CLONE_THREAD,
    F_SETOWN,
    F_SETOWN_EX,
    F_SETSIG,
    MSG_FASTOPEN,
    PROT_EXEC,
    PROT_WRITE,
    TCP_ULP,
    Permit,
)

ALL: Final = 0xFFFFFFFF
"""Every flag: no call knows them all."""
_WILD: Final = 1
"""An address at which nothing is ever mapped."""

ARGUMENTS: Final[dict[str, tuple[int, ...]]] = {
    # files and folders: no name, no descriptor, or flags that nobody knows
    "openat2": (-1, 0, 0, 0),
    "pwritev2": (-1, 0, 0, 0, 0, ALL),
    "pwrite64": (-1, 0, 0, 0),
    "rename": (0, 0),
    "renameat": (-1, 0, -1, 0),
    "renameat2": (-1, 0, -1, 0, ALL),
    "unlink": (0,),
    "unlinkat": (-1, 0, ALL),
    "mkdir": (0, 0),
    "mkdirat": (-1, 0, 0),
    "rmdir": (0,),
    "symlink": (0, 0),
    "symlinkat": (0, -1, 0),
    "link": (0, 0),
    "linkat": (-1, 0, -1, 0, ALL),
    "mknod": (0, 0, 0),
    "mknodat": (-1, 0, 0, 0),
    "truncate": (0, -1),
    "ftruncate": (-1, -1),
    "chmod": (0, 0),
    "fchmod": (-1, 0),
    "fchmodat": (-1, 0, 0),
    "fchmodat2": (-1, 0, 0, ALL),
    "chown": (0, -1, -1),
    "fchown": (-1, -1, -1),
    "lchown": (0, -1, -1),
    "fchownat": (-1, 0, -1, -1, ALL),
    "utimensat": (-1, 0, 0, ALL),
    "setxattr": (0, 0, 0, 0, ALL),
    "fsetxattr": (-1, 0, 0, 0, ALL),
    "fsync": (-1,),
    "fdatasync": (-1,),
    "flock": (-1, 0),
    "chdir": (0,),
    "fchdir": (-1,),
    "chroot": (0,),
    "inotify_init1": (ALL,),
    "inotify_add_watch": (-1, 0, 0),
    "inotify_rm_watch": (-1, -1),
    "fanotify_init": (ALL, ALL),
    "fanotify_mark": (-1, ALL, 0, -1, 0),
    "name_to_handle_at": (-1, 0, 0, 0, ALL),
    "open_by_handle_at": (-1, 0, 0),
    "splice": (-1, 0, -1, 0, 0, ALL),
    "tee": (-1, -1, 0, ALL),
    "vmsplice": (-1, 0, 0, ALL),
    "sendfile": (-1, -1, 0, 0),
    "copy_file_range": (-1, 0, -1, 0, 0, ALL),
    "quotactl": (ALL, 0, 0, 0),
    # mounts and namespaces
    "mount": (0, 0, 0, 0, 0),
    "umount2": (0, ALL),
    "move_mount": (-1, 0, -1, 0, ALL),
    "open_tree": (-1, 0, ALL),
    "fsopen": (0, ALL),
    "fsmount": (-1, ALL, ALL),
    "fsconfig": (-1, ALL, 0, 0, 0),
    "fspick": (-1, 0, ALL),
    "mount_setattr": (-1, 0, ALL, 0, 0),
    "pivot_root": (0, 0),
    "unshare": (1,),  # no flag of unshare(2)
    "setns": (-1, 0),
    # programs and other processes
    "execve": (0, 0, 0),
    "execveat": (-1, 0, 0, 0, ALL),
    "clone3": (0, 0),
    "ptrace": (ALL, 0, 0, 0),
    "process_vm_readv": (0, 0, 0, 0, 0, ALL),
    "process_vm_writev": (0, 0, 0, 0, 0, ALL),
    "process_madvise": (-1, 0, 0, 0, ALL),
    "process_mrelease": (-1, ALL),
    "pidfd_open": (0, ALL),
    "pidfd_getfd": (-1, -1, ALL),
    "pidfd_send_signal": (-1, 0, 0, ALL),
    "kcmp": (-1, -1, 0, 0, 0),
    "kill": (0x7FFFFFFF, 0),
    "tkill": (-1, 0),
    "tgkill": (-1, -1, 0),
    "rt_sigqueueinfo": (-1, 0, 0),
    "rt_tgsigqueueinfo": (-1, -1, 0, 0),
    "wait4": (-1, 0, ALL, 0),
    "waitid": (ALL, 0, 0, 0, 0),
    "setpgid": (-1, -1),
    "get_robust_list": (-1, 0, 0),
    "getpgid": (-1,),
    "getsid": (-1,),
    "getpriority": (ALL, 0),
    "setpriority": (ALL, 0, 0),
    "ioprio_set": (ALL, 0, 0),
    "sched_setaffinity": (-1, 0, 0),
    "sched_setscheduler": (-1, 0, 0),
    "sched_setparam": (-1, 0),
    "sched_setattr": (0, 0, ALL),
    "migrate_pages": (-1, 0, 0, 0),
    "move_pages": (-1, 0, 0, 0, 0, ALL),
    # who we are
    "setuid": (-1,),
    "setgid": (-1,),
    "setreuid": (-1, -1),
    "setregid": (-1, -1),
    "setresuid": (-1, -1, -1),
    "setresgid": (-1, -1, -1),
    "setgroups": (0x7FFFFFFF, 0),
    "setfsuid": (-1,),
    "setfsgid": (-1,),
    "capget": (0, 0),
    "capset": (0, 0),
    "seccomp": (ALL, 0, 0),
    "landlock_create_ruleset": (0, 0, ALL),
    "landlock_add_rule": (-1, 0, 0, ALL),
    "landlock_restrict_self": (-1, 0),
    "setrlimit": (ALL, 0),
    "getrlimit": (ALL, 0),
    "personality": (ALL,),
    # the machine
    "bpf": (ALL, 0, 0),
    "init_module": (0, 0, 0),
    "finit_module": (-1, 0, ALL),
    "delete_module": (0, ALL),
    "kexec_load": (0, ALL, 0, ALL),
    "kexec_file_load": (-1, -1, 0, 0, ALL),
    "perf_event_open": (0, 0, -1, -1, ALL),
    "userfaultfd": (ALL,),
    "io_uring_setup": (0, 0),
    "io_uring_enter": (-1, 0, 0, ALL, 0, 0),
    "io_uring_register": (-1, ALL, 0, 0),
    "add_key": (0, 0, 0, 0, 0),
    "request_key": (0, 0, 0, 0),
    "keyctl": (ALL, 0, 0, 0, 0),
    "reboot": (0, 0, 0, 0),  # neither of its magic numbers
    "swapon": (0, ALL),
    "swapoff": (0,),
    "syslog": (ALL, 0, 0),
    "acct": (_WILD,),  # 0 would switch accounting off
    "settimeofday": (_WILD, 0),
    "clock_settime": (ALL, 0),
    "clock_adjtime": (ALL, 0),
    "adjtimex": (0,),
    "sethostname": (0, -1),
    "setdomainname": (0, -1),
    # memory and System V
    "mlock": (0, 0),
    "munlock": (0, 0),
    "mlock2": (0, 0, ALL),
    "memfd_create": (0, ALL),
    "memfd_secret": (ALL,),
    "mincore": (_WILD, 0, 0),
    "msync": (_WILD, 0, 0),
    "pkey_mprotect": (_WILD, 0, 0, ALL),
    "set_mempolicy": (ALL, 0, 0),
    "mbind": (0, 0, ALL, 0, 0, ALL),
    "shmget": (0, 0, 0),
    "shmat": (-1, 0, 0),
    "shmctl": (-1, ALL, 0),
    "semget": (0, -1, 0),
    "semctl": (-1, 0, ALL, 0),
    "semop": (-1, 0, 0),
    "msgget": (1, 0),
    "msgsnd": (-1, 0, 0, 0),
    "msgctl": (-1, ALL, 0),
    "mq_open": (0, 0, 0, 0),
    "ioperm": (0, 0, 0),
    "iopl": (ALL,),
    "modify_ldt": (0, 0, 0),  # reads nothing
    "arch_prctl": (ALL, 0),
    # sockets and events
    "bind": (-1, 0, 0),
    "listen": (-1, 0),
    "sendmmsg": (-1, 0, 0, 0),
    "recvmmsg": (-1, 0, 0, 0, 0),
    "epoll_create": (0,),
    "pipe": (0,),
    "timerfd_create": (ALL, ALL),
    "timerfd_settime": (-1, ALL, 0, 0),
    "timerfd_gettime": (-1, 0),
    "timer_getoverrun": (-1,),
    "setitimer": (ALL, _WILD, 0),
    "getitimer": (ALL, 0),
    "futex_waitv": (0, 0, ALL, 0, 0),
    "rt_sigpending": (0, ALL),
    "rt_sigtimedwait": (0, 0, 0, ALL),
    "getpgrp": (),
}

NOT_TRIED: Final = {
    "fork": "takes no argument that could make it fail",
    "vfork": "takes no argument that could make it fail",
    "setsid": "would change our session",
    "vhangup": "would hang up the terminal",
    "alarm": "would clear an alarm",
    "pause": "would wait for ever",
    "set_tid_address": "would change what the end of the thread clears",
    "eventfd": "would leave a descriptor",
    "remap_file_pages": "the kernel writes a line to its log",
}
"""Calls that cannot be tried, and why; the filter refuses them with the same last instruction as all the others."""

YOUNG: Final = frozenset({"fchmodat2"})
"""Declared calls that a kernel in use may not have (fchmodat2: Linux 6.6)."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A call that the filter judges by its arguments."""

    name: str
    call: str
    arguments: tuple[int, ...]
    gives_descriptor: bool = False


def _socket(name: str, family: int, kind: int, protocol: int = 0) -> Variant:
    return Variant(f"socket {name}", "socket", (family, kind | socket.SOCK_CLOEXEC, protocol), gives_descriptor=True)


_INET, _INET6 = int(socket.AF_INET), int(socket.AF_INET6)
_NETLINK, _PACKET, _ALG, _SMC, _VSOCK, _BLUETOOTH, _XDP = 16, 17, 38, 43, 40, 31, 44
_SCTP, _MPTCP = 132, 262
_TIOCSTI, _FIOASYNC, _FIOSETOWN, _SIOCSPGRP = 0x5412, 0x5452, 0x8901, 0x8902
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_CAPBSET_DROP, _PR_SET_SECUREBITS = 1, 4, 22, 24, 28
_PR_SET_MM, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT, _PR_SET_PTRACER = 35, 38, 47, 0x59616D61
_CLONE_SIGHAND, _CLONE_FS, _CLONE_NEWNS, _CLONE_NEWUSER = 0x800, 0x200, 0x20000, 0x10000000

VARIANTS: Final = (
    _socket("inet stream", _INET, socket.SOCK_STREAM),
    _socket("inet6 stream", _INET6, socket.SOCK_STREAM),
    _socket("inet datagram", _INET, socket.SOCK_DGRAM),
    _socket("inet6 datagram", _INET6, socket.SOCK_DGRAM),
    _socket("inet raw", _INET, socket.SOCK_RAW, 255),
    _socket("inet icmp", _INET, socket.SOCK_DGRAM, 1),
    _socket("inet MPTCP", _INET, socket.SOCK_STREAM, _MPTCP),
    _socket("inet SCTP", _INET, socket.SOCK_STREAM, _SCTP),
    _socket("netlink", _NETLINK, socket.SOCK_RAW),
    _socket("packet", _PACKET, socket.SOCK_RAW),
    _socket("alg", _ALG, socket.SOCK_SEQPACKET),
    _socket("SMC", _SMC, socket.SOCK_STREAM),
    _socket("vsock", _VSOCK, socket.SOCK_STREAM),
    _socket("bluetooth", _BLUETOOTH, socket.SOCK_RAW),
    _socket("XDP", _XDP, socket.SOCK_RAW),
    Variant("socketpair inet", "socketpair", (_INET, socket.SOCK_STREAM, 0, 0)),
    Variant("setsockopt TCP_ULP", "setsockopt", (-1, socket.IPPROTO_TCP, TCP_ULP, 0, 0)),
    Variant("send with fast open", "sendto", (-1, 0, 0, MSG_FASTOPEN, 0, 0)),
    Variant("send a message with fast open", "sendmsg", (-1, 0, MSG_FASTOPEN)),
    Variant("send messages with fast open", "sendmmsg", (-1, 0, 0, MSG_FASTOPEN)),
    Variant("fcntl F_SETOWN", "fcntl", (-1, F_SETOWN, 0)),
    Variant("fcntl F_SETSIG", "fcntl", (-1, F_SETSIG, 0)),
    Variant("fcntl F_SETOWN_EX", "fcntl", (-1, F_SETOWN_EX, 0)),
    Variant("ioctl TIOCSTI", "ioctl", (-1, _TIOCSTI, 0)),
    Variant("ioctl FIOASYNC", "ioctl", (-1, _FIOASYNC, 0)),
    Variant("ioctl FIOSETOWN", "ioctl", (-1, _FIOSETOWN, 0)),
    Variant("ioctl SIOCSPGRP", "ioctl", (-1, _SIOCSPGRP, 0)),
    Variant("prctl PR_SET_PDEATHSIG", "prctl", (_PR_SET_PDEATHSIG, ALL, 0, 0, 0)),
    Variant("prctl PR_SET_DUMPABLE", "prctl", (_PR_SET_DUMPABLE, ALL, 0, 0, 0)),
    Variant("prctl PR_SET_SECCOMP", "prctl", (_PR_SET_SECCOMP, ALL, 0, 0, 0)),
    Variant("prctl PR_CAPBSET_DROP", "prctl", (_PR_CAPBSET_DROP, ALL, 0, 0, 0)),
    Variant("prctl PR_SET_SECUREBITS", "prctl", (_PR_SET_SECUREBITS, ALL, 0, 0, 0)),
    Variant("prctl PR_SET_MM", "prctl", (_PR_SET_MM, ALL, 0, 0, 1)),
    Variant("prctl PR_SET_NO_NEW_PRIVS", "prctl", (_PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0)),
    Variant("prctl PR_CAP_AMBIENT", "prctl", (_PR_CAP_AMBIENT, ALL, 0, 0, 0)),
    Variant("prctl PR_SET_PTRACER", "prctl", (_PR_SET_PTRACER, 0x7FFFFFFF, 0, 0, 0)),
    Variant("limits of another process", "prlimit64", (1, 4, 0, 0)),
    Variant("clone a process", "clone", (_CLONE_SIGHAND, 0, 0, 0, 0)),
    Variant("clone a thread", "clone", (CLONE_THREAD, 0, 0, 0, 0)),
    Variant("clone into a user namespace", "clone", (CLONE_THREAD | _CLONE_NEWUSER, 0, 0, 0, 0)),
    Variant("clone into a mount namespace", "clone", (CLONE_THREAD | _CLONE_FS | _CLONE_NEWNS, 0, 0, 0, 0)),
    Variant("memory writable and executable", "mmap", (0, 0, PROT_WRITE | PROT_EXEC, ALL, -1, 0)),
    Variant("memory made executable", "mprotect", (_WILD, 0, PROT_EXEC)),
)


def permitted(permits: dict[str, Permit], call: str, arguments: tuple[int, ...]) -> bool:
    """Whether the filter made of these permits, by name, lets this call through: what `seccomp.program` says."""
    permit = permits.get(call)
    if permit is None:
        return False
    if not permit.alternatives:
        return True
    padded = [argument & ALL for argument in (*arguments, 0, 0, 0, 0, 0, 0)]
    return any(
        all(((padded[test.argument] & test.mask) in test.values) != test.negate for test in tests)
        for tests in permit.alternatives
    )
