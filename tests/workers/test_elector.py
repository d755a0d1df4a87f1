"""The elector at an API server: what it writes only with its arbiter's consent, also right after a restart."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import logging
import re
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import cast

import pytest

import workers.elector
from config import Config, load
from devkit.api import EmbeddedApi
from ipc.messages import (
    ActuatorState,
    ArbiterState,
    CertificateCounter,
    ElectorState,
    Fence,
    ProberState,
    Proof,
    Role,
    StandDown,
    Worker,
)
from ipc.peers import Peer
from kernel.clock import boottime_ns
from kube.errors import ApiFailure, Failure
from kube.leases import LeaseClient
from kube.session import ApiSession
from policy.certificate_counter import ANNOTATION as COUNTER
from policy.certificate_counter import as_text
from policy.election import STANDING_DOWN, Do, Step, may_hold
from policy.lease import LeaseRecord
from policy.seal import half_of, opens, seal_of
from policy.timing import SECOND
from workers.elector import Elector
from workers.runtime import Context

import surroundings
from surroundings import FENCED, FIT, PATIENCE_S, Surroundings, copy_database

HALF_KEY = "the arbiter's"
DURATION_S = 300
RENEWED_AFTER_S = 100


def arbiter(challenge: str, *, willing: bool = True, api_ok: bool = True, given_away: str = "") -> ArbiterState:
    return ArbiterState(
        None,
        "",
        False,
        willing=willing,
        challenge=challenge,
        challenged_at=boottime_ns(),
        api_ok=api_ok,
        half=half_of(HALF_KEY),
        given_away=given_away,
    )


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[EmbeddedApi]:
    async with EmbeddedApi(users=["pod"], tls=True, db=tmp_path / "db") as server:
        server.write_kubeconfig(tmp_path / "kubeconfig", "pod")
        yield server


@pytest.fixture
async def leases(api: EmbeddedApi, tmp_path: Path) -> AsyncIterator[LeaseClient]:
    async with ApiSession(tmp_path / "kubeconfig", user_agent="test") as session:
        client = LeaseClient(session, "default", "cardano-node-leader")
        await client.create(holder="x", duration_s=1, transitions=0, timeout_s=PATIENCE_S, seal=seal_of("key of x"))
        yield client


class Clock:
    """Passes as the machine's, and by leaps."""

    ahead = 0

    def now(self) -> int:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) + self.ahead


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    for module in (workers.elector, surroundings, sys.modules[__name__]):
        monkeypatch.setattr(module, "boottime_ns", made.now)
    return made


def time_passes(elector: Surroundings, clock: Clock) -> None:
    """As much as a right lasts, while the others go on saying what they said."""
    clock.ahead += DURATION_S * SECOND
    for neighbour in elector.neighbours.values():
        neighbour.says_it_again()


async def let_go(leases: LeaseClient, elector: Surroundings, clock: Clock) -> None:
    """The holder that the elector has seen for long releases the Lease."""
    await elector.until(ElectorState, lambda s: s.holder == "x")
    time_passes(elector, clock)
    record = await read(leases)
    await leases.release(record, timeout_s=PATIENCE_S, seal=record.seal, key="key of x")


@pytest.fixture
async def config(leases: LeaseClient, tmp_path: Path) -> AsyncIterator[Config]:
    with tempfile.TemporaryDirectory(prefix="el-") as folder:
        (Path(folder) / "elector").mkdir()
        settings = {"RUN_DIR": folder, "POD_NAME": "pod-0", "KUBECONFIG": str(tmp_path / "kubeconfig")}
        made = load(
            {**settings, "LEASE_DURATION": str(DURATION_S), "SLEEP_INTERVAL": str(RENEWED_AFTER_S)}
        )  # no renewal is due by itself
        made.instance_file.write_text("0badcafe\n")
        yield made


@contextlib.asynccontextmanager
async def life(
    config: Config,
    *,
    arbiter_says: ArbiterState | None,
    actuator_says: ActuatorState = FENCED,
    prober_says: ProberState | None = FIT,
) -> AsyncIterator[Surroundings]:
    """One life of the elector's process; it ends without a release, as if killed."""
    around = Surroundings(config)
    async with ApiSession(config.kubeconfig, user_agent="test/elector") as session:
        elector = Elector(cast("Context", around), session)
        around.neighbours[Worker.ACTUATOR].says(actuator_says)
        if prober_says is not None:
            around.neighbours[Worker.PROBER].says(prober_says)
        if arbiter_says is not None:
            around.neighbours[Worker.ARBITER].says(arbiter_says)
        running = asyncio.create_task(elector.run())
        try:
            yield around
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running


