"""Numbers of system calls, held against what others have written down."""

from __future__ import annotations

import ctypes
import ctypes.util
import re
from pathlib import Path

import pytest

from sandbox.seccomp import permits
from sandbox.syscalls import NUMBERS, Architecture, Calls, names_of, number

HEADERS = {
    Architecture.X86_64: ("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "/usr/include/asm/unistd_64.h"),
    Architecture.AARCH64: ("/usr/include/asm-generic/unistd.h",),
}
_TOKENS = {Architecture.X86_64: 0xC000003E, Architecture.AARCH64: 0xC00000B7}
_GENERIC_NAMES = {"fadvise64": "fadvise64_64", "newfstatat": "fstatat"}
NEVER = """
    execve execveat fork vfork clone3 ptrace process_vm_readv process_vm_writev pidfd_getfd bpf mount unshare setns
    kill tkill tgkill bind listen io_uring_setup openat2 mknod mknodat link linkat chown fchownat setxattr
    open_by_handle_at memfd_secret personality keyctl userfaultfd perf_event_open
"""
_UNKNOWN = -1
"""__NR_SCMP_ERROR."""


@pytest.mark.parametrize("architecture", Architecture)
def test_the_numbers_are_libseccomps(architecture: Architecture) -> None:
    library = ctypes.util.find_library("seccomp")
    if library is None:
        pytest.skip("no libseccomp here")
    resolve = ctypes.CDLL(library).seccomp_syscall_resolve_name_arch
    resolve.argtypes = (ctypes.c_uint32, ctypes.c_char_p)
    compared = 0
    for name in NUMBERS:
        known = resolve(_TOKENS[architecture], name.encode())
        if known == _UNKNOWN:
            continue  # younger than this libseccomp
        compared += 1
        assert number(name, architecture) == (known if known >= 0 else None), name  # < -1: not on this architecture
    assert compared > len(NUMBERS) * 0.9


@pytest.mark.parametrize("architecture", Architecture)
def test_the_numbers_are_the_kernel_headers(architecture: Architecture) -> None:
    found = next((Path(name) for name in HEADERS[architecture] if Path(name).exists()), None)
    if found is None:
        pytest.skip("no kernel headers here")
    text = found.read_text(encoding="utf-8")
    known = {name: int(nr) for name, nr in re.findall(r"^#define __NR(?:3264)?_(\w+)\s+(\d+)$", text, re.MULTILINE)}
    known |= {general: known[name] for general, name in _GENERIC_NAMES.items() if name in known}
    compared = 0
    for name in NUMBERS:
        if name in known:
            compared += 1
            assert number(name, architecture) == known[name], name
    assert compared > len(NUMBERS) * 0.8


@pytest.mark.parametrize("architecture", Architecture)
def test_no_number_stands_for_two_calls(architecture: Architecture) -> None:
    numbers = [nr for name in NUMBERS if (nr := number(name, architecture)) is not None]
    assert len(numbers) == len(set(numbers))


def test_every_call_of_a_group_has_a_number_on_one_architecture_at_least() -> None:
    for group in Calls:
        for name in group.value:
            assert any(number(name, architecture) is not None for architecture in Architecture), name


def test_a_call_that_nobody_knows_is_a_fault_of_ours() -> None:
    with pytest.raises(KeyError):
        number("reboot_the_moon", Architecture.X86_64)


def test_machines_are_known_by_the_name_that_the_kernel_gives_them() -> None:
    assert Architecture.of("x86_64") is Architecture.X86_64
    assert Architecture.of("aarch64") is Architecture.AARCH64
    assert Architecture.of("riscv64") is None


@pytest.mark.parametrize("name", NEVER.split())
def test_no_worker_can_be_given(name: str) -> None:
    assert name not in names_of(Calls)


def test_what_two_groups_share_is_permitted_once() -> None:
    names = [permit.call for permit in permits(Calls, internet=True, names=True, signals=True)]
    assert names == sorted(set(names))
