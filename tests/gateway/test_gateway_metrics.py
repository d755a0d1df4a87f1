"""The metrics: the contract's names, types and labels; counters that never go down; gauges that never lie."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from gateway_pictures import (
    ACTUATOR,
    CERTIFICATE,
    CONFIG,
    ELECTOR,
    GRANT,
    MANAGED,
    NOW,
    POOL,
    PROBER,
    S,
    picture,
    state,
)
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from promtool import needs_promtool, promtool

from gateway import catalogue, views
from gateway.chronicle import Chronicle
from gateway.metrics import FILES, HUP_REASONS, PodCollector
from gateway.totals import Totals
from gateway.views import Picture, status
from ipc.messages import (
    Check,
    Cost,
    Fence,
    HealthCheck,
    HealthReport,
    Notifications,
    Role,
    Sandbox,
    StartFlag,
    Worker,
)
from policy import timing

LATE = NOW + timing.STATE_VALIDITY
NOTHING = Picture(config=CONFIG, version="1", now=NOW, started_at=0, states={}, connected={})
LOCAL = {"pod", "network", "pool_id", "application"}
CLUSTER = {"cluster", "region", "network", "pool_id"}
CONTRACT = {
    "cardano_forging_enabled": ("gauge", LOCAL),
    "cardano_leader_status": ("gauge", LOCAL),
    "cardano_leadership_changes_total": ("counter", set()),
    "cardano_sighup_signals_total": ("counter", {"reason"}),
    "cardano_credential_operations_total": ("counter", {"operation", "file"}),
    "cardano_cluster_forge_enabled": ("gauge", CLUSTER),
    "cardano_cluster_forge_priority": ("gauge", CLUSTER),
    "cardano_cluster_health_check_success": ("gauge", {"cluster"}),
    "cardano_cluster_health_check_consecutive_failures": ("gauge", {"cluster"}),
}
"""Name -> type and labels, as the seed's tables give them."""
OF_THE_KEYS = {
    "cardano_forging_intended",
    "cardano_credential_findings",
    "cardano_kes_expiry_timestamp_seconds",
    "cardano_kes_periods_remaining",
    "cardano_opcert_counter",
}


def exposition(shown: Picture, totals: Totals | None = None) -> str:
    if totals is None:
        totals = Totals()
        for known in shown.states.values():
            totals.take(known)
    registry = CollectorRegistry()
    registry.register(PodCollector(lambda: shown, totals, Chronicle()))
    return generate_latest(registry).decode()


def families(shown: Picture, totals: Totals | None = None) -> dict[str, Metric]:
    """By the name of the samples, as an operator's query has it."""
    found = {}
    for family in text_string_to_metric_families(exposition(shown, totals)):
        found[family.name + ("_total" if family.type == "counter" else "")] = family
    return found


def value(shown: Picture, name: str, totals: Totals | None = None, **labels: str) -> float | None:
    for sample in families(shown, totals)[name].samples:
        if labels.items() <= sample.labels.items():
            return float(sample.value)
    return None


@pytest.mark.parametrize("name", CONTRACT)
@pytest.mark.parametrize("shown", [picture(), NOTHING], ids=["leader", "just started"])
def test_each_metric_of_the_contract_has_its_type_and_labels_from_the_start(name: str, shown: Picture) -> None:
    kind, labels = CONTRACT[name]
    family = families(shown)[name]
    assert family.type == kind
    assert family.samples
    for sample in family.samples:
        assert sample.name == name
        assert set(sample.labels) == labels


def test_the_labels_say_whose_metrics_these_are() -> None:
    (sample,) = families(picture())["cardano_forging_enabled"].samples
    assert sample.labels == {
        "pod": "pod-0",
        "network": "preprod",
        "pool_id": "pool1abcd1",
        "application": "block-producer",
    }
    (sample,) = families(picture())["cardano_cluster_forge_priority"].samples
    assert sample.labels == {"cluster": "eu-1", "region": "eu-1", "network": "preprod", "pool_id": "pool1abcd1"}
    assert sample.value == 7


