"""Clusters for the fault tests: several at once, since most of a fault's time is waiting.

All selected faults are given to a few lanes, each with a cluster of its own; each test then asks for the outcome of
its fault.  A cluster in which a fault went wrong is thrown away.  Lanes of embedded servers have one each; a real one
is shared, each cluster in a namespace of its own, its pods with the role of deploy/rbac and nothing more.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from devkit.api.embedded import EmbeddedApi, ThreadedApi
from devkit.api.server_protocol import SyncApiServer
from devkit.pods import SERVICE_ACCOUNT, Cluster
from kernel.wallclock import WallClockWatch

from faults import Fault

REAL = os.environ.get("FORGE_TEST_K8S") == "1"
LANES = 2 if REAL else 3
ATTEMPTS = 3
NAMESPACES = tuple(f"pool-{number}" for number in range(60))
"""Every cluster gets one of its own: as many as faults could each need a fresh cluster, and some."""


def new_api() -> SyncApiServer:
    """An API server of the kind under test, not started yet; it knows the service account of each namespace."""
    users = [f"system:serviceaccount:{namespace}:{SERVICE_ACCOUNT}" for namespace in NAMESPACES]
    if REAL:
        from devkit.realapi.server import RealApi

        return RealApi(users=users)
    return ThreadedApi(EmbeddedApi(users=users))


@dataclass(frozen=True)
class Outcome:
    """What the nodes' records say of one fault, and what a person needs to understand a bad one."""

    gap_s: float
    overlap_s: float
    evidence: str


class Lanes:
    """Runs faults on clusters that are kept while they are healthy."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(LANES)
        self._local = threading.local()
        self._apis: list[SyncApiServer] = []
        self._clusters: list[Cluster] = []
        self._lock = threading.Lock()
        self._namespaces = iter(NAMESPACES)

    def submit(self, fault: Fault) -> Future[Outcome]:
        return self._pool.submit(self._run, fault)

    def _cluster(self) -> Cluster:
        cluster: Cluster | None = getattr(self._local, "cluster", None)
        if cluster is not None:
            return cluster
        with self._lock:
            namespace = next(self._namespaces)
        cluster = Cluster(self._api(), namespace=namespace)
        self._clusters.append(cluster)
        self._local.cluster = cluster
        return cluster

    def _api(self) -> SyncApiServer:
        """This lane's server, or the one for all."""
        api: SyncApiServer | None = getattr(self._local, "api", None)
        if api is None:
            with self._lock:
                if REAL and self._apis:
                    api = self._apis[0]
                else:
                    api = new_api()
                    self._apis.append(api)
                    api.start_sync()
            self._local.api = api
        return api

    def _run(self, fault: Fault) -> Outcome:
        """The outcome of the fault alone.

        Somebody else's hand on the machine's clock is a second fault, which the product answers by fencing at once:
        then the measurement is repeated.  Two forgers are never excused.
        """
        for _ in range(ATTEMPTS - 1):
            clock = WallClockWatch()
            try:
                outcome = self._measure(fault)
                if outcome.overlap_s > 0 or not clock.jumped():
                    break
            except (AssertionError, TimeoutError, OSError):
                if not clock.jumped():
                    raise
            finally:
                clock.close()
        else:
            outcome = self._measure(fault)
        self._note(fault, outcome)
        return outcome

    def _measure(self, fault: Fault) -> Outcome:
        """Healthy cluster, fault, healthy cluster again; measured from before the fault to after the recovery."""
        cluster = self._cluster()
        since = time.monotonic_ns()
        try:
            cluster.wait_healthy(90)
            since = time.monotonic_ns()
            fault.make(cluster)
            until = time.monotonic_ns()
            cluster.wait_healthy(90)
            outcome = Outcome(cluster.gap_s(since, until), cluster.overlap_s(since), cluster.describe(since))
        except BaseException as error:
            error.add_note(cluster.describe(since))
            self._throw_away(cluster)
            raise
        if outcome.overlap_s > 0:
            self._throw_away(cluster)
        return outcome

    def _throw_away(self, cluster: Cluster) -> None:
        self._local.cluster = None
        cluster.close()

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
