"""seccomp: an allow-list of system calls, as a classic BPF program (seccomp(2)).

`program` is pure: the same declaration gives the same program on every machine.  Everything that is not allowed
answers ENOSYS: no kernel that has a call answers so, hence the audit can tell a refusal of this filter from every other
one, and libraries fall back as on an old kernel.  A call of a foreign architecture's numbering ends the process.

What can be judged by its arguments is: sockets by family, type and protocol (Landlock's TCP rules do not cover MPTCP,
SCTP or SMC), fcntl and ioctl where they would aim signals, prctl, prlimit64 on others, threads but no processes, data
with TCP's fast open (which connects without the hook that Landlock guards), making another protocol's socket of a TCP
one (the same), memory both writable and executable.
"""

from __future__ import annotations

import ctypes
import errno
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from kernel.libc import LIBC
from sandbox.syscalls import Architecture, Calls, names_of, number

# linux/bpf_common.h, linux/filter.h
_LOAD: Final = 0x20  # BPF_LD | BPF_W | BPF_ABS
_AND: Final = 0x54  # BPF_ALU | BPF_AND | BPF_K
_EQUAL: Final = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_AT_LEAST: Final = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_RETURN: Final = 0x06  # BPF_RET | BPF_K

# linux/seccomp.h
ALLOW: Final = 0x7FFF0000
KILL: Final = 0x80000000
REFUSE: Final = 0x00050000 | errno.ENOSYS
_SET_MODE_FILTER: Final = 1
_FLAG_TSYNC: Final = 1

_FARTHEST: Final = 0xFF
"""A conditional jump's distance is one byte (struct sock_filter)."""
_LONGEST: Final = 4096
"""BPF_MAXINSNS."""

_NR_OFFSET: Final = 0
_ARCH_OFFSET: Final = 4
_X32_BIT: Final = 0x40000000
DATA: Final = struct.Struct("=iIQ6Q")
"""struct seccomp_data: number, architecture, instruction pointer, six arguments."""

F_SETOWN, F_SETSIG, F_SETOWN_EX = 8, 10, 15
FIOCLEX, FIONCLEX, FIONBIO, FIONREAD, TCGETS, TIOCGWINSZ = 0x5451, 0x5450, 0x5421, 0x541B, 0x5401, 0x5413
PR_GET_NAME, PR_SET_VMA, PR_GET_DUMPABLE, PR_CAPBSET_READ = 16, 0x53564D41, 3, 23
CLONE_THREAD, CLONE_NEW_ANY = 0x10000, 0x7E020080
"""CLONE_NEW_ANY: every namespace flag (NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET, NEWTIME)."""
PROT_WRITE, PROT_EXEC = 2, 4
MSG_FASTOPEN: Final = 0x20000000
TCP_ULP: Final = 31
"""Socket option of TCP: "smc" makes of a TCP socket one of SMC (smc_ulp_init, net/smc/af_smc.c), which connects
without Landlock's hook."""
_TYPE_MASK: Final = 0xF
_TCP: Final = 6
_UDP: Final = 17


@dataclass(frozen=True, slots=True)
class Instruction:
    """struct sock_filter."""

    code: int
    jt: int
    jf: int
    k: int


@dataclass(frozen=True, slots=True)
class Test:
    """One condition on the lower half of an argument: (argument & mask) is, or is not, one of `values`.

    The kernel itself takes no more than that half of any argument that is judged here: they are ints, or flags below
    2^32.
    """

    argument: int
    values: tuple[int, ...]
    """At least one."""
    mask: int = 0xFFFFFFFF
    negate: bool = False


@dataclass(frozen=True, slots=True)
class Permit:
    """A call is allowed when every test of at least one alternative holds; no alternatives: never refused."""

    call: str
    alternatives: tuple[tuple[Test, ...], ...] = ()


def permits(groups: Iterable[Calls], *, internet: bool, names: bool, signals: bool) -> tuple[Permit, ...]:
    """What a worker's calls may look like, by name, sorted."""
    judged = {
        "socket": _sockets(internet=internet, names=names),
        "socketpair": ((Test(0, (socket.AF_UNIX,)),),),
        "fcntl": () if signals else ((Test(1, (F_SETOWN, F_SETSIG, F_SETOWN_EX), negate=True),),),
        "ioctl": ((Test(1, (FIOCLEX, FIONCLEX, FIONBIO, FIONREAD, TCGETS, TIOCGWINSZ)),),),
        "prctl": ((Test(0, (PR_GET_NAME, PR_SET_VMA, PR_GET_DUMPABLE, PR_CAPBSET_READ)),),),
        "prlimit64": ((Test(0, (0,)),),),
        "clone": ((Test(0, (CLONE_THREAD,), mask=CLONE_THREAD), Test(0, (0,), mask=CLONE_NEW_ANY)),),
        "mmap": ((Test(2, (PROT_WRITE | PROT_EXEC,), mask=PROT_WRITE | PROT_EXEC, negate=True),),),
        "mprotect": ((Test(2, (0,), mask=PROT_EXEC),),),
        "sendto": ((Test(3, (0,), mask=MSG_FASTOPEN),),),
        "sendmsg": ((Test(2, (0,), mask=MSG_FASTOPEN),),),
        "sendmmsg": ((Test(3, (0,), mask=MSG_FASTOPEN),),),
        "setsockopt": ((Test(1, (_TCP,), negate=True),), (Test(2, (TCP_ULP,), negate=True),)),
    }
    return tuple(Permit(name, judged.get(name, ())) for name in sorted(names_of(groups)))