@pytest.mark.parametrize("shown", [picture(), NOTHING, picture(now=LATE), picture(arbiter=MANAGED)])
def test_the_exposition_is_what_promtool_accepts(shown: Picture) -> None:
    """One HELP and TYPE a name, no name twice, no sample twice, counters and only they end in _total, once."""
    text = exposition(shown)
    typed = [line.split()[2:4] for line in text.splitlines() if line.startswith("# TYPE")]
    names = [name for name, _ in typed]
    assert len(names) == len(set(names))
    assert all(name.endswith("_total") == (kind == "counter") for name, kind in typed)
    assert all(name.endswith("_seconds") for name, kind in typed if kind == "histogram")
    assert "_total_total" not in text
    samples = [line.rsplit(" ", 1)[0] for line in text.splitlines() if not line.startswith("#")]
    assert len(samples) == len(set(samples))
    assert all(family.documentation for family in text_string_to_metric_families(text))
    assert all(name.startswith("cardano_forge_manager_") for name in set(names) - set(CONTRACT) - OF_THE_KEYS)
    assert set(names) <= catalogue.EVERY.keys()


def everything() -> Picture:
    """A pod that has something to say of every metric."""
    health = HealthReport("http://health.example/", True, 0, NOW, 0.25, "answered 200")
    prober = {"health": health, "leads_at": NOW + S, "notifications": Notifications(5, 4, 1, 2)}
    shown = picture(arbiter=MANAGED, prober=prober, elector={"renewal_margin": 8 * S})
    states = {
        worker: dataclasses.replace(known, cost=Cost(NOW, 2_500_000_000, 30 << 20, 17), sandbox=Sandbox(audited_at=NOW))
        for worker, known in shown.states.items()
    }
    own_cost, own_files = Cost(NOW, 5, 20 << 20, 9), {"token": "", "certificate": "GATEWAY_TLS_KEY_FILE is encrypted"}
    own = Sandbox(audited_at=NOW)
    return dataclasses.replace(shown, states=states, own=own, own_cost=own_cost, own_files=own_files)


def test_the_catalogue_describes_every_metric_and_no_other() -> None:
    shown = families(everything())
    assert shown.keys() == catalogue.EVERY.keys()
    for name, described in catalogue.EVERY.items():
        assert shown[name].type == described.kind
        assert shown[name].documentation == described.help
        assert shown[name].samples
        for sample in shown[name].samples:
            assert set(sample.labels) - {"le"} == set(described.labels)


def test_of_token_and_certificate_each_that_is_set_is_shown_with_whether_its_file_can_be_used() -> None:
    name = "cardano_forge_manager_gateway_file_unusable"
    shown = {sample.labels["file"]: sample.value for sample in families(everything())[name].samples}
    assert shown == {"token": 0, "certificate": 1}
    assert "GATEWAY_TLS_KEY_FILE is encrypted" in views.status(everything())["warnings"]
    assert not families(picture())[name].samples


def test_a_metric_is_left_out_only_when_the_catalogue_says_so() -> None:
    for shown in (NOTHING, picture(), picture(now=LATE), picture(arbiter=MANAGED)):
        there = {name for name, family in families(shown).items() if family.samples}
        missing = catalogue.EVERY.keys() - there - {"cardano_forge_manager_api_requests_total"}  # one a verb
        assert all(catalogue.EVERY[name].left_out for name in missing)


@needs_promtool
@pytest.mark.parametrize("shown", [NOTHING, everything()], ids=["just started", "everything"])
def test_promtool_finds_nothing_to_mend_but_a_name_that_is_agreed(shown: Picture) -> None:
    """An operational certificate's counter is what it is called."""
    done = promtool("check", "metrics", given=exposition(shown))
    said = [line for line in done.stderr.splitlines() if not line.startswith("cardano_opcert_counter ")]
    assert (said, done.stdout) == ([], "")


