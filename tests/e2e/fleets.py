"""A pool in three regions, two pods each, each region with an API server: kept for all tests of a file."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from devkit.api.embedded import EmbeddedApi, ThreadedApi
from devkit.api.server_protocol import SyncApiServer
from devkit.fleet import SERVICE_ACCOUNT, Fleet
from devkit.pod import NAMESPACE, Pod

REAL = os.environ.get("FORGE_TEST_K8S") == "1"
REGIONS = ("us-east-1", "us-west-2", "eu-west-1")
"""In the order of their priorities."""
LEASE_S = 15.0
UNPLANNED_S = LEASE_S + 1
SLACK = 1.5
"""For a loaded machine with two cores."""
HAND_OVER_S = 1.0 + SLACK


def new_apis(regions: tuple[str, ...] = REGIONS) -> dict[str, SyncApiServer]:
    """One for each region, not started yet."""
    users = [f"system:serviceaccount:{NAMESPACE}:{SERVICE_ACCOUNT}"]
    if REAL:
        from devkit.realapi.server import RealApi

        return {region: RealApi(users=users) for region in regions}
    return {region: ThreadedApi(EmbeddedApi(users=users, tls=True)) for region in regions}


@contextlib.contextmanager
def started(**options: Any) -> Iterator[Fleet]:
    """A fleet on servers of its own."""
    apis = new_apis(options.pop("regions", REGIONS))
    try:
        for api in apis.values():
            api.start_sync()
        with Fleet(apis, **options) as made:
            yield made
    finally:
        for api in apis.values():
            api.stop_sync()


class Kubectl:
    """kubectl as an operator has it, with a context for each region."""

    def __init__(self, fleet: Fleet, folder: Path) -> None:
        program = shutil.which("kubectl")
        if program is None:
            assert not REAL, "a run against the real server must not go without kubectl"
            pytest.skip("no kubectl here")
        self._program, self._namespace = program, fleet.namespace
        self._files = {region: folder / f"kubeconfig-{region}" for region in fleet.apis}
        for region, api in fleet.apis.items():
            api.write_kubeconfig(self._files[region])

    def __call__(self, *arguments: str, on: str = REGIONS[0]) -> str:
        """Standard output.  It must succeed."""
        command = [self._program, f"--kubeconfig={self._files[on]}", f"--namespace={self._namespace}", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, f"kubectl {arguments}: {done.stdout} {done.stderr}"
        return done.stdout

    @contextlib.contextmanager
    def watching(self, *arguments: str, on: str = REGIONS[0]) -> Iterator[Callable[[], list[str]]]:
        """One that does not end by itself; gives what it has printed so far."""
        command = [self._program, f"--kubeconfig={self._files[on]}", f"--namespace={self._namespace}", *arguments]
        with tempfile.NamedTemporaryFile("r") as output, subprocess.Popen(command, stdout=output.fileno()) as running:
            try:
                yield lambda: Path(output.name).read_text().splitlines()
            finally:
                running.kill()


def say(fleet: Fleet, region: str, spec: dict[str, Any], *, on: str = "") -> None:
    """What `kubectl patch --type=merge` sends, on a region's server (the first that is not down, if none is named)."""
    fleet.patch(region, {"spec": spec}, on=on)


def settle(fleet: Fleet) -> None:
    """Every region by its priority, the first forges, every pod could."""
    for pod in fleet.pods:
        if not pod.sidecar_running():
            pod.revive()
    fleet.wait_for(lambda: all(fleet.cluster(region) for region in fleet.apis), 60, "all have their object")
    for region in fleet.apis:
        say(fleet, region, {"forgeState": "Priority-based", "override": {"enabled": False, "forceState": None}})
    fleet.wait_for_region(next(iter(fleet.apis)), 120)
    fleet.wait_for(lambda: all(pod.healthy() for pod in fleet.pods), 90, "all pods are ready")
    fleet.wait_for(lambda: whole(fleet), 30, "every coordination API has the lock in the forger's name")


def cut(fleet: Fleet, region: str, *, outwards: bool = True, inwards: bool = True) -> None:
    """Between a region and the others: its pods' paths to their servers, and theirs to its server, hang."""
    for other in fleet.apis:
        if other != region:
            for pod in fleet.regions[region] if outwards else []:
                fleet.path(pod, other).hang()
            for pod in fleet.regions[other] if inwards else []:
                fleet.path(pod, region).hang()


def whole(fleet: Fleet) -> bool:
    """Whether every coordination API has the lock in the forger's name, by the forger's own word."""
    members = fleet.leader().status().get("pool", {}).get("members", [])
    return bool(members) and all(member["seconds_left"] for member in members)


@contextlib.contextmanager
def away(fleet: Fleet, region: str) -> Iterator[None]:
    """Its API server is gone meanwhile."""
    fleet.apis[region].kill_sync()
    try:
        yield
    finally:
        fleet.apis[region].restart_sync()


def mend(fleet: Fleet) -> None:
    for proxy in fleet.proxies.values():
        proxy.let_pass()


def leaders(fleet: Fleet) -> list[Pod]:
    """Of each region, by their own word."""
    found = []
    for pod in fleet.pods:
        told = pod.status().get("leader") or {}
        if told.get("role") == "leader":
            found.append(pod)
    return found


class Endpoints:
    """An HTTP server with a path for each region, which answers 200 or 503."""

    def __init__(self) -> None:
        self.bad: set[str] = set()
        bad = self.bad

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:  # the library's name
                self.send_response(503 if self.path.strip("/") in bad else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def url(self, region: str) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/{region}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


def health_check(endpoints: Endpoints, region: str) -> dict[str, Any]:
    """spec.healthCheck of a region whose health is that of its path."""
    return {"enabled": True, "endpoint": endpoints.url(region), "interval": "1s", "failureThreshold": 2}


def watch_health(fleet: Fleet, endpoints: Endpoints) -> None:
    """Each region's health is that of its path."""
    for region in fleet.apis:
        say(fleet, region, {"healthCheck": health_check(endpoints, region)})


class Watched:
    """What the nodes' own records say of a stretch of time."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet, self._since = fleet, time.monotonic_ns()

    def check(self, name: str, longest_gap_s: float) -> None:
        """Never two forgers; and nobody forging no longer than that."""
        fleet, now = self._fleet, time.monotonic_ns()
        overlap, gap = fleet.overlap_s(self._since, now), fleet.gap_s(self._since, now)
        print(f"{name}: {gap:.3f} s without a forger (at most {longest_gap_s:g}), {overlap:.3f} s with two")
        if file := os.environ.get("FORGE_E2E_RESULTS"):
            line = {"fault": f"fleet: {name}", "gap": gap, "overlap": overlap, "bound": longest_gap_s}
            with Path(file).open("a") as out:
                out.write(json.dumps(line) + "\n")
        assert overlap == 0, fleet.describe(self._since)
        assert gap <= longest_gap_s, fleet.describe(self._since)
