"""The arbiter at an API server: what it witnesses, what its restart costs, what it asks of the server."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest

from config import Config, load
from devkit.api import EmbeddedApi
from ipc.messages import ArbiterState
from kernel.clock import boottime_ns
from kube.leases import LeaseClient
from kube.session import ApiSession
from policy import timing
from policy.seal import seal_of
from workers.arbiter import Arbiter, Memory
from workers.runtime import Context

from surroundings import PATIENCE_S, Surroundings


@pytest.fixture
async def leases(tmp_path: Path) -> AsyncIterator[LeaseClient]:
    """The hand of an elector, good or bad."""
    async with EmbeddedApi(users=["pod"], tls=True) as server:
        server.write_kubeconfig(tmp_path / "kubeconfig", "pod")
        async with ApiSession(tmp_path / "kubeconfig", user_agent="test") as session:
            yield LeaseClient(session, "default", "cardano-node-leader")


@pytest.fixture
async def config(leases: LeaseClient, tmp_path: Path) -> AsyncIterator[Config]:
    with tempfile.TemporaryDirectory(prefix="ar-") as folder:
        (Path(folder) / "arbiter").mkdir()
        yield load({"RUN_DIR": folder, "POD_NAME": "pod-0", "KUBECONFIG": str(tmp_path / "kubeconfig")})


@contextlib.asynccontextmanager
async def life(config: Config) -> AsyncIterator[Surroundings]:
    """One life of the arbiter's process."""
    around = Surroundings(config)
    async with ApiSession(config.kubeconfig, user_agent="test/arbiter") as session:
        running = asyncio.create_task(Arbiter(cast("Context", around), session).run())
        try:
            yield around
        finally:
            around.stopping.set()
            await running


async def known_for_long(config: Config, leases: LeaseClient) -> None:
    """As if an earlier life had seen that nobody holds the Lease: its waiting is over."""
    memory = Memory(config.worker_dir("arbiter") / "term")
    _, memory.ledger.position = await leases.look(timeout_s=PATIENCE_S)
    memory.keep()


async def take(leases: LeaseClient, holder: str, challenge: str) -> None:
    await leases.create(
        holder=holder,
        duration_s=15,
        transitions=1,
        timeout_s=PATIENCE_S,
        seal=seal_of("key of " + holder),
        challenge=challenge,
    )


async def test_a_first_life_is_not_willing_before_a_lease_duration_has_passed(config: Config) -> None:
    before = boottime_ns()
    async with life(config) as arbiter:
        said = await arbiter.until(ArbiterState, lambda s: s.api_ok)
    assert not said.willing
    assert Memory(config.worker_dir("arbiter") / "term").ledger.unknown_until >= before + 15 * timing.SECOND


async def test_a_term_that_carries_its_challenge_is_countersigned_and_a_restart_keeps_the_grant(
    config: Config, leases: LeaseClient
) -> None:
    await known_for_long(config, leases)
    async with life(config) as arbiter:
        willing = await arbiter.until(ArbiterState, lambda s: s.willing)
        await take(leases, "pod-0_1", willing.challenge)
        granted = (await arbiter.until(ArbiterState, lambda s: s.grant is not None)).grant
        assert granted is not None
        assert granted.deadline == timing.grant_deadline(willing.challenged_at, 15 * timing.SECOND)
        assert arbiter.said[-1].requests_total["watch"] == 1
    async with life(config) as arbiter:
        await arbiter.until(ArbiterState, lambda s: s.api_ok)
        assert [s.grant for s in arbiter.said if s.grant != granted] == []


async def test_a_lease_taken_from_a_living_stranger_is_not_countersigned_even_after_a_restart(
    config: Config, leases: LeaseClient
) -> None:
    await known_for_long(config, leases)
    async with life(config) as arbiter:
        await arbiter.until(ArbiterState, lambda s: s.willing)
        await take(leases, "pod-1_1", "")
        challenge = (await arbiter.until(ArbiterState, lambda s: not s.willing)).challenge
    record = await leases.get(timeout_s=PATIENCE_S)
    assert record is not None
    await leases.replace(
        record,
        holder="pod-0_1",
        duration_s=15,
        transitions=2,
        acquired=True,
        timeout_s=PATIENCE_S,
        seal=seal_of("thief"),
        challenge=challenge,
    )
    async with life(config) as arbiter:
        said = await arbiter.until(ArbiterState, lambda s: "had not released" in s.reason)
        assert [s for s in arbiter.said if s.grant is not None] == []
        assert not said.willing


async def test_what_was_remembered_before_another_boot_is_worth_nothing(config: Config, leases: LeaseClient) -> None:
    await known_for_long(config, leases)
    path = config.worker_dir("arbiter") / "term"
    path.write_text(path.read_text().replace('"boot": "', '"boot": "0'))
    assert Memory(path).ledger.position == ""


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"boot": 1}', "\u00e4"])
async def test_a_spoilt_memory_makes_a_stranger_and_no_fault(config: Config, text: str) -> None:
    path = config.worker_dir("arbiter") / "term"
    path.write_text(text)
    assert Memory(path).ledger.position == ""