def test_workers_cost_what_they_say_and_their_cpu_time_goes_on_over_restarts() -> None:
    totals = Totals()
    for instance, cpu_ns in (("first", 3_000_000_000), ("second", 500_000_000)):
        totals.take(dataclasses.replace(state(ELECTOR, instance=instance), cost=Cost(NOW, cpu_ns, 1, 1)))
    assert value(NOTHING, "cardano_forge_manager_worker_cpu_seconds_total", totals, worker="elector") == 3.5
    assert value(everything(), "cardano_forge_manager_worker_memory_bytes", worker="elector") == 30 << 20
    assert value(everything(), "cardano_forge_manager_worker_open_files", worker="gateway") == 9
    assert value(picture(), "cardano_forge_manager_worker_memory_bytes", worker="elector") is None


def test_ready_is_what_the_probe_answers() -> None:
    assert value(picture(), "cardano_forge_manager_ready") == 1
    assert value(picture(prober={"fit": False}), "cardano_forge_manager_ready") == 0
    assert value(NOTHING, "cardano_forge_manager_ready") == 0


# --- gauges ---


def test_forging_leading_and_enabled_are_one_on_a_leader_and_zero_when_nothing_is_known() -> None:
    for name in ("cardano_forging_enabled", "cardano_leader_status", "cardano_cluster_forge_enabled"):
        assert value(picture(), name) == 1
        assert value(NOTHING, name) == 0
        assert value(picture(now=LATE), name) == 0


@pytest.mark.parametrize(
    ("fence", "confirmed", "intended"),
    [(Fence.ARMING, 0, 1), (Fence.ARMED, 1, 1), (Fence.FENCING, 1, 0), (Fence.FENCED, 0, 0)],
)
def test_what_the_node_confirms_and_what_it_is_meant_to_do_are_two_series(
    fence: Fence, confirmed: int, intended: int
) -> None:
    """While it is fenced this one's node goes on to say that it forges."""
    shown = picture(actuator={"fence": fence})
    assert value(shown, "cardano_forging_enabled") == confirmed
    assert value(shown, "cardano_forging_intended") == intended
    assert value(NOTHING, "cardano_forging_intended") == 0
    assert value(picture(now=LATE), "cardano_forging_intended") == 0


def test_forging_is_zero_before_the_node_confirmed_and_after_the_right_ended() -> None:
    assert value(picture(actuator={"fence": Fence.ARMING}), "cardano_forging_enabled") == 0
    assert value(picture(actuator={"deadline": NOW}), "cardano_forging_enabled") == 0


def test_the_seeds_alerts_see_one_enabled_pod_in_a_pool_of_a_leader_and_a_standby() -> None:
    standby = picture(elector={"role": Role.STANDBY, "grant": None}, actuator={"fence": Fence.FENCED, "deadline": 0})
    pool = (picture(), standby)
    assert sum(value(pod, "cardano_cluster_forge_enabled") or 0 for pod in pool) == 1
    assert sum(value(pod, "cardano_forging_enabled") or 0 for pod in pool) == 1


def test_a_leader_cut_off_beyond_its_grant_is_not_enabled() -> None:
    over = dataclasses.replace(GRANT, deadline=NOW)
    assert value(picture(elector={"grant": over}), "cardano_cluster_forge_enabled") == 0


def test_without_an_endpoint_the_health_check_neither_fails_nor_alerts() -> None:
    assert value(NOTHING, "cardano_cluster_health_check_success") == 1
    assert value(NOTHING, "cardano_cluster_health_check_consecutive_failures") == 0


def test_the_fence_is_in_one_state_or_in_none_while_the_actuator_is_silent() -> None:
    def shown(of: Picture) -> list[str]:
        samples = families(of)["cardano_forge_manager_fence_state"].samples
        assert {s.labels["state"] for s in samples} == set(map(str, Fence))
        return [s.labels["state"] for s in samples if s.value == 1]

    for fence in Fence:
        assert shown(picture(actuator={"fence": fence})) == [str(fence)]
    assert shown(picture(now=LATE)) == []


def test_what_is_not_known_is_left_out_rather_than_guessed() -> None:
    names = families(picture(now=LATE)).keys()
    assert "cardano_forge_manager_tip_lag_seconds" not in names
    assert "cardano_forge_manager_node_started_producing" not in names
    assert value(picture(), "cardano_forge_manager_tip_lag_seconds") == 12.5


