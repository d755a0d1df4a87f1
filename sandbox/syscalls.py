"""System calls by name: their numbers on both architectures, and the groups that workers are allowed.

Numbers: arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h (arm64) of the Linux kernel;
`None` where an architecture has no such call.  Whatever stands in no group of a worker's is refused, known here or not.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Final


class Architecture(enum.Enum):
    """Machine (as uname(2) says), AUDIT_ARCH_* (linux/audit.h), and the column of `NUMBERS`."""

    X86_64 = ("x86_64", 0xC000003E, 0)
    AARCH64 = ("aarch64", 0xC00000B7, 1)

    def __init__(self, machine: str, audit: int, column: int) -> None:
        self.machine = machine
        self.audit = audit
        self.column = column

    @classmethod
    def of(cls, machine: str) -> Architecture | None:
        """None: a machine whose numbers are not known here."""
        return next((a for a in cls if a.machine == machine), None)


class Calls(enum.Enum):
    """Groups of system calls; a worker declares the groups that it needs."""

    PYTHON = frozenset(
        """
        read write readv writev pread64 preadv2 lseek close close_range dup dup3 fcntl ioctl fstat newfstatat
        statx stat lstat fstatfs statfs access faccessat faccessat2 readlink readlinkat open openat getdents64
        getcwd fadvise64 mmap mprotect munmap mremap madvise brk membarrier futex set_robust_list rseq exit
        exit_group sched_yield sched_getaffinity rt_sigaction rt_sigprocmask rt_sigreturn sigaltstack
        restart_syscall clock_gettime clock_getres clock_nanosleep nanosleep gettimeofday time times getrusage
        timer_create timer_settime timer_gettime timer_delete epoll_create1 epoll_ctl epoll_wait epoll_pwait
        epoll_pwait2 poll ppoll select pselect6 eventfd2 pipe pipe2 socket socketpair connect accept accept4
        getsockname getpeername getsockopt setsockopt sendto sendmsg recvfrom recvmsg shutdown getpid gettid
        getppid getuid geteuid getgid getegid getgroups getresuid getresgid umask uname sysinfo getcpu getrandom
        prctl prlimit64
        """.split()
    )
    """What the interpreter and an event loop need, and nothing that reaches beyond the process: files that are opened
    are Landlock's matter."""

    THREADS = frozenset(
        """
        clone set_tid_address
        """.split()
    )
    """Threads (never processes): asyncio looks names up in one."""

    NAMES = frozenset(
        """
        sendmmsg recvmmsg
        """.split()
    )
    """Several datagrams at once: how glibc asks a DNS server."""

    WRITE = frozenset(
        """
        pwrite64 rename renameat renameat2 unlink unlinkat mkdir mkdirat rmdir ftruncate fsync fdatasync
        """.split()
    )
    """Making, renaming and removing files, where Landlock lets."""

    MEMORY_FILES = frozenset(
        """
        memfd_create pwrite64 ftruncate
        """.split()
    )
    """Files without a path, for what a library takes from files only."""

    FENCE = frozenset(
        """
        chdir fchdir symlink symlinkat chmod fchmod fchmodat fchmodat2 flock inotify_init1 inotify_add_watch
        inotify_rm_watch pidfd_open pidfd_send_signal timerfd_create timerfd_settime mlock munlock mlock2
        """.split()
    )
    """The actuator's tools: its working directory, the links, watching files, holding and signalling the node."""


def names_of(groups: Iterable[Calls]) -> frozenset[str]:
    """All calls of these groups."""
    return frozenset(name for group in groups for name in group.value)


def number(name: str, architecture: Architecture) -> int | None:
    """The number of a call; None where this architecture has no such call.  Raises KeyError for an unknown name."""
    return NUMBERS[name][architecture.column]


