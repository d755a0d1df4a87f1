"""Builds helm from Go modules into a cache, and finds the Prometheus operator's resource definitions among them.

`python -m devkit.helm.build` prints the program's path.  The release is the one that go.mod names.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

from devkit import gobuild
from devkit.gobuild import BuildError

__all__ = ["BuildError", "build", "main", "monitoring_definitions", "program_path"]

_SOURCES: Final = Path(__file__).resolve().parent
_FILES: Final = ("go.mod", "go.sum")
_NAME: Final = "helm"
_PACKAGE: Final = "helm.sh/helm/v3/cmd/helm"
_RELEASE: Final = re.compile(r"helm\.sh/helm/v3 (v\S+)")
_OPERATOR: Final = "github.com/prometheus-operator/prometheus-operator"


def program_path(cache: Path | None = None) -> Path:
    """Where the program of this go.mod is, or will be."""
    return gobuild.program_path(_NAME, _SOURCES, _FILES, cache)


def build(cache: Path | None = None) -> Path:
    """The program, built now if need be.  Raises BuildError when Go is missing or the build fails."""
    return gobuild.build(program_path(cache), _SOURCES, _PACKAGE, _version_flag())


def _version_flag() -> str:
    """Without it a chart is rendered by a helm that calls itself v3.22."""
    found = _RELEASE.search((_SOURCES / "go.mod").read_text(encoding="utf-8"))
    if found is None:
        raise BuildError("go.mod names no helm.sh/helm/v3")
    return f"-X helm.sh/helm/v3/internal/version.version={found[1]}"


def monitoring_definitions(*plurals: str) -> list[Path]:
    """The operator's CustomResourceDefinitions of these resources, as its release has them.  Raises BuildError."""
    command = [gobuild.go(), "mod", "download", "-json", _OPERATOR]
    try:
        done = subprocess.run(command, cwd=_SOURCES / "monitoring", check=True, capture_output=True)
    except subprocess.CalledProcessError as error:
        raise BuildError(f"{_OPERATOR}: {error.stderr.decode()}") from error
    folder = Path(json.loads(done.stdout)["Dir"]) / "example" / "prometheus-operator-crd"
    return [folder / f"monitoring.coreos.com_{plural}.yaml" for plural in plurals]


def main() -> int:
    """Command line."""
    try:
        print(build())
    except BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
