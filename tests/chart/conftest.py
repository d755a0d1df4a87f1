"""A real API server that insists on Pod Security, and helm and kubectl that speak to it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from devkit.helm.build import build, monitoring_definitions
from devkit.realapi.server import RealApi

from rendered import Run

PATIENCE_S = 90.0
"""For one command; less than a test has, so that it is the command which is named."""


@pytest.fixture(scope="session")
def real_api() -> Iterator[RealApi]:
    """With the Prometheus operator's resource definitions, as its release has them, and none of ours."""
    definitions = monitoring_definitions("podmonitors", "servicemonitors", "prometheusrules")
    with RealApi(manifests=definitions) as server:
        yield server


def _runner(program: str, server: RealApi, folder: Path) -> Run:
    config = folder / "kubeconfig"
    server.write_kubeconfig(config)
    # Helm keeps what it knows of servers in HOME.
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "KUBECONFIG": str(config)}

    def run(*arguments: str | Path, stdin: str = "", fails: bool = False) -> subprocess.CompletedProcess[str]:
        command = [program, *map(str, arguments)]
        done = subprocess.run(
            command, input=stdin, capture_output=True, text=True, env=environment, check=False, timeout=PATIENCE_S
        )
        assert (done.returncode != 0) is fails, f"{arguments}: {done.stdout} {done.stderr}"
        return done

    return run


@pytest.fixture
def kubectl(real_api: RealApi, tmp_path: Path) -> Run:
    program = shutil.which("kubectl")
    assert program is not None, "make test-chart needs kubectl"
    return _runner(program, real_api, tmp_path)


@pytest.fixture
def helm(real_api: RealApi, tmp_path: Path) -> Run:
    return _runner(str(build()), real_api, tmp_path)