def leading(state: ElectorState) -> bool:
    return state.role is Role.LEADER


async def read(leases: LeaseClient) -> LeaseRecord:
    record, _ = await leases.look(timeout_s=PATIENCE_S)
    assert record is not None
    return record


async def led_before(config: Config, leases: LeaseClient, clock: Clock) -> LeaseRecord:
    """The Lease as an earlier life of this elector left it: held."""
    async with life(config, arbiter_says=arbiter("first")) as elector:
        await let_go(leases, elector, clock)
        await elector.until(ElectorState, leading)
    return await read(leases)


async def looks_again(elector: Surroundings, holds: Callable[[ElectorState], bool] = lambda _: True) -> ElectorState:
    """What it says after one more look at the world."""
    elector.said.clear()
    elector.neighbours[Worker.PROBER].says(FIT)
    return await elector.until(ElectorState, holds)


async def test_a_free_lease_is_taken_with_the_arbiters_challenge(
    config: Config, leases: LeaseClient, clock: Clock
) -> None:
    async with life(config, arbiter_says=arbiter("first")) as elector:
        await let_go(leases, elector, clock)
        said = await elector.until(ElectorState, leading)
    record = await read(leases)
    assert (record.holder, record.challenge) == (said.identity, "first") == ("pod-0_0badcafe", "first")


@pytest.mark.parametrize("says", [None, arbiter("x", willing=False), arbiter("x", api_ok=False)])
async def test_nothing_is_taken_without_an_arbiter_that_would_countersign(
    config: Config, leases: LeaseClient, clock: Clock, says: ArbiterState | None
) -> None:
    async with life(config, arbiter_says=says) as elector:
        await let_go(leases, elector, clock)
        await elector.until(ElectorState, lambda s: s.holder == "")
        before = await read(leases)
        await looks_again(elector, lambda s: not leading(s))
        assert await read(leases) == before
        elector.neighbours[Worker.ARBITER].says(arbiter("then"))
        await elector.until(ElectorState, leading)


async def test_a_restarted_leader_renews_only_once_it_has_heard_the_challenge_again(
    config: Config, leases: LeaseClient, clock: Clock
) -> None:
    """A version of ours without a challenge would be a stranger's to our arbiter, and end its grant."""
    before = await led_before(config, leases, clock)
    armed = dataclasses.replace(FENCED, fence=Fence.ARMED, proof=Proof.NONE, ready=False)
    async with life(config, arbiter_says=None, actuator_says=armed) as elector:
        await elector.until(ElectorState, lambda s: s.api_ok)
        said = await looks_again(elector)
        assert not said.settled, "its grant must not be withdrawn: it may hold the lease"
        assert await read(leases) == before
        elector.neighbours[Worker.ARBITER].says(arbiter("second", willing=False))
        await elector.until(ElectorState, leading)
    record = await read(leases)
    assert (record.challenge, record.transitions) == ("second", before.transitions)


async def renews(elector: Surroundings, challenge: str) -> None:
    """Because its arbiter asks for it."""
    before = (await elector.until(ElectorState, leading)).grant
    assert before is not None
    asking = arbiter(challenge, willing=False)
    elector.neighbours[Worker.ARBITER].says(dataclasses.replace(asking, renew_after=asking.challenged_at - 1))
    await elector.until(ElectorState, lambda s: s.grant is not None and s.grant.renewed_at > before.renewed_at)


async def test_a_leader_renews_early_when_the_arbiter_asks_for_it_and_with_its_new_challenge(
    config: Config, leases: LeaseClient, clock: Clock
) -> None:
    async with life(config, arbiter_says=arbiter("first")) as elector:
        await let_go(leases, elector, clock)
        await renews(elector, "second")
    record = await read(leases)
    assert record.challenge == "second"


