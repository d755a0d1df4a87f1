"""What holds for all tests: short folders, and which of them stay together when several processes share them."""

from __future__ import annotations

from pathlib import Path

import pytest

SPREAD = "simulation"
"""Every test here is a world of its own, made of a seed, and costs seconds: any process may take it."""


SEVERAL_CLUSTERS = ("test_fleet_health", "test_fleet_pods", "test_tenants", "test_upgrade")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All other files are one process's each: their fixtures are made once, and their tests keep their order.

    Of the whole pods there are two groups, which mostly wait: those of one cluster, and those of several.
    """
    for item in items:
        group = item.path.stem
        if item.path.parent.name == "e2e":
            group = "clusters" if group in SEVERAL_CLUSTERS else "pods"
        if item.path.parent.name != SPREAD:
            item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture
def tmp_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Not named after its test: short enough for a socket's address (107 bytes), whoever runs the tests and how."""
    return tmp_path_factory.mktemp("t")