def test_a_node_without_the_non_producing_flag_shows() -> None:
    assert ACTUATOR.node is not None
    producing = dataclasses.replace(ACTUATOR.node, flag=StartFlag.PRODUCING)
    assert value(picture(), "cardano_forge_manager_node_started_producing") == 0
    assert value(picture(actuator={"node": producing}), "cardano_forge_manager_node_started_producing") == 1


def test_grants_show_the_seconds_left() -> None:
    assert value(picture(), "cardano_forge_manager_grant_seconds_left", issuer="elector") == 9
    assert value(picture(elector={"grant": None}), "cardano_forge_manager_grant_seconds_left", issuer="elector") == 0


def test_the_certificates_counter_and_end_show_and_what_is_wrong_with_the_keys() -> None:
    assert value(picture(), "cardano_opcert_counter") == 4
    assert value(picture(), "cardano_kes_periods_remaining") == 7
    assert value(picture(), "cardano_kes_expiry_timestamp_seconds") == 1796593440
    wrong = families(picture())["cardano_credential_findings"].samples
    ones = [(s.labels["severity"], s.labels["check"]) for s in wrong if s.value == 1]
    assert ones == [("warning", "kes-period")]
    assert sum(s.value for s in wrong) == 1
    assert {s.labels["check"] for s in wrong if s.labels["severity"] == "error"} == set(map(str, Check))


def test_without_a_certificate_that_can_be_read_nothing_is_said_of_its_end() -> None:
    for nothing in (picture(actuator={"certificate": None}), picture(now=LATE)):
        names = families(nothing).keys()
        assert not names & {
            "cardano_opcert_counter",
            "cardano_kes_periods_remaining",
            "cardano_kes_expiry_timestamp_seconds",
        }
    timeless = dataclasses.replace(CERTIFICATE, periods_left=None, expires_at=None)
    names = families(picture(actuator={"certificate": timeless})).keys()
    assert "cardano_opcert_counter" in names
    assert "cardano_kes_periods_remaining" not in names


def test_a_silent_worker_is_not_up() -> None:
    shown = picture(silent=(Worker.PROBER,))
    assert value(shown, "cardano_forge_manager_worker_up", worker="prober") == 0
    assert value(shown, "cardano_forge_manager_worker_up", worker="actuator") == 1


# --- across clusters ---

MEMBERS = "cardano_forge_manager_pool_lock_members"


def test_the_priority_is_that_of_the_cardano_forge_cluster_and_without_one_the_environments() -> None:
    assert value(picture(arbiter=MANAGED), "cardano_cluster_forge_priority") == 107
    assert value(picture(), "cardano_cluster_forge_priority") == 7
    assert value(picture(silent=(Worker.ARBITER,)), "cardano_cluster_forge_priority") == 7


def test_while_the_arbiter_is_silent_no_priority_is_shown_that_an_override_or_bad_health_may_have_changed() -> None:
    managing = dataclasses.replace(CONFIG, enable_cluster_management=True)
    silent = dataclasses.replace(picture(silent=(Worker.ARBITER,)), config=managing)
    assert "cardano_cluster_forge_priority" not in families(silent)


def test_what_is_paused_is_shown_by_who_knows_it_or_not_at_all() -> None:
    paused = "cardano_forge_manager_paused"
    pool = dataclasses.replace(POOL, paused="until noon: maintenance")
    both = {"elector": {"paused": "until noon: maintenance"}, "arbiter": {**MANAGED, "pool": pool}}
    assert [value(picture(**both), paused, what=what) for what in ("lease", "pool_lock")] == [1, 1]
    assert [value(picture(), paused, what=what) for what in ("lease", "pool_lock")] == [0, None]
    assert value(picture(**both, silent=(Worker.ELECTOR,)), paused, what="lease") is None
    assert value(picture(**both, silent=(Worker.ARBITER,)), paused, what="pool_lock") is None


