"""The image's dependencies, locked: every version by name, every file by hash, for each Python and machine at once.

    python -m devkit.podman.lock            what pyproject.toml asks for, into deploy/image; versions stay if they can
    python -m devkit.podman.lock --upgrade  the newest that it allows
    python -m devkit.podman.lock --check    is there a wheel of each of them for every Python and machine?

uv resolves; the index is that of its own and pip's configuration, and is not written down.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Final

from devkit.ending import end_cleanly
from devkit.podman.base import ROOT

REQUIREMENTS: Final = ROOT / "deploy" / "image" / "requirements.lock"
BUILD: Final = ROOT / "deploy" / "image" / "build.lock"
"""What makes a wheel of the product; not in the image."""
PYTHONS: Final = ("3.11", "3.12", "3.13", "3.14")
MACHINES: Final = ("x86_64-manylinux_2_36", "aarch64-manylinux_2_36")
"""Debian 12's C library."""
_UV: Final = (sys.executable, "-m", "uv", "--quiet", "pip")
_FORM: Final = ("--universal", "--python-version", PYTHONS[0], "--generate-hashes", "--no-annotate", "--no-header")
_HEAD: Final = "# Made by `make lock`; do not edit.\n"


def write(*, upgrade: bool) -> None:
    """Both files.  Raises subprocess.CalledProcessError."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        wanted = tomllib.load(file)["build-system"]["requires"]
    with tempfile.TemporaryDirectory() as folder:
        asked = Path(folder) / "build.in"
        asked.write_text("\n".join(wanted) + "\n", encoding="utf-8")
        for source, lock in ((ROOT / "pyproject.toml", REQUIREMENTS), (asked, BUILD)):
            more = ["--upgrade"] if upgrade else []
            subprocess.run([*_UV, "compile", *_FORM, *more, "--output-file", str(lock), str(source)], check=True)
            lock.write_text(_HEAD + lock.read_text(encoding="utf-8").removeprefix(_HEAD), encoding="utf-8")


def without_wheel() -> list[str]:
    """For which Python and machine a wheel is missing, and what uv says of it; empty: for none."""
    found = []
    for python, machine in itertools.product(PYTHONS, MACHINES):
        with tempfile.TemporaryDirectory() as folder:
            # Asked as if for an empty environment; nothing is fetched but what describes the wheels.
            where = ["--target", folder, "--python-version", python, "--python-platform", machine]
            words = ["install", "--dry-run", *where, "--no-deps", "--require-hashes", "--only-binary", ":all:"]
            done = subprocess.run(
                [*_UV, *words, "--requirements", str(REQUIREMENTS)],
                capture_output=True,
                text=True,
                check=False,
            )
        if done.returncode != 0:
            found.append(f"Python {python}, {machine}: {done.stderr.strip()}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m devkit.podman.lock", description=__doc__)
    parser.add_argument("--upgrade", action="store_true")
    parser.add_argument("--check", action="store_true")
    asked = parser.parse_args()
    end_cleanly()
    if not asked.check:
        try:
            write(upgrade=asked.upgrade)
        except subprocess.CalledProcessError as error:
            sys.exit(f"error: uv could not resolve (exit code {error.returncode}); it said why above")
    elif missing := without_wheel():
        sys.exit("\n".join(missing))


if __name__ == "__main__":
    main()
