"""Programs for tests that are built from Go modules into a cache, once for the same sources.

A cold build takes minutes and needs Go and its module proxy.  The cache: $XDG_CACHE_HOME or ~/.cache,
cardano-forge-manager/<program>/<hash of its sources>/<program>.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class BuildError(Exception):
    """There is no program, and why."""


def cache_folder(name: str) -> Path:
    """Where builds of that program are kept."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "cardano-forge-manager" / name


def program_path(name: str, sources: Path, files: tuple[str, ...], cache: Path | None = None) -> Path:
    """Where the program of these sources is, or will be."""
    digest = hashlib.sha256()
    for file in files:
        digest.update((sources / file).read_bytes())
    return (cache or cache_folder(name)) / digest.hexdigest()[:16] / name


def go() -> str:
    """The go command.  Raises BuildError when there is none."""
    found = shutil.which("go")
    if found is None:
        raise BuildError("go is not on the PATH: the program is built from Go modules (Go 1.26 or newer)")
    return found


def build(program: Path, sources: Path, package: str, ldflags: str) -> Path:
    """The program, built now unless it is there.  Safe to be called by several processes at once.

    Raises BuildError when Go is missing, the build fails, or there is no place for it.
    """
    if program.exists():
        return program
    try:
        program.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BuildError(f"no cache can be made ({error}): set XDG_CACHE_HOME to a folder of yours") from None
    with _locked(program.parent / "lock"):
        if not program.exists():
            _compile(program, sources, package, ldflags)
    return program


def _compile(program: Path, sources: Path, package: str, ldflags: str) -> None:
    command = [go(), "build", "-mod=readonly", "-trimpath", "-ldflags", f"-s -w {ldflags}"]
    print(f"building {program}: some minutes when Go's own cache is cold", file=sys.stderr, flush=True)
    started = time.monotonic()
    unfinished = program.with_suffix(".unfinished")
    try:
        subprocess.run([*command, "-o", str(unfinished), package], cwd=sources, check=True)
    except subprocess.CalledProcessError as error:
        raise BuildError(f"go build ended with exit code {error.returncode}") from error
    unfinished.replace(program)
    print(f"built in {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
