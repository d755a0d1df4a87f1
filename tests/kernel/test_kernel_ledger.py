"""A ledger gives back what was last written whole, whatever happened to its file."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kernel.ledger import _FAR, _PLACE, MOST, Ledger


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger"


@contextmanager
def opened(path: Path) -> Iterator[Ledger]:
    ledger = Ledger(path)
    try:
        yield ledger
    finally:
        ledger.close()


def read(path: Path) -> bytes:
    with opened(path) as ledger:
        return ledger.read()


def write(path: Path, *records: bytes) -> None:
    with opened(path) as ledger:
        ledger.read()
        for record in records:
            ledger.write(record)


def test_a_new_one_is_empty_and_its_owners_alone(path: Path) -> None:
    assert read(path) == b""
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_next_life_reads_what_the_last_one_wrote(path: Path) -> None:
    for life in range(5):
        assert read(path) == (f"{life - 1} done".encode() if life else b"")
        write(path, f"{life} begun".encode(), f"{life} done".encode())


def test_whoever_is_killed_while_writing_leaves_the_record_before(path: Path) -> None:
    write(path, b"one", b"two")
    before = path.read_bytes()
    write(path, b"three, which is longer")
    after = path.read_bytes()
    changed = [i for i in range(len(after)) if after[i] != before[i]]
    for cut in range(changed[0], changed[-1] + 1):  # as much of the new record as had come
        path.write_bytes(after[:cut] + before[cut:])
        assert read(path) == b"two"
    path.write_bytes(after)
    assert read(path) == b"three, which is longer"


def test_a_long_record_is_refused_and_the_one_before_stays(path: Path) -> None:
    write(path, b"x" * MOST)
    with pytest.raises(ValueError, match="exceeds"):
        write(path, b"y" * (MOST + 1))
    assert read(path) == b"x" * MOST


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)
@given(raw=st.binary(max_size=200), at=st.sampled_from([0, _PLACE, 2 * _PLACE - 5]))
def test_no_bytes_in_the_file_fail_the_reader_or_the_next_writer(path: Path, raw: bytes, at: int) -> None:
    path.write_bytes(b"\0" * at + raw)
    assert read(path) == b""
    write(path, b"after")
    assert read(path) == b"after"


def test_a_number_that_no_honest_writer_reaches_does_not_stop_the_next_ones(path: Path) -> None:
    with opened(path) as ledger:
        ledger._sequence = _FAR
        ledger.write(b"from afar")
    assert read(path) == b""
    write(path, b"near")
    assert read(path) == b"near"


@pytest.mark.parametrize("kind", ["link", "folder", "fifo"])
def test_what_is_no_file_is_refused(path: Path, kind: str) -> None:
    match kind:
        case "link":
            path.symlink_to(path.with_name("elsewhere"))
        case "folder":
            path.mkdir()
        case _:
            os.mkfifo(path)
    with pytest.raises(OSError, match=str(path)):
        Ledger(path)


PROBE = """
import os, sys
from pathlib import Path
from kernel.ledger import MOST, Ledger
ledger = Ledger(Path(sys.argv[1]))
print([target for fd in range(3, 64) if (target := os.path.realpath(f"/proc/self/fd/{fd}")) == sys.argv[1]])
for n in range(4):
    ledger.write(bytes([n]) * MOST)
os.kill(os.getpid(), 9)
"""


def test_its_process_holds_no_descriptor_of_it_and_a_sigkill_loses_nothing(path: Path) -> None:
    done = subprocess.run([sys.executable, "-uc", PROBE, path], capture_output=True, text=True, check=False)
    assert done.stdout == "[]\n"
    assert done.returncode == -9
    assert read(path) == b"\3" * MOST
    assert path.stat().st_size == 2 * _PLACE


def test_a_larger_file_of_somebody_elses_is_cut_to_size(path: Path) -> None:
    write(path, b"kept")
    with path.open("ab") as file:
        file.write(b"x" * 1_000_000)
    assert read(path) == b"kept"
    assert path.stat().st_size == 2 * _PLACE
