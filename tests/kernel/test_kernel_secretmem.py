"""Memory for keys: filled straight from a file, zeroed and unmapped at the end, whatever happens in between."""

from __future__ import annotations

import copy
import errno
import mmap
import os
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_actors import NOBODY, Child

from kernel import secretmem
from kernel.secretmem import SecretBuffer, read_secret

KEY = b"a signing key"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_bytes(KEY)
    return path


@pytest.fixture
def fd(source: Path) -> Iterator[int]:
    number = os.open(source, os.O_RDWR)
    yield number
    os.close(number)


def memory_of(content: bytes) -> int:
    """A descriptor of a file in memory with this content, at its beginning."""
    number = os.memfd_create("source")
    os.write(number, content)
    os.lseek(number, 0, os.SEEK_SET)
    return number


def mapping(address: int) -> dict[str, str]:
    """What the kernel says of the mapping at an address (proc_pid_smaps(5)); empty: there is none."""
    found: dict[str, str] = {}
    for line in Path("/proc/self/smaps").read_text(encoding="ascii", errors="replace").splitlines():
        name, _, value = line.partition(" ")
        if not name.endswith(":"):
            first, last = (int(end, 16) for end in name.split("-"))
            found = {"range": name} if first <= address < last else {}
        elif found:
            found[name] = value.strip()
            if name == "VmFlags:":
                return found
    return {}


# --- filling ---


@given(st.binary(min_size=1, max_size=3 * mmap.PAGESIZE))
def test_what_was_read_is_what_the_view_shows(content: bytes) -> None:
    number = memory_of(content)
    with SecretBuffer(len(content)) as secret:
        secret.fill(number)
        assert secret.view == content
    os.close(number)


@given(st.integers(1, 2 * mmap.PAGESIZE), st.integers(1, 2 * mmap.PAGESIZE))
def test_a_file_of_another_size_than_expected_is_refused_and_leaves_zeros(size: int, real: int) -> None:
    if size == real:
        real += 1
    number = memory_of(b"\xff" * real)
    with SecretBuffer(size) as secret:
        with pytest.raises(OSError, match="changed while it was read"):
            secret.fill(number)
        assert not any(secret.view)
        assert not any(secret._view)  # the spare room too
    os.close(number)


def test_a_buffer_shows_zeros_before_it_is_filled() -> None:
    with SecretBuffer(5) as secret:
        assert secret.view == bytes(5)


def test_a_source_that_answers_in_small_parts_is_read_to_its_end(monkeypatch: pytest.MonkeyPatch, fd: int) -> None:
    class Slow(secretmem.io.FileIO):
        def readinto(self, room: memoryview) -> int | None:  # type: ignore[override]
            return super().readinto(room[:4])

    monkeypatch.setattr(secretmem.io, "FileIO", Slow)
    with SecretBuffer(len(KEY)) as secret:
        secret.fill(fd)
        assert secret.view == KEY


def test_a_read_that_fails_half_way_leaves_zeros(monkeypatch: pytest.MonkeyPatch, fd: int) -> None:
    class Breaks(secretmem.io.FileIO):
        reads = 0

        def readinto(self, room: memoryview) -> int | None:  # type: ignore[override]
            Breaks.reads += 1
            if Breaks.reads > 1:
                raise OSError(errno.EIO, "a broken disk")
            return super().readinto(room[:4])

    monkeypatch.setattr(secretmem.io, "FileIO", Breaks)
    with SecretBuffer(len(KEY)) as secret:
        with pytest.raises(OSError, match="a broken disk"):
            secret.fill(fd)
        assert Breaks.reads == 2
        assert secret.view == bytes(len(KEY))


def test_filling_leaves_the_descriptor_open(fd: int) -> None:
    with SecretBuffer(len(KEY)) as secret:
        secret.fill(fd)
    os.fstat(fd)


@pytest.mark.parametrize("size", [0, -1])
def test_a_secret_has_at_least_one_byte(size: int) -> None:
    with pytest.raises(ValueError, match="at least one byte"):
        SecretBuffer(size)


# --- the end ---


def test_at_the_end_the_content_is_zeros_even_for_who_still_holds_a_part(fd: int) -> None:
    with SecretBuffer(len(KEY)) as secret:
        secret.fill(fd)
        held = secret.view[:]
        assert held == KEY
    assert held == bytes(len(KEY))
    held.release()


def test_after_an_error_too(fd: int) -> None:
    held: list[memoryview] = []

    def fail() -> None:
        with SecretBuffer(len(KEY)) as secret:
            secret.fill(fd)
            held.append(secret.view[:])
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert held[0] == bytes(len(KEY))


def test_at_the_end_the_pages_are_unmapped(fd: int) -> None:
    with SecretBuffer(len(KEY)) as secret:
        secret.fill(fd)
        address = secret._address
        assert mapping(address)
    assert not mapping(address)


