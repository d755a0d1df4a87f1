"""Take-overs, seconds without a forger and the time line, from pictures one after the other."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from gateway_pictures import CONFIG, MANAGED, NOW, POOL, S, picture
from hypothesis import given
from hypothesis import strategies as st

from gateway.chronicle import BUCKETS_S, MOST, Chronicle, nobody_from
from gateway.views import Picture
from ipc.messages import Check, Fence, Finding, LockMember, Role, Severity, Worker
from policy import timing

ARMING = {"fence": Fence.ARMING}
FENCED = {"fence": Fence.FENCED, "deadline": 0}
MANAGING = dataclasses.replace(CONFIG, enable_cluster_management=True)


def standby(holder: str = "pod-1_bb", **changes: Any) -> Picture:
    """A pod whose sibling leads."""
    elector = {"role": Role.STANDBY, "grant": None, "holder": holder, "holder_until": NOW + 15 * S, **changes}
    return picture(elector=elector, actuator=FENCED)


def managed(pool: dict[str, Any], **changes: Any) -> Picture:
    arbiter = {**MANAGED, "grant": None, "pool": dataclasses.replace(POOL, **pool)}
    return dataclasses.replace(picture(arbiter=arbiter, **changes), config=MANAGING)


def at(shown: Picture, now: int) -> Picture:
    """The same words, heard again just before `now`."""
    fresh = {w: dataclasses.replace(s, valid_until=now + timing.STATE_VALIDITY) for w, s in shown.states.items()}
    return dataclasses.replace(shown, now=now, states=fresh)


def told(*pictures: Picture) -> Chronicle:
    chronicle = Chronicle()
    for each in pictures:
        chronicle.note(each)
    return chronicle


# --- take-overs ---


def takeover(sign: int, armed: int, *, pool_sign: int = 0, now: int = NOW) -> Picture:
    return picture(
        now=now,
        elector={"other_seen_at": sign},
        arbiter={"other_seen_at": pool_sign},
        actuator={"since": armed},
    )


def counted(chronicle: Chronicle) -> dict[float, int]:
    bounds = (*BUCKETS_S, float("inf"))
    return {bound: count for bound, count in zip(bounds, chronicle.takeovers, strict=True) if count}


def test_a_takeover_lasts_from_the_last_sign_of_the_forger_before_to_confirmed_forging() -> None:
    chronicle = told(takeover(NOW - 10 * S, NOW - 7 * S))
    assert counted(chronicle) == {5.0: 1}
    assert chronicle.takeover_ns == 3 * S


def test_it_counts_once_however_often_it_is_seen() -> None:
    shown = takeover(NOW - 10 * S, NOW - 7 * S)
    assert counted(told(shown, shown, at(shown, NOW + S))) == {5.0: 1}


def test_a_node_that_is_armed_again_in_the_same_term_took_nothing_over() -> None:
    chronicle = told(takeover(NOW - 10 * S, NOW - 7 * S), picture(actuator=FENCED), takeover(NOW - 10 * S, NOW - S))
    assert counted(chronicle) == {5.0: 1}


def test_the_next_takeover_counts_from_the_next_sign() -> None:
    chronicle = told(takeover(NOW - 30 * S, NOW - 29 * S), standby(), takeover(NOW - 2 * S, NOW - 2 * S + S // 20))
    assert counted(chronicle) == {1.0: 1, 0.1: 1}


def test_with_cluster_management_the_later_sign_counts_whichever_lock_gave_it() -> None:
    assert counted(told(takeover(NOW - 100 * S, NOW - 4 * S, pool_sign=NOW - 6 * S))) == {2.5: 1}


def test_a_pool_that_had_no_forger_before_has_no_takeover() -> None:
    assert counted(told(takeover(0, NOW - 7 * S))) == {}


def test_what_is_armed_and_not_confirmed_is_none_yet() -> None:
    assert counted(told(picture(elector={"other_seen_at": NOW - 9 * S}, actuator=ARMING))) == {}


def test_a_very_long_one_falls_into_the_last_bucket() -> None:
    assert counted(told(takeover(NOW - 900 * S, NOW - S))) == {float("inf"): 1}


# --- seconds without a forger ---


def without(*pictures: Picture) -> float:
    return told(*pictures).without_forger / S


def test_a_leader_whose_node_does_not_forge_counts_every_second() -> None:
    fenced = picture(actuator=FENCED)
    assert without(fenced, at(fenced, NOW + 3 * S), at(picture(), NOW + 4 * S), at(picture(), NOW + 5 * S)) == 4


def test_a_standby_counts_while_nobody_holds_the_lease() -> None:
    free = standby(holder="")
    assert without(free, at(free, NOW + 2 * S), at(standby(), NOW + 5 * S), at(standby(), NOW + 9 * S)) == 5


def test_a_holder_that_is_not_heard_of_counts_from_the_end_of_its_lease() -> None:
    assert without(standby(), at(standby(), NOW + 14 * S)) == 0
    assert without(standby(), at(standby(), NOW + 14 * S), at(standby(), NOW + 20 * S)) == 5


def test_a_right_that_ends_unheard_counts_from_its_end() -> None:
    """The actuator of a leader stops to speak: whatever it does, its right ends."""
    assert without(picture(), dataclasses.replace(picture(), now=NOW + 10 * S)) == 1


@pytest.mark.parametrize(
    "unseen",
    [
        picture(silent=(Worker.ELECTOR,)),
        picture(silent=(Worker.ACTUATOR,)),
        standby(api_ok=False, holder=""),
        standby(settled=False, holder=""),
        standby(holder="pod-0_aa"),
        managed({"holder": ""}, silent=(Worker.ELECTOR,), actuator=FENCED),
        managed({"holder": "", "members": (LockMember("one", False, True, "", 0),)}, actuator=FENCED),
        managed({"holder": "", "objection": "they count other members"}, actuator=FENCED),
    ],
)
def test_what_this_pod_cannot_see_counts_as_neither(unseen: Picture) -> None:
    assert nobody_from(unseen) is None
    assert without(unseen, at(unseen, NOW + 60 * S)) == 0


@pytest.mark.parametrize(
    ("pool", "nobody"),
    [
        ({}, True),  # the lock is ours, and our node does not forge
        ({"holder": ""}, True),
        ({"holder": "preprod-pool1abcd1-us-1"}, False),
        ({"sibling": "preprod-pool1abcd1-eu-1/pod-1_bb"}, False),
    ],
)
def test_with_cluster_management_the_pool_wide_lock_says_whether_somebody_forges(
    pool: dict[str, Any], nobody: bool
) -> None:
    assert nobody_from(managed(pool, actuator=FENCED)) == (NOW if nobody else None)


@given(st.lists(st.tuples(st.sampled_from(range(5)), st.integers(0, 20 * S)), max_size=20))
def test_no_more_seconds_are_counted_than_have_passed_and_none_are_taken_back(steps: list[tuple[int, int]]) -> None:
    kinds = (picture(), standby(), standby(holder=""), picture(actuator=FENCED), picture(silent=(Worker.ELECTOR,)))
    chronicle, now, before = Chronicle(), NOW, 0
    for kind, pause in steps:
        now += pause
        chronicle.note(at(kinds[kind], now))
        assert before <= chronicle.without_forger <= now - NOW
        before = chronicle.without_forger


# --- the time line ---


def entries(chronicle: Chronicle, *about: str) -> list[tuple[str, str, str]]:
    return [(e.about, e.old, e.new) for e in chronicle.entries if not about or e.about in about]


def test_the_time_line_tells_what_changed_from_what_to_what_and_why() -> None:
    fenced = picture(actuator={**FENCED, "reason": "the elector's grant ended"})
    chronicle = told(picture(), fenced)
    assert entries(chronicle, "fence") == [("fence", "", "armed"), ("fence", "armed", "fenced")]
    last = chronicle.entries[-1]
    assert (last.at, last.why) == (NOW, "the elector's grant ended")


def test_what_stays_as_it_is_is_told_once() -> None:
    assert len(told(*[picture()] * 5).entries) == len(told(picture()).entries)


def test_a_worker_that_falls_silent_and_comes_back_is_told_and_its_words_are_not_told_anew() -> None:
    chronicle = told(picture(), dataclasses.replace(picture(), now=NOW + 60 * S), picture(now=NOW))
    assert entries(chronicle, "prober", "role") == [
        ("role", "", "leader"),
        ("prober", "alive", "silent"),
        ("prober", "silent", "alive"),
    ]


def test_a_lease_that_changes_hands_is_told_with_its_token() -> None:
    chronicle = told(standby(fencing_token=4), standby(holder="", fencing_token=4), picture(elector={}))
    assert entries(chronicle, "lease") == [
        ("lease", "", "pod-1_bb"),
        ("lease", "pod-1_bb", "nobody"),
        ("lease", "nobody", "pod-0_aa"),
    ]
    assert [e.token for e in chronicle.entries if e.about == "lease"] == [4, 4, 4]


def test_keys_that_became_unusable_are_told_by_their_checks() -> None:
    error = Finding(Check.KES_PERIOD, Severity.ERROR, "the certificate has expired", "rotate")
    chronicle = told(picture(), picture(actuator={"findings": (error,)}))
    assert entries(chronicle, "keys")[-1] == ("keys", "usable", "kes-period")
    assert chronicle.entries[-1].why == "the certificate has expired"


def test_the_clusters_that_hold_and_should_hold_the_lock_are_told() -> None:
    chronicle = told(managed({}), managed({"holder": "", "wanted": "preprod-pool1abcd1-us-1"}))
    assert entries(chronicle, "lock")[-1][1:] == ("preprod-pool1abcd1-eu-1", "nobody")
    assert entries(chronicle, "preferred")[-1][2] == "preprod-pool1abcd1-us-1"


def test_only_the_latest_are_kept() -> None:
    chronicle = Chronicle()
    for n in range(MOST):
        chronicle.note(standby(holder=f"pod-{n}_aa"))
    assert len(chronicle.entries) == MOST
    assert chronicle.entries[-1].new == f"pod-{MOST - 1}_aa"


# --- over a restart of the gateway ---


def again(chronicle: Chronicle, *, this_boot: bool = True) -> Chronicle:
    return Chronicle.resumed(json.loads(json.dumps(chronicle.kept())), this_boot=this_boot)


def test_the_next_life_goes_on_and_tells_nothing_twice() -> None:
    fenced = picture(actuator=FENCED)
    first = told(takeover(NOW - 10 * S, NOW - 7 * S), fenced, at(fenced, NOW + 2 * S))
    second = again(first)
    assert second.kept() == first.kept()
    second.note(at(fenced, NOW + 9 * S))
    assert second.entries == first.entries
    assert second.without_forger == 2 * S  # what lies between the two lives was seen by nobody
    second.note(at(takeover(NOW - 10 * S, NOW + 9 * S), NOW + 10 * S))
    assert second.takeovers == first.takeovers


def test_after_a_reboot_counts_go_on_and_instants_mean_nothing() -> None:
    first = told(takeover(NOW - 10 * S, NOW - 7 * S))
    second = again(first, this_boot=False)
    assert second.takeovers == first.takeovers
    assert not second.entries
    second.note(takeover(NOW - 10 * S, NOW - 7 * S))
    assert sum(second.takeovers) == 2


@pytest.mark.parametrize(
    "spoilt",
    [
        {"takeovers": "many"},
        {"takeovers": [-1] * (len(BUCKETS_S) + 1)},
        {"without": -5},
        {"without": 1.5},
        {"without": 10**400},
        {"entries": [{"at": 1}]},
        {"entries": [{"at": "x", "about": "", "old": "", "new": "", "why": "", "token": 0}]},
        {"known": []},
    ],
)
def test_what_no_gateway_wrote_is_refused(spoilt: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError, KeyError, AttributeError)):
        Chronicle.resumed({**told(picture()).kept(), **spoilt}, this_boot=True)


def test_buckets_of_another_version_begin_anew() -> None:
    kept = {**told(takeover(NOW - 10 * S, NOW - 7 * S)).kept(), "takeovers": [1, 2, 3]}
    assert sum(Chronicle.resumed(kept, this_boot=True).takeovers) == 0
