"""A stand-in for the base image where no registry is reachable: Debian by debootstrap, with Debian's own Python.

    python -m devkit.podman.base

prints the name of the image to build on: the Dockerfile's own if it is here or can be pulled, else the stand-in.  That
one has a name on localhost and a label; what is built on it is for tests, and `make push` refuses it.
The file system is kept in the cache, as a tar file: ~/.cache/cardano-forge-manager/image (or below XDG_CACHE_HOME).
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from devkit.ending import end_cleanly
from devkit.podman.engine import EngineError, run, tool

ROOT: Final = Path(__file__).resolve().parents[2]
SUITE: Final = "bookworm"
PACKAGES: Final = ("python3", "python3-venv", "ca-certificates")
STAND_IN: Final = f"localhost/forge-manager-base:{SUITE}"
LABEL: Final = "forge-manager.base=stand-in"
PULL_PATIENCE_S: Final = 300.0


def cache_folder() -> Path:
    """Where the stand-in's file system is kept."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "cardano-forge-manager" / "image"


def named_base() -> str:
    """The image that the Dockerfile is written for."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    found = dict(re.findall(r"^ARG (PYTHON_\w+)=(\S*)$", text, re.MULTILINE))
    return f"{found['PYTHON_IMAGE']}:{found['PYTHON_TAG']}{found['PYTHON_DIGEST']}"


def here(image: str, program: str = "podman") -> bool:
    """Whether the engine has it."""
    try:
        run(program, "image", "inspect", image)
    except EngineError:
        return False
    return True


def find() -> str:
    """The base to build on, made if need be.  Raises EngineError."""
    tool("podman")
    wanted = named_base()
    if here(wanted):
        return wanted
    try:
        run("podman", "pull", "--quiet", wanted, patience_s=PULL_PATIENCE_S)
    except EngineError as error:
        print(f"no {wanted} here, nor from its registry; a stand-in is used: {_last(error)}", file=sys.stderr)
        if not here(STAND_IN):
            _import(_archive())
        return STAND_IN
    return wanted


def _last(error: EngineError) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1][:200]


def _import(archive: Path) -> None:
    run("podman", "import", "--change", f"LABEL={LABEL}", str(archive), STAND_IN)


def _archive() -> Path:
    """The stand-in as a tar file, from the cache or made now.  Raises EngineError."""
    archive = cache_folder() / f"{SUITE}-{'-'.join(PACKAGES)}.tar"
    if archive.exists():
        return archive
    if os.getuid() != 0:
        raise EngineError("to make a stand-in for the base image needs root (debootstrap)")
    if shutil.which("debootstrap") is None:
        raise EngineError("debootstrap is not installed: apt-get install debootstrap, or reach a registry")
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="forge-base-", dir=archive.parent) as name:
        root, unfinished = Path(name) / "root", Path(name) / "tar"
        print(f"making {archive} by debootstrap: about a minute", file=sys.stderr)
        include = f"--include={','.join(PACKAGES)}"
        subprocess.run(["debootstrap", "--variant=minbase", include, SUITE, str(root)], check=True, stdout=sys.stderr)
        subprocess.run(["tar", "-C", str(root), "-cf", str(unfinished), "."], check=True)
        unfinished.replace(archive)
    return archive


def main() -> None:
    argparse.ArgumentParser(prog="python -m devkit.podman.base", description=__doc__).parse_args()
    end_cleanly()
    try:
        print(find())
    except (EngineError, subprocess.CalledProcessError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
