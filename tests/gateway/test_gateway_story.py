"""One look at the page: who forges, where, since when, until when, who is next, why; for every way a pod can stand."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from gateway_pictures import ACTUATOR, CONFIG, MANAGED, NOW, POOL, S, picture
from test_gateway_chronicle import FENCED, MANAGING, at, standby, told

from gateway import story
from gateway.chronicle import Chronicle
from gateway.story import Headline, Standing, headline
from gateway.views import Picture
from ipc.messages import Fence, Role, Worker

EU, US = "preprod-pool1abcd1-eu-1", "preprod-pool1abcd1-us-1"
CLUSTERS = (POOL.clusters[0], dataclasses.replace(POOL.clusters[1], state="Priority-based", eligible=True, why_not=""))


def one_look(shown: Picture, *before: Picture) -> Headline:
    return headline(shown, told(*before, shown))


def managed(pool: dict[str, Any], **changes: Any) -> Picture:
    arbiter = {**MANAGED, "pool": dataclasses.replace(POOL, **{"clusters": CLUSTERS, **pool})}
    return dataclasses.replace(picture(arbiter=arbiter, **changes), config=MANAGING)


def test_a_forger_says_since_when_and_until_when() -> None:
    told = one_look(picture())
    assert (told.standing, told.title) == (Standing.FORGING, "This pod forges")
    assert (told.forger, told.cluster) == ("pod-0", "eu-1")
    assert (told.since, told.until) == (ACTUATOR.since, ACTUATOR.deadline)
    assert told.why[0] == "armed: the node forges"


def test_a_standby_names_who_has_the_right_which_is_all_it_sees_and_itself_as_the_next() -> None:
    told = one_look(at(standby(), NOW + S), standby())
    assert (told.standing, told.title, told.forger) == (Standing.STANDBY, "pod-1 has the right to forge", "pod-1")
    assert (told.since, told.until, told.next) == (NOW, NOW + 15 * S, "this pod")


def test_a_pod_that_could_not_take_over_says_first_what_is_in_the_way() -> None:
    unfit = {"ready": False, "refusals": ("the KES key has expired",)}
    shown = picture(elector={"role": Role.OBSERVER, "grant": None, "holder": "pod-1_bb", "holder_until": NOW + S})
    states = shown.states | {Worker.ACTUATOR: _with(shown, **FENCED, **unfit)}
    told = one_look(dataclasses.replace(shown, states=states))
    assert told.standing is Standing.FENCED
    assert told.why[0] == "the KES key has expired"
    assert told.title == "pod-1 has the right to forge"
    assert told.next == "unknown"


def _with(shown: Picture, **changes: Any) -> Any:
    state = shown.states[Worker.ACTUATOR]
    return dataclasses.replace(state, body=dataclasses.replace(ACTUATOR, **changes))


def test_a_lease_that_has_run_out_names_nobody() -> None:
    told = one_look(dataclasses.replace(standby(holder_until=NOW), now=NOW))
    assert (told.title, told.forger) == ("Nobody forges, as far as this pod sees", "")


@pytest.mark.parametrize(
    ("unseen", "because"),
    [
        ({"elector": {"api_ok": False}}, "the API server does not answer, or refuses"),
        ({"elector": {"settled": False}}, "somebody whom this pod did not see may still have the right"),
        ({"elector": {"unsure_until": NOW + S}}, "somebody whom this pod did not see may still have the right"),
        ({"arbiter": {"unsure_until": NOW + S}}, "somebody whom this pod did not see may still have the right"),
    ],
)
def test_who_cannot_see_whether_anybody_forges_does_not_say_that_nobody_does(
    unseen: dict[str, dict[str, Any]], because: str
) -> None:
    """A page that says "nobody" makes an operator start another node."""
    free = {"role": Role.STANDBY, "grant": None, "holder": "", "holder_until": 0}
    shown = picture(actuator=FENCED, **{**unseen, "elector": free | unseen.get("elector", {})})
    assert one_look(shown).title == f"It is not known who forges: {because}"


def test_a_leader_without_its_api_server_knows_that_nobody_else_has_the_lease() -> None:
    assert one_look(picture(actuator=FENCED, elector={"api_ok": False})).title == (
        "Nobody forges, as far as this pod sees"
    )


@pytest.mark.parametrize(
    ("pool", "because"),
    [
        (None, "the arbiter has not heard of the pool yet"),
        (
            {"members": tuple(dataclasses.replace(each, api_ok=False) for each in POOL.members)},
            "no majority of the coordination APIs tells this pod",
        ),
        ({"objection": "they count different ones"}, "no majority of the coordination APIs tells this pod"),
        ({}, ""),
    ],
)
def test_across_clusters_nobody_forges_only_where_a_majority_says_so(pool: dict[str, Any] | None, because: str) -> None:
    arbiter = MANAGED | {"pool": None if pool is None else dataclasses.replace(POOL, **{"holder": "", **pool})}
    shown = picture(arbiter=arbiter, actuator=FENCED, elector={"role": Role.STANDBY, "grant": None})
    title = one_look(dataclasses.replace(shown, config=MANAGING)).title
    assert title == (f"It is not known who forges: {because}" if because else "Nobody forges, as far as this pod sees")


def test_a_pod_cut_off_from_the_coordination_apis_does_not_go_on_naming_who_held_the_lock() -> None:
    """The holder of then may have been fenced long ago: whoever is cut off does not hear of it."""
    away = tuple(dataclasses.replace(each, api_ok=False) for each in POOL.members)
    told = one_look(managed({"holder": US, "members": away}, elector={"role": Role.STANDBY}, actuator=FENCED))
    assert told.title == "It is not known who forges: no majority of the coordination APIs tells this pod"
    assert (told.forger, told.cluster, told.next) == ("", "", "unknown")
    assert told.standing is Standing.FENCED


def test_a_pod_of_a_cluster_that_was_disabled_is_no_standby_and_says_by_whom_first() -> None:
    """Ready as it is, it could not take over: who reads "standby" would count on it."""
    ours = dataclasses.replace(CLUSTERS[0], state="Disabled", eligible=False, why_not="Disabled: emergency")
    pool = {"holder": US, "state": "Disabled", "clusters": (CLUSTERS[1], ours)}
    told = one_look(managed(pool, elector={"role": Role.LEADER}, actuator=FENCED))
    assert told.standing is Standing.FENCED
    assert told.title == f"pod-9 has the right to forge in {US}"
    assert told.why[0] == "its cluster may not forge: Disabled: emergency"


def test_a_standby_that_leads_the_best_other_cluster_calls_itself_the_next() -> None:
    told = one_look(managed({"holder": US}, elector={"role": Role.LEADER, "grant": None}, actuator=FENCED))
    assert (told.standing, told.next) == (Standing.STANDBY, f"this pod, in {EU}")


def test_a_leader_whose_node_has_not_confirmed_does_not_forge_yet() -> None:
    told = one_look(picture(actuator={"fence": Fence.ARMING}))
    assert told.title == "This pod is about to forge: its node has not confirmed yet"
    assert told.forger == ""


def test_what_a_silent_actuator_would_know_is_unknown_and_it_is_named() -> None:
    told = one_look(picture(silent=(Worker.ACTUATOR,)))
    assert (told.standing, told.why) == (Standing.UNKNOWN, ("the actuator is silent",))
    assert told.title == "It is not known who forges: workers of this pod are silent"


def test_a_forger_whose_elector_is_silent_forges_as_its_actuator_knows() -> None:
    told = one_look(picture(silent=(Worker.ELECTOR,)))
    assert (told.standing, told.title) == (Standing.UNKNOWN, "This pod forges, and its elector is silent")
    assert (told.forger, told.until) == ("pod-0", ACTUATOR.deadline)
    assert told.why == ("the elector is silent", "armed: the node forges")


@pytest.mark.parametrize("silent", [Worker.PROBER, Worker.ARBITER])
def test_a_forger_says_first_which_worker_is_silent(silent: Worker) -> None:
    told = one_look(picture(silent=(silent,)))
    assert told.standing is Standing.FORGING
    assert told.why[:2] == (f"the {silent} is silent", "armed: the node forges")


@pytest.mark.parametrize("unproven", [{"fence": Fence.FENCING}, {"deadline": NOW}])
def test_a_node_that_is_not_proven_to_have_stopped_is_not_said_to(unproven: dict[str, Any]) -> None:
    shown = picture(actuator=unproven, prober={"sample": None})
    told = one_look(shown)
    assert told.standing is Standing.UNKNOWN
    assert told.title == "It is not proven that this pod's node has stopped forging"


def test_across_clusters_the_holder_of_the_pool_wide_lock_is_the_forger() -> None:
    elsewhere = managed({"holder": US}, elector={"role": Role.STANDBY}, actuator=FENCED)
    told = one_look(elsewhere)
    assert (told.title, told.forger, told.cluster) == (f"pod-9 has the right to forge in {US}", "pod-9", US)


def test_across_clusters_the_next_is_the_best_other_cluster_that_can() -> None:
    assert one_look(managed({})).next == f"another pod of this cluster that is ready, else pod-9 in {US}"
    nobody_else = managed({"clusters": POOL.clusters})
    assert one_look(nobody_else).next == "another pod of this cluster that is ready, else no other cluster can"


def test_in_a_pause_no_other_cluster_is_said_to_follow() -> None:
    paused = {"paused": "until resumed: switches"}
    assert one_look(managed(paused)).next == (
        "another pod of this cluster that is ready, else nobody: the lock stays here, until resumed: switches"
    )
    orphaned = managed({**paused, "holder": ""}, elector={"role": Role.STANDBY}, actuator=FENCED)
    assert one_look(orphaned).next == (
        "a pod of the cluster that had the lock: it stays there, until resumed: switches"
    )


def test_a_sibling_that_holds_the_pool_wide_lock_is_named_and_this_pod_is_next() -> None:
    shown = managed({"sibling": f"{EU}/pod-1_bb"}, elector={"role": Role.STANDBY}, actuator=FENCED)
    told = one_look(shown)
    assert (told.forger, told.cluster, told.next) == ("pod-1", EU, "this pod")


def test_two_clusters_that_are_enabled_are_a_conflict_that_names_them() -> None:
    both = tuple(dataclasses.replace(each, state="Enabled") for each in CLUSTERS)
    told = one_look(managed({"conflict": True, "clusters": both}))
    assert told.standing is Standing.CONFLICT
    assert told.why[0] == f"more than one cluster is Enabled: {EU}, {US}"
    assert told.title == "This pod forges"


def test_with_cluster_management_and_a_silent_arbiter_the_clusters_own_lease_names_nobody() -> None:
    shown = dataclasses.replace(standby(), config=MANAGING)
    states = {worker: state for worker, state in shown.states.items() if worker is not Worker.ARBITER}
    told = one_look(dataclasses.replace(shown, states=states))
    assert told.forger == ""
    assert told.title == "It is not known who forges: the arbiter is silent"


def test_the_page_is_told_everything_as_json_newest_first() -> None:
    chronicle = told(picture(), picture(actuator=FENCED))
    shown = json.loads(json.dumps(story.page(picture(actuator=FENCED), chronicle, 1.7e9), allow_nan=False))
    assert shown["headline"]["standing"] == "fenced"
    assert shown["status"]["pod"] == CONFIG.pod_name
    assert shown["status"]["workers"]["gateway"]["alive"] is True
    assert shown["timeline"][0]["about"] == "fence"
    assert shown["timeline"][0]["time"] == 1.7e9
    assert shown["kes"] == {"days_left": 1118.0, "periods_left": 7, "expires_at": 1796593440.0}


def test_without_anything_known_the_page_says_so() -> None:
    nothing = Picture(config=CONFIG, version="1", now=NOW, started_at=0, states={}, connected={})
    shown = story.page(nothing, Chronicle(), 1.7e9)
    assert shown["headline"]["standing"] == "unknown"
    assert shown["kes"] is None
    assert shown["timeline"] == []