async def test_a_leader_that_finds_its_term_renewed_by_another_in_its_name_gives_it_up_and_says_so(
    config: Config, leases: LeaseClient, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Its machine was copied while it ran: the other has its identity, its token and its keys."""
    async with life(config, arbiter_says=arbiter("first")) as elector:
        await let_go(leases, elector, clock)
        await elector.until(ElectorState, leading)
        ours = await read(leases)
        copied = await leases.replace(
            ours,
            holder=ours.holder,
            duration_s=DURATION_S,
            transitions=ours.transitions,
            acquired=False,
            timeout_s=PATIENCE_S,
        )
        asking = arbiter("second", willing=False)
        elector.neighbours[Worker.ARBITER].says(dataclasses.replace(asking, renew_after=asking.challenged_at - 1))
        said = await elector.until(ElectorState, lambda s: not leading(s))
        assert said.grant is None
        await looks_again(elector, lambda s: not leading(s))
        assert await read(leases) == copied, "it neither renews nor releases what is the other's"
    assert [r.levelname for r in caplog.records if getattr(r, "event", "") == "copied"] == ["ERROR"]


async def test_a_counter_that_an_operator_corrects_is_not_written_over_until_a_block_proves_it_again(
    config: Config, leases: LeaseClient, clock: Clock
) -> None:
    used = CertificateCounter(7, "pool1" + "a" * 51)
    proven = dataclasses.replace(FENCED, counter_used=used)
    async with life(config, arbiter_says=arbiter("first"), actuator_says=proven) as elector:
        await let_go(leases, elector, clock)
        await elector.until(ElectorState, leading)
        assert (await read(leases)).counter == as_text(used)
        await leases.annotate(await read(leases), {COUNTER: "4"}, timeout_s=PATIENCE_S)
        await renews(elector, "second")
        await renews(elector, "third")
        assert (await read(leases)).counter == "4"
        elector.neighbours[Worker.ACTUATOR].says(FENCED)  # it takes the operator's word
        await renews(elector, "fourth")
        elector.neighbours[Worker.ACTUATOR].says(proven)
        await renews(elector, "fifth")
        assert (await read(leases)).counter == as_text(used)


async def test_a_lease_that_is_found_released_is_nobodys_word_for_it(
    config: Config, leases: LeaseClient, clock: Clock
) -> None:
    record = await read(leases)
    await leases.release(record, timeout_s=PATIENCE_S, seal=seal_of("of anybody"), key="of anybody")
    before = await read(leases)
    async with life(config, arbiter_says=arbiter("first")) as elector:
        await elector.until(ElectorState, lambda s: s.api_ok and s.role is Role.STANDBY)
        await looks_again(elector, lambda s: s.role is Role.STANDBY)
        assert await read(leases) == before


async def test_the_lease_is_released_only_with_the_arbiters_half_of_the_key(
    config: Config, leases: LeaseClient, clock: Clock
) -> None:
    async with life(config, arbiter_says=arbiter("first")) as elector:
        await let_go(leases, elector, clock)
        await elector.until(ElectorState, leading)
        held = await read(leases)
        elector.stopping.set()
        elector.neighbours[Worker.PROBER].says(FIT)
        said = await elector.until(ElectorState, lambda s: s.letting_go != "")
        assert (said.role, said.letting_go, said.grant) == (Role.HANDOVER, half_of(HALF_KEY), None)
        elector.neighbours[Worker.ARBITER].says(arbiter("first", given_away="another term's"))
        assert await read(leases) == held
        elector.neighbours[Worker.ARBITER].says(arbiter("first", given_away=HALF_KEY))
        await elector.until(ElectorState, lambda s: s.role is Role.OBSERVER)
    record = await read(leases)
    assert (record.holder, record.seal) == ("", held.seal)
    assert seal_of(record.key) == held.seal


async def test_a_key_that_was_published_with_a_release_seals_no_term_after_a_restart(
    config: Config, leases: LeaseClient, clock: Clock
) -> None:
    async with life(config, arbiter_says=arbiter("first")) as elector:
        await let_go(leases, elector, clock)
        await elector.until(ElectorState, leading)
        elector.stopping.set()
        elector.neighbours[Worker.ARBITER].says(arbiter("first", given_away=HALF_KEY))
        await elector.until(ElectorState, lambda s: s.role is Role.OBSERVER)
    published = await read(leases)
    assert opens(published.key, published.seal)
    async with life(config, arbiter_says=arbiter("second")) as elector:
        await elector.until(ElectorState, lambda s: s.api_ok)
        time_passes(elector, clock)
        await elector.until(ElectorState, leading)
    renewed = await read(leases)
    assert renewed.transitions > published.transitions
    assert not opens(published.key, renewed.seal), "the arbiter's half is the same here"


async def test_a_renewal_that_falls_due_between_the_arbiters_key_and_the_word_of_the_fence_is_left_out(
    config: Config, leases: LeaseClient, clock: Clock
) -> None:
    """It would put the arbiter's next half into the Lease, and nobody would believe a release of the last one."""
    async with life(config, arbiter_says=arbiter("first")) as elector:
        await let_go(leases, elector, clock)
        await elector.until(ElectorState, leading)
        held = await read(leases)
        fencing = dataclasses.replace(FENCED, fence=Fence.FENCING, proof=Proof.NONE)
        clock.ahead += (RENEWED_AFTER_S - 4) * SECOND
        elector.neighbours[Worker.ARBITER].says_it_again()
        elector.neighbours[Worker.ACTUATOR].says(fencing)
        elector.stopping.set()
        await looks_again(elector, lambda s: s.letting_go != "")
        assert await read(leases) == held, "no renewal was due"
        clock.ahead += 4 * SECOND
        given = dataclasses.replace(arbiter("second", given_away=HALF_KEY), half=half_of("the next"))
        for worker, body in ((Worker.ARBITER, given), (Worker.ACTUATOR, fencing), (Worker.PROBER, FIT)):
            elector.neighbours[worker].says(body)
        await looks_again(elector)
        assert await read(leases) == held
        elector.neighbours[Worker.ACTUATOR].says(FENCED)
        await elector.until(ElectorState, lambda s: s.role is Role.OBSERVER)
    record = await read(leases)
    assert (record.holder, record.seal) == ("", held.seal)
    assert seal_of(record.key) == held.seal


async def test_a_term_that_was_given_up_before_a_restart_is_released_and_not_gone_on_with(
    config: Config, leases: LeaseClient, clock: Clock
) -> None:
    await led_before(config, leases, clock)
    given = dataclasses.replace(arbiter("second", given_away=HALF_KEY), half=half_of("the next"))
    async with life(config, arbiter_says=given) as elector:
        await elector.until(ElectorState, lambda s: s.fencing_token == 2 and leading(s))
    record = await read(leases)
    assert (record.transitions, record.challenge) == (2, "second")
    assert record.seal.endswith(half_of("the next"))


async def test_after_an_outage_the_arbiter_looks_before_a_former_leader_writes_and_then_it_goes_on(
    config: Config, leases: LeaseClient, clock: Clock
) -> None:
    """It could not tell what was written between, and would wait for a stranger's right to end."""
    held = await led_before(config, leases, clock)
    async with life(config, arbiter_says=arbiter("second", willing=False, api_ok=False)) as elector:
        await elector.until(ElectorState, lambda s: s.api_ok)
        said = await looks_again(elector)
        assert said.letting_go == ""
        assert await read(leases) == held
        elector.neighbours[Worker.ARBITER].says(arbiter("second", willing=False))
        await elector.until(ElectorState, leading)
    record = await read(leases)
    assert (record.challenge, record.transitions) == ("second", held.transitions)


async def test_a_term_that_the_arbiter_was_giving_up_goes_on_only_with_its_next_half(
    config: Config, leases: LeaseClient, clock: Clock
) -> None:
    held = await led_before(config, leases, clock)
    giving_up = dataclasses.replace(arbiter("second", willing=False), giving_up=half_of(HALF_KEY))
    async with life(config, arbiter_says=giving_up) as elector:
        await elector.until(ElectorState, lambda s: s.api_ok)
        said = await looks_again(elector)
        assert said.letting_go == ""
        assert await read(leases) == held
        elector.neighbours[Worker.ARBITER].says(dataclasses.replace(arbiter("third"), half=half_of("the next")))
        await elector.until(ElectorState, leading)
    record = await read(leases)
    assert record.seal.endswith(half_of("the next"))


async def test_after_a_restart_a_term_is_not_let_go_because_the_prober_has_not_spoken_yet(
    config: Config, leases: LeaseClient, clock: Clock
) -> None:
    """All workers start anew together, and one of them is the last to speak."""
    held = await led_before(config, leases, clock)
    async with life(config, arbiter_says=arbiter("second", willing=False), prober_says=None) as elector:
        await elector.until(ElectorState, lambda s: s.api_ok)
        elector.neighbours[Worker.PROBER].says(FIT)
        await elector.until(ElectorState, leading)
        assert [s.letting_go for s in elector.said if isinstance(s, ElectorState) and s.letting_go] == []
    assert (await read(leases)).transitions == held.transitions


async def test_a_term_that_was_asked_to_be_given_up_is_never_gone_on_with_under_the_same_half(
    config: Config, leases: LeaseClient, clock: Clock
) -> None:
    """The arbiter may be giving its key away at this moment: with another half it would not know its own pod."""
    held = await led_before(config, leases, clock)
    unfit = dataclasses.replace(FIT, fit=False, reasons=("no peers",))
    async with life(config, arbiter_says=arbiter("second", willing=False), prober_says=unfit) as elector:
        await elector.until(ElectorState, lambda s: s.letting_go == half_of(HALF_KEY))
        said = await looks_again(elector)
        assert said.letting_go == half_of(HALF_KEY), "the node is fit again, and it is too late"
        assert await read(leases) == held
        given = dataclasses.replace(arbiter("third", given_away=HALF_KEY), half=half_of("the next"))
        elector.neighbours[Worker.ARBITER].says(given)
        await elector.until(ElectorState, leading)
    record = await read(leases)
    assert record.transitions == held.transitions + 1
    assert record.seal.endswith(half_of("the next"))


async def test_a_term_that_was_asked_to_be_given_up_goes_on_once_the_arbiter_has_moved_on(
    config: Config, leases: LeaseClient, clock: Clock
) -> None:
    held = await led_before(config, leases, clock)
    unfit = dataclasses.replace(FIT, fit=False, reasons=("no peers",))
    async with life(config, arbiter_says=arbiter("second", willing=False), prober_says=unfit) as elector:
        await elector.until(ElectorState, lambda s: s.letting_go != "")
        await looks_again(elector)
        elector.neighbours[Worker.ARBITER].says(dataclasses.replace(arbiter("third"), half=half_of("the next")))
        await elector.until(ElectorState, leading)
    record = await read(leases)
    assert (record.transitions, record.challenge) == (held.transitions, "third")
    assert record.seal.endswith(half_of("the next"))


async def test_asked_to_stop_before_it_goes_on_with_its_term_it_releases_it_all_the_same(
    config: Config, leases: LeaseClient, clock: Clock
) -> None:
    """It says so while the node is armed still: whoever stops with it stays until the Lease is released."""
    held = await led_before(config, leases, clock)
    armed = dataclasses.replace(FENCED, fence=Fence.ARMED)
    async with life(config, arbiter_says=arbiter("second", willing=False), actuator_says=armed) as elector:
        elector.stopping.set()
        said = await elector.until(ElectorState, lambda s: s.letting_go == half_of(HALF_KEY))
        assert not leading(said)
        assert may_hold(said)
        elector.neighbours[Worker.ACTUATOR].says(FENCED)
        given = dataclasses.replace(arbiter("third", given_away=HALF_KEY), half=half_of("the next"))
        elector.neighbours[Worker.ARBITER].says(given)
        await elector.until(ElectorState, lambda s: s.holder == "" and not may_hold(s))
    record = await read(leases)
    assert record.holder == ""
    assert opens(record.key, held.seal)


async def test_who_stands_down_before_it_goes_on_with_its_term_lets_go_of_it_while_the_node_is_armed(
    config: Config, leases: LeaseClient, clock: Clock
) -> None:
    """What its earlier life granted may last ten seconds more."""
    held = await led_before(config, leases, clock)
    path = config.worker_dir("elector") / "term"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"stand_down_until": 2**60}))
    armed = dataclasses.replace(FENCED, fence=Fence.ARMED)
    async with life(config, arbiter_says=arbiter("second", willing=False), actuator_says=armed) as elector:
        said = await elector.until(ElectorState, lambda s: s.letting_go == half_of(HALF_KEY))
        assert said.reason == STANDING_DOWN
        elector.neighbours[Worker.ACTUATOR].says(FENCED)
        given = dataclasses.replace(arbiter("third", given_away=HALF_KEY), half=half_of("the next"))
        elector.neighbours[Worker.ARBITER].says(given)
        await elector.until(ElectorState, lambda s: s.holder == "")
    record = await read(leases)
    assert opens(record.key, held.seal)


