"""The arbiter at an API server: what it witnesses, what its restart costs, what it asks of the server."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from config import Config, load
from devkit.api import EmbeddedApi
from ipc.messages import ArbiterState, Fence, Role, Worker
from kernel.clock import boottime_ns
from kube.leases import LeaseClient
from kube.session import ApiSession
from policy import timing
from policy.lease import LeaseRecord
from policy.seal import half_of, joined, opens
from policy.witness import Ledger
from workers.arbiter import Arbiter, Memory
from workers.coordination import Coordination
from workers.runtime import Context

from surroundings import FENCED, FIT, LEADING, PATIENCE_S, Surroundings, copy_database


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[EmbeddedApi]:
    async with EmbeddedApi(users=["pod"], tls=True, db=tmp_path / "db") as server:
        server.write_kubeconfig(tmp_path / "kubeconfig", "pod")
        yield server


@pytest.fixture
async def session(api: EmbeddedApi, tmp_path: Path) -> AsyncIterator[ApiSession]:
    async with ApiSession(tmp_path / "kubeconfig", user_agent="test") as made:
        yield made


@pytest.fixture
async def leases(session: ApiSession) -> LeaseClient:
    """The hand of an elector, good or bad."""
    return LeaseClient(session, "default", "cardano-node-leader")


@pytest.fixture
async def config(leases: LeaseClient, tmp_path: Path) -> AsyncIterator[Config]:
    with tempfile.TemporaryDirectory(prefix="ar-") as folder:
        (Path(folder) / "arbiter").mkdir()
        yield load({"RUN_DIR": folder, "POD_NAME": "pod-0", "KUBECONFIG": str(tmp_path / "kubeconfig")})


@contextlib.asynccontextmanager
async def running(config: Config) -> AsyncIterator[tuple[Surroundings, asyncio.Task[None]]]:
    """One life of the arbiter's process; it is asked to stop at the end."""
    around = Surroundings(config)
    async with ApiSession(config.kubeconfig, user_agent="test/arbiter") as session:
        task = asyncio.create_task(Arbiter(cast("Context", around), session).run())
        try:
            yield around, task
        finally:
            around.stopping.set()
            if around.neighbours[Worker.ELECTOR].last() is None:  # it would wait to hear from it
                around.neighbours[Worker.ELECTOR].says(dataclasses.replace(LEADING, role=Role.OBSERVER))
            around.disconnect()
            await task


@contextlib.asynccontextmanager
async def life(config: Config) -> AsyncIterator[Surroundings]:
    async with running(config) as (around, _):
        yield around


async def known_for_long(config: Config, leases: LeaseClient) -> None:
    """As if an earlier life had seen that nobody holds the Lease: its waiting is over."""
    memory = Memory(config.worker_dir("arbiter"))
    _, memory.ledger.position = await leases.look(timeout_s=PATIENCE_S)
    memory.keep()


async def take(leases: LeaseClient, holder: str, said: ArbiterState) -> None:
    """With what this arbiter said for a new term."""
    await leases.create(
        holder=holder,
        duration_s=15,
        transitions=1,
        timeout_s=PATIENCE_S,
        seal=joined(half_of("key of " + holder), said.half),
        challenge=said.challenge,
    )


async def countersigned(arbiter: Surroundings, leases: LeaseClient) -> ArbiterState:
    """Our elector takes the Lease and has the arbiter's grant; what the arbiter said for that term."""
    began = await arbiter.until(ArbiterState, lambda s: s.willing)
    await take(leases, "pod-0_1", began)
    await arbiter.until(ArbiterState, lambda s: s.grant is not None)
    return began


async def test_a_first_life_is_not_willing_before_a_lease_duration_has_passed(config: Config) -> None:
    before = boottime_ns()
    async with life(config) as arbiter:
        said = await arbiter.until(ArbiterState, lambda s: s.api_ok)
    assert not said.willing
    assert Memory(config.worker_dir("arbiter")).ledger.unknown_until >= before + 15 * timing.SECOND


async def test_a_term_that_carries_its_challenge_is_countersigned_and_a_restart_keeps_the_grant(
    config: Config, leases: LeaseClient
) -> None:
    await known_for_long(config, leases)
    async with life(config) as arbiter:
        willing = await arbiter.until(ArbiterState, lambda s: s.willing)
        await take(leases, "pod-0_1", willing)
        granted = (await arbiter.until(ArbiterState, lambda s: s.grant is not None)).grant
        assert granted is not None
        assert granted.deadline == timing.grant_deadline(willing.challenged_at, 15 * timing.SECOND)
        assert arbiter.said[-1].requests_total["watch"] == 1
    async with life(config) as arbiter:
        await arbiter.until(ArbiterState, lambda s: s.api_ok)
        assert [s.grant for s in arbiter.said if s.grant != granted] == []


