"""What the probes and /status answer to what the workers say."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from gateway_pictures import CONFIG, GRANT, MANAGED, NOW, POOL, PROBER, S, picture

from gateway import views
from gateway.views import Picture
from ipc.messages import Fence, HealthCheck, HealthReport, LockPhase, Role, Startup, Worker
from policy import timing

NOTHING = Picture(config=CONFIG, version="1", now=NOW, started_at=0, states={}, connected={})
LATE = NOW + timing.STATE_VALIDITY

# --- /startup-status ---


@pytest.mark.parametrize("startup", [Startup.OFFERED, Startup.READ, Startup.UP])
def test_the_node_may_start_once_its_files_are_offered_read_or_it_is_up(startup: Startup) -> None:
    answer = views.startup(picture(actuator={"startup": startup, "startup_reason": "why"}))
    assert (answer.status, answer.body) == (200, {"ready": True, "state": str(startup), "reason": "why"})


@pytest.mark.parametrize("startup", [Startup.PREPARING, Startup.FAILED])
def test_the_node_may_not_start_before(startup: Startup) -> None:
    answer = views.startup(picture(actuator={"startup": startup}))
    assert (answer.status, answer.body["ready"]) == (503, False)


def test_the_node_may_not_start_on_the_word_of_an_actuator_that_fell_silent() -> None:
    for unknown in (NOTHING, picture(now=LATE), picture(silent=(Worker.ACTUATOR,))):
        answer = views.startup(unknown)
        assert answer.status == 503
        assert "silent" in answer.body["reason"]


# --- /health ---


def test_a_pod_is_alive_while_each_worker_speaks() -> None:
    assert views.health(picture()) == views.Answer(200, {"alive": True, "reasons": []})


@pytest.mark.parametrize("worker", views.WATCHED)
def test_a_pod_with_a_silent_worker_is_not_alive_and_says_which(worker: Worker) -> None:
    answer = views.health(picture(silent=(worker,)))
    assert answer == views.Answer(503, {"alive": False, "reasons": [f"the {worker} is silent"]})


def test_a_pod_that_has_just_started_is_given_thirty_seconds() -> None:
    assert views.health(dataclasses.replace(NOTHING, started_at=NOW - 30 * S + 1)).status == 200
    assert views.health(dataclasses.replace(NOTHING, started_at=NOW - 30 * S)).status == 503


# --- /ready ---

STANDBY: dict[str, object] = {"role": Role.STANDBY, "grant": None}


def test_a_forging_leader_and_a_standby_that_could_take_over_are_ready() -> None:
    assert views.ready(picture()).status == 200
    standby = picture(actuator={"fence": Fence.FENCED, "ready": True}, elector={"role": Role.STANDBY, "grant": None})
    assert views.ready(standby).status == 200


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"prober": {"fit": False, "reasons": ("tip 400 s behind",)}}, "tip 400 s behind"),
        ({"prober": {"fit": False}}, "the node is not fit"),
        ({"actuator": {"fence": Fence.FENCED, "ready": False, "refusals": ("no node",)}}, "no node"),
        ({"actuator": {"fence": Fence.FENCING, "ready": False, "reason": "withdrawn"}}, "withdrawn"),
        ({"elector": {"api_ok": False}}, "the API server does not answer, or refuses"),
        ({"elector": {"standing_down_until": NOW + 1 * S}}, "standing down as asked"),
        ({"silent": (Worker.PROBER,)}, "the prober is silent"),
        ({"silent": (Worker.ACTUATOR,)}, "the actuator is silent"),
        ({"silent": (Worker.ELECTOR,)}, "the elector is silent"),
        ({"silent": (Worker.ARBITER,)}, "the arbiter is silent"),
        ({"arbiter": {"api_ok": False}}, "the API server does not answer the arbiter, or refuses"),
        ({"elector": {**STANDBY, "unsure_until": NOW + 1}}, views.UNSURE),
        ({"elector": STANDBY, "arbiter": {"grant": None, "unsure_until": NOW + 1}}, f"the arbiter: {views.UNSURE}"),
    ],
)
def test_a_pod_that_could_not_take_over_is_not_ready_and_says_why(changes: dict[str, object], reason: str) -> None:
    assert views.ready(picture(**changes)) == views.Answer(503, {"ready": False, "reasons": [reason]})


def test_a_pod_that_stays_out_of_the_election_says_why_if_nothing_else_does() -> None:
    turn = {"role": Role.OBSERVER, "grant": None, "reason": "giving others a turn after a hand-over"}
    assert views.ready(picture(elector=turn)).body["reasons"] == ["giving others a turn after a hand-over"]
    unfit = {**turn, "reason": "the node is unfit: no peers"}
    assert views.ready(picture(elector=unfit, prober={"fit": False, "reasons": ("no peers",)})).body["reasons"] == [
        "no peers"
    ]


def test_a_standby_is_ready_once_nobody_unseen_can_have_a_right_any_more() -> None:
    over = {"unsure_until": NOW}
    assert views.ready(picture(elector={**STANDBY, **over}, arbiter={"grant": None, **over})).status == 200


def test_a_leader_with_both_rights_is_ready_whatever_it_has_not_seen() -> None:
    assert views.ready(picture(elector={"unsure_until": NOW + S}, arbiter={"unsure_until": NOW + S})).status == 200


def test_a_stand_down_that_is_over_does_not_count() -> None:
    assert views.ready(picture(elector={"standing_down_until": NOW - 1})).status == 200


# --- /ready across clusters ---

AWAY: dict[str, object] = {
    "elector": {"api_ok": False, "degraded": True, "grant": dataclasses.replace(GRANT, exclusive=False)},
    "arbiter": {**MANAGED, "api_ok": False},
}
"""A pod that forges by the pool-wide lock while its own API server is away."""


def test_a_pod_that_forges_by_the_pool_wide_lock_is_ready_though_its_own_api_server_is_away() -> None:
    assert views.ready(picture(**AWAY)) == views.Answer(200, {"ready": True, "reasons": []})


@pytest.mark.parametrize(
    "pool",
    [None, dataclasses.replace(POOL, phase=LockPhase.DRAINING), dataclasses.replace(POOL, phase=LockPhase.IDLE)],
    ids=["no cluster management", "letting go", "not ours"],
)
def test_without_the_pool_wide_lock_a_pod_needs_its_api_server(pool: object) -> None:
    shown = picture(**{**AWAY, "arbiter": {**MANAGED, "api_ok": False, "pool": pool}})
    assert views.ready(shown).body["reasons"] == [
        "the API server does not answer, or refuses",
        "the API server does not answer the arbiter, or refuses",
    ]


def test_a_lock_whose_grant_is_over_excuses_no_api_server() -> None:
    over = dataclasses.replace(GRANT, deadline=NOW)
    assert views.ready(picture(**{**AWAY, "arbiter": {**MANAGED, "grant": over}})).status == 503


def test_a_pod_that_reaches_no_majority_of_the_coordination_apis_is_not_ready_and_names_those_away() -> None:
    one, two, three = POOL.members
    lost = dataclasses.replace(POOL, members=(one, dataclasses.replace(two, api_ok=False), three))
    assert views.ready(picture(arbiter={**MANAGED, "pool": POOL})).status == 200
    assert views.ready(picture(arbiter={**MANAGED, "pool": lost})).body["reasons"] == [
        "1 of 3 coordination APIs answer, 2 must: two, three not"
    ]


def test_a_pod_that_counts_other_coordination_apis_than_the_pool_does_is_not_ready_and_says_so() -> None:
    odd = dataclasses.replace(POOL, objection="own and /k/b are the same API server")
    assert views.ready(picture(arbiter={**MANAGED, "pool": odd})).body["reasons"] == [odd.objection]
    assert views.status(picture(arbiter={**MANAGED, "pool": odd}))["pool"]["objection"] == odd.objection


# --- who forges ---


def test_a_pod_forges_only_while_armed_heard_of_and_within_its_right() -> None:
    assert picture().forging
    for fence in (Fence.ARMING, Fence.FENCED):
        assert not picture(actuator={"fence": fence}).forging
    assert not picture(now=LATE).forging
    assert not picture(silent=(Worker.ACTUATOR,)).forging
    assert not picture(actuator={"deadline": NOW}).forging
    assert picture(actuator={"deadline": NOW + 1}).forging


@pytest.mark.parametrize(
    ("how", "forging"),
    [({}, True), ({"forging_enabled": 0}, False), ({"answered": False}, False), ({"asked_at": NOW - 100 * S}, False)],
)
def test_a_node_that_is_being_fenced_forges_as_long_as_it_says_so(how: dict[str, Any], forging: bool) -> None:
    sample = dataclasses.replace(PROBER.sample, **how)  # type: ignore[type-var]
    shown = picture(actuator={"fence": Fence.FENCING, "since": NOW - 10 * S}, prober={"sample": sample})
    assert shown.forging is forging
    assert not shown.intended


def test_a_pod_leads_while_it_holds_the_lease_and_the_elector_is_heard_of() -> None:
    assert picture().leading
    assert picture(elector={"role": Role.HANDOVER}).leading
    for role in (Role.OBSERVER, Role.STANDBY):
        assert not picture(elector={"role": role}).leading
    assert not picture(now=LATE).leading


def test_a_pod_is_enabled_only_with_a_lease_as_it_stands_and_a_valid_grant_of_the_arbiter() -> None:
    over = dataclasses.replace(GRANT, deadline=NOW)
    assert picture().enabled
    assert picture(elector={"role": Role.HANDOVER, "grant": None}).enabled
    assert not picture(elector={"role": Role.STANDBY}).enabled
    for silent in (Worker.ELECTOR, Worker.ARBITER):
        assert not picture(silent=(silent,)).enabled
    for issuer in ("elector", "arbiter"):
        assert not picture(**{issuer: {"grant": None}}).enabled
        assert not picture(**{issuer: {"grant": over}}).enabled


# --- /status ---


def test_status_tells_who_forges_by_which_right_and_for_how_long() -> None:
    shown = views.status(picture())
    assert shown["forging"] is True
    assert shown["leader"]["role"] == "leader"
    assert shown["leader"]["holder"] == "pod-0_aa"
    assert shown["grants"]["elector"] == {"seconds_left": 9.0, "exclusive": True, "token": 4, "holder": "pod-0_aa"}
    assert shown["fence"]["state"] == "armed"
    assert shown["fence"]["seconds"] == 60.0
    assert shown["node"]["pid"] == 17
    assert shown["node"]["metric_names"] == {"slot": "cardano_node_metrics_slotNum_int"}
    assert shown["workers"]["prober"] == {
        "alive": True,
        "connected": True,
        "pid": 100,
        "instance": "one",
        "up_seconds": 100.0,
        "heard_seconds_ago": 1.0,
        "cost": None,
    }


def test_status_tells_of_the_pool_with_cluster_management_and_nothing_beyond_its_names_without() -> None:
    names = {"id": "pool1abcd1234567890", "ticker": "", "name": ""}
    assert views.status(picture())["pool"] == names
    assert views.status(picture(now=LATE, arbiter=MANAGED))["pool"] == names
    shown = views.status(picture(arbiter=MANAGED))["pool"]
    assert names.items() <= shown.items()
    assert (shown["phase"], shown["holder"], shown["token"]) == ("held", "preprod-pool1abcd1-eu-1", 9)
    assert [(m["name"], m["api_ok"], m["seconds_left"]) for m in shown["members"]] == [
        ("one", True, 8.0),
        ("two", True, 7.0),
        ("three", False, 0.0),
    ]
    assert shown["clusters"][1] == {
        "name": "preprod-pool1abcd1-us-1",
        "region": "us-1",
        "state": "Disabled",
        "priority": 3,
        "eligible": False,
        "why_not": "Disabled",
        "leader": "pod-9",
        "heard_seconds_ago": 4.0,
    }
    assert shown["clusters"][0]["heard_seconds_ago"] is None


def test_status_never_shows_what_has_aged_out_but_still_who_was_heard_last() -> None:
    shown = views.status(picture(now=LATE))
    assert shown["forging"] is False
    assert shown["leader"] is None
    assert shown["fence"] is None
    assert shown["grants"] == {"elector": None, "arbiter": None}
    assert shown["workers"]["elector"]["alive"] is False
    assert shown["workers"]["elector"]["pid"] == 100


def test_a_grant_that_is_over_has_no_seconds_left_and_never_fewer() -> None:
    shown = views.status(picture(elector={"grant": dataclasses.replace(GRANT, deadline=NOW - 5 * S)}))
    assert shown["grants"]["elector"]["seconds_left"] == 0.0


@pytest.mark.parametrize("worker", views.WATCHED)
def test_status_is_json_whoever_is_silent(worker: Worker) -> None:
    assert json.loads(json.dumps(views.status(picture(silent=(worker,))), allow_nan=False))
    assert json.loads(json.dumps(views.status(NOTHING), allow_nan=False))


def test_a_pair_of_metric_names_that_is_none_breaks_nothing() -> None:
    assert views.status(picture(prober={"aliases": ("odd",)}))["node"]["metric_names"] == {"odd": ""}


def test_status_tells_what_came_of_the_health_check_and_of_its_endpoint_the_host_alone() -> None:
    endpoint = "https://user:canary-1@health.example:8443/canary-2?canary-3"
    check = HealthCheck(endpoint, headers={"Authorization": "canary-4"})
    report = HealthReport(endpoint, False, 3, NOW - 5 * S, None, "health.example:8443: answered 503")
    shown = views.status(picture(prober={"health": report}, arbiter={"health_check": check}))
    assert shown["health_check"] == {
        "host": "health.example",
        "healthy": False,
        "consecutive_failures": 3,
        "message": "health.example:8443: answered 503",
        "response_seconds": None,
        "checked_seconds_ago": 5.0,
    }
    assert "canary" not in json.dumps(shown)


def test_status_says_nothing_of_a_health_check_that_is_not_made_and_no_time_before_the_first() -> None:
    assert views.status(picture())["health_check"] is None
    report = HealthReport("http://health.example/", True, 0, 0, None, "not checked yet")
    assert views.status(picture(prober={"health": report}))["health_check"]["checked_seconds_ago"] is None


def test_a_pod_whose_endpoint_does_not_answer_is_ready_and_alive_all_the_same() -> None:
    report = HealthReport("http://health.example/", False, 9, NOW - S, None, "no answer within 10 s")
    shown = picture(prober={"health": report})
    assert (views.ready(shown).status, views.health(shown).status) == (200, 200)
