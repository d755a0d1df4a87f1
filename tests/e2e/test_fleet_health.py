"""Health checks decide where a pool forges, unless they fail everywhere; and `forgectl` from a laptop."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devkit.fleet import Fleet

from fleets import REGIONS, SLACK, Endpoints, Watched, say, settle, started, watch_health

pytestmark = [pytest.mark.e2e, pytest.mark.k8s, pytest.mark.timeout(300)]
FIRST, SECOND, _ = REGIONS
CHANGE_S = 2 + SLACK
"""Longest without a forger in a change that is planned."""


@pytest.fixture(scope="module")
def endpoints() -> Iterator[Endpoints]:
    made = Endpoints()
    yield made
    made.close()


@pytest.fixture(scope="module")
def one_fleet(endpoints: Endpoints) -> Iterator[Fleet]:
    with started(pods_each=1, environment={"HEALTH_CHECK_ENDPOINT": endpoints.url("any")}) as fleet:
        settle(fleet)
        watch_health(fleet, endpoints)
        yield fleet


@pytest.fixture
def fleet(one_fleet: Fleet, endpoints: Endpoints) -> Fleet:
    endpoints.bad.clear()
    settle(one_fleet)
    one_fleet.wait_for(lambda: all(_health(one_fleet, region)["healthy"] for region in REGIONS), 30, "all are healthy")
    return one_fleet


def _health(fleet: Fleet, region: str) -> dict[str, Any]:
    return dict(fleet.cluster(region).get("status", {}).get("healthStatus", {"healthy": None}))


def _metric(fleet: Fleet, region: str, name: str) -> float:
    _, text = fleet.regions[region][0].get("/metrics")
    lines = [line for line in text.splitlines() if line.startswith(name + "{")]
    return float(lines[0].rpartition(" ")[2]) if lines else -1.0


def test_a_region_whose_health_checks_fail_gives_way_until_they_succeed_again(
    fleet: Fleet, endpoints: Endpoints
) -> None:
    watched = Watched(fleet)
    endpoints.bad.add(FIRST)
    fleet.wait_for_region(SECOND, 40)
    fleet.wait_for(lambda: _health(fleet, FIRST)["healthy"] is False, 10, "its status says so")
    assert _health(fleet, FIRST)["consecutiveFailures"] >= 2
    assert "503" in _health(fleet, FIRST)["message"]
    assert fleet.cluster(FIRST)["status"]["effectivePriority"] > 200
    assert _metric(fleet, FIRST, "cardano_cluster_health_check_success") == 0
    assert _metric(fleet, FIRST, "cardano_cluster_health_check_consecutive_failures") >= 2
    assert _metric(fleet, SECOND, "cardano_cluster_health_check_success") == 1
    assert _metric(fleet, SECOND, "cardano_cluster_forge_enabled") == 1
    assert fleet.regions[FIRST][0].healthy()  # it could forge if nobody else did
    endpoints.bad.clear()
    fleet.wait_for_region(FIRST, 60)
    fleet.wait_for(lambda: _health(fleet, FIRST)["healthy"] is True, 10, "its status says so")
    assert _metric(fleet, FIRST, "cardano_cluster_health_check_consecutive_failures") == 0
    watched.check("health fails in the first region, and recovers", 2 * CHANGE_S)


def test_where_every_regions_checks_fail_the_pool_goes_on_forging(fleet: Fleet, endpoints: Endpoints) -> None:
    watched = Watched(fleet)
    endpoints.bad.update(REGIONS)

    def all_fail() -> bool:
        return all(_health(fleet, region)["healthy"] is False for region in REGIONS)

    fleet.wait_for(all_fail, 30, "all say so")
    count = _metric(fleet, FIRST, "cardano_cluster_health_check_consecutive_failures")
    more = count + 4
    fleet.wait_for(
        lambda: _metric(fleet, FIRST, "cardano_cluster_health_check_consecutive_failures") >= more, 20, "it goes on"
    )
    fleet.wait_for(lambda: bool(fleet.forging_region()), 30, "one region forges")
    watched.check("health fails everywhere", 2 * CHANGE_S)


class Laptop:
    """forgectl with nothing but a kubeconfig for each region's server."""

    def __init__(self, fleet: Fleet, folder: Path) -> None:
        self._folder, self._namespace = folder, fleet.namespace
        self._files = [folder / region for region in fleet.apis]
        for file, api in zip(self._files, fleet.apis.values(), strict=True):
            api.write_kubeconfig(file)

    def __call__(self, *words: str, files: list[Path] | None = None) -> subprocess.CompletedProcess[str]:
        where = [word for file in files or self._files for word in ("--kubeconfig", str(file))]
        command = [str(Path(sys.executable).with_name("forgectl")), *words, *where, "-n", self._namespace]
        environment = {"PATH": os.environ.get("PATH", ""), "HOME": str(self._folder)}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=90, check=False)


