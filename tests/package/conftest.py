"""The distributions of the commit that is checked out, made once, and an installation of the wheel in a fresh venv."""

from __future__ import annotations

import pytest

from devkit import package

from distributions import ROOT, Installation, Made


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("dist")
    package.package(["wheel", "sdist"], ROOT, folder)
    return Made(folder)


@pytest.fixture(scope="session")
def installation(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    folder = tmp_path_factory.mktemp("v") / "venv"
    package.install(made.wheel, folder)
    return Installation(folder)
