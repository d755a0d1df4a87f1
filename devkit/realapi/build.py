"""Builds the real API server (kube-apiserver and etcd in one program) from Go modules into a cache.

`python -m devkit.realapi.build` prints the program's path.  What is in the cache for the same sources (go.mod, go.sum
and main.go) is used as it is; `devkit.gobuild` says where it is kept.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import Final

from devkit import gobuild
from devkit.gobuild import BuildError

__all__ = ["BuildError", "build", "cache_folder", "main", "program_path"]

_SOURCES: Final = Path(__file__).resolve().parent
_FILES: Final = ("go.mod", "go.sum", "main.go")
_NAME: Final = "realapi"
_KUBERNETES: Final = re.compile(r"k8s\.io/kubernetes v\d+\.\d+\.\S+")


def cache_folder() -> Path:
    """Where builds are kept."""
    return gobuild.cache_folder(_NAME)


def program_path(cache: Path | None = None) -> Path:
    """Where the program of these sources is, or will be."""
    return gobuild.program_path(_NAME, _SOURCES, _FILES, cache)


def build(cache: Path | None = None) -> Path:
    """The program, built now if need be.  Raises BuildError when Go is missing or the build fails."""
    return gobuild.build(program_path(cache), _SOURCES, ".", _version_flags())


def version() -> str:
    """Of Kubernetes, with its v.  Raises BuildError."""
    found = _KUBERNETES.search((_SOURCES / "go.mod").read_text(encoding="utf-8"))
    if found is None:
        raise BuildError("go.mod names no k8s.io/kubernetes")
    return found[0].rsplit(" ", 1)[1]


def _version_flags() -> str:
    """Without them /version says v0.0.0."""
    whole = version()
    major, minor, _ = whole.removeprefix("v").split(".", 2)
    values = {"gitVersion": whole, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    return " ".join(f"-X k8s.io/component-base/version.{name}={value}" for name, value in values.items())


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