@pytest.fixture
def laptop(fleet: Fleet, tmp_path: Path) -> Laptop:
    return Laptop(fleet, tmp_path)


def test_forgectl_on_a_laptop_shows_the_pools_clusters_and_who_forges(fleet: Fleet, laptop: Laptop) -> None:
    done = laptop("clusters")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {line.split()[0]: line.split() for line in done.stdout.splitlines() if line.strip()}
    first, second = fleet.object_name(FIRST), fleet.object_name(SECOND)
    assert rows[first][1:4] == [FIRST, "Priority-based", "1"]
    assert rows[first][4:8] == ["yes", "yes", fleet.leader().name, "yes"]
    assert rows[second][4:8] == ["yes", "yes", f"{SECOND}-0", "no"]
    assert rows["forging"] == ["forging", first]
    assert "say 3 of 3 coordination APIs" in done.stdout
    told = json.loads(laptop("clusters", "--json").stdout)
    assert told["forging"] == [first]
    assert [each["region"] for each in told["clusters"]] == list(REGIONS)
    assert told["lock"]["said_by"] == 3


def test_forgectl_on_a_laptop_switches_over_and_back(fleet: Fleet, laptop: Laptop) -> None:
    watched = Watched(fleet)
    first, second = fleet.object_name(FIRST), fleet.object_name(SECOND)
    done = laptop("switchover", SECOND, "--for", "10m", "--reason", "a drill")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{second} forges, after" in done.stdout
    assert fleet.forging_region() == SECOND
    again = laptop("switchover", SECOND)
    assert (again.returncode, f"{second} forges already" in again.stdout) == (0, True), again.stdout + again.stderr
    refused = laptop("switchover", FIRST)
    assert refused.returncode == 1
    assert f"{second} is Enabled already" in refused.stderr
    back = laptop("override", SECOND, "--clear")
    assert back.returncode == 0, back.stdout + back.stderr
    fleet.wait_for_region(FIRST, 40)
    watched.check("switchover by forgectl, and back", 2 * CHANGE_S)
    fleet.wait_for(lambda: fleet.cluster(FIRST)["status"]["forgingEnabled"] is True, 10, "its status says so")
    shown = laptop("clusters")
    assert f"forging {first}" in " ".join(shown.stdout.split())


def test_forgectl_on_a_laptop_says_by_its_exit_code_what_is_wrong(fleet: Fleet, laptop: Laptop, tmp_path: Path) -> None:
    assert laptop("switchover", "atlantis").returncode == 2
    assert laptop("clusters", files=[tmp_path / "nowhere"]).returncode == 2
    deaf = tmp_path / "deaf"
    deaf.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: x\nclusters: [{name: c, cluster: {server: 'http://127.0.0.1:9'}}]\n"
        "users: [{name: u, user: {}}]\ncontexts: [{name: x, context: {cluster: c, user: u}}]\n"
    )
    assert laptop("clusters", files=[deaf]).returncode == 3
    everywhere = [*laptop._files[:2], deaf]
    done = laptop("clusters", files=everywhere)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 of 3 coordination APIs" in done.stdout
    for region in REGIONS:
        say(fleet, region, {"forgeState": "Disabled"})
    fleet.wait_for(lambda: not fleet.forgers(), 20, "nobody forges")
    fleet.wait_for(lambda: laptop("clusters").returncode == 1, 20, "it says so")
