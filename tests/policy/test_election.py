"""The election, in the small world of `lease_world`: whatever happens to pods, API and Lease, at most one forges."""

from __future__ import annotations

import copy
import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipc.messages import Fence, Role
from policy import timing
from policy.election import Circumstances, Do, Election
from policy.lease import MOST_DISPLACED, LeaseRecord, observe
from policy.seal import opens, seal_of

from lease_world import Pod, Pool, S


def gap_after(pool: Pool, seconds: float = 40) -> float:
    """Seconds without a forger from now on."""
    pool.without = 0
    pool.run(seconds)
    return pool.without / S


def led_pool(n: int = 3) -> Pool:
    pool = Pool.of(n)
    pool.run(15 + 6)
    assert pool.leader().election.role is Role.LEADER
    return pool


def test_a_lease_that_is_found_released_is_taken_only_after_a_whole_lease_duration() -> None:
    """A name may just have been written over: nobody here has seen whose it was, and whether he let go."""
    pool = Pool.of(3)
    pool.run(14.5)
    assert pool.server.record is not None
    assert pool.server.record.holder == ""
    pool.run(1.5)
    assert pool.leader()


def test_a_missing_lease_is_created_only_after_a_whole_lease_duration() -> None:
    pool = Pool.of(3, unheld=False)
    pool.run(14.5)
    assert pool.server.record is None
    pool.run(1.5)
    assert pool.leader()


def test_at_rest_the_leader_sends_twelve_requests_a_minute_and_a_standby_none() -> None:
    pool = led_pool()
    for pod in pool.pods:
        pod.requests.clear()
    pool.run(60)
    for pod in pool.pods:
        assert sum(pod.requests.values()) == (12 if pod.forging else 0)


def test_a_renewal_tells_how_much_of_the_right_was_left() -> None:
    pool = led_pool()
    pool.run(10)
    leader = pool.leader()
    usual = leader.election.renewal_margin
    assert usual is not None
    assert 7 * S <= usual <= 8 * S
    leader.api = "down"
    pool.run(6)
    leader.api = "ok"
    pool.run(1)
    late = leader.election.renewal_margin
    assert late is not None
    assert late < usual - S
    leader.stopping = True
    pool.run(5)
    assert leader.election.renewal_margin is None
    assert pool.leader().election.renewal_margin is None, "its term was not renewed yet"


@pytest.mark.parametrize("api", ["ok", "mute writes"])
def test_of_a_machine_that_was_copied_while_it_forged_only_one_renews_its_term(api: str) -> None:
    """Both know the term, its keys and the identity in it.  Who finds a renewal that is not his own has lost it.

    Until then both forge, which nobody can hinder: neither knows that there is another.
    """
    pool = led_pool(2)
    one = pool.leader()
    copied = copy.deepcopy(one, {id(pool.server): pool.server})
    pool.pods.append(copied)
    one.api = api
    pool.at_most = 2
    pool.run(5.5)
    one.api = "ok"
    pool.run(5.5)
    assert pool.overlap <= 11 * S
    pool.at_most, pool.overlap = 1, 0
    assert gap_after(pool, 120) == 0
    assert one.election.copied != copied.election.copied, "one of them keeps it, and does not know"
    (keeper,) = (pod for pod in (one, copied) if not pod.election.copied)
    assert pool.leader() is keeper
    keeper.stopping = True
    pool.run(60)
    assert pool.leader() is not keeper


def test_two_of_one_identity_that_try_for_the_same_term_do_not_both_have_it() -> None:
    """What a folder copied with RUN_DIR makes: the one who lost finds its own name in the term that it tried for."""
    pool = Pool.of(1)
    pool.run(10)
    pool.pods.append(copy.deepcopy(pool.pods[0], {id(pool.server): pool.server}))
    pool.run(60)
    assert pool.leader()


def test_a_leader_whose_lease_is_edited_by_hand_beside_the_renewal_keeps_it() -> None:
    pool = led_pool()
    leader = pool.leader()
    pool.server.pause("for a drill")
    assert gap_after(pool, 30) == 0
    assert pool.leader() is leader
    assert not leader.election.copied


def test_a_leader_told_to_stop_releases_and_another_takes_over_at_once() -> None:
    pool = led_pool()
    pool.leader().stopping = True
    assert gap_after(pool) <= 0.5


def test_a_leader_whose_node_ends_hands_over_at_once() -> None:
    pool = led_pool()
    leader = pool.leader()
    leader.gone, leader.ready = True, False
    assert gap_after(pool) <= 0.5