def test_one_pod_of_all_clusters_is_enabled_and_that_by_the_pool_wide_lock_alone() -> None:
    holder = picture(arbiter=MANAGED)
    other_leader = picture(arbiter={**MANAGED, "grant": None})
    cut_off = picture(arbiter=MANAGED, elector={"api_ok": False, "degraded": True})
    standby = picture(arbiter=MANAGED, elector={"role": Role.STANDBY, "grant": None})
    shown = [value(pod, "cardano_cluster_forge_enabled") for pod in (holder, cut_off, other_leader, standby)]
    assert shown == [1, 1, 0, 0]


def test_the_pool_wide_lock_shows_its_members_its_token_and_a_conflict() -> None:
    shown = picture(arbiter=MANAGED)
    assert [value(shown, MEMBERS, state=state) for state in ("held", "reachable", "total")] == [2, 2, 3]
    assert value(shown, "cardano_forge_manager_pool_lock_token") == 9
    assert value(shown, "cardano_forge_manager_pool_conflict") == 0
    both = picture(arbiter={**MANAGED, "pool": dataclasses.replace(POOL, conflict=True)})
    assert value(both, "cardano_forge_manager_pool_conflict") == 1


def held_by(**changes: Any) -> list[dict[str, str]]:
    """The labels under which the holder of the pool-wide lock is shown."""
    pool = dataclasses.replace(POOL, **changes)
    found = families(picture(arbiter={**MANAGED, "pool": pool})).get("cardano_forge_manager_pool_lock_holder")
    return [sample.labels for sample in found.samples] if found is not None else []


def test_the_holder_of_the_pool_wide_lock_is_shown_by_its_region_whichever_it_is() -> None:
    pool = {"network": "preprod", "pool_id": "pool1abcd1"}
    assert held_by() == [{**pool, "region": "eu-1"}]
    assert held_by(holder="preprod-pool1abcd1-us-1") == [{**pool, "region": "us-1"}]


@pytest.mark.parametrize(
    "unknown",
    [
        {"holder": ""},
        {"objection": "they count other members"},
        {"members": tuple(dataclasses.replace(each, api_ok=False) for each in POOL.members)},
    ],
    ids=["nobody holds it", "sets differ", "no majority answers"],
)
def test_what_no_majority_says_now_is_no_holder(unknown: dict[str, Any]) -> None:
    """An alert is silent where another region holds the lock: what is not known must not silence it."""
    assert held_by(**unknown) == []


def test_the_clusters_that_forge_or_could_are_counted() -> None:
    able = "cardano_forge_manager_pool_clusters_able"
    assert value(picture(arbiter=MANAGED), able) == 1
    both = tuple(dataclasses.replace(each, eligible=True) for each in POOL.clusters)
    assert value(picture(arbiter={**MANAGED, "pool": dataclasses.replace(POOL, clusters=both)}), able) == 2


def test_a_members_right_that_has_ended_is_not_held() -> None:
    pool = dataclasses.replace(POOL, members=tuple(dataclasses.replace(m, ours_until=NOW + S) for m in POOL.members))
    assert value(picture(now=NOW, arbiter={**MANAGED, "pool": pool}), MEMBERS, state="held") == 3
    assert value(picture(now=NOW + S, arbiter={**MANAGED, "pool": pool}), MEMBERS, state="held") == 0


def test_without_cluster_management_there_is_no_pool_wide_lock_to_show() -> None:
    assert not [name for name in families(picture()) if "_pool_" in name]


# --- counters ---


def test_counters_show_what_the_workers_counted() -> None:
    assert value(picture(), "cardano_leadership_changes_total") == 3
    assert value(picture(), "cardano_sighup_signals_total", reason="enable") == 2
    assert value(picture(), "cardano_credential_operations_total", operation="remove", file="kes.skey") == 1
    assert value(picture(), "cardano_forge_manager_api_requests_total", verb="put") == 40
    assert value(picture(), "cardano_forge_manager_api_failures_total") == 1