def _sockets(*, internet: bool, names: bool) -> tuple[tuple[Test, ...], ...]:
    """Unix sockets; TCP where declared; datagrams where names are looked up.  Protocol 0 means the family's own."""
    families = (socket.AF_INET, socket.AF_INET6)
    allowed: list[tuple[Test, ...]] = [(Test(0, (socket.AF_UNIX,)),)]
    if internet:
        tcp = Test(1, (socket.SOCK_STREAM,), mask=_TYPE_MASK)
        allowed.append((Test(0, families), tcp, Test(2, (0, _TCP))))
    if names:
        datagram = Test(1, (socket.SOCK_DGRAM,), mask=_TYPE_MASK)
        allowed.append((Test(0, families), datagram, Test(2, (0, _UDP))))
    return tuple(allowed)


def program(rules: Iterable[Permit], architecture: Architecture) -> tuple[Instruction, ...]:
    """The filter.  Each permitted call has a block of its own; whatever is left falls through to the refusal.

    Raises ValueError where that cannot be written as a program: a jump too far, more instructions than a kernel takes.
    """
    code = [
        Instruction(_LOAD, 0, 0, _ARCH_OFFSET),
        Instruction(_EQUAL, 1, 0, architecture.audit),
        Instruction(_RETURN, 0, 0, KILL),
        Instruction(_LOAD, 0, 0, _NR_OFFSET),
    ]
    if architecture is Architecture.X86_64:  # the x32 numbering shares this architecture's name
        code += [Instruction(_AT_LEAST, 0, 1, _X32_BIT), Instruction(_RETURN, 0, 0, REFUSE)]
    for rule in rules:
        nr = number(rule.call, architecture)
        if nr is None:
            continue
        block = _block(rule.alternatives)
        if len(block) > _FARTHEST:  # every jump within a block is shorter than the one around it
            raise ValueError(f"{rule.call}: its tests take {len(block)} instructions, a jump spans {_FARTHEST} at most")
        code += [Instruction(_EQUAL, 0, len(block), nr), *block]
    if len(code) >= _LONGEST:
        raise ValueError(f"the filter takes {len(code) + 1} instructions, a kernel takes {_LONGEST} at most")
    return (*code, Instruction(_RETURN, 0, 0, REFUSE))


def _block(alternatives: tuple[tuple[Test, ...], ...]) -> list[Instruction]:
    """Ends the program one way or the other."""
    if not alternatives:
        return [Instruction(_RETURN, 0, 0, ALLOW)]
    code: list[Instruction] = []
    for tests in alternatives:
        code += _alternative(tests)
    return [*code, Instruction(_RETURN, 0, 0, REFUSE)]


def _alternative(tests: tuple[Test, ...]) -> list[Instruction]:
    """Returns ALLOW when every test holds; else goes on behind its last instruction."""
    pieces = [_test(test) for test in tests]
    code: list[Instruction] = []
    rest = sum(len(piece) + 1 for piece in pieces) + 1
    for piece in pieces:
        rest -= len(piece) + 1
        # A test ends on its last instruction when it holds; the one behind it leaves this alternative.
        code += [*piece, Instruction(0x05, 0, 0, rest)]  # BPF_JMP | BPF_JA
    return [*code, Instruction(_RETURN, 0, 0, ALLOW)]


def _test(test: Test) -> list[Instruction]:
    """Skips the instruction behind it when the test holds."""
    code = [Instruction(_LOAD, 0, 0, 16 + 8 * test.argument)]  # little endian: the lower half comes first
    if test.mask != 0xFFFFFFFF:
        code.append(Instruction(_AND, 0, 0, test.mask))
    for position, value in enumerate(test.values):
        left = len(test.values) - 1 - position
        last = left == 0
        if test.negate:
            code.append(Instruction(_EQUAL, left, 1 if last else 0, value))
        else:
            code.append(Instruction(_EQUAL, left + 1, 0, value))
    return code


def evaluate(code: tuple[Instruction, ...], data: bytes) -> int:
    """What the kernel's interpreter answers for one struct seccomp_data: for tests and for the documentation."""
    accumulator, at = 0, 0
    while True:
        step = code[at]
        at += 1
        match step.code:
            case 0x20:
                (accumulator,) = struct.unpack_from("=I", data, step.k)
            case 0x54:
                accumulator &= step.k
            case 0x15:
                at += step.jt if accumulator == step.k else step.jf
            case 0x35:
                at += step.jt if accumulator >= step.k else step.jf
            case 0x05:
                at += step.k
            case 0x06:
                return step.k
            case other:
                raise AssertionError(f"no instruction {other:#x}")


class _SockFilter(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint16), ("jt", ctypes.c_uint8), ("jf", ctypes.c_uint8), ("k", ctypes.c_uint32))


class _SockFprog(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.POINTER(_SockFilter)))


def install(code: tuple[Instruction, ...], architecture: Architecture) -> None:
    """Filter this process's calls from now on, in all its threads.  Needs no_new_privs.  Raises OSError."""
    array = (_SockFilter * len(code))(*(_SockFilter(i.code, i.jt, i.jf, i.k) for i in code))
    prog = _SockFprog(len(code), array)
    nr = number("seccomp", architecture)
    result = int(
        LIBC.syscall(
            ctypes.c_long(nr or 0), ctypes.c_ulong(_SET_MODE_FILTER), ctypes.c_ulong(_FLAG_TSYNC), ctypes.byref(prog)
        )
    )
    if result != 0:
        code_number = ctypes.get_errno() if result == -1 else errno.ESRCH  # else: the thread that could not follow
        raise OSError(code_number, "seccomp: the filter cannot be installed")