def test_a_frozen_leader_is_succeeded_after_its_lease() -> None:
    pool = led_pool()
    pool.leader().frozen = True
    assert gap_after(pool) <= 16


def test_a_frozen_leader_that_wakes_up_does_not_forge_on_an_old_grant() -> None:
    pool = led_pool()
    leader = pool.leader()
    leader.frozen = True
    pool.run(40)
    leader.frozen = False
    pool.run(40)
    assert not leader.forging


def test_a_leader_cut_off_from_the_api_stops_before_another_starts() -> None:
    pool = led_pool()
    leader = pool.leader()
    leader.api = "down"
    gap = gap_after(pool)
    assert 2 <= gap <= 4
    assert not leader.forging


def test_an_outage_shorter_than_the_lease_costs_nothing() -> None:
    pool = led_pool()
    for pod in pool.pods:
        pod.api = "down"
    pool.without = 0
    pool.run(6)
    for pod in pool.pods:
        pod.api = "ok"
    pool.run(30)
    assert pool.without == 0


def test_after_a_long_outage_somebody_forges_within_two_seconds() -> None:
    pool = led_pool()
    for pod in pool.pods:
        pod.api = "down"
    pool.run(40)
    for pod in pool.pods:
        pod.api = "ok"
    assert gap_after(pool, 20) <= 2


def test_a_leader_whose_answers_are_lost_stops_by_its_own_clock_though_its_writes_arrive() -> None:
    pool = led_pool()
    pool.leader().api = "mute"
    pool.run(60)
    assert pool.overlap == 0
    assert pool.leader()


def test_a_taking_whose_answer_was_lost_is_gone_on_with_as_soon_as_answers_come() -> None:
    pool = Pool.of(2)
    pool.pods[1].fit = False
    pool.pods[0].api = "mute writes"
    pool.run(15 + 3)
    assert pool.server.record is not None
    assert pool.server.record.holder == "pod-0"
    assert not pool.pods[0].forging
    pool.pods[0].api = "ok"
    pool.run(1)
    assert pool.leader() is pool.pods[0]


def test_a_lease_deleted_under_a_leader_is_made_anew_by_it_without_a_gap() -> None:
    pool = led_pool()
    leader = pool.leader()
    pool.server.delete()
    pool.without = 0
    pool.run(30)
    assert pool.without == 0
    assert pool.leader() is leader


def test_a_lease_deleted_under_a_leader_that_is_cut_off_is_not_taken_while_it_may_forge() -> None:
    pool = led_pool()
    pool.leader().api = "down"
    pool.server.delete()
    pool.run(40)
    assert pool.overlap == 0
    assert pool.leader()


def test_a_holder_erased_by_hand_puts_itself_back_before_anybody_else_may_take_the_lease() -> None:
    pool = led_pool()
    leader, record = pool.leader(), pool.server.record
    assert record is not None
    pool.server.write(record.resource_version, "", record.transitions, duration_s=15)
    pool.without = 0
    pool.run(40)
    assert pool.without == pool.overlap == 0
    assert pool.leader() is leader


@pytest.mark.parametrize("duration_s", [0, 1, 15])
def test_a_lease_made_anew_by_hand_is_not_taken_while_the_last_holder_may_forge(duration_s: int) -> None:
    pool = led_pool()
    leader = pool.leader()
    leader.api = "down"
    pool.server.delete()
    pool.server.write(None, "", 0, duration_s=duration_s)
    pool.run(40)
    assert pool.overlap == 0
    assert pool.leader() is not leader


def test_a_lease_made_anew_by_hand_under_a_leader_stays_its_own() -> None:
    pool = led_pool()
    leader = pool.leader()
    pool.server.delete()
    pool.server.write(None, "", 0, duration_s=0)
    pool.without = 0
    pool.run(40)
    assert pool.without == pool.overlap == 0
    assert pool.leader() is leader


def test_a_holder_erased_by_hand_may_hand_over_all_the_same() -> None:
    pool = led_pool()
    leader, record = pool.leader(), pool.server.record
    assert record is not None
    pool.server.write(record.resource_version, "", record.transitions, duration_s=15)
    leader.stopping = True
    assert gap_after(pool, 30) < 1


