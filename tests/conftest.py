"""Which tests stay together when several processes share them (`make test`); without pytest-xdist this says nothing."""

from __future__ import annotations

import pytest

SPREAD = "simulation"
"""Every test here is a world of its own, made of a seed, and costs seconds: any process may take it."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All other files are one process's each: their fixtures are made once, and their tests keep their order."""
    for item in items:
        if item.path.parent.name != SPREAD:
            item.add_marker(pytest.mark.xdist_group(f"{item.path.parent.name}/{item.path.stem}"))