def test_after_the_end_every_use_is_a_value_error(fd: int) -> None:
    with SecretBuffer(len(KEY)) as secret:
        view = secret.view
    assert secret.closed
    with pytest.raises(ValueError, match="gone"):
        _ = secret.view
    with pytest.raises(ValueError, match="gone"):
        secret.fill(fd)
    with pytest.raises(ValueError, match="released"):
        view[:]
    secret.close()


def test_the_view_cannot_be_written_to(fd: int) -> None:
    with SecretBuffer(len(KEY)) as secret, pytest.raises(TypeError):
        secret.view[0] = 1


def test_neither_its_text_nor_a_copy_gives_the_content_away(fd: int) -> None:
    with SecretBuffer(len(KEY)) as secret:
        secret.fill(fd)
        assert repr(secret) == str(secret) == "<SecretBuffer>"
        for duplicate in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError):
                duplicate(secret)
    assert repr(secret) == "<SecretBuffer (closed)>"


# --- what the kernel is asked for ---


def test_the_pages_are_locked_left_out_of_dumps_and_empty_after_a_fork(fd: int) -> None:
    with SecretBuffer(len(KEY)) as secret:
        secret.fill(fd)
        if not secret.locked:
            pytest.skip("RLIMIT_MEMLOCK allows nothing here")
        flags = mapping(secret._address)["VmFlags:"].split()
        assert {"lo", "dd", "wf"} <= set(flags)


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to become somebody without CAP_IPC_LOCK")
def test_without_a_memlock_limit_to_speak_of_it_works_and_says_so() -> None:
    with Child(user=(NOBODY, NOBODY)) as child:
        child.do("import resource; resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))")
        child.do("from kernel.secretmem import SecretBuffer; secret = SecretBuffer(3)")
        assert child.do("secret.locked") is False
        assert child.do("list(secret.view)") == [0, 0, 0]
        child.do("secret.close()")


@pytest.mark.parametrize("number", [errno.ENOMEM, errno.EPERM, errno.EAGAIN, errno.ENOSYS])
def test_a_refused_lock_is_told_not_raised(monkeypatch: pytest.MonkeyPatch, fd: int, number: int) -> None:
    def refuse(*_: object) -> int:
        raise OSError(number, "mlock")

    monkeypatch.setattr(secretmem, "call", refuse)
    with SecretBuffer(len(KEY)) as secret:
        assert not secret.locked
        secret.fill(fd)
        assert secret.view == KEY


def test_an_old_kernel_s_refusal_of_an_advice_does_not_matter(monkeypatch: pytest.MonkeyPatch, fd: int) -> None:
    monkeypatch.setattr(secretmem, "_MADV_WIPEONFORK", 9999)
    with SecretBuffer(len(KEY)) as secret:
        secret.fill(fd)
        assert secret.view == KEY


# --- a file ---


def test_a_file_behind_links_is_read_like_kubernetes_mounts_it(tmp_path: Path) -> None:
    (tmp_path / "..2026").mkdir()
    (tmp_path / "..2026" / "key").write_bytes(KEY)
    (tmp_path / "..data").symlink_to("..2026")
    (tmp_path / "key").symlink_to("..data/key")
    with read_secret(tmp_path / "key", 64) as secret:
        assert secret.view == KEY


def unreadable(tmp_path: Path) -> dict[str, Path]:
    found = {"nothing": tmp_path / "nothing", "a folder": tmp_path / "folder", "a fifo": tmp_path / "fifo"}
    found["a folder"].mkdir()
    os.mkfifo(found["a fifo"])
    for name, content in (("empty", b""), ("too long", bytes(65))):
        found[name] = tmp_path / name
        found[name].write_bytes(content)
    return found


@pytest.mark.parametrize("what", ["nothing", "a folder", "a fifo", "empty", "too long"])
def test_what_cannot_be_a_credential_is_refused_by_its_path_and_at_once(tmp_path: Path, what: str) -> None:
    path = unreadable(tmp_path)[what]
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(OSError, match=r"No such file|not a file|has \d+ bytes; a credential has 1 to 64") as caught:
        read_secret(path, 64)
    assert caught.value.filename == str(path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_the_longest_allowed_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"x" * 64)
    with read_secret(tmp_path / "key", 64) as secret:
        assert secret.view == b"x" * 64


def test_a_file_that_grows_after_its_size_was_asked_is_refused(monkeypatch: pytest.MonkeyPatch, source: Path) -> None:
    made: list[SecretBuffer] = []

    class Grows(SecretBuffer):
        def __init__(self, size: int) -> None:
            super().__init__(size)
            made.append(self)
            with source.open("ab") as file:
                file.write(b"more")

    monkeypatch.setattr(secretmem, "SecretBuffer", Grows)
    with pytest.raises(OSError, match="changed while it was read") as caught:
        read_secret(source, 64)
    assert caught.value.filename == str(source)
    assert made[0].closed