async def test_a_stopping_elector_that_cannot_ask_for_the_key_yet_does_not_say_that_it_is_done(
    config: Config, leases: LeaseClient, clock: Clock
) -> None:
    await led_before(config, leases, clock)
    async with life(config, arbiter_says=arbiter("second", willing=False, api_ok=False)) as elector:
        elector.stopping.set()
        said = await elector.until(ElectorState, lambda s: s.api_ok)
        assert said.letting_go == ""
        assert may_hold(said)


async def seen_for_long(elector: Surroundings, clock: Clock) -> None:
    """The elector has known the holder for longer than a right lasts."""
    await elector.until(ElectorState, lambda s: s.holder == "x")
    time_passes(elector, clock)


async def write(leases: LeaseClient, holder: str, *, seal: str, transitions: int = 0) -> LeaseRecord:
    return await leases.replace(
        await read(leases),
        holder=holder,
        duration_s=DURATION_S,
        transitions=transitions,
        acquired=True,
        timeout_s=PATIENCE_S,
        seal=seal,
    )


async def test_a_restarted_standby_believes_a_release_at_once_as_if_it_had_been_there(
    config: Config, leases: LeaseClient, clock: Clock
) -> None:
    """It asks the server for every version since its last life's."""
    async with life(config, arbiter_says=arbiter("first", willing=False)) as elector:
        await seen_for_long(elector, clock)
    for _ in range(3):
        await write(leases, "x", seal=seal_of("key of x"))
    record = await read(leases)
    await leases.release(record, timeout_s=PATIENCE_S, seal=record.seal, key="key of x")
    async with life(config, arbiter_says=arbiter("second")) as elector:
        said = await elector.until(ElectorState, leading)
        assert said.requests_total["list"] == 1


