"""The prober and the cluster's health: whose settings count, what is said and when, and that no look waits for it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from config import Config, load
from health.reach import may_be_wanted, wanted
from ipc.messages import ArbiterState, HealthCheck, HealthReport, ProberState, Worker
from policy.health import Outcome
from workers import prober
from workers.prober import Prober

from surroundings import PATIENCE_S, Surroundings

ROOT = Path(__file__).resolve().parents[2]
SECRET = "canary-91ab"
GOOD = Outcome(healthy=True, message="health.example: answered 200", response_s=0.25)
BAD = Outcome(healthy=False, message="health.example: answered 503", response_s=0.5)
OURS = HealthCheck("http://health.example/", 30, 10, 3)
CLUSTERS = {"ENABLE_CLUSTER_MANAGEMENT": "true", "POOL_ID": "pool1abcd1234567890", "CLUSTER_REGION": "eu-1"}


class Endpoint:
    """Answers as it is told to: each check waits for its answer."""

    def __init__(self) -> None:
        self.asked: list[HealthCheck] = []
        self.arrivals: asyncio.Queue[HealthCheck] = asyncio.Queue()
        self.answers: asyncio.Queue[Outcome | BaseException] = asyncio.Queue()
        self.cancelled = asyncio.Event()

    async def ask(self, check: HealthCheck) -> Outcome:
        self.asked.append(check)
        self.arrivals.put_nowait(check)
        try:
            answer = await self.answers.get()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async def arrived(self) -> HealthCheck:
        async with asyncio.timeout(PATIENCE_S):
            return await self.arrivals.get()


class Pod:
    """A prober at work, its surroundings, its endpoint."""

    def __init__(self, config: Config) -> None:
        self.around = Surroundings(config)
        self.endpoint = Endpoint()
        self.prober = Prober(cast("Any", self.around), self.endpoint.ask)

    def arbiter_says(self, check: HealthCheck) -> None:
        self.around.neighbours[Worker.ARBITER].says(
            ArbiterState(None, "why", cluster_management=True, health_check=check)
        )

    async def health(self, **expected: object) -> HealthReport:
        """The report as soon as it has these fields."""
        body = await self.around.until(
            ProberState,
            lambda said: said.health is not None and all(getattr(said.health, k) == v for k, v in expected.items()),
        )
        assert body.health is not None
        return body.health


@contextlib.asynccontextmanager
async def working(folder: Path, **variables: str) -> AsyncIterator[Pod]:
    paths = {"NODE_SOCKET": f"{folder}/node.socket", "RUN_DIR": f"{folder}/run", "POD_NAME": "pod-0"}
    # nobody listens there: each look ends at once
    pod = Pod(load({"NODE_METRICS_URL": "http://127.0.0.1:1/metrics", **paths, **variables}))
    running = asyncio.create_task(pod.prober.run())
    try:
        yield pod
    finally:
        pod.around.stopping.set()
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(running, return_exceptions=True)


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ph-") as name:
        yield Path(name)


async def test_a_node_that_was_fit_and_is_not_is_a_warning(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with working(folder) as pod:
        await pod.around.until(ProberState, lambda said: said.sampled_total >= 1)
        pod.prober._told.tell(0, "fit", "as it should be")
        looked = pod.prober._samples
        await pod.around.until(ProberState, lambda said: said.sampled_total > looked)
    told = [vars(record) for record in caplog.records if getattr(record, "event", "") == "fitness_changed"]
    assert [(each["new"], each["levelname"]) for each in told] == [
        *(("not fit", "INFO"), ("fit", "INFO"), ("not fit", "WARNING")),
    ]


async def test_without_an_endpoint_nothing_is_asked_and_health_is_unknown(folder: Path) -> None:
    async with working(folder) as pod:
        said = await pod.around.until(ProberState, lambda said: said.sampled_total >= 1)
        assert said.health is None
    assert pod.endpoint.asked == []


async def test_the_environments_endpoint_is_asked_at_once_and_the_report_said_at_once(folder: Path) -> None:
    async with working(folder, HEALTH_CHECK_ENDPOINT=OURS.endpoint, HEALTH_CHECK_FAILURE_THRESHOLD="1") as pod:
        assert await pod.endpoint.arrived() == replace(OURS, threshold=1)
        assert (await pod.health(checked_at=0)).message == "not checked yet"
        pod.endpoint.answers.put_nowait(BAD)
        report = await pod.health(healthy=False)
        assert (report.message, report.response_s, report.consecutive_failures) == (BAD.message, 0.5, 1)
        assert report.endpoint == OURS.endpoint


async def test_a_failed_check_does_not_make_a_node_unfit_nor_a_good_one_fit(folder: Path) -> None:
    async with working(folder, HEALTH_CHECK_ENDPOINT=OURS.endpoint) as pod:
        before = await pod.around.until(ProberState, lambda said: said.sampled_total >= 1)
        pod.endpoint.answers.put_nowait(GOOD)
        await pod.health(message=GOOD.message)
        after = cast("ProberState", pod.around.said[-1])
    assert (after.fit, after.reasons) == (before.fit, before.reasons)
    assert not after.fit


async def test_looks_at_the_node_go_on_while_an_endpoint_does_not_answer(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prober, "CALM_S", 0.01)
    async with working(folder, HEALTH_CHECK_ENDPOINT=OURS.endpoint) as pod:
        await pod.endpoint.arrived()
        said = await pod.around.until(ProberState, lambda said: said.sampled_total >= 20)
        assert said.health is not None
        assert said.health.checked_at == 0
    assert len(pod.endpoint.asked) == 1


async def test_a_slow_endpoint_is_asked_no_second_time_meanwhile_and_then_again_in_its_interval(folder: Path) -> None:
    async with working(folder, HEALTH_CHECK_ENDPOINT=OURS.endpoint, HEALTH_CHECK_INTERVAL="1") as pod:
        first = await pod.endpoint.arrived()
        assert first.timeout_s == 1
        pod.endpoint.answers.put_nowait(GOOD)
        await pod.health(message=GOOD.message)
        await pod.endpoint.arrived()
        pod.endpoint.answers.put_nowait(BAD)
        await pod.health(consecutive_failures=1)


# --- the arbiter's settings ---


async def test_with_cluster_management_the_environment_counts_until_the_arbiter_has_spoken(folder: Path) -> None:
    theirs = HealthCheck("https://theirs.example/", 60, 5, 2, {"Authorization": SECRET})
    async with working(folder, HEALTH_CHECK_ENDPOINT=OURS.endpoint, **CLUSTERS) as pod:
        assert await pod.endpoint.arrived() == OURS
        pod.arbiter_says(theirs)
        assert await pod.endpoint.arrived() == theirs
        assert pod.endpoint.cancelled.is_set()
        pod.endpoint.answers.put_nowait(GOOD)
        report = await pod.health(message=GOOD.message)
        assert report.endpoint == theirs.endpoint


async def test_without_cluster_management_the_arbiter_has_no_say(folder: Path) -> None:
    async with working(folder, HEALTH_CHECK_ENDPOINT=OURS.endpoint) as pod:
        await pod.endpoint.arrived()
        pod.arbiter_says(HealthCheck("https://theirs.example/"))
        pod.endpoint.answers.put_nowait(GOOD)
        assert (await pod.health(message=GOOD.message)).endpoint == OURS.endpoint
    assert len(pod.endpoint.asked) == 1


async def test_an_arbiter_that_says_the_same_again_disturbs_no_check(folder: Path) -> None:
    async with working(folder, **CLUSTERS) as pod:
        pod.arbiter_says(OURS)
        await pod.endpoint.arrived()
        for _ in range(3):
            pod.arbiter_says(OURS)
            await asyncio.sleep(0)
        pod.endpoint.answers.put_nowait(GOOD)
        await pod.health(message=GOOD.message)
    assert not pod.endpoint.cancelled.is_set()
    assert len(pod.endpoint.asked) == 1


async def test_an_endpoint_that_is_taken_away_ends_the_check_and_the_report(folder: Path) -> None:
    async with working(folder, **CLUSTERS) as pod:
        pod.arbiter_says(OURS)
        await pod.endpoint.arrived()
        await pod.health(checked_at=0)
        pod.arbiter_says(HealthCheck())
        await pod.around.until(ProberState, lambda said: said.health is None)
        async with asyncio.timeout(PATIENCE_S):
            await pod.endpoint.cancelled.wait()


async def test_an_arbiter_that_falls_silent_takes_nothing_back(folder: Path) -> None:
    async with working(folder, **CLUSTERS) as pod:
        pod.arbiter_says(OURS)
        await pod.endpoint.arrived()
        pod.around.neighbours[Worker.ARBITER].connected = False
        pod.around.neighbours[Worker.ARBITER].on_change()
        pod.endpoint.answers.put_nowait(GOOD)
        assert (await pod.health(message=GOOD.message)).endpoint == OURS.endpoint


# --- the end, faults, words ---


async def test_a_check_that_hangs_does_not_hold_up_the_end(folder: Path) -> None:
    async with working(folder, HEALTH_CHECK_ENDPOINT=OURS.endpoint) as pod:
        await pod.endpoint.arrived()
    assert pod.endpoint.cancelled.is_set()


async def test_a_fault_in_a_check_ends_the_prober(folder: Path) -> None:
    around = Surroundings(load({"NODE_SOCKET": f"{folder}/s", "HEALTH_CHECK_ENDPOINT": OURS.endpoint}))

    async def broken(_: HealthCheck) -> Outcome:
        raise AssertionError("a fault")

    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(ExceptionGroup, match="unhandled errors"):
            await Prober(cast("Any", around), broken).run()


async def test_the_log_says_when_checks_begin_to_fail_and_when_they_succeed_and_shows_no_header(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    theirs = HealthCheck(f"https://u:{SECRET}@health.example/?{SECRET}", 1, 1, 2, {"Authorization": SECRET})
    async with working(folder, **CLUSTERS) as pod:
        pod.arbiter_says(theirs)
        for number, outcome in enumerate((GOOD, BAD, BAD, GOOD)):
            await pod.endpoint.arrived()
            pod.endpoint.answers.put_nowait(outcome)
            failures = (0, 1, 2, 0)[number]
            await pod.health(consecutive_failures=failures, message=outcome.message)
    lines = [(record.levelname, record.getMessage()) for record in caplog.records if record.name == "prober"]
    assert [line for line in lines if "health" in line[1]] == [
        ("INFO", f"health check: {GOOD.message}"),
        ("WARNING", f"health check: {BAD.message}"),
        ("WARNING", f"the cluster is unhealthy: {BAD.message}"),
        ("INFO", f"health check: {GOOD.message}"),
    ]
    assert SECRET not in caplog.text
    assert SECRET not in "".join(str(vars(record)) for record in caplog.records)


# --- what is loaded ---


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, False),
        ({"HEALTH_CHECK_ENDPOINT": "http://10.0.0.1/"}, True),
        (CLUSTERS, True),
        (CLUSTERS | {"ENABLE_CLUSTER_MANAGEMENT": "no"}, False),
        (CLUSTERS | {"ENABLE_CLUSTER_MANAGEMENT": " On "}, True),
    ],
)
def test_tls_is_left_out_of_the_process_unless_a_health_check_may_be_wanted(
    variables: dict[str, str], expected: bool
) -> None:
    assert may_be_wanted(variables) is wanted(load(variables)) is expected
    look = "import workers.prober, sys; print(bool(sys.modules['ssl']), 'aiohttp' in sys.modules, sys.modules['ssl'])"
    environment = {"PATH": os.defpath, "PYTHONPATH": str(ROOT), **variables}
    ran = subprocess.run([sys.executable, "-c", look], env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout.split()[:2] == [str(expected)] * 2


def test_with_mistakes_in_the_configuration_nothing_is_loaded() -> None:
    assert not may_be_wanted({"HEALTH_CHECK_ENDPOINT": "http://10.0.0.1/", "METRICS_PORT": "x"})
