"""What is packaged, and the bytes of it: a commit's files, or those of an unpacked source distribution."""

from __future__ import annotations

import gzip
import io
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_LISTED: Final = "cardano_forge_manager.egg-info/SOURCES.txt"
_TOLD: Final = "PKG-INFO"


class CannotPackage(Exception):  # noqa: N818  # a refusal, named as such
    """A part cannot be made; the text says which, why, and what to do."""


@dataclass(frozen=True, slots=True)
class Source:
    """What is packaged."""

    folder: Path
    """The committed files and nothing else."""
    epoch: int
    """The commit's time, in seconds."""


@dataclass(frozen=True, slots=True)
class Making:
    """What a part is made of, and where it goes."""

    source: Source
    root: Path
    """The checkout, for parts that other targets make."""
    work: Path
    """For what is thrown away."""
    out: Path


@contextmanager
def source_of(root: Path) -> Iterator[Source]:
    """What is checked out at `root`, or what an unpacked source distribution lists.  Raises CannotPackage."""
    with tempfile.TemporaryDirectory(prefix="package-") as made:
        folder = Path(made) / "source"
        folder.mkdir()
        if commit_of(root) is not None:
            epoch = _export_commit(root, folder)
        elif (root / _LISTED).is_file() and (root / _TOLD).is_file():
            epoch = _copy_listed(root, folder)
        else:
            raise CannotPackage(f"{root} is neither a git checkout nor an unpacked source distribution")
        yield Source(folder, epoch)


def commit_of(root: Path) -> str | None:
    """What is checked out there; None: it is no git checkout."""
    return run([*_git(root), "rev-parse", "HEAD"]).decode().strip() if (root / ".git").exists() else None


def tags_of(root: Path) -> list[str]:
    """Of the commit that is checked out; none where it is no git checkout."""
    return run([*_git(root), "tag", "--points-at", "HEAD"]).decode().split() if (root / ".git").exists() else []


def changed_since(root: Path) -> list[str]:
    """Files that differ from the commit, as `git status` prints them; none where it is no git checkout."""
    return run([*_git(root), "status", "--porcelain"]).decode().splitlines() if (root / ".git").exists() else []


def _git(root: Path) -> list[str]:
    return ["git", "-C", str(root)]


def _export_commit(root: Path, folder: Path) -> int:
    archive = run([*_git(root), "-c", "core.autocrlf=false", "-c", "core.eol=lf", "archive", "--format=tar", "HEAD"])
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        unpack(tar, folder)
    return int(run([*_git(root), "log", "-1", "--no-show-signature", "--format=%ct"]))


def _copy_listed(root: Path, folder: Path) -> int:
    for line in (root / _LISTED).read_text("utf-8").splitlines():
        if line.startswith(_LISTED.partition("/")[0]):
            continue  # made anew
        target = folder / line
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(root / line, target)
    return int((root / _TOLD).stat().st_mtime)


def unpack(tar: tarfile.TarFile, folder: Path) -> None:
    """All of it, of an archive of our own making."""
    if hasattr(tarfile, "data_filter"):  # Debian 12's Python, 3.11.2, does not have it yet
        tar.extraction_filter = tarfile.data_filter
    tar.extractall(folder)  # noqa: S202  # see above


def same_bytes(archive: Path, epoch: int) -> None:
    """Pack a .tar.gz anew so that only names, modes and contents decide its bytes."""
    packed = io.BytesIO()
    with tarfile.open(archive) as old, tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as new:
        for member in sorted(old.getmembers(), key=lambda each: each.name):
            content = old.extractfile(member) if member.isfile() else None
            plain = tarfile.TarInfo(member.name)
            plain.type, plain.size, plain.linkname = member.type, member.size, member.linkname
            plain.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            plain.mtime = epoch
            new.addfile(plain, content)
    with archive.open("wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=epoch) as file:
        file.write(packed.getvalue())


def run(command: list[str], environment: dict[str, str] | None = None, *, folder: Path | None = None) -> bytes:
    """What it prints.  Raises CannotPackage."""
    try:
        # umask: a wheel keeps the modes of the files that it is made of.
        done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, check=False, umask=0o022)
    except FileNotFoundError:
        raise CannotPackage(f"{command[0]} is not installed") from None
    if done.returncode != 0:
        said = (done.stdout + done.stderr).decode(errors="replace")
        raise CannotPackage(f"{' '.join(command)}: exit code {done.returncode}\n{said[-4000:]}")
    return done.stdout
