"""The client and the embedded API together: the life of a Lease and of CardanoLeader."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from devkit.api import EmbeddedApi
from kube.errors import ApiFailure, Failure
from kube.leader_status import LeaderStatus, LeaderStatusClient, Outcome
from kube.leases import LeaseChange, LeaseClient
from kube.session import ApiSession
from policy.lease import LeaseRecord

TIMEOUT_S = 30.0


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[EmbeddedApi]:
    async with EmbeddedApi(users=["pod-a", "pod-b"], tls=True) as server:
        for user in ("pod-a", "pod-b"):
            server.write_kubeconfig(tmp_path / user, user)
        yield server


@contextlib.asynccontextmanager
async def pod(folder: Path, name: str, lease: str = "cardano-leader") -> AsyncIterator[LeaseClient]:
    async with ApiSession(folder / name, user_agent=f"test/{name}") as session:
        yield LeaseClient(session, "default", lease)


async def renew(leases: LeaseClient, record: LeaseRecord, *, holder: str = "a") -> LeaseRecord:
    return await leases.replace(
        record, holder=holder, duration_s=15, transitions=record.transitions, acquired=False, timeout_s=TIMEOUT_S
    )


async def test_a_standby_sees_every_renewal_in_order(api: EmbeddedApi, tmp_path: Path) -> None:
    async with pod(tmp_path, "pod-a") as leader, pod(tmp_path, "pod-b") as standby:
        record = await leader.create(holder="a", duration_s=15, transitions=1, timeout_s=TIMEOUT_S)
        seen: asyncio.Queue[LeaseChange] = asyncio.Queue()

        async def follow() -> None:
            async for change in standby.watch(record.resource_version, timeout_s=60):
                seen.put_nowait(change)

        following = asyncio.create_task(follow())
        for _ in range(5):
            record = await renew(leader, record)
            change = await seen.get()
            assert (change.kind, change.record) == ("MODIFIED", record)
        following.cancel()
        with pytest.raises(asyncio.CancelledError):
            await following


async def test_of_two_contenders_for_one_lease_one_wins(api: EmbeddedApi, tmp_path: Path) -> None:
    async with pod(tmp_path, "pod-a") as a, pod(tmp_path, "pod-b") as b:
        creations = [
            x.create(holder=n, duration_s=15, transitions=1, timeout_s=TIMEOUT_S) for x, n in ((a, "a"), (b, "b"))
        ]
        results = await asyncio.gather(*creations, return_exceptions=True)
        assert [r.kind for r in results if isinstance(r, ApiFailure)] == [Failure.ALREADY_EXISTS]
        (found_a, _), (found_b, _) = await a.look(timeout_s=TIMEOUT_S), await b.look(timeout_s=TIMEOUT_S)
        assert found_a == found_b is not None
        taken = await asyncio.gather(
            renew(a, found_a, holder="a"), renew(b, found_b, holder="b"), return_exceptions=True
        )
        assert [r.kind for r in taken if isinstance(r, ApiFailure)] == [Failure.CONFLICT]


async def test_a_released_lease_is_free_and_the_next_holder_begins_a_new_term(api: EmbeddedApi, tmp_path: Path) -> None:
    async with pod(tmp_path, "pod-a") as a, pod(tmp_path, "pod-b") as b:
        record = await a.create(holder="a", duration_s=15, transitions=1, timeout_s=TIMEOUT_S)
        await a.release(record, timeout_s=TIMEOUT_S)
        free, _ = await b.look(timeout_s=TIMEOUT_S)
        assert free is not None
        assert (free.holder, free.duration_s, free.transitions) == ("", 1, 1)
        taken = await b.replace(free, holder="b", duration_s=15, transitions=2, acquired=True, timeout_s=TIMEOUT_S)
        assert (taken.holder, taken.transitions) == ("b", 2)
        with pytest.raises(ApiFailure) as late:
            await renew(a, record)
        assert late.value.kind is Failure.CONFLICT


async def test_a_watch_resumed_by_version_misses_nothing(api: EmbeddedApi, tmp_path: Path) -> None:
    async with pod(tmp_path, "pod-a") as leader, pod(tmp_path, "pod-b") as standby:
        first = await leader.create(holder="a", duration_s=15, transitions=1, timeout_s=TIMEOUT_S)
        written = [record := await renew(leader, first)]
        written += [record := await renew(leader, record) for _ in range(3)]
        seen: list[LeaseRecord | None] = []
        version = first.resource_version
        while len(seen) < 4:
            async with contextlib.aclosing(standby.watch(version, timeout_s=60)) as changes:
                change = await anext(changes)
            assert change.record is not None
            seen.append(change.record)
            version = change.record.resource_version
        assert seen == written


async def test_a_restarted_server_that_forgot_its_history_costs_two_watches_not_a_storm(
    api: EmbeddedApi, tmp_path: Path
) -> None:
    """Nobody renews this Lease: it still has the version that is too old to watch from; the list has another."""
    async with (
        pod(tmp_path, "pod-a") as leader,
        pod(tmp_path, "pod-a", lease="another") as another,
        pod(tmp_path, "pod-b") as standby,
    ):
        record = await leader.create(holder="a", duration_s=15, transitions=1, timeout_s=TIMEOUT_S)
        await another.create(holder="x", duration_s=15, transitions=1, timeout_s=TIMEOUT_S)
        await api.restart()
        with pytest.raises(ApiFailure) as caught:
            await anext(standby.watch(record.resource_version, timeout_s=60))
        assert caught.value.kind is Failure.GONE
        again, version = await standby.look(timeout_s=TIMEOUT_S)
        assert again == record
        async with contextlib.aclosing(standby.watch(version, timeout_s=60)) as changes:
            renewed = await leader.replace(
                record, holder="a", duration_s=15, transitions=1, acquired=False, timeout_s=TIMEOUT_S
            )
            assert await anext(changes) == LeaseChange("MODIFIED", renewed)


async def test_a_killed_server_ends_the_watch_and_is_found_again_when_back(api: EmbeddedApi, tmp_path: Path) -> None:
    async with pod(tmp_path, "pod-a") as leases:
        _, before = await leases.look(timeout_s=TIMEOUT_S)
        record = await leases.create(holder="a", duration_s=15, transitions=1, timeout_s=TIMEOUT_S)
        changes = leases.watch(before, timeout_s=60)
        await anext(changes)
        await api.kill()
        with pytest.raises(ApiFailure) as cut:
            await anext(changes)
        assert cut.value.kind is Failure.UNREACHABLE
        with pytest.raises(ApiFailure) as refused:
            await leases.look(timeout_s=TIMEOUT_S)
        assert refused.value.kind is Failure.UNREACHABLE
        await api.restart()
        assert (await leases.look(timeout_s=TIMEOUT_S))[0] == record


async def test_the_server_accepts_the_status_and_holds_a_late_writer_back(api: EmbeddedApi, tmp_path: Path) -> None:
    now = "2026-01-01T00:00:00Z"

    def status(pod_name: str) -> LeaderStatus:
        return LeaderStatus(pod_name, bool(pod_name), now, "Forging", "m")

    async with (
        ApiSession(tmp_path / "pod-a", user_agent="test/a") as session_a,
        ApiSession(tmp_path / "pod-b", user_agent="test/b") as session_b,
    ):
        a, b = (
            LeaderStatusClient(s, "default", "cardano.io", "v1", "cardanoleaders", "cardano-leader")
            for s in (session_a, session_b)
        )
        assert await a.publish(status("pod-a"), timeout_s=TIMEOUT_S, taking_over=True) is Outcome.WRITTEN
        assert await b.publish(status("pod-b"), timeout_s=TIMEOUT_S, taking_over=True) is Outcome.WRITTEN
        assert await a.publish(status(""), timeout_s=TIMEOUT_S, taking_over=False) is Outcome.LOST
        found = await session_a.request(
            "get", "/apis/cardano.io/v1/namespaces/default/cardanoleaders/cardano-leader", timeout_s=TIMEOUT_S
        )
        assert found["status"]["leaderPod"] == "pod-b"
        assert found["status"]["observedGeneration"] == found["metadata"]["generation"] == 1


async def test_an_absent_crd_is_told_apart_from_an_absent_object(tmp_path: Path) -> None:
    async with EmbeddedApi(crds=()) as api:
        api.write_kubeconfig(tmp_path / "admin")
        async with ApiSession(tmp_path / "admin", user_agent="test/a") as session:
            client = LeaderStatusClient(session, "default", "cardano.io", "v1", "cardanoleaders", "cardano-leader")
            status = LeaderStatus("p", True, "2026-01-01T00:00:00Z", "Forging", "m")
            assert await client.publish(status, timeout_s=TIMEOUT_S, taking_over=True) is Outcome.NO_CRD