def test_labels_known_beforehand_stand_at_zero_from_the_start_so_that_the_first_increase_is_seen() -> None:
    for reason in HUP_REASONS:
        assert value(NOTHING, "cardano_sighup_signals_total", reason=reason) == 0
    for file in FILES:
        assert value(NOTHING, "cardano_credential_operations_total", operation="install", file=file) == 0


def test_a_restarted_worker_counts_on_where_its_earlier_life_ended() -> None:
    totals = Totals()
    totals.take(state(dataclasses.replace(ELECTOR, changes_total=5), instance="first"))
    totals.take(state(dataclasses.replace(ELECTOR, changes_total=0), instance="second"))
    assert totals.of("changes") == {"": 5}
    totals.take(state(dataclasses.replace(ELECTOR, changes_total=2), instance="second"))
    assert totals.of("changes") == {"": 7}
    assert value(NOTHING, "cardano_forge_manager_worker_restarts_total", totals, worker="elector") == 1
    assert value(NOTHING, "cardano_forge_manager_worker_restarts_total", totals, worker="prober") == 0


def test_the_same_state_heard_twice_counts_once() -> None:
    totals = Totals()
    for _ in range(3):
        totals.take(state(ELECTOR))
    assert totals.of("changes") == {"": 3}
    assert totals.restarts[Worker.ELECTOR] == 0


def again(totals: Totals) -> Totals:
    """As the gateway's next life reads them."""
    return Totals.resumed(json.loads(json.dumps(totals.kept())))


def test_the_gateways_next_life_counts_on_and_sees_who_was_restarted_meanwhile() -> None:
    totals = Totals()
    totals.take(state(dataclasses.replace(ELECTOR, changes_total=5), instance="first"))
    totals = again(totals)
    totals.take(state(dataclasses.replace(ELECTOR, changes_total=6), instance="first"))
    assert totals.of("changes") == {"": 6}
    totals = again(totals)
    totals.take(state(dataclasses.replace(ELECTOR, changes_total=1), instance="second"))
    assert totals.of("changes") == {"": 7}
    assert again(totals).restarts == {Worker.ELECTOR: 1}


def test_a_worker_that_counts_beyond_everything_cannot_have_the_others_counts_forgotten() -> None:
    totals = Totals()
    for instance in ("first", "second", "third"):
        totals.take(state(dataclasses.replace(ELECTOR, requests_total={"get": 2**64 - 1}), instance=instance))
    totals.take(state(dataclasses.replace(ACTUATOR, kills_total={"SIGKILL": 2})))
    assert again(totals).of("kills") == {"SIGKILL": 2}


def test_labels_that_no_honest_worker_has_take_no_place_and_are_not_shown() -> None:
    totals = Totals()
    odd = {"x" * 50: 1, "sch\u00f6n": 1, "two\nlines": 1, "get": 3}
    totals.take(state(dataclasses.replace(ELECTOR, requests_total=odd)))
    assert totals.of("api_requests") == {"get": 3}


def test_a_worker_that_counts_something_else_in_each_life_has_nobody_elses_counts_forgotten() -> None:
    totals = Totals()
    for life in range(20):
        junk = {f"{life}-{n}": 1 for n in range(200)}
        totals.take(state(dataclasses.replace(ELECTOR, requests_total=junk), instance=str(life)))
    for instance in ("first", "second"):
        totals.take(state(dataclasses.replace(ACTUATOR, sighups_total={"enable": 2}), instance=instance))
    assert totals.of("sighups") == {"enable": 4}


@pytest.mark.parametrize(
    "spoilt",
    [
        {"finished": [["changes", "", -1]]},
        {"finished": [["changes", ""]]},
        {"finished": [["changes", "", 10**400]]},
        {"finished": 7},
        {"living": {"stranger": ["one", []]}},
        {"living": {"elector": "one"}},
        {"restarts": {"elector": True}},
        {"restarts": {"elector": 1.5}},
        {"restarts": []},
    ],
)
def test_totals_that_no_gateway_wrote_are_refused(spoilt: dict[str, object]) -> None:
    with pytest.raises((ValueError, TypeError, KeyError, AttributeError)):
        Totals.resumed({**Totals().kept(), **spoilt})


