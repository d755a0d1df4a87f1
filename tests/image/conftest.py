"""The image as `make test-image` builds it, once, and a real API server for its pods.

Nothing here is skipped: where podman cannot run, or is not there, the tests fail with what it said.
"""

from __future__ import annotations

import json
import os
import unittest.mock
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devkit.podman import base as bases
from devkit.podman import contents, image
from devkit.podman.contents import Contents
from devkit.podman.engine import EngineError, run
from devkit.podman.pods import new_api
from devkit.realapi.server import RealApi

from image_names import PRIVATE_INDEX, TAG


@pytest.fixture(scope="session")
def base() -> str:
    """What the image is built on, and the simulated node runs in."""
    if os.getuid() != 0:
        raise EngineError("make test-image needs root: it drops what root has, and makes files of other users")
    return os.environ.get("FORGE_IMAGE_BASE") or bases.find()


@pytest.fixture(scope="session")
def built(base: str) -> Iterator[str]:
    """The image's name."""
    with unittest.mock.patch.dict(os.environ, {"PIP_TRUSTED_HOST": PRIVATE_INDEX}):
        image.build(image_tool="podman", tag=TAG, base=base, cache=False, quiet=True)
    yield TAG
    image.forget(TAG)


@pytest.fixture(scope="session")
def about(built: str) -> dict[str, Any]:
    """What podman knows of it."""
    found: dict[str, Any] = json.loads(run("podman", "image", "inspect", built))[0]
    return found


@pytest.fixture(scope="session")
def inside(built: str) -> Iterator[Contents]:
    with contents.opened(built) as found:
        yield found


@pytest.fixture(scope="session")
def api() -> Iterator[RealApi]:
    with new_api() as server:
        yield server


@pytest.fixture(scope="session")
def note() -> Any:
    """Writes a measurement down: to our output, and to the file FORGE_IMAGE_RESULTS."""

    def write(what: str, value: float, unit: str = "s") -> None:
        print(f"{what}: {value:.3f} {unit}")
        if file := os.environ.get("FORGE_IMAGE_RESULTS"):
            with Path(file).open("a") as out:
                out.write(json.dumps({"what": what, "value": round(value, 3), "unit": unit}) + "\n")

    return write
