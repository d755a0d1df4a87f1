"""`python -m devkit.package`: the files of a release, from one commit, with their checksums.

Promises: what is packaged is what was committed, not what lies about; the same commit gives the same bytes (times are
the commit's, owners nobody's); the wheel is made of the very source distribution that stands beside it; a part that
cannot be made is an error, never left out.  An unpacked source distribution packages itself the same way, without git.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
SUMS: Final = "SHA256SUMS"
DEFAULT: Final = ("wheel", "sdist")
BUILT_WITH: Final = "setuptools==84.2.1"
"""Its version is written into every wheel: another one makes other bytes."""
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


# --- the source ---


@contextmanager
def source_of(root: Path) -> Iterator[Source]:
    """What is checked out at `root`, or what an unpacked source distribution lists.  Raises CannotPackage."""
    with tempfile.TemporaryDirectory(prefix="package-") as made:
        folder = Path(made) / "source"
        folder.mkdir()
        if (root / ".git").exists():
            epoch = _export_commit(root, folder)
        elif (root / _LISTED).is_file() and (root / _TOLD).is_file():
            epoch = _copy_listed(root, folder)
        else:
            raise CannotPackage(f"{root} is neither a git checkout nor an unpacked source distribution")
        yield Source(folder, epoch)


def _export_commit(root: Path, folder: Path) -> int:
    archive = _run(["git", "-C", str(root), "archive", "--format=tar", "HEAD"])
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(folder, filter="data")
    return int(_run(["git", "-C", str(root), "log", "-1", "--format=%ct"]))


def _copy_listed(root: Path, folder: Path) -> int:
    for line in (root / _LISTED).read_text("utf-8").splitlines():
        if line.startswith(_LISTED.partition("/")[0]):
            continue  # made anew
        target = folder / line
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(root / line, target)
    return int((root / _TOLD).stat().st_mtime)


# --- the parts ---


def sdist(making: Making) -> list[Path]:
    """The source distribution: every file of the commit."""
    return [_copy(_sdist(making), making.out)]


def wheel(making: Making) -> list[Path]:
    """The wheel, made of the source distribution."""
    unpacked = making.work / "unpacked"
    with tarfile.open(_sdist(making)) as tar:
        tar.extractall(unpacked, filter="data")
    (tree,) = unpacked.iterdir()
    return [_copy(_build("wheel", tree, making), making.out)]


def _sdist(making: Making) -> Path:
    done = sorted((making.work / "sdist").glob("*.tar.gz"))
    if done:
        return done[0]
    made = _build("sdist", making.source.folder, making)
    same_bytes(made, making.source.epoch)
    return made


def _build(kind: str, tree: Path, making: Making) -> Path:
    """By PyPA's build, in an environment of its own."""
    constraint = making.work / "constraint.txt"
    constraint.write_text(BUILT_WITH + "\n", "ascii")
    out = making.work / kind
    environment = {
        **os.environ,
        "SOURCE_DATE_EPOCH": str(making.source.epoch),
        "PIP_CONSTRAINT": str(constraint),
        "PYTHONHASHSEED": "0",
    }
    _run([sys.executable, "-m", "build", f"--{kind}", "--outdir", str(out), str(tree)], environment)
    (made,) = out.iterdir()
    return made


def _copy(file: Path, out: Path) -> Path:
    return Path(shutil.copyfile(file, out / file.name))


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


PARTS: Final[dict[str, Callable[[Making], list[Path]]]] = {"wheel": wheel, "sdist": sdist}
"""Part -> who makes it: files in `out`, or CannotPackage."""


# --- all of it ---


def package(parts: list[str], root: Path, out: Path) -> list[Path]:
    """Make `out` hold these parts and their checksums, and nothing else.

    Raises CannotPackage; then `out` is as it was.
    """
    if unknown := [part for part in parts if part not in PARTS]:
        raise CannotPackage(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    with source_of(root) as source, tempfile.TemporaryDirectory(prefix="package-") as made:
        work, fresh = Path(made) / "work", Path(made) / "out"
        work.mkdir()
        fresh.mkdir()
        making = Making(source, root, work, fresh)
        files = [file for part in dict.fromkeys(parts) for file in PARTS[part](making)]
        (fresh / SUMS).write_text("".join(sums(files)), "ascii")
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(fresh, out)
    return sorted(out.iterdir())


def install(wheel: Path, folder: Path) -> None:
    """A venv that holds this wheel and what it depends on.  Raises CannotPackage."""
    _run([sys.executable, "-m", "venv", str(folder)])
    _run([str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", str(wheel)])


def sums(files: list[Path]) -> list[str]:
    """As `sha256sum --check` reads them."""
    return [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in sorted(files)]


def _run(command: list[str], environment: dict[str, str] | None = None) -> bytes:
    try:
        done = subprocess.run(command, env=environment, capture_output=True, check=False)
    except FileNotFoundError:
        raise CannotPackage(f"{command[0]} is not installed") from None
    if done.returncode != 0:
        said = (done.stdout + done.stderr).decode(errors="replace")
        raise CannotPackage(f"{' '.join(command)}: exit code {done.returncode}\n{said[-4000:]}")
    return done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m devkit.package", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("parts", nargs="*", default=list(DEFAULT), help=f"of {', '.join(PARTS)}")
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    asked = parser.parse_args()
    try:
        made = package(asked.parts or list(DEFAULT), ROOT, asked.out)
    except CannotPackage as error:
        sys.exit(f"package: {error}")
    for file in made:
        print(f"{file.stat().st_size:>10}  {file}")


if __name__ == "__main__":
    main()