async def test_a_restarted_standby_learns_whom_it_did_not_see_written_over(
    config: Config, leases: LeaseClient, clock: Clock
) -> None:
    """The term that it knows was released, and another began: the old release, written again, frees nothing."""
    async with life(config, arbiter_says=arbiter("first", willing=False)) as elector:
        await seen_for_long(elector, clock)
    record = await read(leases)
    await leases.release(record, timeout_s=PATIENCE_S, seal=record.seal, key="key of x")
    await write(leases, "y", seal=seal_of("key of y"), transitions=1)
    await leases.release(await read(leases), timeout_s=PATIENCE_S, seal=record.seal, key="key of x")
    before = await read(leases)
    async with life(config, arbiter_says=arbiter("second")) as elector:
        await elector.until(ElectorState, lambda s: s.api_ok and s.role is Role.STANDBY)
        await looks_again(elector, lambda s: s.role is Role.STANDBY)
        assert await read(leases) == before
        time_passes(elector, clock)
        await elector.until(ElectorState, leading)


async def test_what_the_server_cannot_tell_any_more_may_have_been_a_term_of_somebodys(
    config: Config, leases: LeaseClient, clock: Clock, api: EmbeddedApi
) -> None:
    async with life(config, arbiter_says=arbiter("first", willing=False)) as elector:
        await seen_for_long(elector, clock)
    record = await read(leases)
    await leases.release(record, timeout_s=PATIENCE_S, seal=record.seal, key="key of x")
    before = await read(leases)
    await api.restart()
    async with life(config, arbiter_says=arbiter("second")) as elector:
        await elector.until(ElectorState, lambda s: s.api_ok and s.role is Role.STANDBY)
        await looks_again(elector, lambda s: s.role is Role.STANDBY)
        assert await read(leases) == before
        time_passes(elector, clock)
        await elector.until(ElectorState, leading)


