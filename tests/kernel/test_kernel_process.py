"""What a process asks of the kernel about itself, and the lock for its life."""

from __future__ import annotations

import errno
import os
import select
import signal
from pathlib import Path

import pytest
from kernel_actors import NOBODY, Child, Refused

from kernel.flock import AlreadyHeld, hold
from kernel.libc import call
from kernel.process import filesystem_is_memory, filesystem_may_hang

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root")

ORPHAN = """
import os, signal, sys
from kernel.process import die_with_parent
die_with_parent(signal.SIGTERM, {parent})
os.write(1, b"set")
os.close(1)
signal.pause()
"""


def start_grandchild(child: Child, parent: str, write: int) -> int:
    child.do(f"program = subprocess.Popen([sys.executable, '-c', {ORPHAN!r}.format(parent={parent})], stdout={write})")
    pid: int = child.do("program.pid")
    return pid


def test_a_child_dies_with_its_parent() -> None:
    read, write = os.pipe()
    with Child(fds=(write,)) as child:
        os.close(write)
        pid = start_grandchild(child, "os.getpid()", write)
        child.do(f"os.close({write})")
        assert os.read(read, 16) == b"set"
        end = os.pidfd_open(pid)
        child.kill()
        wait_for(end)
    os.close(read)


def test_a_child_whose_parent_is_gone_already_dies_at_once() -> None:
    read, write = os.pipe()
    with Child(fds=(write,)) as child:
        os.close(write)
        start_grandchild(child, "1", write)
        child.do(f"os.close({write})")
        assert os.read(read, 16) == b""
        assert child.do("program.wait()") == -signal.SIGTERM
    os.close(read)


