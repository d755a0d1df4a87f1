"""The filter: what its program answers, and what the kernel makes of it."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import platform
import select
import signal
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from locked_up import KilledError, alone

from kernel.libc import LIBC
from kernel.process import prctl
from sandbox import seccomp
from sandbox.seccomp import ALLOW, DATA, KILL, REFUSE, Permit, evaluate, install, permits, program
from sandbox.syscalls import NUMBERS, Architecture, Calls, number

HERE = Architecture.of(platform.machine())
on_known_machine = pytest.mark.skipif(HERE is None, reason="no numbers for this machine")
X32_BIT = 0x40000000
Condition = seccomp.Test
"""Under a name that pytest does not take for tests."""
NEVER = """
    execve execveat clone3 ptrace bpf mount umount2 unshare setns chroot kill tkill tgkill bind listen openat2
    process_vm_readv process_vm_writev pidfd_getfd io_uring_setup setuid setresuid setgroups capset seccomp
    landlock_create_ruleset keyctl userfaultfd perf_event_open init_module kexec_load reboot mknodat linkat
    fchownat truncate personality memfd_secret name_to_handle_at open_by_handle_at quotactl settimeofday
    setrlimit setsid splice
"""

halves = st.one_of(st.sampled_from([0, 1, 2, 3, 0x10000, 0x20000000, 0xFFFFFFFF]), st.integers(0, 2**32 - 1))
arguments = st.lists(st.tuples(halves, halves).map(lambda pair: pair[0] << 32 | pair[1]), min_size=6, max_size=6)
conditions = st.builds(
    Condition,
    argument=st.integers(0, 5),
    values=st.lists(halves, min_size=1, max_size=4, unique=True).map(tuple),
    mask=st.one_of(st.just(0xFFFFFFFF), halves),
    negate=st.booleans(),
)
rules = st.builds(
    Permit,
    call=st.sampled_from(sorted(NUMBERS)),
    alternatives=st.lists(st.lists(conditions, min_size=1, max_size=3).map(tuple), max_size=3).map(tuple),
)


def reference(wanted: list[Permit], architecture: Architecture, arch: int, nr: int, args: list[int]) -> int:
    """What the docstrings say, as plainly as can be."""
    if arch != architecture.audit:
        return KILL
    rule = next((rule for rule in wanted if number(rule.call, architecture) == nr), None)
    if rule is None:
        return REFUSE
    if not rule.alternatives:
        return ALLOW
    return ALLOW if any(all(holds(test, args) for test in tests) for tests in rule.alternatives) else REFUSE


def holds(test: Condition, args: list[int]) -> bool:
    return (((args[test.argument] & 0xFFFFFFFF) & test.mask) in test.values) is not test.negate


def ask(code: tuple[seccomp.Instruction, ...], arch: int, nr: int, args: list[int]) -> int:
    signed = nr - 2**32 if nr >= 2**31 else nr
    return evaluate(code, DATA.pack(signed, arch, 0xDEADBEEF, *args))


# --- the program ---


@settings(max_examples=400)
@given(
    st.lists(rules, max_size=6, unique_by=lambda rule: rule.call),
    st.sampled_from(Architecture),
    st.sampled_from(Architecture),
    st.data(),
)
def test_the_program_answers_what_the_permits_say(
    wanted: list[Permit], architecture: Architecture, caller: Architecture, data: st.DataObject
) -> None:
    named = [number(rule.call, architecture) for rule in wanted]
    nr = data.draw(st.one_of(st.sampled_from([n for n in named if n is not None] or [0]), st.integers(0, 500)))
    values = [value for rule in wanted for tests in rule.alternatives for test in tests for value in test.values]
    near = st.tuples(halves, st.sampled_from(values or [0])).map(lambda pair: pair[0] << 32 | pair[1])
    args = [data.draw(st.one_of(near, arguments.map(lambda all_six: all_six[0]))) for _ in range(6)]
    code = program(wanted, architecture)
    assert ask(code, caller.audit, nr, args) == reference(wanted, architecture, caller.audit, nr, args)


WORKERS = {
    "plain": permits([Calls.PYTHON], internet=False, names=False, signals=False),
    "tcp": permits([Calls.PYTHON, Calls.THREADS], internet=True, names=False, signals=False),
    "all": permits(Calls, internet=True, names=True, signals=True),
}


@settings(max_examples=400)
@given(st.sampled_from(sorted(WORKERS)), st.sampled_from(Architecture), st.sampled_from(sorted(NUMBERS)), arguments)
def test_what_workers_may_do_is_what_their_permits_say(
    name: str, architecture: Architecture, call: str, args: list[int]
) -> None:
    nr = number(call, architecture)
    if nr is not None:
        wanted = list(WORKERS[name])
        code = program(wanted, architecture)
        assert ask(code, architecture.audit, nr, args) == reference(wanted, architecture, architecture.audit, nr, args)


@given(st.sampled_from(Architecture), st.integers(0, 2**32 - 1), st.integers(0, 600))
def test_a_foreign_architectures_call_ends_the_process_whatever_its_number(
    architecture: Architecture, arch: int, nr: int
) -> None:
    if arch != architecture.audit:
        assert ask(program(WORKERS["all"], architecture), arch, nr, [0] * 6) == KILL


@given(st.integers(0, 600))
def test_the_x32_numbering_of_x86_64_is_refused_whatever_its_number(nr: int) -> None:
    code = program(WORKERS["all"], Architecture.X86_64)
    assert ask(code, Architecture.X86_64.audit, nr | X32_BIT, [0] * 6) == REFUSE


@given(st.integers(2**31, 2**32 - 1), st.sampled_from(Architecture))
def test_negative_numbers_are_refused(nr: int, architecture: Architecture) -> None:
    assert ask(program(WORKERS["all"], architecture), architecture.audit, nr, [0] * 6) == REFUSE


@pytest.mark.parametrize("architecture", Architecture)
@pytest.mark.parametrize("name", sorted(WORKERS))
def test_every_instruction_fits_into_the_kernels_form_and_every_jump_lands_inside(
    architecture: Architecture, name: str
) -> None:
    code = program(WORKERS[name], architecture)
    for at, step in enumerate(code):
        assert 0 <= step.jt <= 255
        assert 0 <= step.jf <= 255
        assert 0 <= step.k < 2**32
        farthest = step.k if step.code == 0x05 else max(step.jt, step.jf)
        assert at + 1 + farthest < len(code) or step.code == 0x06


def test_a_permit_whose_tests_a_jump_cannot_span_is_named() -> None:
    wide = Permit("prctl", ((Condition(0, tuple(range(300))),),))
    with pytest.raises(ValueError, match="prctl: its tests take 304 instructions"):
        program([wide], Architecture.X86_64)


def test_the_longest_permit_that_a_jump_spans_is_right_in_its_last_value() -> None:
    wide = Permit("prctl", ((Condition(0, tuple(range(251))),),))
    code = program([wide], Architecture.X86_64)
    assert max(step.jf for step in code) == 255
    answers = [ask(code, Architecture.X86_64.audit, 157, [value, 0, 0, 0, 0, 0]) for value in (0, 250, 251)]
    assert answers == [ALLOW, ALLOW, REFUSE]


def test_a_program_longer_than_a_kernel_takes_is_refused_here() -> None:
    wide = [Permit("prctl", ((Condition(0, tuple(range(240))),),))] * 20
    with pytest.raises(ValueError, match="a kernel takes 4096 at most"):
        program(wide, Architecture.X86_64)


def test_the_same_declaration_gives_the_same_program() -> None:
    groups = [Calls.WRITE, Calls.PYTHON, Calls.FENCE]
    one = permits(groups, internet=False, names=False, signals=True)
    other = permits(reversed(groups), internet=False, names=False, signals=True)
    assert program(one, Architecture.X86_64) == program(other, Architecture.X86_64)


# --- what the kernel makes of it ---


def closed(name: str) -> None:
    assert HERE is not None
    prctl(38, 1)  # PR_SET_NO_NEW_PRIVS
    install(program(WORKERS[name], HERE), HERE)


def call(name: str, *args: int) -> int:
    """The errno; 0: done."""
    assert HERE is not None
    nr = number(name, HERE)
    assert nr is not None
    ctypes.set_errno(0)
    result = LIBC.syscall(ctypes.c_long(nr), *map(ctypes.c_long, args))
    return 0 if result != -1 else ctypes.get_errno()


def refusals(worker: str, calls: dict[str, list[int]]) -> dict[str, int]:
    closed(worker)
    return {name: call(name, *args) for name, args in calls.items()}


@on_known_machine
@pytest.mark.parametrize("worker", sorted(WORKERS))
def test_the_kernel_answers_that_it_has_no_such_call(worker: str) -> None:
    asked: dict[str, list[int]] = {name: [0] * 6 for name in NEVER.split()}
    asked |= {name: [] for name in ("fork", "vfork") if HERE is Architecture.X86_64}
    assert alone(refusals, worker, asked) == dict.fromkeys(asked, errno.ENOSYS)


def everyday() -> list[str]:
    closed("tcp")
    done = []
    done.append(Path("/proc/self/status").read_text(encoding="ascii").split(":")[0])
    one, other = socket.socketpair()
    one.sendall(b"x")
    done.append(other.recv(1).decode())
    poll = select.epoll()
    poll.register(other, select.EPOLLIN)
    poll.poll(0)
    thread = threading.Thread(target=lambda: done.append("thread"))
    thread.start()
    thread.join()
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    os.getrandom(8)
    memory = mmap.mmap(-1, 1 << 22)
    memory.close()
    return done


@on_known_machine
def test_what_a_worker_needs_goes_on() -> None:
    assert alone(everyday) == ["Name", "x", "thread"]


def judged(worker: str) -> dict[str, int]:
    closed(worker)
    unix, inet, inet6, netlink, packet = 1, 2, 10, 16, 17
    stream, dgram, raw = 1, 2, 3
    return {
        "unix": call("socket", unix, stream, 0),
        "tcp": call("socket", inet, stream, 0),
        "tcp6": call("socket", inet6, stream | socket.SOCK_CLOEXEC, 6),
        "udp": call("socket", inet, dgram, 0),
        "mptcp": call("socket", inet, stream, 262),
        "sctp": call("socket", inet, stream, 132),
        "raw": call("socket", inet, raw, 1),
        "netlink": call("socket", netlink, raw, 0),
        "packet": call("socket", packet, raw, 0),
        "pair of inet": call("socketpair", inet, stream, 0, 0),
        "writable code": call("mmap", 0, 4096, 7, 0x22, -1, 0),
        "code made executable": call("mprotect", 0, 0, 5),
        "another's limits": call("prlimit64", 1, 7, 0, 0),
        "own limits": call("prlimit64", 0, 7, 0, 0),
        "dumpable": call("prctl", 4, 1, 0, 0, 0),
        "whether dumpable": call("prctl", 3, 0, 0, 0, 0),
        "signals by a file": call("fcntl", 0, fcntl.F_SETOWN, os.getpid()),
        "a process": call("clone", signal.SIGCHLD, 0, 0, 0, 0),
        "typing into a terminal": call("ioctl", 0, 0x5412, 0),
        "fast open": call("sendto", -1, 0, 0, 0x20000000, 0, 0),
        "plain sending": call("sendto", -1, 0, 0, 0, 0, 0),
    }


UNREFUSED = {
    "plain": {"unix", "own limits", "whether dumpable", "plain sending"},
    "tcp": {"unix", "tcp", "tcp6", "own limits", "whether dumpable", "plain sending"},
    "all": {"unix", "tcp", "tcp6", "udp", "own limits", "whether dumpable", "plain sending", "signals by a file"},
}


@on_known_machine
@pytest.mark.parametrize("worker", sorted(WORKERS))
def test_calls_are_judged_by_their_arguments(worker: str) -> None:
    answers = alone(judged, worker)
    assert {what for what, answer in answers.items() if answer != errno.ENOSYS} == UNREFUSED[worker]


def from_a_thread() -> list[int]:
    """A thread that was there before the filter."""
    found: list[int] = []
    go = threading.Event()
    thread = threading.Thread(target=lambda: (go.wait(), found.append(call("unshare", 0))))
    thread.start()
    closed("tcp")
    go.set()
    thread.join()
    return found


@on_known_machine
def test_the_filter_holds_for_threads_that_are_there_already() -> None:
    assert alone(from_a_thread) == [errno.ENOSYS]


def twice() -> int:
    closed("all")
    try:
        closed("all")
    except OSError as error:
        return error.errno or 0
    return 0


@on_known_machine
def test_the_filter_cannot_be_changed_from_inside() -> None:
    assert alone(twice) == errno.ENOSYS


def without_no_new_privs() -> Any:
    assert HERE is not None
    if os.getuid() == 0:
        from kernel.identity import keep_only

        keep_only()
    try:
        install(program(WORKERS["all"], HERE), HERE)
    except OSError as error:
        return [error.errno, str(error)]
    return None


@on_known_machine
def test_without_no_new_privs_it_cannot_be_installed_and_says_so() -> None:
    code, text = alone(without_no_new_privs)
    assert code == errno.EACCES
    assert "seccomp: the filter cannot be installed" in text


def by_interrupt(inside: bool) -> int:
    """getpid(2) by the 32-bit door of an x86_64 kernel, from code made before the filter."""
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(b"\xb8\x14\x00\x00\x00\xcd\x80\xc3")  # mov eax, 20; int 0x80; ret
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    if inside:
        closed("all")
    return int(ctypes.CFUNCTYPE(ctypes.c_int)(address)()) - os.getpid()


@pytest.mark.skipif(HERE is not Architecture.X86_64, reason="an x86_64 door")
def test_a_call_by_the_32_bit_door_ends_the_process() -> None:
    try:
        works = alone(by_interrupt, False) == 0
    except KilledError:
        works = False
    if not works:
        pytest.skip("this kernel has no 32-bit calls")
    with pytest.raises(KilledError) as caught:
        alone(by_interrupt, True)
    assert caught.value.by is signal.SIGSYS


def by_x32() -> int:
    closed("all")
    return 0 if LIBC.syscall(ctypes.c_long(X32_BIT | 39)) != -1 else ctypes.get_errno()


@pytest.mark.skipif(HERE is not Architecture.X86_64, reason="an x86_64 numbering")
def test_the_kernel_refuses_the_x32_numbering() -> None:
    assert alone(by_x32) == errno.ENOSYS