async def test_after_a_restore_from_a_backup_the_lease_says_nothing_of_whom_the_server_has_forgotten(
    config: Config, leases: LeaseClient, clock: Clock, api: EmbeddedApi, tmp_path: Path
) -> None:
    """In the backup the Lease is released, as this pod saw it; in the time that was lost it was another's."""
    async with life(config, arbiter_says=arbiter("first", willing=False)) as elector:
        await seen_for_long(elector, clock)
        record = await read(leases)
        await leases.release(record, timeout_s=PATIENCE_S, seal=record.seal, key="key of x")
        await elector.until(ElectorState, lambda s: s.holder == "")
    before = await read(leases)
    copy_database(tmp_path / "db", tmp_path / "backup")
    async with ApiSession(config.kubeconfig, user_agent="test") as session:
        other = LeaseClient(session, "default", "another")
        await other.create(holder="", duration_s=1, transitions=0, timeout_s=PATIENCE_S)
    async with life(config, arbiter_says=arbiter("second", willing=False)) as elector:
        await elector.until(ElectorState, lambda s: s.api_ok)
    await write(leases, "y", seal=seal_of("key of y"), transitions=1)
    await api.kill()
    copy_database(tmp_path / "backup", tmp_path / "db")
    await api.restart()
    async with life(config, arbiter_says=arbiter("third")) as elector:
        await elector.until(ElectorState, lambda s: s.api_ok and s.role is Role.STANDBY)
        await looks_again(elector, lambda s: s.role is Role.STANDBY)
        assert await read(leases) == before
        time_passes(elector, clock)
        await elector.until(ElectorState, leading)