@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.integers(0, 9), st.dictionaries(st.sampled_from("xy"), st.integers(0, 9)))
    )
)
def test_no_total_ever_goes_down(heard: list[tuple[str, int, dict[str, int]]]) -> None:
    totals, before = Totals(), {"": 0, "x": 0, "y": 0}
    for instance, changes, requests in heard:
        body = dataclasses.replace(ELECTOR, changes_total=changes, requests_total=requests)
        totals.take(state(body, instance=instance))
        after = {"": 0, "x": 0, "y": 0} | totals.of("changes") | totals.of("api_requests")
        assert all(after[label] >= count for label, count in before.items())
        before = after


@given(st.text(max_size=20))
def test_no_label_a_worker_sends_can_break_the_exposition(label: str) -> None:
    text = label.encode("utf-8", "replace").decode()
    body = dataclasses.replace(ACTUATOR, sighups_total={text: 1}, operations_total={text: 1}, kills_total={text: 1})
    totals = Totals()
    totals.take(state(body))
    shown = value(NOTHING, "cardano_sighup_signals_total", totals, reason=text)
    assert shown == (1 if text.isascii() and text.isprintable() else None)


# --- the cluster's health ---

ASKED = HealthReport(
    "https://user:canary-1@health.example/canary-2?canary-3", True, 0, NOW - 5 * S, 0.25, "answered 200"
)
SUCCESS, FAILURES = "cardano_cluster_health_check_success", "cardano_cluster_health_check_consecutive_failures"
RESPONSE = "cardano_forge_manager_health_check_response_seconds"


def test_a_check_that_succeeded_shows_its_success_and_its_time() -> None:
    shown = picture(prober={"health": ASKED})
    assert (value(shown, SUCCESS, cluster="eu-1"), value(shown, FAILURES, cluster="eu-1")) == (1, 0)
    assert value(shown, RESPONSE) == 0.25


def test_a_check_that_failed_shows_at_once_how_often_in_a_row_though_the_cluster_is_still_healthy() -> None:
    failed = dataclasses.replace(ASKED, consecutive_failures=2, response_s=None)
    shown = picture(prober={"health": failed})
    assert (value(shown, SUCCESS), value(shown, FAILURES)) == (0, 2)
    assert RESPONSE not in families(shown)


def test_where_there_may_be_an_endpoint_a_silent_prober_says_neither_success_nor_failure() -> None:
    config = dataclasses.replace(CONFIG, health_check_endpoint="http://health.example/")
    shown = dataclasses.replace(picture(silent=(Worker.PROBER,)), config=config)
    assert value(shown, SUCCESS) is None
    assert value(shown, FAILURES) is None
    assert RESPONSE not in families(NOTHING)


def test_no_metric_shows_the_endpoint_or_a_header() -> None:
    check = HealthCheck(ASKED.endpoint, headers={"Authorization": "canary-4"})
    assert "canary" not in exposition(picture(prober={"health": ASKED}, arbiter={"health_check": check}))


def test_what_became_of_notices_is_counted_over_the_restarts_of_the_prober() -> None:
    totals = Totals()
    for instance, told in (("first", Notifications(5, 4, 1, 2)), ("second", Notifications(1, 0, 0, 3))):
        totals.take(state(dataclasses.replace(PROBER, notifications=told), instance=instance))
    shown = picture(prober={"notifications": Notifications(1, 0, 0, 3, "hook.example: answered 503")})
    name = "cardano_forge_manager_notifications_total"
    assert [value(shown, name, totals, outcome=each) for each in ("sent", "failed", "dropped")] == [6, 4, 1]
    assert value(shown, "cardano_forge_manager_notifications_queued") == 3
    assert "notices do not arrive (3 wait): hook.example: answered 503" in status(shown)["warnings"]


def test_without_a_webhook_the_counts_stand_at_zero_and_nothing_waits() -> None:
    assert value(picture(), "cardano_forge_manager_notifications_total", outcome="dropped") == 0
    assert "cardano_forge_manager_notifications_queued" not in families(picture())
