"""The outcomes of all selected faults, and a server of one's own."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future

import pytest

from devkit.api.server_protocol import SyncApiServer

from faults import FAULTS
from lanes import Lanes, Outcome, new_api


@pytest.fixture(scope="session")
def outcomes(request: pytest.FixtureRequest) -> Iterator[dict[str, Future[Outcome]]]:
    """Every selected fault, under way; the longest first."""
    selected = {
        item.callspec.params["name"]
        for item in request.session.items
        if hasattr(item, "callspec") and "name" in item.callspec.params
    }
    lanes = Lanes()
    try:
        chosen = sorted((FAULTS[name] for name in selected if name in FAULTS), key=lambda f: -f.seconds)
        yield {fault.name: lanes.submit(fault) for fault in chosen}
    finally:
        lanes.close()


@pytest.fixture
def api() -> Iterator[SyncApiServer]:
    """An API server of one's own, for tests that restart it."""
    server = new_api()
    server.start_sync()
    try:
        yield server
    finally:
        server.stop_sync()
