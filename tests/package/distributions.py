"""What `make package` left in a folder, what its wheel installs, and how their commands are run."""

from __future__ import annotations

import subprocess
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from devkit import package
from devkit.package.source import unpack

ROOT = package.ROOT


def run(*command: str | Path, cwd: Path | str = "/", ok: int = 0) -> str:
    """What it prints.  It must end with `ok`."""
    done = subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == ok, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@dataclass(frozen=True)
class Made:
    """What `make package` left in its folder."""

    folder: Path

    @property
    def wheel(self) -> Path:
        (found,) = self.folder.glob("*.whl")
        return found

    @property
    def sdist(self) -> Path:
        (found,) = self.folder.glob("*.tar.gz")
        return found

    def bytes(self) -> dict[str, bytes]:
        return {file.name: file.read_bytes() for file in self.folder.iterdir()}

    def in_wheel(self) -> set[str]:
        with zipfile.ZipFile(self.wheel) as archive:
            return set(archive.namelist())

    def in_sdist(self) -> set[str]:
        """Files, without the folder that all of them are in."""
        with tarfile.open(self.sdist) as archive:
            return {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}

    def unpack(self, folder: Path) -> Path:
        with tarfile.open(self.sdist) as archive:
            unpack(archive, folder)
        (tree,) = folder.iterdir()
        return tree


@dataclass(frozen=True)
class Installation:
    """A venv of its own that holds the wheel and what it depends on, and nothing of this checkout."""

    folder: Path

    def command(self, name: str) -> Path:
        return self.folder / "bin" / name

    def python(self, code: str) -> str:
        return run(self.command("python"), "-I", "-c", code).strip()