async def test_what_was_seen_before_another_boot_is_forgotten_and_the_term_that_was_held_is_not(
    config: Config, leases: LeaseClient, clock: Clock
) -> None:
    await led_before(config, leases, clock)
    path = config.worker_dir("elector") / "term"
    path.write_text(path.read_text().replace('"boot": "', '"boot": "0'))
    async with life(config, arbiter_says=arbiter("second")) as elector:
        assert (await elector.until(ElectorState, leading)).fencing_token == 1


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"boot": 1}', "\u00e4", "7 123 0 boot key\n"])
async def test_a_spoilt_memory_makes_a_stranger_and_no_fault(
    config: Config, leases: LeaseClient, clock: Clock, text: str
) -> None:
    held = await led_before(config, leases, clock)
    (config.worker_dir("elector") / "term").write_text(text)
    async with life(config, arbiter_says=arbiter("second")) as elector:
        said = await elector.until(ElectorState, lambda s: s.holder == held.holder)
        assert said.settled, "a stranger holds nothing"
        assert not leading(await looks_again(elector))


@pytest.mark.parametrize("another_boot", [False, True])
async def test_a_drain_outlives_the_elector_and_a_boot_and_a_stand_down_the_elector_alone(
    config: Config, leases: LeaseClient, clock: Clock, *, another_boot: bool
) -> None:
    await led_before(config, leases, clock)
    path = config.worker_dir("elector") / "term"
    notes = json.loads(path.read_text())
    boot = "another" if another_boot else notes["boot"]
    for kept, stays_out in (({"drained": "new disk"}, True), ({"stand_down_until": 2**60}, not another_boot)):
        path.write_text(json.dumps(notes | {"boot": boot} | kept))
        async with life(config, arbiter_says=arbiter("second")) as elector:
            said = await elector.until(ElectorState, lambda s: bool(s.holder))
            assert said.drained == kept.get("drained", "")
            assert (said.reason == STANDING_DOWN) is stays_out


async def test_notes_of_an_older_version_say_nothing_of_a_drain(
    config: Config, leases: LeaseClient, clock: Clock
) -> None:
    await led_before(config, leases, clock)
    path = config.worker_dir("elector") / "term"
    notes = json.loads(path.read_text())
    path.write_text(json.dumps({name: notes[name] for name in notes if name not in ("drained", "stand_down_until")}))
    async with life(config, arbiter_says=arbiter("second")) as elector:
        assert (await elector.until(ElectorState, leading)).fencing_token == 1


async def test_a_command_says_which_earlier_one_it_replaces(config: Config) -> None:
    async with ApiSession(config.kubeconfig, user_agent="test") as session:
        elector = Elector(cast("Context", Surroundings(config)), session)

        def told(seconds: float | None, reason: str = "") -> str:
            return elector._stand_down(StandDown(seconds, reason), Peer(1, 0, 0)).message

        elector._problem_of_remembering = lambda: ""  # type: ignore[method-assign]  # it has no folder here
        assert told(0) == "in the election, as before"
        assert told(None, "new disk") == "standing down until `forgectl come-back`"
        assert told(60) == "standing down for 60 s, instead of the drain (new disk)"
        assert re.fullmatch(r"back in the election; the stand-down \((59|60) s more\) is ended", told(0))


# --- its log ---


async def test_an_api_that_fails_again_and_again_costs_few_lines(
    config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with ApiSession(config.kubeconfig, user_agent="test") as session:
        elector = Elector(cast("Context", Surroundings(config)), session)
        for _ in range(200):
            elector._failed(Step(Do.READ, 0, ""), ApiFailure(Failure.UNREACHABLE, "nobody is there"))
            elector._answered()
    told = [vars(record)["event"] for record in caplog.records if hasattr(record, "event")]
    assert told == ["api_failed", "api_ok"]
