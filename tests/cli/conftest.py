"""Sockets need folders with short names."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """Short enough for a socket's address, whatever the test's name and the folder that all tests have."""
    with tempfile.TemporaryDirectory(prefix="cli-") as name:
        yield Path(name)
