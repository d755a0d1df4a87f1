"""What holds for all tests: short folders."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def tmp_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Not named after its test: short enough for a socket's address (107 bytes), whoever runs the tests and how."""
    return tmp_path_factory.mktemp("t")
