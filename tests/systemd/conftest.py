"""The installation that every host has, made once of this commit's wheel."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from devkit import package
from devkit.pod import MemoryFolder
from devkit.systemd import relocated


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """/opt/forge-manager, as a layer over a host's files."""
    assert os.getuid() == 0, "make test-systemd needs root"
    made, folder = tmp_path_factory.mktemp("v"), MemoryFolder()
    try:
        files = package.package(["wheel"], package.ROOT, made / "dist")
        (wheel,) = (file for file in files if file.suffix == ".whl")
        package.install(wheel, made / "venv")
        relocated(made / "venv", folder.path / "layer", "/opt/forge-manager")
        shutil.rmtree(made / "venv")
        yield folder.path / "layer"
    finally:
        folder.close()
