"""The distributions of the commit that is checked out, made once, and an installation of the wheel in a fresh venv."""

from __future__ import annotations

import sys

import pytest

from devkit import package

from distributions import ROOT, Installation, Made, run


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("dist")
    package.package(["wheel", "sdist"], ROOT, folder)
    return Made(folder)


@pytest.fixture(scope="session")
def installation(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    folder = tmp_path_factory.mktemp("v") / "venv"
    run(sys.executable, "-m", "venv", folder)
    run(folder / "bin" / "python", "-m", "pip", "install", "--quiet", made.wheel)
    return Installation(folder)
