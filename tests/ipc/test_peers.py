"""Who is at the other end is the kernel's word; a worker's siblings are not heard."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipc import peers
from ipc.peers import Peer, may_command, parent_of, peer_of

US, OTHER, NOBODY = 1000, 1001, 65534
SUPERVISOR = os.getpid()
NO_PID = 1 << 30
"""None that this machine has."""


@pytest.fixture
def child() -> Iterator[int]:
    """A process whose parent we are."""
    with subprocess.Popen([sys.executable, "-I", "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process.pid
        process.communicate(b"\n")


def test_the_other_end_of_a_connection_is_the_process_that_made_it() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        assert peer_of(ours) == Peer(os.getpid(), os.getuid(), os.getgid())


def test_the_other_end_of_a_connection_to_a_server_is_whoever_listens(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(str(tmp_path / "s"))
        server.listen()
        client.connect(str(tmp_path / "s"))
        assert peer_of(client).pid == os.getpid()


def test_a_closed_connection_has_nobody_at_its_other_end() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    theirs.close()
    ours.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        peer_of(ours)


def test_the_parent_of_a_process_is_the_kernels_word(child: int) -> None:
    assert parent_of(child) == os.getpid()
    assert parent_of(os.getpid()) == os.getppid()


@pytest.mark.parametrize("pid", [0, -1, NO_PID])
def test_a_process_that_cannot_be_seen_has_no_known_parent(pid: int) -> None:
    assert parent_of(pid) is None


def test_the_first_process_of_a_namespace_has_no_parent_in_it() -> None:
    assert parent_of(1) in (0, None)  # None: it is not ours to see


def test_a_status_without_the_line_tells_no_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_bytes", lambda _: b"Name:\tx\nPPid:\tmany\n")
    assert parent_of(os.getpid()) is None


# --- who may command ---


@pytest.mark.parametrize(
    ("uid", "heard"), [(US, True), (0, True), (OTHER, False), (NOBODY, False)], ids=["us", "root", "other", "nobody"]
)
def test_without_siblings_our_own_user_and_root_are_heard_and_nobody_else(uid: int, heard: bool) -> None:
    assert may_command(Peer(5, uid, uid), US, None) is heard


def test_a_sibling_is_not_heard_although_it_is_our_own_user(child: int) -> None:
    assert not may_command(Peer(child, US, US), US, SUPERVISOR)


def test_a_process_of_our_own_user_that_the_supervisor_did_not_start_is_heard(child: int) -> None:
    assert may_command(Peer(child, US, US), US, SUPERVISOR + 1)


@pytest.mark.parametrize("uid", [OTHER, NOBODY])
def test_another_user_is_not_heard_whoever_its_parent_is(child: int, uid: int) -> None:
    assert not may_command(Peer(child, uid, uid), US, SUPERVISOR + 1)


@pytest.mark.parametrize("pid", [0, NO_PID], ids=["in another namespace", "gone"])
def test_a_process_of_our_own_user_that_cannot_be_placed_counts_as_a_sibling(pid: int) -> None:
    assert not may_command(Peer(pid, US, US), US, SUPERVISOR)


def test_where_we_are_root_ourselves_so_is_a_sibling_and_it_is_not_heard(child: int) -> None:
    assert not may_command(Peer(child, 0, 0), 0, SUPERVISOR)


def test_a_sibling_is_told_by_its_parent_as_it_is_now(monkeypatch: pytest.MonkeyPatch) -> None:
    parents = iter([SUPERVISOR, 1])
    monkeypatch.setattr(peers, "parent_of", lambda _: next(parents))
    assert not may_command(Peer(5, US, US), US, SUPERVISOR)
    assert may_command(Peer(5, US, US), US, SUPERVISOR)


@pytest.mark.parametrize("pid", [0, NO_PID], ids=["in another namespace", "gone"])
def test_a_root_that_we_are_not_is_no_sibling_wherever_it_lives(pid: int, child: int) -> None:
    assert may_command(Peer(pid, 0, 0), US, SUPERVISOR)
    assert may_command(Peer(child, 0, 0), US, SUPERVISOR)


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES, errno.ESRCH])
def test_without_a_descriptor_to_look_with_nobody_is_placed_and_nothing_is_raised(
    code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Path) -> bytes:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Path, "read_bytes", fail)
    assert parent_of(os.getpid()) is None
    assert not may_command(Peer(os.getpid(), US, US), US, SUPERVISOR)
