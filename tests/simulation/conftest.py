"""A schedule that fails is told at once: a soak of thousands takes an hour."""

from __future__ import annotations

import pytest


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.failed and "test_fleet" in report.nodeid:
        print(f"\n{report.nodeid}\n{report.longreprtext[-2000:]}", flush=True)
