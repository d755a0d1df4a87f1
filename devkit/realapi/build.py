"""Builds the real API server (kube-apiserver and etcd in one program) from Go modules into a cache.

`python -m devkit.realapi.build` prints the program's path.  What is in the cache for the same sources is used as it
is; a cold build takes minutes and needs Go and its module proxy.  The cache: $XDG_CACHE_HOME or ~/.cache,
cardano-forge-manager/realapi/<hash of go.mod, go.sum and main.go>/realapi.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_SOURCES: Final = Path(__file__).resolve().parent
_FILES: Final = ("go.mod", "go.sum", "main.go")
_KUBERNETES: Final = re.compile(r"k8s\.io/kubernetes v(\d+)\.(\d+)\.\S+")


class BuildError(Exception):
    """There is no program, and why."""


def cache_folder() -> Path:
    """Where builds are kept."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "cardano-forge-manager" / "realapi"


def program_path(cache: Path | None = None) -> Path:
    """Where the program of these sources is, or will be."""
    digest = hashlib.sha256()
    for name in _FILES:
        digest.update((_SOURCES / name).read_bytes())
    return (cache or cache_folder()) / digest.hexdigest()[:16] / "realapi"


def build(cache: Path | None = None) -> Path:
    """The program, built now if need be.  Safe to be called by several processes at once.

    Raises BuildError when Go is missing or the build fails.
    """
    program = program_path(cache)
    if program.exists():
        return program
    program.parent.mkdir(parents=True, exist_ok=True)
    with _locked(program.parent / "lock"):
        if not program.exists():
            _compile(program)
    return program


def _compile(program: Path) -> None:
    go = shutil.which("go")
    if go is None:
        raise BuildError("go is not on the PATH: the real API server is built from Go modules (Go 1.26 or newer)")
    print(f"building {program}: some minutes when Go's own cache is cold", file=sys.stderr, flush=True)
    started = time.monotonic()
    unfinished = program.with_suffix(".unfinished")
    command = [
        go,
        "build",
        "-mod=readonly",
        "-trimpath",
        "-ldflags",
        f"-s -w {_version_flags()}",
        "-o",
        str(unfinished),
        ".",
    ]
    try:
        subprocess.run(command, cwd=_SOURCES, check=True)
    except subprocess.CalledProcessError as error:
        raise BuildError(f"go build ended with exit code {error.returncode}") from error
    unfinished.replace(program)
    print(f"built in {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)


def _version_flags() -> str:
    """Without them /version says v0.0.0."""
    found = _KUBERNETES.search((_SOURCES / "go.mod").read_text(encoding="utf-8"))
    if found is None:
        raise BuildError("go.mod names no k8s.io/kubernetes")
    whole = found[0].rsplit(" ", 1)[1]
    values = {"gitVersion": whole, "gitMajor": found[1], "gitMinor": found[2], "gitTreeState": "clean"}
    return " ".join(f"-X k8s.io/component-base/version.{name}={value}" for name, value in values.items())


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m devkit.realapi.build", description=__doc__)
    parser.add_argument("--cache", type=Path, help="folder to keep builds in")
    arguments = parser.parse_args()
    try:
        print(build(arguments.cache))
    except BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
