"""Our CardanoForgeCluster at two API servers: kept alike and written, also past a watch that tells nothing."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

import kube.forge_clusters
import workers.clusters
from config import Config, load
from devkit.api import EmbeddedApi
from devkit.api.server_protocol import ADMIN
from devkit.realapi.client import AdminClient
from ipc.messages import Worker
from kernel.clock import boottime_ns
from kube.errors import ApiFailure, Failure
from kube.forge_clusters import MARK, POOL_LABEL, ForgeCluster, ForgeClusterClient
from kube.session import ApiSession
from policy import replicas, timing
from policy.arbitration import ForgeState
from workers.clusters import Clusters, Own
from workers.coordination import sessions

from surroundings import PATIENCE_S, report


@pytest.fixture
def config(tmp_path: Path) -> Config:
    given = {
        "RUN_DIR": str(tmp_path / "run"),
        "POD_NAME": "pod-a",
        "CLUSTER_REGION": "east",
        "ENABLE_CLUSTER_MANAGEMENT": "true",
        "POOL_ID": "pool1abcdefghijklmno",
        "COORDINATION_KUBECONFIGS": f"{tmp_path / 'one'},{tmp_path / 'other'}",
    }
    config = load(given)
    config.worker_dir(Worker.ARBITER).mkdir(parents=True)
    return config


class Leader:
    """The objects as a leading pod's arbiter keeps them, and an operator beside it."""

    def __init__(
        self, config: Config, found: list[ApiSession], hands: list[ApiSession], servers: tuple[EmbeddedApi, ...]
    ) -> None:
        self.sessions, self.clusters = found, Clusters(config, found, lambda: None)
        self._name, pool = config.forge_cluster_name, f"{config.cardano_network}-{config.pool_label}"
        self._hands = [ForgeClusterClient(hand, "default", pool, group="cardano.io", version="v1") for hand in hands]
        self._admins = [AdminClient(server.url, server.ca_file, server.token_for(ADMIN)) for server in servers]

    def says(self, what: str) -> None:
        """Something new, so that the status has to be written."""
        self.clusters.say(Own(report(message=what), None, None, None))

    async def edits(self, spec: dict[str, Any], on: int) -> None:
        body = {"spec": spec}
        await self._hands[on].patch(self._name, body, version="", manager="kubectl", timeout_s=PATIENCE_S)

    async def deletes(self, on: int) -> None:
        path = f"/apis/cardano.io/v1/namespaces/default/cardanoforgeclusters/{self._name}"
        await asyncio.to_thread(self._admins[on].request, "DELETE", path)

    async def seen(self, on: int) -> ForgeCluster | None:
        """As it is; None: it is not there."""
        try:
            return await self._hands[on].get(self._name, timeout_s=PATIENCE_S)
        except ApiFailure as failure:
            assert failure.kind is Failure.NOT_FOUND
            return None

    async def spec(self, on: int) -> dict[str, Any]:
        found = await self.seen(on)
        return dict(found.raw["spec"]) if found is not None else {}

    async def message(self, on: int) -> str:
        found = await self.seen(on)
        return str(found.status.get("message")) if found is not None else ""

    async def messages(self) -> list[str]:
        return [await self.message(0), await self.message(1)]

    async def until(self, what: Callable[[], Any]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not await what():
                await asyncio.sleep(0.02)

    async def until_both_say(self, **wanted: Any) -> None:
        """Fields of the spec, on both servers."""

        async def said() -> bool:
            specs = [await self.spec(on) for on in (0, 1)]
            return all(spec.get(name) == value for spec in specs for name, value in wanted.items())

        await self.until(said)

    async def begins_anew(self, config: Config) -> None:
        """In another life, whose clusters were closed before; until it has written what it says."""
        self.clusters = Clusters(config, self.sessions, lambda: None)
        self.clusters.start()
        self.says("after a restart")

        async def written() -> bool:
            return await self.messages() == ["after a restart"] * 2

        await self.until(written)


@pytest.fixture
async def leader(config: Config, one: EmbeddedApi, other: EmbeddedApi) -> AsyncIterator[Leader]:
    async with sessions(config) as found, sessions(config) as hands:
        made = Leader(config, found, hands, (one, other))
        made.clusters.start()
        made.says("first")

        async def there() -> bool:
            return await made.messages() == ["first", "first"]

        await made.until(there)
        yield made
        await made.clusters.close()


def turn_deaf(session: ApiSession) -> list[int]:
    """Watches that are opened from now on tell nothing; how many have been."""
    opened: list[int] = []

    async def watch(path: str, query: list[tuple[str, str]], *, timeout_s: int) -> AsyncGenerator[Any, None]:
        opened.append(1)
        await asyncio.Event().wait()
        yield {}

    session.watch = watch  # type: ignore[method-assign]
    return opened


async def restart_watches(leader: Leader, on: int) -> list[int]:
    opened = turn_deaf(leader.sessions[on])
    leader.clusters._begin_following(leader.clusters._lines[on])
    async with asyncio.timeout(PATIENCE_S):
        while not opened:
            await asyncio.sleep(0.02)
    return opened


@pytest.mark.parametrize("edited", [0, 1])
async def test_an_edit_is_carried_to_the_other_server(leader: Leader, edited: int) -> None:
    await leader.edits({"forgeState": "Disabled"}, on=edited)

    async def carried() -> bool:
        return (await leader.spec(1 - edited)).get("forgeState") == "Disabled"

    await leader.until(carried)


@pytest.mark.parametrize("edited", [0, 1])
async def test_while_the_mark_of_an_edit_is_late_another_edit_elsewhere_is_not_undone_by_it(
    leader: Leader, edited: int
) -> None:
    session, other = leader.sessions[edited], 1 - edited
    honest = session.request

    async def slow(verb: str, path: str, **options: Any) -> Any:
        if verb == "patch" and not path.endswith("/status"):
            await asyncio.sleep(0.3)
        return await honest(verb, path, **options)

    session.request = slow  # type: ignore[method-assign]
    for priority in (7, 8):
        await leader.edits({"priority": priority}, on=edited if priority == 7 else other)

        async def seen_everywhere(priority: int = priority) -> bool:
            return [(await leader.spec(on))["priority"] for on in (0, 1)] == [priority, priority]

        await leader.until(seen_everywhere)

    async def agreed() -> bool:
        found = [await leader.seen(on) for on in (0, 1)]
        assert all(each is not None and each.raw["spec"]["priority"] == 8 for each in found)
        return len({each.mark for each in found if each is not None}) == 1

    await leader.until(agreed)


async def test_an_edit_that_did_not_know_of_a_disabling_elsewhere_is_set_aside_and_an_event_says_so(
    leader: Leader,
) -> None:
    """Both are made before either is seen."""
    lines = leader.clusters._lines
    for line in lines:
        assert line.following is not None
        line.following.cancel()
    await leader.edits({"priority": 7}, on=0)
    await leader.edits({"forgeState": "Disabled"}, on=1)
    for line in lines:
        leader.clusters._begin_following(line)

    async def disabled() -> bool:
        found = [await leader.spec(on) for on in (0, 1)]
        return all(spec["forgeState"] == "Disabled" and spec["priority"] != 7 for spec in found)

    await leader.until(disabled)

    async def told() -> bool:
        path = "/api/v1/namespaces/default/events"
        answer = await asyncio.to_thread(leader._admins[0].request, "GET", path)
        return "EditSetAside" in {event["reason"] for event in answer.body["items"]}

    await leader.until(told)


LONGER_THAN_CAN_BE_READ = {"healthCheck": {"headers": {"X-Of": "another version's CRD"}}}


FOR_NOW = {"enabled": True, "reason": "now", "forceState": "Disabled", "expiresAt": "2999-01-01T00:00:00Z"}


@pytest.mark.parametrize("said", [{"forgeState": "Disabled"}, {"override": FOR_NOW}])
async def test_a_cluster_is_disabled_though_something_else_in_its_object_cannot_be_read(
    leader: Leader, said: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kube.forge_clusters, "MOST_HEADERS", 5)
    await leader.edits(LONGER_THAN_CAN_BE_READ, on=0)
    await leader.edits(said, on=0)

    async def disabled() -> bool:
        view = next(view for view in leader.clusters.views() if view.ours)
        stopped = view.spec is not None and view.spec.effective_state(0) is ForgeState.DISABLED
        return stopped and "spec.healthCheck.headers" in view.unreadable

    await leader.until(disabled)
    await leader.edits({"forgeState": "Priority-based", "override": {"enabled": False}}, on=0)

    async def enabled() -> bool:
        spec = leader.clusters.spec()
        return spec is not None and spec.effective_state(0) is ForgeState.PRIORITY_BASED

    await leader.until(enabled)


@pytest.mark.parametrize("on", [0, 1])
async def test_a_saved_copy_that_is_applied_is_an_edit_though_it_brings_an_old_mark(leader: Leader, on: int) -> None:
    """As `kubectl get -o json` wrote it, and `kubectl apply` or `replace` sends it."""
    await leader.edits({"forgeState": "Disabled"}, on=0)

    async def state(wanted: str) -> bool:
        found = [await leader.seen(each) for each in (0, 1)]
        states = {each.raw["spec"].get("forgeState") for each in found if each is not None}
        return states == {wanted} and len({each.mark for each in found if each is not None}) == 1

    await leader.until(lambda: state("Disabled"))
    saved = await leader.seen(on)
    assert saved is not None
    await leader.edits({"forgeState": "Priority-based"}, on=0)
    await leader.until(lambda: state("Priority-based"))
    before = await leader.seen(on)
    assert before is not None
    applied = {"metadata": {"annotations": {MARK: saved.mark}}, "spec": {"forgeState": "Disabled"}}
    await leader._hands[on].patch(leader._name, applied, version="", manager="kubectl", timeout_s=PATIENCE_S)
    await leader.until(lambda: state("Disabled"))
    after = await leader.seen(on)
    assert after is not None
    assert replicas.older(before.mark, after.mark)


async def test_a_cluster_that_was_disabled_stays_so_when_its_object_is_deleted_everywhere(leader: Leader) -> None:
    await leader.edits({"forgeState": "Disabled", "priority": 7}, on=0)

    async def disabled() -> bool:
        leader.clusters.views()  # as at each judgement
        return [(await leader.spec(on)).get("forgeState") for on in (0, 1)] == ["Disabled", "Disabled"]

    await leader.until(disabled)
    uids = {each.uid for on in (0, 1) if (each := await leader.seen(on)) is not None}
    leader.clusters.say(None)  # whoever writes makes one good from the other
    for on in (0, 1):
        await leader.deletes(on=on)

    async def gone() -> bool:
        return not any(line.seen for line in leader.clusters._lines)

    await leader.until(gone)
    leader.says("again")

    async def made_anew() -> bool:
        found = [await leader.seen(on) for on in (0, 1)]
        return all(each is not None and each.uid not in uids for each in found) and await disabled()

    await leader.until(made_anew)
    await leader.edits({"forgeState": "Priority-based"}, on=1)

    await leader.until_both_say(forgeState="Priority-based")


async def test_a_wrong_label_is_put_right(leader: Leader) -> None:
    """Nobody else would see the cluster."""
    before = await leader.seen(0)
    assert before is not None
    wrong = {"metadata": {"labels": {POOL_LABEL: "mainnet-another"}}}
    await leader._hands[0].patch(leader._name, wrong, version="", manager="kubectl", timeout_s=PATIENCE_S)

    async def put_right() -> bool:
        found = await leader.seen(0)
        return found is not None and found.label == before.label and found.uid == before.uid

    await leader.until(put_right)


async def test_a_revision_that_only_a_hand_can_have_written_does_not_decide(leader: Leader) -> None:
    for priority in (7, 8, 9):
        mark = {"metadata": {"annotations": {MARK: "999999999999999.aaaa"}}, "spec": {"priority": priority}}
        await leader._hands[1].patch(leader._name, mark, version="", manager="kubectl", timeout_s=PATIENCE_S)

        async def carried(priority: int = priority) -> bool:
            found = [await leader.seen(on) for on in (0, 1)]
            marks = {each.mark for each in found if each is not None}
            same = all(each is not None and each.raw["spec"]["priority"] == priority for each in found)
            return same and len(marks) == 1 and not marks.pop().startswith("999")

        await leader.until(carried)


async def test_an_edit_that_overtakes_the_answer_to_a_write_of_ours_is_not_forgotten(leader: Leader) -> None:
    """Its event comes first, and no other one will: the late answer tells less."""
    session, clusters = leader.sessions[0], leader.clusters
    honest = session.request

    async def overtaken(verb: str, path: str, **options: Any) -> Any:
        answer = await honest(verb, path, **options)
        if verb == "patch" and path.endswith("/status"):
            session.request = honest  # type: ignore[method-assign]
            await leader.edits({"priority": 7}, on=0)
            async with asyncio.timeout(PATIENCE_S):
                while (spec := clusters.spec()) is None or spec.priority != 7:
                    await asyncio.sleep(0.01)
        return answer

    session.request = overtaken  # type: ignore[method-assign]
    leader.says("second")

    async def carried() -> bool:
        return (await leader.spec(1))["priority"] == 7

    await leader.until(carried)
    leader.says("third")

    async def written() -> bool:
        return await leader.messages() == ["third", "third"] and (await leader.spec(0))["priority"] == 7

    await leader.until(written)


async def test_an_edit_of_which_a_dead_watch_tells_nothing_is_found_by_the_next_write_and_carried(
    leader: Leader,
) -> None:
    await restart_watches(leader, 0)
    await leader.edits({"priority": 7}, on=0)
    leader.says("second")

    async def carried() -> bool:
        return (await leader.spec(1))["priority"] == 7 and await leader.message(0) == "second"

    await leader.until(carried)


async def test_a_deletion_of_which_a_dead_watch_tells_nothing_is_made_good(leader: Leader) -> None:
    await restart_watches(leader, 1)
    before = await leader.seen(1)
    assert before is not None
    await leader.deletes(on=1)
    leader.says("second")

    async def made_anew() -> bool:
        found = await leader.seen(1)
        return found is not None and found.uid != before.uid and found.status.get("message") == "second"

    await leader.until(made_anew)


async def test_an_object_that_went_unseen_before_the_environment_is_applied_is_made_anew_as_the_others_say(
    leader: Leader,
) -> None:
    """An apply would make it, less all that others had set: an empty one, which says Priority-based."""
    await leader.edits({"forgeState": "Disabled"}, on=0)

    async def disabled() -> bool:
        return [(await leader.spec(on)).get("forgeState") for on in (0, 1)] == ["Disabled", "Disabled"]

    await leader.until(disabled)
    await restart_watches(leader, 1)
    await leader.deletes(on=1)
    leader.clusters._lines[1].applied = False
    leader.says("second")

    async def made_anew() -> bool:
        return await leader.message(1) == "second" and await disabled()

    await leader.until(made_anew)


async def test_a_watch_that_does_not_tell_of_our_own_write_is_given_up_for_another(
    leader: Leader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers.clusters, "DEAF", timing.SECOND // 5)
    opened = await restart_watches(leader, 0)
    leader.says("second")
    async with asyncio.timeout(PATIENCE_S):
        while len(opened) < 2:
            await asyncio.sleep(0.02)


async def test_a_watch_that_tells_of_our_own_writes_is_kept(leader: Leader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers.clusters, "DEAF", timing.SECOND // 5)
    before = [session.requests_total["watch"] for session in leader.sessions]
    for number in range(5):
        leader.says(str(number))
        said = str(number)

        async def written(said: str = said) -> bool:
            return await leader.messages() == [said, said]

        await leader.until(written)
        await asyncio.sleep(0.3)  # longer than DEAF: nothing can be awaited that does not happen
    assert [session.requests_total["watch"] for session in leader.sessions] == before


async def test_what_is_found_is_not_taken_for_said_since_and_what_is_written_under_our_eyes_is(
    leader: Leader, config: Config
) -> None:
    clusters = Clusters(config, leader.sessions, lambda: None)

    async def seen(message: str) -> tuple[int, int]:
        """When the change to it was seen, and before which instant it was not written."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                for view in clusters._lines[0].seen.values():
                    if view.cluster.status.get("message") == message:
                        return view.changed_at, view.said_at
                await asyncio.sleep(0.02)

    began = boottime_ns()
    clusters.start()
    found_at, said_at = await seen("first")
    assert found_at > began
    assert said_at == 0
    leader.says("second")
    found_at, said_at = await seen("second")
    assert said_at == found_at > began
    line = clusters._lines[0]
    assert line.following is not None
    line.following.cancel()
    gap_began = boottime_ns()
    leader.says("third")
    await leader.until(lambda: _is(leader, "third"))
    clusters._begin_following(line)
    found_at, after_gap = await seen("third")
    assert said_at <= after_gap < gap_began < found_at
    await clusters.close()


async def _is(leader: Leader, message: str) -> bool:
    return await leader.message(0) == message


async def test_an_edit_made_while_the_object_is_still_being_made_elsewhere_stands(
    config: Config, one: EmbeddedApi, other: EmbeddedApi
) -> None:
    """What the environment says arrives last, on a member that comes first: it is nobody's edit."""
    async with sessions(config) as found, sessions(config) as hands:
        leader = Leader(config, found, hands, (one, other))
        honest, carried = found[0].request, asyncio.Event()

        async def late(verb: str, path: str, **options: Any) -> Any:
            if verb == "patch" and not path.endswith("/status"):
                await carried.wait()
            return await honest(verb, path, **options)

        found[0].request = late  # type: ignore[method-assign]
        leader.clusters.start()
        leader.says("first")
        await leader.until(lambda: leader.seen(on=1))
        await leader.edits({"forgeState": "Disabled"}, on=1)

        async def marked() -> bool:
            seen = await leader.seen(on=1)
            return seen is not None and seen.mark.startswith("1.")

        await leader.until(marked)
        carried.set()

        async def everywhere() -> bool:
            return [(await leader.spec(on)).get("forgeState") for on in (0, 1)] == ["Disabled", "Disabled"]

        await leader.until(everywhere)
        await leader.clusters.close()


async def test_a_copy_keeps_its_mark_when_the_environment_is_applied_anew(leader: Leader, config: Config) -> None:
    """An apply takes away what its manager applied before and does not any more."""

    async def marks() -> list[str]:
        return [each.mark if each is not None else "" for each in (await leader.seen(0), await leader.seen(1))]

    before = await marks()
    assert before[0] == before[1] != ""
    await leader.clusters.close()
    await leader.begins_anew(config)
    assert await marks() == before


@pytest.mark.parametrize(("by_hand", "stands"), [(None, 7), (50, 50)])
async def test_what_the_environment_says_anew_counts_unless_a_person_has_set_it(
    leader: Leader, config: Config, by_hand: int | None, stands: int
) -> None:
    """As docs/clusters.md has it, "Whose field is whose": here CLUSTER_PRIORITY."""

    await leader.until_both_say(priority=100)
    if by_hand is not None:
        await leader.edits({"priority": by_hand}, 0)
        await leader.until_both_say(priority=by_hand)
    await leader.clusters.close()
    await leader.begins_anew(dataclasses.replace(config, cluster_priority=7))
    await leader.until_both_say(priority=stands)


@pytest.mark.parametrize(("while_it_runs", "stands"), [(True, 50), (False, 7)])
async def test_an_object_that_is_deleted_everywhere_is_made_by_the_environment_only_where_no_pod_ran_meanwhile(
    leader: Leader, config: Config, *, while_it_runs: bool, stands: int
) -> None:
    """As docs/clusters.md has it: why the way back to the environment's values begins with the end of the pods."""

    await leader.edits({"priority": 50}, 0)
    await leader.until_both_say(priority=50)
    if while_it_runs:
        for on in (0, 1):
            before = await leader.seen(on)
            await leader.deletes(on)

            async def made_good(on: int = on, before: ForgeCluster | None = before) -> bool:
                found = await leader.seen(on)
                return found is not None and before is not None and found.uid != before.uid

            await leader.until(made_good)
    await leader.clusters.close()
    if not while_it_runs:
        for on in (0, 1):
            await leader.deletes(on)
    await leader.begins_anew(dataclasses.replace(config, cluster_priority=7))
    await leader.until_both_say(priority=stands)