def wait_for(pidfd: int) -> None:
    """Until the process has ended; readable then (pidfd_open(2))."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    assert poll.poll(60_000)
    os.close(pidfd)


def test_the_name_is_what_the_kernel_shows_cut_to_fifteen_bytes() -> None:
    with Child() as child:
        child.do("process.set_name('forge-actuator-of-the-pool')")
        comm = Path(f"/proc/{child.pid}/comm").read_text(encoding="utf-8")
        assert comm == "forge-actuator-\n"


def test_dumpable_is_switched_on_and_off() -> None:
    with Child() as child:
        for wanted in (False, True):
            child.do(f"process.set_dumpable({wanted})")
            assert child.do("__import__('kernel.libc', fromlist=['x']).call('prctl', 3, 0, 0, 0, 0)") == wanted


@pytest.mark.parametrize("highest", ["resource.RLIM_INFINITY", "0"])
def test_an_aborting_process_leaves_no_core_whatever_limit_it_came_with(highest: str) -> None:
    with Child() as child:
        child.do(f"resource.setrlimit(resource.RLIMIT_CORE, ({highest}, {highest}))" if highest == "0" else "pass")
        child.do("process.no_core_dumps()")
        assert child.do("resource.getrlimit(resource.RLIMIT_CORE)[0]") <= 1
        assert child.do("resource.getrlimit(resource.RLIMIT_CORE)[1]") <= 1
        assert child.do("int(Path('/proc/self/coredump_filter').read_text(), 16)") == 0
        child.do("pid = os.fork()\nif pid == 0: os.abort()")
        assert child.do("(status := os.waitpid(pid, 0)[1], os.WTERMSIG(status), os.WCOREDUMP(status))[1:]") == (
            signal.SIGABRT,
            False,
        )


def test_memory_file_systems_are_told_from_disks(tmp_path: Path) -> None:
    kinds = {}
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        kinds[line.split()[4]] = line.partition(" - ")[2].split()[0]
    if kinds.get("/dev/shm") == "tmpfs":
        assert filesystem_is_memory(Path("/dev/shm"))
    assert not filesystem_is_memory(Path("/proc"))
    if kinds["/"] not in ("tmpfs", "ramfs"):
        assert not filesystem_is_memory(Path("/"))
    with pytest.raises(FileNotFoundError):
        filesystem_is_memory(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError):
        filesystem_may_hang(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("kind", "told"),
    [("nfs4", "nfs4"), ("fuse.sshfs", "fuse.sshfs"), ("fuseblk", "fuseblk"), ("ext4", ""), ("tmpfs", "")],
)
def test_a_file_system_for_which_another_machine_or_process_answers_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str, told: str
) -> None:
    device = tmp_path.stat().st_dev
    line = f"36 35 {os.major(device)}:{os.minor(device)} / /mnt rw,noatime master:1 - {kind} server:/x rw\n"
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: "1 0 0:1 / / rw - ext4 x rw\n" + line)
    assert filesystem_may_hang(tmp_path) == told


def test_a_failing_call_says_which_call_and_why() -> None:
    with pytest.raises(OSError, match=r"timerfd_create: Invalid argument") as caught:
        call("timerfd_create", 4711, 0)
    assert caught.value.errno == 22


# --- flock ---


def test_a_lock_that_is_held_names_its_holder(tmp_path: Path) -> None:
    with Child() as child:
        child.do(f"flock.hold(Path({str(tmp_path / 'lock')!r}))")
        with pytest.raises(AlreadyHeld, match=f"pid {child.pid}") as caught:
            hold(tmp_path / "lock")
        assert caught.value.pid == child.pid


def test_the_holders_death_frees_the_lock(tmp_path: Path) -> None:
    with Child() as child:
        child.do(f"flock.hold(Path({str(tmp_path / 'lock')!r}))")
        child.kill()
        os.close(hold(tmp_path / "lock"))


def test_a_lock_outlives_an_exec_of_its_holder(tmp_path: Path) -> None:
    read, write = os.pipe()
    with Child(fds=(write,)) as child:
        os.close(write)
        child.do(f"flock.hold(Path({str(tmp_path / 'lock')!r}))")
        child.do(f"held = {write}")
        child.begin("os.dup2(held, 1); os.close(held); os.execv('/bin/sh', ['sh', '-c', 'echo exec; exec sleep 3600'])")
        assert os.read(read, 16) == b"exec\n"
        with pytest.raises(AlreadyHeld):
            hold(tmp_path / "lock")
    os.close(read)


def test_a_lock_for_which_there_is_no_room_says_which_file_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as full:
        full.setattr(os, "write", no_room)
        with pytest.raises(OSError, match="No space left") as caught:
            hold(tmp_path / "lock")
    assert caught.value.filename == str(tmp_path / "lock")


@pytest.mark.parametrize("content", [b"", b"not a number\n", b"\xff\xfe", b"-3"])
def test_a_lock_file_that_names_nobody_is_held_by_an_unknown_process(tmp_path: Path, content: bytes) -> None:
    with Child() as child:
        child.do(f"flock.hold(Path({str(tmp_path / 'lock')!r}))")
        (tmp_path / "lock").write_bytes(content)
        with pytest.raises(AlreadyHeld, match="pid unknown") as caught:
            hold(tmp_path / "lock")
        assert caught.value.pid == 0


def test_a_refused_lock_leaves_no_descriptor_open(tmp_path: Path) -> None:
    with Child() as child:
        child.do(f"flock.hold(Path({str(tmp_path / 'lock')!r}))")
        before = len(list(Path("/proc/self/fd").iterdir()))
        with pytest.raises(AlreadyHeld):
            hold(tmp_path / "lock")
        assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_link_in_place_of_the_lock_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        hold(tmp_path / "lock")


@pytest.mark.root
@needs_root
def test_an_ordinary_user_cannot_take_the_lock_in_a_closed_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with Child((NOBODY, NOBODY)) as child, pytest.raises(Refused, match="PermissionError"):
        child.do(f"flock.hold(Path({str(tmp_path / 'lock')!r}))")
