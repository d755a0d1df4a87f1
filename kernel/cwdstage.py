"""The switch of the fence: three files that appear and disappear by one chdir, and with this process.

Target paths are symlinks to /proc/<our pid>/cwd/<name>.  Our working directory is either an empty folder or a
folder in which all files of a set have been written completely, so

- exposing and withdrawing all files is one atomic system call, and no half-written set is ever seen;
- when this process dies, for whatever reason, the paths stop existing at that instant: ENOENT, the one error that
  makes a node stop forging (measured; /proc/<pid>/fd/<n> would answer EACCES for a moment).  A look that falls into
  the very moment in which the dead process is reaped can get ESRCH instead (fs/proc/base.c, proc_pid_permission;
  measured: about one death in 3000).  A cardano-node asks whether a file exists before it opens it, and every error
  of that question means "no" to it (cardano-api, fileIOExceptT; directory, doesFileExist).

The reader needs our uid and gid and no fewer capabilities, and we must be dumpable (ptrace_may_access,
kernel/ptrace.c).  No exception or return value of this module carries contents.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kernel.secretmem import Content

_F_SETSIG: Final = 10
_F_SETLEASE: Final = 1024


@dataclass(frozen=True, slots=True)
class PreparedSet:
    """A folder in which every file of a set stands, complete, not yet visible at the targets."""

    path: Path


class Stage:
    """One process's stage below `root`.  There can be one only: it owns the working directory."""

    def __init__(self, root: Path) -> None:
        """Take possession: nothing of an earlier life remains.  Raises OSError."""
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        root.chmod(0o700)
        self.found: tuple[str, ...] = ()
        """Names of the files in the sets that an earlier life left."""
        for path in root.iterdir():
            self.found = tuple(sorted({*self.found, *_names_in(path)}))
            _remove(path)
        empty = root / "empty"
        empty.mkdir(mode=0o700)
        # Held open, so that withdrawing works even after somebody removed or renamed the folder.
        self._empty = os.open(empty, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        os.fchdir(self._empty)
        self._root = root
        self._count = 0
        self._current: Path | None = None

    @property
    def exposed(self) -> bool:
        """Whether a set is visible at the targets."""
        return self._current is not None

    def prepare(self, files: Mapping[str, Content], links: Mapping[str, Path] | None = None) -> PreparedSet:
        """Write a set, 0400, with links to what lies elsewhere; good until the next `withdraw` or `expose`.

        Raises OSError (its filename tells which file); then nothing of the set remains.
        """
        self._count += 1
        folder = self._root / f"set-{self._count}"
        folder.mkdir(mode=0o700)
        try:
            for name, content in files.items():
                write_new(folder / name, content)
            for name, path in (links or {}).items():
                (folder / name).symlink_to(path)
        except OSError:
            _discard(folder)
            raise
        return PreparedSet(folder)

    def expose(self, prepared: PreparedSet) -> list[str]:
        """Make the set visible at the targets in place of an earlier one; what of that could not be cleaned up.

        A node that reads while an exposed set is replaced may find files of both, or one missing: tell it afterwards.
        Raises OSError; nothing changed then.
        """
        os.chdir(prepared.path)
        self._current = prepared.path
        return self._sweep()

    def withdraw(self) -> list[str]:
        """Make the targets cease to exist, then remove every set; what could not be cleaned up, in words.

        Raises OSError only if the switch itself failed: the caller must end the process, which has the same effect.
        """
        os.fchdir(self._empty)
        self._current = None
        return self._sweep()

    def link_for(self, name: str) -> str:
        """What a target symlink must say."""
        return f"/proc/{os.getpid()}/cwd/{name}"

    def install_links(self, targets: Mapping[str, Path]) -> list[str]:
        """Put our links at the target paths, in place of whatever file or link is there.

        Answers the names at which something that was not a link to a process's cwd stood.  Raises OSError whose
        filename is the target in the way (a folder, a read-only file system) and whose strerror tells the remedy.
        """
        replaced = []
        for name, target in targets.items():
            if _says(target) == self.link_for(name):
                continue
            foreign = _foreign(target)
            _put_link(target, self.link_for(name))
            if foreign:
                replaced.append(name)
        return replaced

    def links_intact(self, targets: Mapping[str, Path]) -> list[str]:
        """What is wrong with the target paths, in words; empty: nothing."""
        return [f"{target} is not our link" for name, target in targets.items() if _says(target) != self.link_for(name)]

    def _sweep(self) -> list[str]:
        """Discard every set but the current one, prepared ones that were never exposed too."""
        try:
            folders = sorted(path for path in self._root.iterdir() if path.name.startswith("set-"))
        except OSError as error:
            return [f"{self._root} cannot be listed: {error.strerror}"]
        return [problem for folder in folders if folder != self._current for problem in _discard(folder)]


def write_new(path: Path, content: Content) -> None:
    """Write a file, 0400, where none is.  Raises OSError with the path, also when the file system is full."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o400)
        try:
            _write_all(fd, content)
        finally:
            os.close(fd)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


def _write_all(fd: int, content: Content) -> None:
    """No view of the content is left behind, even in an exception's frames: a SecretBuffer must be able to unmap."""
    done = 0
    with memoryview(content) as whole:
        while done < len(whole):
            with whole[done:] as rest:
                done += os.write(fd, rest)


def earlier_process(targets: Mapping[str, Path]) -> int:
    """To which process's cwd the target paths lead (its pid); 0: to none.  Ask before `install_links`."""
    for target in targets.values():
        parts = (_says(target) or "").split("/")
        if parts[:2] == ["", "proc"] and len(parts) == 5 and parts[3] == "cwd" and parts[2].isdecimal():
            return int(parts[2])
    return 0


def _names_in(folder: Path) -> list[str]:
    """Of a set; of anything else none.  What cannot be listed cannot be removed either, which is said there."""
    try:
        return [path.name for path in folder.iterdir()]
    except OSError:
        return []


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


_REMEDIES: Final = {
    errno.EISDIR: "a folder is in the way; remove it",
    errno.EBUSY: "something is mounted at the path itself; mount its folder instead",
    errno.EROFS: "mount the folder writable",
    errno.EACCES: "let this user write to the folder (fsGroup, or the same user as the node)",
    errno.EPERM: "let this user write to the folder, which others' files in it may not forbid (no sticky bit)",
    errno.ENOENT: "mount the volume shared with the node there",
    errno.ENOTDIR: "mount the volume shared with the node there",
    errno.ENOSPC: "make room on the volume shared with the node",
}


def _put_link(target: Path, text: str) -> None:
    """Replace atomically: the node finds the old or the new, never nothing.  Raises OSError with path and remedy."""
    temporary = target.with_name(f".{target.name}.forge-manager")
    try:
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(text)
        temporary.rename(target)
    except OSError as error:
        with contextlib.suppress(OSError):  # the first error is the one to tell
            temporary.unlink(missing_ok=True)
        remedy = _REMEDIES.get(error.errno or 0, "")
        raise OSError(error.errno, "; ".join(filter(None, (error.strerror, remedy))), str(target)) from None


def _discard(folder: Path) -> list[str]:
    """Remove a set and leave nothing of it in memory; what could not be done, in words."""
    problems = []
    try:
        paths = sorted(folder.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        return [f"{folder.name} cannot be listed: {error.strerror}"]
    for path in paths:
        try:
            _erase(path)
        except OSError as error:
            problems.append(f"{folder.name}/{path.name} could not be removed: {error.strerror}")
    try:
        folder.rmdir()
    except OSError as error:
        problems.append(f"{folder.name} could not be removed: {error.strerror}")
    return problems


def _erase(path: Path) -> None:
    """Unlink, then overwrite, unless somebody is reading.  Raises OSError; what was unlinked by then stays so.

    A node that has the file open must find the whole file: zeros would be a parse error, which leaves forging
    unchanged.  Its memory is given back when the node closes it.
    """
    fd = -1
    try:
        if path.is_symlink() or not path.is_file():
            return
        path.chmod(0o600)
        fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    finally:
        path.unlink()
    try:
        if _nobody_else_has_open(fd):
            os.pwrite(fd, bytes(os.fstat(fd).st_size), 0)
    finally:
        os.close(fd)


def _nobody_else_has_open(fd: int) -> bool:
    """A write lease is granted only then (fcntl(2), F_SETLEASE); given back at once, nobody waits for us."""
    try:
        fcntl.fcntl(fd, _F_SETSIG, signal.SIGURG)  # were it broken just now: a signal that is ignored by default
        fcntl.fcntl(fd, _F_SETLEASE, fcntl.F_WRLCK)
        fcntl.fcntl(fd, _F_SETLEASE, fcntl.F_UNLCK)
    except OSError:  # EAGAIN: open elsewhere; EINVAL: a file system without leases, where we cannot know
        return False
    return True


def _remove(path: Path) -> None:
    """Take away what an earlier life left behind.  Raises OSError: stale keys must not stay unnoticed."""
    if path.is_symlink() or not path.is_dir():
        path.unlink()
    elif _discard(path):
        shutil.rmtree(path)
