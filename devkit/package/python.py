"""Source distribution and wheel, by PyPA's build, and an installation of the wheel."""

from __future__ import annotations

import os
import shutil
import sys
import tarfile
from pathlib import Path
from typing import Final

from devkit.package.source import Making, run, same_bytes, unpack

BUILT_WITH: Final = "setuptools==84.2.1"
"""Its version is written into every wheel: another one makes other bytes."""


def sdist(making: Making) -> list[Path]:
    """The source distribution: every file of the commit."""
    return [_copy(_sdist(making), making.out)]


def wheel(making: Making) -> list[Path]:
    """The wheel, made of the source distribution."""
    unpacked = making.work / "unpacked"
    with tarfile.open(_sdist(making)) as tar:
        unpack(tar, unpacked)
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
    run([sys.executable, "-m", "build", f"--{kind}", "--outdir", str(out), str(tree)], environment)
    (made,) = out.iterdir()
    return made


def _copy(file: Path, out: Path) -> Path:
    return Path(shutil.copyfile(file, out / file.name))


def install(wheel: Path, folder: Path) -> None:
    """A venv that holds this wheel and what it depends on.  Raises CannotPackage."""
    run([sys.executable, "-m", "venv", str(folder)])
    run([str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", str(wheel)])