def test_who_may_have_released_the_lease_does_not_take_it_for_erased_by_hand() -> None:
    """The release arrived, its answer did not; another took the Lease, and was erased by hand: it is that one's."""
    pool = led_pool()
    leader, server = pool.leader(), pool.server
    now, before = leader.clock(pool.true), server.record
    assert before is not None
    election, world = leader.election, dataclasses.replace(leader.world(), stopping=True, fence=Fence.FENCED)
    assert election.next(now, world).act is Do.RELEASE
    token = election.begin(Do.RELEASE)
    election.failed(now + S, conflict=False, pause=0)
    erased = dataclasses.replace(before, resource_version="999", holder="", transitions=token + 1, seal="another's")
    election.saw(erased, now + 2 * S, missed=True, read=True)
    assert not election.leading
    assert election.next(now + 2 * S, world).act is Do.WAIT


def test_a_renewal_that_succeeds_after_a_lost_release_makes_the_lease_ours_again_when_it_is_erased() -> None:
    pool = led_pool()
    leader = pool.leader()
    now, election = leader.clock(pool.true), leader.election
    world = dataclasses.replace(leader.world(), stopping=True, fence=Fence.FENCED)
    assert election.next(now, world).act is Do.RELEASE
    election.begin(Do.RELEASE)
    election.failed(now, conflict=False, pause=0)
    record = pool.server.record
    assert record is not None
    election.begin(Do.RENEW)
    renewed = dataclasses.replace(record, resource_version="998")
    election.wrote(renewed, sent_at=now, now=now + S)
    election.saw(dataclasses.replace(renewed, resource_version="999", holder=""), now + 2 * S, read=True)
    assert election.leading
    assert election.next(now + 2 * S, world).act is Do.RENEW


def test_a_release_is_believed_of_the_same_lease_and_no_earlier_term_only() -> None:
    held = observe(None, LeaseRecord("5", "a", 15, 7, uid="u"), 100)
    for record, free in (
        (LeaseRecord("6", "", 1, 7, uid="u"), True),
        (LeaseRecord("6", "", 0, 9, uid="u"), True),
        (LeaseRecord("6", "", 1, 6, uid="u"), False),
        (LeaseRecord("6", "", 1, 7, uid="v"), False),
        (LeaseRecord("6", "", 15, 7, uid="u"), False),
        (None, False),
    ):
        seen = observe(held, record, 200)
        assert (seen.free, seen.orphaned) == (free, not free)
        assert seen.duration_s >= (0 if free else 15)
        if not free:
            later = observe(seen, LeaseRecord("9", "", 1, 9, uid="u"), 300)
            assert not later.free, "what is not believed once is not believed after another edit"


@pytest.mark.parametrize("forged", ["no key", "wrong key", "own seal and key", "a later term"])
def test_a_release_written_by_anybody_but_the_holder_frees_nothing(forged: str) -> None:
    pool = led_pool()
    leader, record = pool.leader(), pool.server.record
    assert record is not None
    seal = seal_of("evil") if forged in ("own seal and key", "a later term") else None
    key = "" if forged == "no key" else "evil"
    token = record.transitions + (forged == "a later term")
    leader.api = "down"
    pool.server.write(record.resource_version, "", token, duration_s=1, seal=seal, key=key)
    pool.run(40)
    assert pool.overlap == 0
    assert pool.leader() is not leader


@pytest.mark.parametrize("seal", [None, seal_of("evil")])
def test_a_leader_whose_release_was_forged_writes_itself_back(seal: str | None) -> None:
    pool = led_pool()
    leader, record = pool.leader(), pool.server.record
    assert record is not None
    pool.server.write(record.resource_version, "", record.transitions, duration_s=1, seal=seal, key="evil")
    pool.without = 0
    pool.run(40)
    assert pool.without == pool.overlap == 0
    assert pool.leader() is leader


def sealed(
    version: int, holder: str, key: str, *, opened: bool = False, token: int = 7, duration_s: int = 15
) -> LeaseRecord:
    """A version under the seal of this key, or with the key itself."""
    key_shown = key if opened else ""
    return LeaseRecord(str(version), holder, duration_s, token, uid="u", seal=seal_of(key), key=key_shown)


def test_a_seal_written_over_a_term_frees_nothing_of_what_was_held_under_the_other() -> None:
    held = observe(None, sealed(5, "a", "k"), 100)
    edited = observe(held, sealed(6, "a", "evil"), 200)
    assert observe(edited, sealed(7, "", "evil", opened=True), 300).displaced_until == 100 + 15 * S
    assert observe(edited, sealed(7, "", "k", opened=True), 300).displaced_until == 200 + 15 * S
    following = observe(edited, sealed(7, "b", "l", token=8), 300)
    assert observe(following, sealed(8, "", "l", opened=True, token=8), 400).displaced_until == 200 + 15 * S


