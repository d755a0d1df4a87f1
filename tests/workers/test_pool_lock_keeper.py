"""The pool-wide lock at API servers: which one a member is, and what becomes of a member that turns into another."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from config import Config, load
from devkit.api import EmbeddedApi
from ipc.messages import LockPhase, Worker
from kernel.clock import boottime_ns
from kube.errors import from_status
from kube.leases import LeaseClient
from kube.session import ApiSession
from policy.pool_lock import Wish
from workers.coordination import sessions
from workers.pool_lock import PoolLockKeeper

from surroundings import PATIENCE_S

WANTED = Wish(want=True)


def configured(tmp_path: Path, *members: Path) -> Config:
    given = {
        "RUN_DIR": str(tmp_path / "run"),
        "POD_NAME": "pod-0",
        "KUBECONFIG": str(tmp_path / "one"),
        "CLUSTER_REGION": "r",
        "ENABLE_CLUSTER_MANAGEMENT": "true",
        "POOL_ID": "pool1abcdefghijklmno",
        "COORDINATION_KUBECONFIGS": ",".join(map(str, members)),
    }
    config = load(given)
    config.worker_dir(Worker.ARBITER).mkdir(parents=True, exist_ok=True)
    return config


async def until(keeper: PoolLockKeeper, what: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not what():
            keeper.judge(boottime_ns(), WANTED, "")
            await asyncio.sleep(0.01)


async def test_a_lock_that_is_over_is_left_to_whom_it_was_meant_for_when_that_was_decided(
    one: EmbeddedApi, tmp_path: Path
) -> None:
    """A release that is sent late goes by the verdict of one who held the lock, and does not any more."""
    config = configured(tmp_path, tmp_path / "one")
    async with sessions(config) as found:
        keeper = PoolLockKeeper(config, found, lambda: None)
        for phase, over, successor in ((LockPhase.DRAINING, False, "other"), (LockPhase.DRAINING, True, "our own")):
            keeper.lock.phase, keeper.lock.over = phase, over
            keeper.judge(boottime_ns(), Wish(want=False), successor)
        assert keeper._successor == "other"
        await keeper.close()


async def test_one_server_under_two_names_is_noticed_and_not_locked(one: EmbeddedApi, tmp_path: Path) -> None:
    shutil.copy(tmp_path / "one", tmp_path / "by-another-name")
    config = configured(tmp_path, tmp_path / "one", tmp_path / "by-another-name")
    async with sessions(config) as found:
        keeper = PoolLockKeeper(config, found, lambda: None)
        keeper.start()
        await until(keeper, lambda: bool(keeper.lock.objection))
        assert "/by-another-name are the same API server" in keeper.lock.objection
        assert keeper.lock.phase is LockPhase.IDLE
        assert not keeper.lock.sound(boottime_ns())
        await keeper.close()


async def test_a_lock_names_the_servers_that_its_holder_counts(
    one: EmbeddedApi, other: EmbeddedApi, tmp_path: Path
) -> None:
    config = configured(tmp_path, tmp_path / "one", tmp_path / "other")
    async with sessions(config) as found, ApiSession(tmp_path / "one", user_agent="test") as hand:
        keeper = PoolLockKeeper(config, found, lambda: None)
        keeper.start()
        await until(keeper, lambda: keeper.grant(boottime_ns()) is not None)
        leases = LeaseClient(hand, "default", config.pool_lock_name)
        record, _ = await leases.look(timeout_s=PATIENCE_S)
        others = LeaseClient(found[1], "default", config.pool_lock_name)
        assert record is not None
        assert record.members == 2
        identities = {await leases.api_identity(timeout_s=PATIENCE_S), await others.api_identity(timeout_s=PATIENCE_S)}
        assert set(record.apis) == identities
        assert len(identities) == 2
        await keeper.close()


async def test_another_server_that_answers_instead_of_a_member_is_noticed_and_not_locked_before_a_lease_is_over(
    one: EmbeddedApi, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """At the same address, with a certificate and a kubeconfig of its own: these are read anew."""
    shutil.copy(tmp_path / "one", tmp_path / "member")
    config = configured(tmp_path, tmp_path / "member")
    caplog.set_level(logging.INFO)
    async with sessions(config) as found:
        keeper = PoolLockKeeper(config, found, lambda: None)
        keeper.start()
        await until(keeper, lambda: keeper.grant(boottime_ns()) is not None)
        before = keeper.grant(boottime_ns())
        port = urlsplit(one.url).port or 0
        await one.stop()
        async with EmbeddedApi(users=["pod"], tls=True, port=port) as another:
            another.write_kubeconfig(tmp_path / "member", "pod")
            await until(keeper, lambda: "member_is_another" in [getattr(r, "event", "") for r in caplog.records])
            await until(keeper, lambda: keeper.lock.members[0].reachable)
            assert keeper.grant(boottime_ns()) in (before, None)
            assert await _lease(found[0], config) is None
            await keeper.close()


async def test_a_role_that_does_not_let_us_see_which_server_it_is_is_named(
    one: EmbeddedApi, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = configured(tmp_path, tmp_path / "one")
    async with sessions(config) as found:
        found[0].request = refusing_namespaces(found[0])  # type: ignore[method-assign]
        keeper = PoolLockKeeper(config, found, lambda: None)
        keeper.start()
        await until(keeper, lambda: "member_failed" in [getattr(r, "event", "") for r in caplog.records])
        (told,) = [record for record in caplog.records if getattr(record, "event", "") == "member_failed"]
        assert "the Role has to grant get on namespaces" in vars(told)["why"]
        assert not keeper.lock.members[0].reachable
        assert "the Role has to grant get on namespaces" in keeper.members([True])[0].problem
        await keeper.close()


def refusing_namespaces(session: ApiSession) -> Callable[..., Awaitable[Any]]:
    """As a server does where deploy/rbac was not applied; the embedded one refuses nobody anything."""
    honest = session.request

    async def request(verb: str, path: str, **options: Any) -> Any:
        if path.startswith("/api/v1/namespaces/"):
            raise from_status(403, "Forbidden", None)
        return await honest(verb, path, **options)

    return request


async def _lease(session: ApiSession, config: Config) -> object:
    record, _ = await LeaseClient(session, "default", config.pool_lock_name).look(timeout_s=PATIENCE_S)
    return record
