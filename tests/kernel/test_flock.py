"""Locks for the life of a process; the one of a folder, in which nothing is made."""

from __future__ import annotations

import errno
import fcntl
from pathlib import Path

import pytest

from kernel.flock import AlreadyHeld, hold_folder


def test_a_folder_is_held_once_and_stays_as_it_was(tmp_path: Path) -> None:
    assert hold_folder(tmp_path)
    with pytest.raises(AlreadyHeld):
        hold_folder(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_folder_is_not_held_nor_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert not hold_folder(tmp_path / "file")
    assert not hold_folder(tmp_path / "absent")
    assert not (tmp_path / "absent").exists()


def refusing(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, "refused")

    monkeypatch.setattr(fcntl, "flock", refuse)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    refusing(monkeypatch, number)
    assert not hold_folder(tmp_path)


def test_any_other_failure_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refusing(monkeypatch, errno.EIO)
    with pytest.raises(OSError, match="refused"):
        hold_folder(tmp_path)
