"""The switch of the fence: three files that appear and disappear by one chdir, and with this process.

Target paths are symlinks to /proc/<our pid>/cwd/<name>.  Our working directory is either an empty folder or a
folder in which all files of a set have been written completely, so

- exposing and withdrawing all files is one atomic system call, and no half-written set is ever seen;
- when this process dies, for whatever reason, the paths stop existing at that instant: ENOENT, the one error that
  makes a node stop forging (measured; /proc/<pid>/fd/<n> would answer EACCES for a moment).

The reader needs our uid and gid and no fewer capabilities, and we must be dumpable (ptrace_may_access,
kernel/ptrace.c).  No exception or return value of this module carries contents.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class PreparedSet:
    """A folder in which every file of a set stands, complete, not yet visible at the targets."""

    path: Path


class Stage:
    """One process's stage below `root`.  There can be one only: it owns the working directory."""

    def __init__(self, root: Path) -> None:
        """Take possession: nothing of an earlier life remains.  Raises OSError."""
        self._root = root
        self._empty = root / "empty"
        self._count = 0
        self._current: Path | None = None
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        root.chmod(0o700)
        self._empty.mkdir(mode=0o700, exist_ok=True)
        os.chdir(self._empty)
        for path in root.iterdir():
            if path != self._empty:
                _remove(path)
        for path in self._empty.iterdir():
            _remove(path)

    @property
    def exposed(self) -> bool:
        return self._current is not None

    def prepare(self, files: Mapping[str, bytes]) -> PreparedSet:
        """Write a set, 0400.  Raises OSError (its filename tells which file); then nothing of it remains."""
        self._count += 1
        folder = self._root / f"set-{self._count}"
        folder.mkdir(mode=0o700)
        try:
            for name, content in files.items():
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                with os.fdopen(os.open(folder / name, flags, 0o400), "wb") as file:
                    file.write(content)
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return PreparedSet(folder)

    def expose(self, prepared: PreparedSet) -> None:
        """Make the set visible at the targets; an earlier one goes.  Raises OSError; nothing changed then."""
        old = self._current
        os.chdir(prepared.path)
        self._current = prepared.path
        if old is not None:
            _discard(old)

    def withdraw(self) -> list[str]:
        """Make the targets cease to exist, then clean up; what could not be cleaned up, in words.

        Raises OSError only if the switch itself failed: the caller must end the process, which has the same effect.
        """
        old, self._current = self._current, None
        os.chdir(self._empty)
        return _discard(old) if old is not None else []

    def link_for(self, name: str) -> str:
        """What a target symlink must say."""
        return f"/proc/{os.getpid()}/cwd/{name}"

    def install_links(self, targets: Mapping[str, Path]) -> list[str]:
        """Put our links at the target paths, in place of whatever file or link is there.

        Answers the names at which something that was not a link to a process's cwd stood.  Raises OSError whose
        filename is the target in the way (a folder, a read-only file system).
        """
        replaced = []
        for name, target in targets.items():
            if _says(target) == self.link_for(name):
                continue
            if _foreign(target):
                replaced.append(name)
            temporary = target.with_name(f".{target.name}.forge-manager")
            try:
                temporary.unlink(missing_ok=True)
                temporary.symlink_to(self.link_for(name))
                temporary.rename(target)
            except OSError as error:
                raise OSError(error.errno, error.strerror, str(target)) from None
        return replaced

    def links_intact(self, targets: Mapping[str, Path]) -> list[str]:
        """What is wrong with the target paths, in words; empty: nothing."""
        return [f"{target} is not our link" for name, target in targets.items() if _says(target) != self.link_for(name)]


def _says(path: Path) -> str | None:
    try:
        return str(path.readlink())
    except OSError:  # not there, not a link, or not to be read: in each case not ours
        return None


def _foreign(path: Path) -> bool:
    """Whether something stands at `path` that no life of ours put there."""
    text = _says(path)
    if text is not None:
        return not (text.startswith("/proc/") and "/cwd/" in text)
    return os.path.lexists(path)


def _discard(folder: Path) -> list[str]:
    """Unlink a set, then overwrite what was in it: a reader in the middle finds ENOENT or whole files, never zeros."""
    problems = []
    for path in sorted(folder.iterdir()):
        try:
            size = path.stat().st_size
            path.chmod(0o600)
            fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                path.unlink()
                os.pwrite(fd, bytes(size), 0)
            finally:
                os.close(fd)
        except OSError as error:
            problems.append(f"{path.name} could not be removed: {error.strerror}")
    try:
        folder.rmdir()
    except OSError as error:
        problems.append(f"{folder.name} could not be removed: {error.strerror}")
    return problems


def _remove(path: Path) -> None:
    """Take away what an earlier life left behind.  Raises OSError: stale keys must not stay unnoticed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