NUMBERS: Final[dict[str, tuple[int | None, int | None]]] = {
    "read": (0, 63),
    "write": (1, 64),
    "readv": (19, 65),
    "writev": (20, 66),
    "pread64": (17, 67),
    "pwrite64": (18, 68),
    "preadv2": (327, 286),
    "pwritev2": (328, 287),
    "lseek": (8, 62),
    "close": (3, 57),
    "close_range": (436, 436),
    "dup": (32, 23),
    "dup3": (292, 24),
    "fcntl": (72, 25),
    "ioctl": (16, 29),
    "fstat": (5, 80),
    "newfstatat": (262, 79),
    "statx": (332, 291),
    "stat": (4, None),
    "lstat": (6, None),
    "fstatfs": (138, 44),
    "statfs": (137, 43),
    "access": (21, None),
    "faccessat": (269, 48),
    "faccessat2": (439, 439),
    "readlink": (89, None),
    "readlinkat": (267, 78),
    "open": (2, None),
    "openat": (257, 56),
    "openat2": (437, 437),
    "getdents64": (217, 61),
    "getcwd": (79, 17),
    "fadvise64": (221, 223),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "munmap": (11, 215),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "brk": (12, 214),
    "mincore": (27, 232),
    "membarrier": (324, 283),
    "msync": (26, 227),
    "mlock": (149, 228),
    "munlock": (150, 229),
    "mlock2": (325, 284),
    "futex": (202, 98),
    "futex_waitv": (449, 449),
    "set_robust_list": (273, 99),
    "get_robust_list": (274, 100),
    "rseq": (334, 293),
    "set_tid_address": (218, 96),
    "clone": (56, 220),
    "clone3": (435, 435),
    "exit": (60, 93),
    "exit_group": (231, 94),
    "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "rt_sigpending": (127, 136),
    "rt_sigtimedwait": (128, 137),
    "sigaltstack": (131, 132),
    "restart_syscall": (219, 128),
    "pause": (34, None),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "clock_nanosleep": (230, 115),
    "nanosleep": (35, 101),
    "gettimeofday": (96, 169),
    "time": (201, None),
    "times": (100, 153),
    "getrusage": (98, 165),
    "timer_create": (222, 107),
    "timer_settime": (223, 110),
    "timer_gettime": (224, 108),
    "timer_getoverrun": (225, 109),
    "timer_delete": (226, 111),
    "timerfd_create": (283, 85),
    "timerfd_settime": (286, 86),
    "timerfd_gettime": (287, 87),
    "epoll_create": (213, None),
    "epoll_create1": (291, 20),
    "epoll_ctl": (233, 21),
    "epoll_wait": (232, None),
    "epoll_pwait": (281, 22),
    "epoll_pwait2": (441, 441),
    "poll": (7, None),
    "ppoll": (271, 73),
    "select": (23, None),
    "pselect6": (270, 72),
    "eventfd": (284, None),
    "eventfd2": (290, 19),
    "pipe": (22, None),
    "pipe2": (293, 59),
    "socket": (41, 198),
    "socketpair": (53, 199),
    "connect": (42, 203),
    "accept": (43, 202),
    "accept4": (288, 242),
    "getsockname": (51, 204),
    "getpeername": (52, 205),
    "getsockopt": (55, 209),
    "setsockopt": (54, 208),
    "sendto": (44, 206),
    "sendmsg": (46, 211),
    "sendmmsg": (307, 269),
    "recvfrom": (45, 207),
    "recvmsg": (47, 212),
    "recvmmsg": (299, 243),
    "shutdown": (48, 210),
    "bind": (49, 200),
    "listen": (50, 201),
    "getpid": (39, 172),
    "gettid": (186, 178),
    "getppid": (110, 173),
    "getuid": (102, 174),
    "geteuid": (107, 175),
    "getgid": (104, 176),
    "getegid": (108, 177),
    "getgroups": (115, 158),
    "getresuid": (118, 148),
    "getresgid": (120, 150),
    "getpgrp": (111, None),
    "getpgid": (121, 155),
    "getsid": (124, 156),
    "capget": (125, 90),
    "umask": (95, 166),
    "uname": (63, 160),
    "sysinfo": (99, 179),
    "getcpu": (309, 168),
    "getrandom": (318, 278),
    "prctl": (157, 167),
    "arch_prctl": (158, None),
    "prlimit64": (302, 261),
    "getrlimit": (97, 163),
    "getpriority": (140, 141),
    "rename": (82, None),
    "renameat": (264, 38),
    "renameat2": (316, 276),
    "unlink": (87, None),
    "unlinkat": (263, 35),
    "mkdir": (83, None),
    "mkdirat": (258, 34),
    "rmdir": (84, None),
    "symlink": (88, None),
    "symlinkat": (266, 36),
    "ftruncate": (77, 46),
    "fchmod": (91, 52),
    "chmod": (90, None),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "fsync": (74, 82),
    "fdatasync": (75, 83),
    "utimensat": (280, 88),
    "flock": (73, 32),
    "chdir": (80, 49),
    "fchdir": (81, 50),
    "inotify_init1": (294, 26),
    "inotify_add_watch": (254, 27),
    "inotify_rm_watch": (255, 28),
    "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424),
    "memfd_create": (319, 279),
    "kill": (62, 129),
    "tgkill": (234, 131),
    "tkill": (200, 130),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "execve": (59, 221),
    "execveat": (322, 281),
    "fork": (57, None),
    "vfork": (58, None),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    "bpf": (321, 280),
    "mount": (165, 40),
    "umount2": (166, 39),
    "move_mount": (429, 429),
    "open_tree": (428, 428),
    "fsopen": (430, 430),
    "fsmount": (432, 432),
    "fsconfig": (431, 431),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "unshare": (272, 97),
    "setns": (308, 268),
    "setuid": (105, 146),
    "setgid": (106, 144),
    "setreuid": (113, 145),
    "setregid": (114, 143),
    "setresuid": (117, 147),
    "setresgid": (119, 149),
    "setgroups": (116, 159),
    "setfsuid": (122, 151),
    "setfsgid": (123, 152),
    "capset": (126, 91),
    "seccomp": (317, 277),
    "landlock_create_ruleset": (444, 444),
    "landlock_add_rule": (445, 445),
    "landlock_restrict_self": (446, 446),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "open_by_handle_at": (304, 265),
    "name_to_handle_at": (303, 264),
    "fanotify_init": (300, 262),
    "fanotify_mark": (301, 263),
    "quotactl": (179, 60),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "syslog": (103, 116),
    "acct": (163, 89),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "adjtimex": (159, 171),
    "personality": (135, 92),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "sched_setaffinity": (203, 122),
    "sched_setscheduler": (144, 119),
    "sched_setparam": (142, 118),
    "sched_setattr": (314, 274),
    "setpriority": (141, 140),
    "ioprio_set": (251, 30),
    "setrlimit": (160, 164),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    "set_mempolicy": (238, 237),
    "mbind": (237, 235),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "semget": (64, 190),
    "semctl": (66, 191),
    "semop": (65, 193),
    "msgget": (68, 186),
    "msgsnd": (69, 189),
    "msgctl": (71, 187),
    "mq_open": (240, 180),
    "mknod": (133, None),
    "mknodat": (259, 33),
    "link": (86, None),
    "linkat": (265, 37),
    "setxattr": (188, 5),
    "fsetxattr": (190, 7),
    "chown": (92, None),
    "fchown": (93, 55),
    "lchown": (94, None),
    "fchownat": (260, 54),
    "truncate": (76, 45),
    "splice": (275, 76),
    "tee": (276, 77),
    "vmsplice": (278, 75),
    "sendfile": (40, 71),
    "copy_file_range": (326, 285),
    "pkey_mprotect": (329, 288),
    "memfd_secret": (447, 447),
    "setsid": (112, 157),
    "setpgid": (109, 154),
    "alarm": (37, None),
    "setitimer": (38, 103),
    "getitimer": (36, 102),
    "wait4": (61, 260),
    "waitid": (247, 95),
    "modify_ldt": (154, None),
    "ioperm": (173, None),
    "iopl": (172, None),
    "vhangup": (153, 58),
    "remap_file_pages": (216, 234),
}