def test_a_term_whose_seal_was_changed_long_ago_is_released_at_once() -> None:
    """Its holder's arbiter has made another half, after a restart in the middle of a hand-over."""
    seen = observe(None, sealed(5, "a", "k"), 0)
    for version, second in enumerate(range(5, 26, 5), 6):
        seen = observe(seen, sealed(version, "a", "k.second half"), second * S)
    released = observe(seen, sealed(20, "", "k.second half", opened=True), 26 * S)
    assert released.free
    assert released.displaced_until == 0


def test_no_flood_of_terms_makes_anybody_forget_the_one_that_it_began_with() -> None:
    seen = observe(None, sealed(1, "victim", "k"), 0)
    for token in range(8, 8 + 3 * MOST_DISPLACED):
        seen = observe(seen, sealed(token, "thief", f"thief {token}", token=token, duration_s=1), token)
    last = 8 + 3 * MOST_DISPLACED - 1
    seen = observe(seen, sealed(last + 1, "", f"thief {last}", opened=True, token=last), last + 1)
    assert seen.displaced_until >= 15 * S
    assert len(seen.displaced) <= MOST_DISPLACED


def test_a_term_without_a_duration_was_a_term_all_the_same() -> None:
    held = observe(None, LeaseRecord("5", "a", 0, 7, uid="u"), 100)
    assert not observe(held, LeaseRecord("6", "", 0, 7, uid="another"), 200).free
    assert not observe(held, None, 200).free


def test_the_release_of_a_holder_that_makes_no_seal_is_told_by_its_duration() -> None:
    held = observe(None, LeaseRecord("5", "a", 15, 7, uid="u"), 100)
    assert observe(held, LeaseRecord("6", "", 1, 7, uid="u"), 200).free
    assert not observe(held, LeaseRecord("6", "", 15, 7, uid="u"), 200).free


def test_a_holder_that_sends_an_opened_seal_back_has_made_none() -> None:
    """The field's older manager: it writes back whatever annotations the last release left."""
    held = observe(None, sealed(5, "older", "k", opened=True), 100)
    erased = observe(held, sealed(6, "", "k", opened=True), 200)
    assert not erased.free
    assert erased.displaced_until == 100 + 15 * S
    assert observe(held, sealed(6, "", "k", opened=True, duration_s=1), 200).free


@given(st.text(), st.text())
def test_a_seal_is_opened_by_its_own_key_alone(key: str, other: str) -> None:
    assert opens(key, seal_of(key)) is bool(key)
    assert opens(other, seal_of(key)) is (bool(other) and other == key)
    assert not opens(key, "")


def test_a_lease_taken_by_hand_for_a_stranger_stops_the_leader_and_comes_back_after_its_duration() -> None:
    pool = led_pool()
    record = pool.server.record
    assert record is not None
    pool.server.write(record.resource_version, "somebody", record.transitions)
    gap = gap_after(pool, 60)
    assert 9 <= gap <= 16


def test_a_lease_given_by_hand_to_a_standby_does_not_make_two_forgers() -> None:
    pool = led_pool()
    standby = next(p for p in pool.pods if not p.forging)
    record = pool.server.record
    assert record is not None
    pool.server.write(record.resource_version, standby.name, record.transitions)
    pool.run(60)
    assert pool.overlap == 0
    assert pool.leader()


def test_an_old_term_of_ours_that_is_written_over_another_s_is_not_gone_on_with() -> None:
    """Cut off from the API, we have seen nothing of the holder between."""
    pool = led_pool()
    former = pool.leader()
    former.api = "down"
    pool.run(20)
    record = pool.server.record
    assert record is not None
    assert pool.leader() is not former
    pool.server.write(record.resource_version, former.name, 1, seal=seal_of(f"{former.name} 1"))
    former.api = "ok"
    pool.run(60)
    assert pool.overlap == 0
    assert pool.leader()


def test_a_renewal_whose_answer_was_lost_is_gone_on_with_while_nobody_can_have_followed() -> None:
    pool = led_pool(1)
    (pod,) = pool.pods
    pod.api = "mute"
    pool.run(6)
    pod.api = "ok"
    pool.without = 0
    pool.run(20)
    assert pool.without == 0


