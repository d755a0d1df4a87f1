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
_FILES: Final = ("go.mod", "go.sum", "build.py")
_NAME: Final = "helm"
_PACKAGE: Final = "helm.sh/helm/v3/cmd/helm"
_RELEASE: Final = re.compile(r"helm\.sh/helm/v3 (v\S+)")
_KUBERNETES: Final = re.compile(r"k8s\.io/client-go v0\.(\d+)\.")
_OPERATOR: Final = "github.com/prometheus-operator/prometheus-operator"


def program_path(cache: Path | None = None) -> Path:
    """Where the program of this go.mod is, or will be."""
    return gobuild.program_path(_NAME, _SOURCES, _FILES, cache)


def build(cache: Path | None = None) -> Path:
    """The program, built now if need be.  Raises BuildError when Go is missing or the build fails."""
    return gobuild.build(program_path(cache), _SOURCES, _PACKAGE, _version_flags())


def _version_flags() -> str:
    """As helm's own Makefile has them: without them a chart is rendered by helm v3.22 for Kubernetes 1.20."""
    text = (_SOURCES / "go.mod").read_text(encoding="utf-8")
    release, kubernetes = _RELEASE.search(text), _KUBERNETES.search(text)
    if release is None or kubernetes is None:
        raise BuildError("go.mod names no helm.sh/helm/v3, or no k8s.io/client-go")
    values = {"internal/version.version": release[1]}
    for package in ("pkg/lint/rules", "pkg/chartutil"):
        values |= {f"{package}.k8sVersionMajor": "1", f"{package}.k8sVersionMinor": kubernetes[1]}
    return " ".join(f"-X helm.sh/helm/v3/{name}={value}" for name, value in values.items())


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
