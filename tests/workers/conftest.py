"""Two API servers, for tests of what the arbiter does on several."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from devkit.api import EmbeddedApi


@pytest.fixture
async def one(tmp_path: Path) -> AsyncIterator[EmbeddedApi]:
    """Its kubeconfig is `one`."""
    async with EmbeddedApi(users=["pod"], tls=True) as server:
        server.write_kubeconfig(tmp_path / "one", "pod")
        yield server


@pytest.fixture
async def other(tmp_path: Path) -> AsyncIterator[EmbeddedApi]:
    """Its kubeconfig is `other`."""
    async with EmbeddedApi(users=["pod"], tls=True) as server:
        server.write_kubeconfig(tmp_path / "other", "pod")
        yield server