@pytest.mark.parametrize("seal", ["", seal_of("mine")])
def test_the_release_of_one_that_was_seen_first_a_moment_ago_is_not_believed_at_once(seal: str) -> None:
    """It may have been written over the true holder just before, whom nobody here has seen."""
    pool = led_pool(2)
    leader, record = pool.leader(), pool.server.record
    standby = next(pod for pod in pool.pods if pod is not leader)
    assert record is not None
    forged = pool.server.write(record.resource_version, leader.name, record.transitions + 1, seal=seal)
    assert forged is not None
    standby.restart(pool.true, as_a_stranger=True)
    pool.run(0.1)
    pool.server.write(forged.resource_version, "", forged.transitions, 1, seal=seal, key="mine" if seal else "")
    pool.run(60)
    assert pool.overlap == 0
    assert pool.leader()


def test_a_duration_written_over_a_term_does_not_shorten_it() -> None:
    pool = led_pool()
    leader, record = pool.leader(), pool.server.record
    assert record is not None
    leader.api = "down"
    shortened = pool.server.write(record.resource_version, record.holder, record.transitions, 1)
    assert shortened is not None
    pool.run(0.1)
    seal = seal_of("mine")
    taken = pool.server.write(shortened.resource_version, "thief", record.transitions + 1, 1, seal=seal)
    assert taken is not None
    pool.run(0.1)
    pool.server.write(taken.resource_version, "", taken.transitions, 1, seal=seal, key="mine")
    pool.run(40)
    assert pool.overlap == 0
    assert pool.leader() is not leader


@pytest.mark.parametrize("erased_first", [False, True])
def test_a_thief_s_own_release_does_not_make_others_believe_that_its_victim_stopped(*, erased_first: bool) -> None:
    pool = led_pool()
    record = pool.server.record
    assert record is not None
    if erased_first:
        pool.server.write(record.resource_version, "", record.transitions, 15)
        pool.run(0.1)
        record = pool.server.record
        assert record is not None
    taken = pool.server.write(record.resource_version, "thief", record.transitions + 1, seal=seal_of("mine"))
    assert taken is not None
    pool.run(0.1)
    pool.server.write(taken.resource_version, "", taken.transitions, seal=seal_of("mine"), key="mine")
    pool.run(60)
    assert pool.overlap == 0
    assert pool.leader()


def test_a_term_of_ours_that_another_ended_is_not_given_back_by_whoever_writes_it_again() -> None:
    pool = led_pool(2)
    first = pool.leader()
    ended = pool.server.record
    assert ended is not None
    first.fit = False
    pool.run(30)
    second = pool.leader()
    assert second is not first
    first.fit = True
    pool.run(30)
    record = pool.server.record
    assert record is not None
    pool.server.write(record.resource_version, first.name, ended.transitions)
    pool.run(60)
    assert pool.overlap == 0


def test_a_restarted_elector_of_the_leader_goes_on_in_the_same_term_without_a_gap() -> None:
    pool = led_pool()
    leader = pool.leader()
    token = leader.election.token
    pool.without = 0
    leader.restart(pool.true)
    pool.run(20)
    assert pool.without == 0
    assert pool.leader() is leader
    assert leader.election.token == token


def test_a_restarted_elector_without_an_answer_neither_ends_nor_lengthens_the_old_grant() -> None:
    pool = led_pool()
    leader = pool.leader()
    leader.api = "down"
    ends = leader.granted_until
    leader.restart(pool.true)
    pool.run(3)
    assert leader.forging
    assert leader.granted_until == ends
    pool.run(40)
    assert not leader.forging


def test_an_unfit_pod_does_not_contend() -> None:
    pool = Pool.of(2)
    pool.pods[0].fit = False
    pool.run(15 + 5)
    assert pool.leader() is pool.pods[1]
    assert pool.pods[0].election.role is Role.OBSERVER


def test_a_leader_that_cannot_arm_gives_the_lease_to_one_that_can() -> None:
    pool = Pool.of(2)
    pool.pods[1].fit = False
    pool.run(15 + 2)
    assert pool.leader() is pool.pods[0]
    pool.pods[1].fit = True
    pool.pods[0].ready = False
    pool.run(5)
    assert pool.leader() is pool.pods[1]


def test_standing_down_hands_over_and_comes_back_when_the_time_is_over() -> None:
    pool = led_pool(2)
    leader = pool.leader()
    now = leader.clock(pool.true)
    leader.election.stand_down(now + 30 * S, now)
    pool.run(3)
    other = pool.leader()
    assert other is not leader
    assert leader.election.role is Role.OBSERVER
    pool.run(30)
    assert leader.election.role is Role.STANDBY


