from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tree import FORGE_MANAGER, NOBODY, become, folder


@pytest.fixture
def root() -> Iterator[Path]:
    """A folder for one tree, ours."""
    made = folder()
    yield made
    shutil.rmtree(made, ignore_errors=True)


def _nobody_can_run_it() -> bool:
    if os.getuid() != 0:
        return False
    asked = [FORGE_MANAGER, "--version"]
    try:
        return subprocess.run(asked, preexec_fn=become(NOBODY), capture_output=True, check=False).returncode == 0
    except (OSError, subprocess.SubprocessError):  # no mount namespaces here, or no way to the installation
        return False


@pytest.fixture(scope="session")
def nobody() -> int:
    """The uid of somebody who is not root and can run the product; skipped where we cannot become them."""
    if not _nobody_can_run_it():
        pytest.skip("needs root, and an installation that uid 65534 can read")
    return NOBODY


@pytest.fixture(scope="session", params=["as-we-are", "as-nobody"])
def uid(request: pytest.FixtureRequest) -> int | None:
    """Both kinds of user where that is possible."""
    if request.param == "as-we-are":
        return None
    found: int = request.getfixturevalue("nobody")
    return found
