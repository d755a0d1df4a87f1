"""What the simulated world can do to the product is what it says it does: a fault without teeth finds nothing."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from ipc.messages import Worker
from kube.errors import ApiFailure, Failure
from policy.lease import LeaseRecord

from script import FAULTS, HANDED_OVER_S, Script, Step
from sim import Outcome, Stage, forked
from simulated_api import Leases, PathState, Session, SimulatedApi
from simulated_fleet import Server
from simulated_host import Loop, Machine, Notebook, Process, wall_s
from whole_pod import simulated
from world import KINDS, World

HELD = LeaseRecord("", "pod-1_00000001", 15, 3)


def lived(scene: Coroutine[Any, Any, None]) -> None:
    loop = Loop()
    try:
        loop.run_until_complete(scene)
    finally:
        loop.close()


def an_api() -> SimulatedApi:
    return SimulatedApi(random.Random(1), lambda _by, _record: None)


def test_of_requests_whose_answer_is_lost_all_were_done() -> None:
    async def scene() -> None:
        api = an_api()
        api.paths["pod-0"] = PathState.ANSWERS_LOST
        leases, heard = Leases(Session(api, "pod-0"), "", ""), 0
        known = api.write("pod-1", HELD)
        for _ in range(20):
            assert known is not None
            try:
                await leases.replace(
                    known, holder="pod-0_1", duration_s=15, transitions=4, acquired=True, timeout_s=2.5, seal=""
                )
                heard += 1
            except ApiFailure as failure:
                assert failure.kind is Failure.UNREACHABLE
            assert api.record is not known
            known = api.record
        assert 3 < heard < 17

    lived(scene())


def test_an_ill_server_fails_in_every_way_that_the_product_has_a_name_for_and_may_have_done_what_it_was_asked() -> None:
    async def scene() -> None:
        api, done = an_api(), 0
        api.paths["pod-0"] = PathState.ILL
        failed: set[Failure] = set()
        failed_and_done: set[Failure] = set()

        def work() -> None:
            nonlocal done
            done += 1

        for _ in range(400):
            before = done
            try:
                await Session(api, "pod-0").request("update", 2.5, work)
            except ApiFailure as failure:
                failed.add(failure.kind)
                if done > before:
                    failed_and_done.add(failure.kind)
        assert failed == set(Failure) - {Failure.TIMEOUT, Failure.ALREADY_EXISTS, Failure.GONE}
        assert failed_and_done == {Failure.SERVER_ERROR, Failure.MALFORMED, Failure.UNREACHABLE, Failure.CONFLICT}

    lived(scene())


def test_a_write_that_something_repeats_may_be_answered_with_a_conflict_though_it_was_done() -> None:
    async def scene() -> None:
        api = an_api()
        api.paths["pod-0"] = PathState.TWICE
        leases, refused = Leases(Session(api, "pod-0"), "", ""), 0
        for _ in range(20):
            known = api.write("pod-1", HELD)
            assert known is not None
            try:
                await leases.release(known, timeout_s=2.5, seal="", key="")
            except ApiFailure as failure:
                assert failure.kind is Failure.CONFLICT
                refused += 1
            assert api.record is not None
            assert not api.record.holder
            await asyncio.sleep(60)
        assert 3 < refused < 17

    lived(scene())


def test_a_watch_that_fell_silent_tells_nothing_and_ends_when_the_client_gives_it_up() -> None:
    async def scene() -> None:
        api = an_api()
        leases, loop = Leases(Session(api, "pod-0"), "", ""), asyncio.get_running_loop()
        began = loop.time()
        loop.call_later(1, lambda: api.deafened.update({"pod-0": 1}))
        loop.call_later(2, lambda: api.write("pod-1", HELD))
        with pytest.raises(ApiFailure) as caught:
            await anext(leases.watch(str(api.version), timeout_s=240))
        assert caught.value.kind is Failure.TIMEOUT
        assert loop.time() - began > 240
        assert (await anext(leases.watch("100", timeout_s=240))).record is not None, "another one hears it"

    lived(scene())


def test_watches_that_are_late_tell_everything_once_they_tell_anything() -> None:
    async def scene() -> None:
        server = Server("a-east", random.Random(1), lambda _where, _by, _record: None)
        heard: list[float] = []
        loop = asyncio.get_running_loop()

        async def listen() -> None:
            watch = Leases(Session(server, "pod-0"), "", "a-lease").watch("100", timeout_s=240)
            while True:
                await anext(watch)
                heard.append(loop.time())

        listening = loop.create_task(listen())
        await asyncio.sleep(1)
        server.delay_watches(True)
        for _ in range(3):
            server.write("pod-1", HELD)
            await asyncio.sleep(3)
        assert not heard
        server.delay_watches(False)
        await asyncio.sleep(0.1)
        assert len(heard) == 3
        listening.cancel()

    lived(scene())


def test_a_restored_server_has_the_lease_at_its_old_version_and_none_of_those_between() -> None:
    async def scene() -> None:
        server = Server("a-east", random.Random(1), lambda _where, _by, _record: None)
        then = server.write("pod-1", HELD)
        restore = server.backup(whole=True)
        server.write("pod-1", HELD)
        given = server.version
        server.stop()
        restore()
        record, version = await Leases(Session(server, "pod-0"), "", "a-lease").look(timeout_s=2.5)
        assert record == then
        assert int(version) > given
        with pytest.raises(ApiFailure) as caught:
            await anext(Leases(Session(server, "pod-0"), "", "a-lease").watch(str(given), timeout_s=240))
        assert caught.value.kind is Failure.GONE

    lived(scene())


def test_who_dies_in_the_midst_has_done_what_came_before_and_nothing_that_comes_after(tmp_path: Path) -> None:
    async def scene() -> None:
        machine = Machine("pod-0", random.Random(1))
        life = Process(machine, "elector")
        life.dies_after = 2

        def act() -> None:
            notes: Any = Notebook(tmp_path, None)  # type: ignore[arg-type]  # it writes no line here
            notes.keep({"first": 1})
            notes.keep({"second": 2})

        life.context.copy().run(act)
        assert not life.alive
        assert '"first"' in machine.disk[str(tmp_path / "term")]

    lived(scene())


def test_a_wall_clock_that_is_set_is_another_one_for_the_processes_of_that_machine_alone() -> None:
    async def scene() -> None:
        one, other = Machine("pod-0", random.Random(1)), Machine("pod-1", random.Random(1))
        one.set_wall_clock(60.0)
        here, there = (Process(each, "prober").context.copy().run(wall_s) for each in (one, other))
        assert here - there == pytest.approx(60.0)

    lived(scene())


# --- what must hold, and is seen not to ---


def seen_in(scene: Callable[[World], Coroutine[Any, Any, None]]) -> list[str]:
    """What was seen that must not be, of a scene played in a pool of two that forges; in a process of its own."""

    def act() -> list[Outcome]:
        with simulated():
            stage = Stage(KINDS[0], cold=False, drift=0.004)
            try:
                stage.run(scene(stage.world))
                return [Outcome(stage.world.violations)]
            finally:
                stage.close()

    logging.disable(logging.CRITICAL)
    try:
        return forked(act)[0].violations
    finally:
        logging.disable(logging.NOTSET)


def forger_and_other(world: World) -> tuple[Any, Any]:
    forger = world.forgers()[0]
    return forger, next(pod for pod in world.pods if pod is not forger)


def test_who_writes_over_a_holder_that_renews_is_seen() -> None:
    async def scene(world: World) -> None:
        forger, other = forger_and_other(world)
        record = forger.api.record
        forger.api.write(other.name, LeaseRecord("", f"{other.name}_1", 15, record.transitions + 1))

    assert any("wrote over" in each for each in seen_in(scene))


def test_an_actuator_that_says_fenced_while_its_node_forges_is_seen() -> None:
    async def scene(world: World) -> None:
        _, other = forger_and_other(world)
        said = other.said(Worker.ACTUATOR)
        other.node._enable(True)
        world._said(other, Worker.ACTUATOR, said)

    assert any("says fenced" in each for each in seen_in(scene))


def test_a_pool_that_asks_without_a_pause_is_seen() -> None:
    async def scene(world: World) -> None:
        before, (forger, _) = world.asked(), forger_and_other(world)
        forger.api.asked[forger.name] += 1000
        world.must_not_turn_in_a_circle(before, 1.0)

    assert any("asked a-east 1000 times" in each for each in seen_in(scene))


def test_a_token_that_goes_back_is_seen() -> None:
    async def scene(world: World) -> None:
        forger, other = forger_and_other(world)
        for known in (world._tokens, world._written_in):
            known[other.name] = known[forger.name]
        world._begins(other)

    assert any("forges with the token" in each for each in seen_in(scene))


def test_of_two_pods_with_one_name_one_forges_and_the_one_that_was_replaced_is_gone_in_the_end() -> None:
    async def scene(world: World) -> None:
        forger, _ = forger_and_other(world)
        step = Step(0.0, "", "a_pod_is_replaced_while_it_lives_on", 0, 20.0, 0.2)
        playing = asyncio.create_task(FAULTS[step.fault](world, step, forger))
        await asyncio.sleep(1)
        assert [pod.config.pod_name for pod in world.pods].count(forger.config.pod_name) == 2
        await playing
        assert forger not in world.pods
        assert len(world.pods) == 2
        await world.until_somebody_forges(60)

    assert not seen_in(scene)


def test_a_hand_over_that_was_asked_for_has_a_bound() -> None:
    """The slowest that is seen takes a second; `make sim` looks at each."""

    async def scene(world: World) -> None:
        await world.until(lambda: all(pod.ready() for pod in world.pods), 60, "all are ready")
        forger, other = forger_and_other(world)
        assert world.can_hand_over(forger)
        forger.stand_down(30)
        await world.until(lambda: other.node.forging, HANDED_OVER_S, "the other forges")

    assert not seen_in(scene)


def test_which_instance_a_pod_is_does_not_depend_on_the_schedules_that_were_played_before_in_other_processes() -> None:
    """They share the folder of the world that they were forked from: a seed has to say the same alone."""

    def act() -> list[Outcome]:
        with simulated():
            stage = Stage(KINDS[0], cold=True, drift=0.004)
            for pod in stage.world.pods:  # as one that replaced them has left it
                pod.config.instance_file.write_text("ffffffff\n", encoding="ascii")
            stage.play([Script(1, KINDS[0], True, ())])
            stage.close()
            return [Outcome(stage.world.story)]

    told = forked(act)[0].violations
    assert any("written by" in line for line in told)
    assert not any("ffffffff" in line for line in told)