async def test_a_restarted_server_without_a_history_costs_no_gap_if_nothing_is_written_before_the_arbiter_looks(
    api: EmbeddedApi, session: ApiSession, config: Config, leases: LeaseClient
) -> None:
    await known_for_long(config, leases)
    async with life(config) as arbiter:
        willing = await arbiter.until(ArbiterState, lambda s: s.willing)
        await take(leases, "pod-0_1", willing)
        before = (await arbiter.until(ArbiterState, lambda s: s.grant is not None)).grant
        another = LeaseClient(session, "default", "another")  # so that our version is not the latest
        await another.create(holder="x", duration_s=15, transitions=1, timeout_s=PATIENCE_S)
        await api.kill()
        await arbiter.until(ArbiterState, lambda s: not s.api_ok)
        await api.restart()
        said = await arbiter.until(ArbiterState, lambda s: s.api_ok and s.challenge != willing.challenge)
        record, _ = await leases.look(timeout_s=PATIENCE_S)
        assert record is not None
        await leases.replace(
            record,
            holder="pod-0_1",
            duration_s=15,
            transitions=1,
            acquired=False,
            timeout_s=PATIENCE_S,
            seal=record.seal,
            challenge=said.challenge,
        )
        said = await arbiter.until(ArbiterState, lambda s: s.grant is not None and s.grant != before)
        assert said.requests_total["watch"] == 2, "one from before, one from the present"
    assert Memory(config.worker_dir("arbiter")).ledger.unknown_until == 0


async def test_after_a_restore_from_a_backup_it_follows_the_new_history_and_signs_nothing_for_a_lease_duration(
    api: EmbeddedApi, config: Config, leases: LeaseClient, tmp_path: Path
) -> None:
    """A watch from the last version it saw would be silent until the server has counted up to it again."""
    await known_for_long(config, leases)
    async with life(config) as arbiter:
        willing = await arbiter.until(ArbiterState, lambda s: s.willing)
        await take(leases, "pod-1_1", willing)
        copy_database(tmp_path / "db", tmp_path / "backup")
        for _ in range(9):
            latest = await write_over(leases, "pod-1_1")
        await arbiter.until(ArbiterState, lambda _: remembered(config).record == latest)
        await api.kill()
        await arbiter.until(ArbiterState, lambda s: not s.api_ok)
        copy_database(tmp_path / "backup", tmp_path / "db")
        before = boottime_ns()
        await api.restart()
        await arbiter.until(ArbiterState, lambda s: s.api_ok)
        assert remembered(config).unknown_until >= before + 15 * timing.SECOND
        written = await write_over(leases, "pod-2_1")
        await arbiter.until(ArbiterState, lambda _: remembered(config).record == written)


def remembered(config: Config) -> Ledger:
    return Memory(config.worker_dir("arbiter")).ledger


async def write_over(leases: LeaseClient, holder: str) -> LeaseRecord:
    """Whatever the Lease says."""
    record, _ = await leases.look(timeout_s=PATIENCE_S)
    assert record is not None
    return await leases.replace(
        record, holder=holder, duration_s=15, transitions=1, acquired=False, timeout_s=PATIENCE_S, seal=""
    )


async def test_a_lease_taken_from_a_living_stranger_is_not_countersigned_even_after_a_restart(
    config: Config, leases: LeaseClient
) -> None:
    await known_for_long(config, leases)
    async with life(config) as arbiter:
        said = await arbiter.until(ArbiterState, lambda s: s.willing)
        await take(leases, "pod-1_1", said)
        said = await arbiter.until(ArbiterState, lambda s: not s.willing)
    record, _ = await leases.look(timeout_s=PATIENCE_S)
    assert record is not None
    await leases.replace(
        record,
        holder="pod-0_1",
        duration_s=15,
        transitions=2,
        acquired=True,
        timeout_s=PATIENCE_S,
        seal=joined(half_of("thief"), said.half),
        challenge=said.challenge,
    )
    async with life(config) as arbiter:
        said = await arbiter.until(ArbiterState, lambda s: "had not released" in s.reason)
        assert [s for s in arbiter.said if s.grant is not None] == []
        assert not said.willing