def test_standing_down_for_less_time_than_the_fence_takes_leaves_the_lease_to_another_all_the_same() -> None:
    pool = led_pool(2)
    leader = pool.leader()
    now = leader.clock(pool.true)
    leader.election.stand_down(now + S // 20, now)
    leader.next_at = 0  # it is told of the command
    pool.run(3)
    assert pool.leader() is not leader
    assert leader.election.role is Role.STANDBY


def drained(pool: Pool, quiet_s: float, *, at_once: bool = False, wait_s: float = 600) -> Pod:
    """Its leader, asked to stand down for 30 s, with a gap in the schedule so many seconds away."""
    leader = pool.leader()
    now = leader.clock(pool.true)
    leader.election._handover_wait = int(wait_s * S)
    leader.quiet_at = now + int(quiet_s * S)
    leader.election.stand_down(now + 30 * S, now, at_once=at_once)
    return leader


def test_a_drain_waits_for_a_gap_in_the_leadership_schedule_and_only_then_its_time_begins() -> None:
    pool = led_pool(2)
    leader = drained(pool, 50)
    pool.run(48)
    assert pool.leader() is leader
    pool.run(5)
    assert pool.leader() is not leader
    pool.run(20)
    assert leader.election.role is Role.OBSERVER
    pool.run(10)
    assert leader.election.role is Role.STANDBY


@pytest.mark.parametrize("how", [{"at_once": True}, {"wait_s": 2}])
def test_a_drain_does_not_wait_where_that_is_asked_for_nor_longer_than_is_allowed(how: dict[str, float]) -> None:
    pool = led_pool(2)
    leader = drained(pool, 500, **how)  # type: ignore[arg-type]
    pool.run(5)
    assert pool.leader() is not leader


def test_who_was_asked_to_come_back_before_the_gap_goes_on_leading() -> None:
    pool = led_pool(2)
    leader = drained(pool, 50)
    pool.run(10)
    now = leader.clock(pool.true)
    leader.election.stand_down(now, now)
    pool.run(60)
    assert pool.leader() is leader


def test_a_drain_of_a_pod_that_does_not_forge_waits_for_nothing() -> None:
    pool = led_pool(2)
    leader = pool.leader()
    standby = next(pod for pod in pool.pods if pod is not leader)
    now = standby.clock(pool.true)
    standby.quiet_at, standby.election._handover_wait = now + 500 * S, 600 * S
    standby.election.stand_down(now + 30 * S, now, at_once=False)
    pool.run(2)
    assert standby.election.role is Role.OBSERVER
    pool.run(30)
    assert standby.election.role is Role.STANDBY


def test_nothing_but_a_drain_waits_for_a_gap() -> None:
    """A leader whose node is unfit, gone or told to stop hands over, whatever slots the pool has."""
    for fault in ("stopping", "gone", "unfit"):
        pool = led_pool(2)
        leader = drained(pool, 500)
        leader.stopping, leader.gone, leader.fit = fault == "stopping", fault == "gone", fault != "unfit"
        leader.ready = fault != "gone"
        pool.run(14)
        assert pool.leader() is not leader


# --- a pause ---


def paused_pool(n: int = 3) -> tuple[Pool, Pod]:
    """And its leader, which has heard of the pause with its next renewal."""
    pool = led_pool(n)
    leader = pool.leader()
    pool.server.pause("new switches")
    assert gap_after(pool, 10) == 0, "to be paused costs nothing"
    assert pool.leader() is leader
    return pool, leader


@pytest.mark.parametrize("fault", ["gone", "unfit", "not ready"])
def test_in_a_pause_a_leader_keeps_the_lease_whatever_becomes_of_its_node(fault: str) -> None:
    pool, leader = paused_pool()
    leader.gone, leader.fit, leader.ready = fault == "gone", fault != "unfit", fault == "unfit"
    pool.run(120)
    assert leader.election.role is Role.LEADER
    leader.gone, leader.fit, leader.ready = False, True, True
    pool.run(2)
    assert pool.leader() is leader


@pytest.mark.parametrize("end", ["frozen", "stopping", "cut off"])
def test_in_a_pause_nobody_takes_over_from_a_leader_that_is_lost(end: str) -> None:
    pool, leader = paused_pool()
    leader.frozen, leader.stopping, leader.api = (
        end == "frozen",
        end == "stopping",
        "down" if end == "cut off" else "ok",
    )
    pool.run(200)
    assert not any(pod.forging for pod in pool.pods)
    others = [pod.election for pod in pool.pods if pod is not leader]
    assert all(each.role is Role.STANDBY for each in others)
    assert all(each.reason == f"paused new switches; {leader.name} alone may take the lease" for each in others)


@pytest.mark.parametrize("end", ["frozen", "stopping"])
def test_who_had_the_lease_takes_it_again_in_a_pause(end: str) -> None:
    pool, leader = paused_pool()
    leader.frozen, leader.stopping = end == "frozen", end == "stopping"
    pool.run(60)
    leader.frozen = leader.stopping = False
    leader.restart(pool.true)
    pool.run(20)
    assert pool.leader() is leader


def test_when_a_pause_ends_the_next_takes_over_at_once() -> None:
    pool, leader = paused_pool()
    leader.stopping = True
    pool.run(60)
    pool.server.pause("")
    assert gap_after(pool, 5) <= 1.5
    assert pool.leader() is not leader


def test_a_leader_that_is_asked_to_stand_down_in_a_pause_hands_over_to_any() -> None:
    pool, leader = paused_pool()
    now = leader.clock(pool.true)
    leader.election.stand_down(timing.NEVER, now)
    assert gap_after(pool, 10) <= 0.5
    assert pool.leader() is not leader
    assert leader.election.drained
    assert leader.election.standing_down_until == 0


def test_a_pause_before_anybody_held_the_lease_keeps_nobody_from_taking_it() -> None:
    pool = Pool.of(2)
    pool.server.pause("true")
    pool.run(15 + 6)
    assert pool.leader()


def test_a_pod_that_was_drained_stays_out_until_it_is_asked_to_come_back() -> None:
    pool = led_pool(2)
    leader = pool.leader()
    leader.election.stand_down(timing.NEVER, leader.clock(pool.true))
    pool.run(100)
    assert leader.election.role is Role.OBSERVER
    now = leader.clock(pool.true)
    leader.election.stand_down(now, now)
    pool.run(2)
    assert leader.election.role is Role.STANDBY


def test_the_token_rises_with_each_new_holder() -> None:
    pool = led_pool()
    tokens = [pool.leader().election.token]
    for _ in range(4):
        leader = pool.leader()
        now = leader.clock(pool.true)
        leader.election.stand_down(now + 5 * S, now)
        pool.run(8)
        tokens.append(pool.leader().election.token)
    assert tokens == sorted(set(tokens))


def test_a_server_that_answers_nothing_but_conflicts_is_not_asked_in_a_tight_loop() -> None:
    pool = led_pool()
    for pod in pool.pods:
        pod.api = "conflict"
        pod.requests.clear()
    pool.run(30)
    for pod in pool.pods:
        assert sum(pod.requests.values()) <= 200


def test_a_leader_whose_grant_was_voided_by_a_jump_of_the_clock_renews_at_once() -> None:
    pool = led_pool()
    leader = pool.leader()
    leader.requests.clear()
    leader.void_before = leader.clock(pool.true)
    pool.run(0.3)
    assert leader.requests.get("renew") == 1
    pool.run(4)
    assert leader.requests.get("renew") == 1


def test_a_leaders_requests_leave_room_for_two_more_and_are_never_hurried_below_the_least() -> None:
    pool = led_pool()
    leader = pool.leader()
    now = leader.clock(pool.true)
    assert leader.election.grant is not None
    left = leader.election.grant.deadline - now
    assert leader.election.request_timeout(now) == max(left // 3, timing.REQUEST_TIMEOUT)
    assert leader.election.request_timeout(now + left) == timing.REQUEST_TIMEOUT


def test_no_watch_is_opened_while_the_record_must_be_read_or_a_pause_is_running() -> None:
    """Otherwise a server that refuses watches would be asked for them in a tight loop."""
    pool = Pool.of(2)
    pool.run(3)
    standby = next(p for p in pool.pods if not p.forging)
    election, now = standby.election, standby.clock(pool.true)
    assert election.may_watch(now)
    election.failed(now, conflict=False, pause=S)
    assert not election.may_watch(now + 2 * S)
    election.saw(pool.server.record, now + S // 2)
    assert not election.may_watch(now + S // 2)
    assert election.may_watch(now + 2 * S)


def test_observation_time_starts_again_only_when_something_changed() -> None:
    record = LeaseRecord("5", "a", 15, 1)
    first = observe(None, record, 100)
    assert observe(first, LeaseRecord("5", "a", 15, 1), 900) is first
    assert observe(first, LeaseRecord("6", "a", 15, 1), 900).at == 900


FAULTS = st.sampled_from(
    [
        "down",
        "mute",
        "heal",
        "freeze",
        "thaw",
        "restart",
        "stop",
        "return",
        "node dies",
        "node lives",
        "unfit",
        "fit",
        "delete lease",
        "steal lease",
        "give lease",
        "clear lease",
        "forge release",
    ]
)


@pytest.mark.parametrize("pods", [2, 3, 5])
@settings(max_examples=40, deadline=None)
@given(
    schedule=st.lists(st.tuples(FAULTS, st.integers(0, 4), st.floats(0.02, 20)), max_size=12),
    seed=st.integers(0, 1000),
)
def test_no_schedule_of_faults_makes_two_forge_and_one_forges_soon_after_it(
    pods: int, schedule: list[tuple[str, int, float]], seed: int
) -> None:
    pool = Pool.of(pods, seed=seed)
    pool.run(1)
    for fault, which, seconds in schedule:
        pod = pool.pods[which % pods]
        record = pool.server.record
        match fault:
            case "down" | "mute":
                pod.api = fault
            case "heal":
                pod.api = "ok"
            case "freeze":
                pod.frozen = True
            case "thaw":
                pod.frozen = False
            case "restart" if not pod.frozen:
                pod.restart(pool.true)
            case "stop":
                pod.stopping = True
            case "return":
                pod.stopping = False
            case "node dies":
                pod.gone, pod.ready = True, False
            case "node lives":
                pod.gone, pod.ready = False, True
            case "unfit":
                pod.fit = False
            case "fit":
                pod.fit = True
            case "delete lease":
                pool.server.delete()
            case "steal lease" if record is not None:
                pool.server.write(record.resource_version, "somebody", record.transitions)
            case "give lease" if record is not None:
                pool.server.write(record.resource_version, pod.name, record.transitions)
            case "clear lease" if record is not None:
                pool.server.write(record.resource_version, "", record.transitions, duration_s=15)
            case "forge release" if record is not None:
                pool.server.write(record.resource_version, "", record.transitions, duration_s=1, key="guessed")
        pool.run(seconds)
    for pod in pool.pods:
        pod.api, pod.frozen, pod.stopping, pod.gone, pod.ready, pod.fit = "ok", False, False, False, True, True
    pool.run(45)
    assert pool.leader()


# --- a server that counts again ---

ABLE = Circumstances(
    fit=True,
    unfit_for=0,
    unfit_why="",
    ready=True,
    not_ready_why="",
    fence=Fence.FENCED,
    void_before=0,
    node_gone=False,
    stopping=False,
)
THEIRS = LeaseRecord("7", "them", 15, 1, uid="u", renew_time="first")


def contender(seen: LeaseRecord, at: int) -> Election:
    election = Election("us", lease_duration_s=15, sleep_interval=5 * S, held=None, now=at)
    election.saw(seen, at, read=True)
    return election


def test_a_lease_that_runs_out_is_read_a_second_before_it_is_taken() -> None:
    election = contender(THEIRS, 100 * S)
    waiting = election.next(105 * S, ABLE)
    assert (waiting.act, waiting.until) == (Do.WAIT, 114 * S)
    assert election.next(114 * S, ABLE).act is Do.READ
    election.saw(THEIRS, 114 * S + 1, read=True)
    assert election.next(114 * S + 2, ABLE).act is Do.WAIT
    assert election.next(115 * S, ABLE).act is Do.TAKE


def test_a_lease_that_was_restored_and_renewed_up_to_the_version_that_we_saw_is_not_taken() -> None:
    election = contender(THEIRS, 100 * S)
    assert election.next(114 * S, ABLE).act is Do.READ
    election.saw(dataclasses.replace(THEIRS, renew_time="later"), 114 * S, missed=True, read=True)
    for second in range(115, 128):
        assert election.next(second * S, ABLE).act is Do.WAIT
    assert election.next(128 * S + 1, ABLE).act is Do.READ


def test_a_lease_that_was_free_long_ago_is_read_before_it_is_taken() -> None:
    free = dataclasses.replace(THEIRS, holder="", duration_s=1)
    election = contender(THEIRS, 100 * S)
    election.saw(dataclasses.replace(THEIRS, resource_version="8"), 120 * S)  # who was there before is not known
    election.saw(free, 121 * S)
    assert election.next(121 * S, ABLE).act is Do.TAKE
    assert election.next(160 * S, ABLE).act is Do.READ
    election.saw(free, 160 * S, read=True)
    assert election.next(160 * S, ABLE).act is Do.TAKE
