"""Clusters for the fault tests: several at once, since most of a fault's time is waiting.

All selected faults are given to a few lanes, each with a cluster of its own; each test then asks for the outcome of
its fault.  A cluster in which a fault went wrong is thrown away.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from devkit.api.embedded import EmbeddedApi, ThreadedApi
from devkit.api.server_protocol import SyncApiServer
from devkit.pods import Cluster

from faults import FAULTS, Fault

REAL = os.environ.get("FORGE_TEST_K8S") == "1"
LANES = 3


def new_api(folder: Path) -> SyncApiServer:
    """An API server of the kind under test, not started yet."""
    if REAL:
        from devkit.realapi.server import RealApi

        return RealApi(folder)
    return ThreadedApi(EmbeddedApi())


@dataclass(frozen=True)
class Outcome:
    gap_s: float
    overlap_s: float


class Lanes:
    """Runs faults on clusters that are kept while they are healthy."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pool = ThreadPoolExecutor(LANES)
        self._local = threading.local()
        self._apis: list[SyncApiServer] = []
        self._clusters: list[Cluster] = []
        self._lock = threading.Lock()
        self._numbers = iter(range(1000))

    def submit(self, fault: Fault) -> Future[Outcome]:
        return self._pool.submit(self._run, fault)

    def _cluster(self) -> Cluster:
        cluster = getattr(self._local, "cluster", None)
        if cluster is not None:
            return cluster  # type: ignore[no-any-return]
        api = getattr(self._local, "api", None)
        if api is None:
            with self._lock:
                folder = self._folder / f"api-{next(self._numbers)}"
                folder.mkdir()
                api = new_api(folder)
                self._apis.append(api)
                api.start_sync()
            self._local.api = api
        cluster = Cluster(api)
        self._clusters.append(cluster)
        self._local.cluster = cluster
        return cluster

    def _run(self, fault: Fault) -> Outcome:
        cluster = self._cluster()
        try:
            cluster.wait_healthy(90)
            since = time.monotonic_ns()
            fault.make(cluster)
            outcome = Outcome(cluster.gap_s(since), cluster.overlap_s(since))
            self._note(fault, outcome)
            if outcome.overlap_s > 0 or outcome.gap_s > fault.bound + 3:
                print(f"=== {fault.name}\n{cluster.describe()}")
            cluster.wait_healthy(90)
        except BaseException:
            self._local.cluster = None
            print(f"=== {fault.name}\n{cluster.describe()}")
            cluster.close()
            raise
        return outcome

    def _note(self, fault: Fault, outcome: Outcome) -> None:
        file = os.environ.get("FORGE_E2E_RESULTS")
        if file:
            line = {"fault": fault.name, "gap": outcome.gap_s, "overlap": outcome.overlap_s, "bound": fault.bound}
            with self._lock, Path(file).open("a") as out:
                out.write(json.dumps(line) + "\n")

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
        for cluster in self._clusters:
            with contextlib.suppress(RuntimeError):
                cluster.close()
        for api in self._apis:
            api.stop_sync()


@pytest.fixture(scope="session")
def outcomes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[Outcome]]]:
    """Every selected fault, under way; the longest first."""
    selected = {
        item.callspec.params["name"]
        for item in request.session.items
        if hasattr(item, "callspec") and "name" in item.callspec.params
    }
    lanes = Lanes(tmp_path_factory.mktemp("apis"))
    try:
        chosen = sorted((FAULTS[name] for name in selected if name in FAULTS), key=lambda f: -f.seconds)
        yield {fault.name: lanes.submit(fault) for fault in chosen}
    finally:
        lanes.close()


@pytest.fixture
def api(tmp_path: Path) -> Iterator[SyncApiServer]:
    """An API server of one's own, for tests that restart it."""
    server = new_api(tmp_path)
    server.start_sync()
    try:
        yield server
    finally:
        server.stop_sync()