async def test_its_half_of_the_key_is_given_away_when_the_actuator_is_fenced_and_has_heard_of_it(
    config: Config, leases: LeaseClient
) -> None:
    await known_for_long(config, leases)
    async with life(config) as arbiter:
        began = await countersigned(arbiter, leases)
        actuator, elector = arbiter.neighbours[Worker.ACTUATOR], arbiter.neighbours[Worker.ELECTOR]
        actuator.says(FENCED)
        elector.says(dataclasses.replace(LEADING, role=Role.HANDOVER, letting_go=began.half))
        giving = await arbiter.until(ArbiterState, lambda s: s.giving_up != "")
        assert (giving.giving_up, giving.grant, giving.given_away) == (began.half, None, "")
    async with life(config) as arbiter:
        actuator, elector = arbiter.neighbours[Worker.ACTUATOR], arbiter.neighbours[Worker.ELECTOR]
        actuator.says(dataclasses.replace(FENCED, fence=Fence.FENCING, heard_giving_up=began.half))
        elector.says(dataclasses.replace(LEADING, role=Role.HANDOVER, letting_go=began.half))
        await arbiter.until(ArbiterState, lambda s: s.api_ok and s.giving_up == began.half)
        actuator.says(dataclasses.replace(FENCED, heard_giving_up=began.half))
        given = await arbiter.until(ArbiterState, lambda s: s.given_away != "")
        assert opens(given.given_away, began.half)
        assert given.half != began.half
        assert [s for s in arbiter.said if isinstance(s, ArbiterState) and s.grant is not None] == []


async def let_go(arbiter: Surroundings, task: asyncio.Task[None], half: str) -> None:
    """What the others say while the node is fenced and the Lease released; then the arbiter ends too."""
    actuator, elector = arbiter.neighbours[Worker.ACTUATOR], arbiter.neighbours[Worker.ELECTOR]
    elector.says(dataclasses.replace(LEADING, role=Role.HANDOVER, letting_go=half))
    await arbiter.until(ArbiterState, lambda s: s.giving_up != "")
    actuator.says(dataclasses.replace(FENCED, heard_giving_up=half))
    await arbiter.until(ArbiterState, lambda s: s.given_away != "")
    assert not task.done()
    elector.says(dataclasses.replace(LEADING, role=Role.OBSERVER))
    async with asyncio.timeout(PATIENCE_S):
        await task


async def test_when_both_are_asked_to_stop_the_arbiter_stays_until_its_elector_has_let_go(
    config: Config, leases: LeaseClient
) -> None:
    await known_for_long(config, leases)
    async with running(config) as (arbiter, task):
        began = await countersigned(arbiter, leases)
        arbiter.neighbours[Worker.ELECTOR].says(LEADING)
        arbiter.stopping.set()
        await let_go(arbiter, task, began.half)


async def test_asked_to_stop_right_after_its_start_the_arbiter_waits_to_hear_what_its_elector_holds(
    config: Config, leases: LeaseClient
) -> None:
    await known_for_long(config, leases)
    async with life(config) as arbiter:
        began = await countersigned(arbiter, leases)
    async with running(config) as (arbiter, task):
        arbiter.stopping.set()
        await arbiter.until(ArbiterState, lambda s: s.api_ok)
        await let_go(arbiter, task, began.half)


async def test_asked_to_stop_before_it_has_heard_of_its_electors_new_term_the_arbiter_stays_for_its_release(
    config: Config, leases: LeaseClient
) -> None:
    """Its watch may be faster than its elector's word."""
    await known_for_long(config, leases)
    async with running(config) as (arbiter, task):
        arbiter.neighbours[Worker.ELECTOR].says(dataclasses.replace(LEADING, role=Role.STANDBY))
        began = await countersigned(arbiter, leases)
        arbiter.said.clear()
        arbiter.stopping.set()
        await arbiter.until(ArbiterState, lambda _: True)
        await let_go(arbiter, task, began.half)


async def test_what_was_remembered_before_another_boot_is_worth_nothing(config: Config, leases: LeaseClient) -> None:
    await known_for_long(config, leases)
    path = config.worker_dir("arbiter") / "term"
    path.write_text(path.read_text().replace('"boot": "', '"boot": "0'))
    assert Memory(path.parent).ledger.position == ""


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"boot": 1}', "\u00e4"])
async def test_a_spoilt_memory_makes_a_stranger_and_no_fault(config: Config, text: str) -> None:
    path = config.worker_dir("arbiter") / "term"
    path.write_text(text)
    assert Memory(path.parent).ledger.position == ""


@pytest.mark.parametrize("leads", [None, False, True])
async def test_the_probers_word_of_each_second_wakes_only_who_leads_a_cluster_among_others(
    config: Config, session: ApiSession, leads: bool | None
) -> None:
    """`leads`: None: there is no cluster management."""
    around = Surroundings(config)
    arbiter = Arbiter(cast("Context", around), session)
    if leads is not None:
        arbiter._coordination = cast("Coordination", SimpleNamespace(leads=leads))
    around.neighbours[Worker.PROBER].says(FIT)
    assert arbiter._wake.is_set() is bool(leads)
    around.neighbours[Worker.ELECTOR].says(LEADING)
    assert arbiter._wake.is_set()
