"""Who should forge: the one order that every cluster computes, and what the arbiters make of it with one lock."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy import timing
from policy.arbitration import (
    FORGIVEN,
    FRESH,
    MOST_DOUBLINGS,
    PENALTY,
    Arbitration,
    Cluster,
    ClusterSpec,
    ForgeState,
    HealthSpec,
    Override,
    Verdict,
    conflict,
    rank,
)

S = timing.SECOND
NOW = 10_000 * S
WALL = 1_800_000_000.0
HOLD_DOWN = 60 * S
ENABLED, DISABLED, RULE = ForgeState.ENABLED, ForgeState.DISABLED, ForgeState.PRIORITY_BASED


def cluster(
    name: str,
    priority: int = 100,
    *,
    state: ForgeState = RULE,
    region: str = "",
    ready: bool = True,
    failures: int = 0,
    threshold: int = 3,
    checked: bool = True,
    override: Override | None = None,
    ours: bool = False,
    seen: int = NOW,
    prefers: bool = True,
) -> Cluster:
    health = HealthSpec(enabled=checked, threshold=threshold)
    spec = ClusterSpec(state, priority, health, override or Override())
    return Cluster(
        name,
        region,
        spec,
        ready=ready,
        failures=failures,
        ours=ours,
        changed_at=seen,
        said_at=seen,
        prefers_itself=prefers,
    )


def heard(each: Cluster, now: int) -> Cluster:
    """As it is when it said something anew."""
    return dataclasses.replace(each, changed_at=now, said_at=now)


def names(clusters: Sequence[Cluster]) -> list[str]:
    return [each.name for each in clusters]


def seen_by(name: str, clusters: Sequence[Cluster]) -> list[Cluster]:
    return [dataclasses.replace(each, ours=each.name == name) for each in clusters]


overrides = st.builds(
    Override,
    enabled=st.booleans(),
    reason=st.sampled_from(["", "maintenance"]),
    expires_at=st.sampled_from([None, WALL - 1, WALL, WALL + 1]),
    force_priority=st.none() | st.integers(1, 5),
    force_state=st.sampled_from([None, ENABLED, DISABLED]),
)
specs = st.none() | st.builds(
    ClusterSpec,
    state=st.sampled_from(ForgeState),
    priority=st.integers(1, 5),
    health=st.builds(HealthSpec, enabled=st.booleans(), threshold=st.integers(1, 3)),
    override=overrides,
)


@st.composite
def pools(draw: st.DrawFn, fresh: bool = False) -> list[Cluster]:
    count = draw(st.integers(1, 5))
    seen = st.just(NOW) if fresh else st.sampled_from([NOW, NOW - FRESH, NOW - FRESH + 1])
    return [
        Cluster(
            name,
            draw(st.sampled_from(["", "east", "west"])),
            draw(specs),
            ready=draw(st.booleans()),
            prefers_itself=draw(st.booleans()),
            failures=draw(st.integers(0, 4)),
            changed_at=draw(seen),
        )
        for name in "abcde"[:count]
    ]


# --- the order ---


@given(pools(), st.randoms(use_true_random=False))
def test_the_order_does_not_depend_on_the_order_of_the_input(pool: list[Cluster], dice: random.Random) -> None:
    mixed = list(pool)
    dice.shuffle(mixed)
    assert rank(mixed, NOW, WALL) == rank(pool, NOW, WALL)
    assert conflict(mixed, WALL) == conflict(pool, WALL)


@given(pools())
def test_whoever_can_forge_stands_in_it_once_and_nobody_else(pool: list[Cluster]) -> None:
    able = [each.name for each in pool if not each.against(NOW, WALL)]
    assert sorted(names(rank(pool, NOW, WALL))) == able


@given(pools(fresh=True))
def test_every_cluster_computes_the_same_winner_from_the_same_view(pool: list[Cluster]) -> None:
    orders = {tuple(names(rank(seen_by(each.name, pool), NOW, WALL))) for each in pool}
    assert len(orders) == 1


@given(pools(fresh=True))
def test_each_arbiter_says_of_the_same_view_who_wins_and_which_place_is_its_own(pool: list[Cluster]) -> None:
    order = names(rank(pool, NOW, WALL))
    for each in pool:
        verdict = Arbitration(HOLD_DOWN).judge(seen_by(each.name, pool), held_since=0, now=NOW, wall_s=WALL)
        assert verdict.winner == (order[0] if order else "")
        assert verdict.place == (order.index(each.name) if each.name in order else len(order))
        assert verdict.want is (each.name in order)


@given(pools())
def test_a_disabled_cluster_never_wins(pool: list[Cluster]) -> None:
    for each in rank(pool, NOW, WALL):
        assert each.spec is not None
        assert each.spec.effective_state(WALL) is not DISABLED


@given(pools())
def test_an_expired_override_equals_none(pool: list[Cluster]) -> None:
    without = [
        dataclasses.replace(each, spec=dataclasses.replace(each.spec, override=Override()))
        if each.spec is not None and each.spec.override.expires_at in (WALL - 1, WALL)
        else each
        for each in pool
    ]
    assert names(rank(without, NOW, WALL)) == names(rank(pool, NOW, WALL))
    assert conflict(without, WALL) == conflict(pool, WALL)
    assert [each.priority(WALL) for each in without] == [each.priority(WALL) for each in pool]


@given(pools())
def test_an_override_that_is_not_enabled_equals_none(pool: list[Cluster]) -> None:
    def switched_off(each: Cluster, override: Override) -> Cluster:
        return (
            each
            if each.spec is None
            else dataclasses.replace(
                each, spec=dataclasses.replace(each.spec, override=dataclasses.replace(override, enabled=False))
            )
        )

    off = [switched_off(each, each.spec.override if each.spec else Override()) for each in pool]
    none = [switched_off(each, Override()) for each in pool]
    assert names(rank(off, NOW, WALL)) == names(rank(none, NOW, WALL))


def test_the_lower_priority_number_wins() -> None:
    assert names(rank([cluster("a", 3), cluster("b", 1), cluster("c", 2)], NOW, WALL)) == ["b", "c", "a"]


def test_among_equals_the_region_decides_and_then_the_name() -> None:
    pool = [cluster("a", region="west"), cluster("c", region="east"), cluster("b", region="east")]
    assert names(rank(pool, NOW, WALL)) == ["b", "c", "a"]


def test_enabled_comes_before_any_priority() -> None:
    assert names(rank([cluster("a", 1), cluster("b", 999, state=ENABLED)], NOW, WALL)) == ["b", "a"]


def test_of_two_enabled_the_better_wins_and_both_are_in_conflict() -> None:
    pool = [cluster("a", 5, state=ENABLED), cluster("b", 2, state=ENABLED), cluster("c", 1)]
    assert names(rank(pool, NOW, WALL)) == ["b", "a", "c"]
    assert conflict(pool, WALL) == ("a", "b")


def test_one_enabled_cluster_is_in_conflict_with_nobody() -> None:
    assert conflict([cluster("a", state=ENABLED), cluster("b")], WALL) == ()


def test_an_override_in_force_counts_as_the_command_it_gives() -> None:
    force = Override(enabled=True, expires_at=WALL + 1, force_state=ENABLED)
    pool = [cluster("a", 1), cluster("b", 9, override=force), cluster("c", 5, state=ENABLED)]
    assert names(rank(pool, NOW, WALL)) == ["c", "b", "a"]
    assert conflict(pool, WALL) == ("b", "c")
    assert names(rank(pool, NOW, WALL + 1)) == ["c", "a", "b"]


def test_an_override_disables_even_an_enabled_cluster() -> None:
    force = Override(enabled=True, reason="storm", force_state=DISABLED)
    off = cluster("a", state=ENABLED, override=force)
    assert rank([off], NOW, WALL) == ()
    assert off.against(NOW, WALL) == "Disabled: storm"


# --- health ---


def test_each_failed_check_costs_a_hundred() -> None:
    assert cluster("a", 7, failures=2).priority(WALL) == 7 + 2 * PENALTY
    assert cluster("a", 7, failures=2, checked=False).priority(WALL) == 7


def test_an_override_of_the_priority_bears_the_penalty_too() -> None:
    forced = Override(enabled=True, force_priority=1)
    assert cluster("a", 50, failures=1, override=forced).priority(WALL) == 1 + PENALTY


@given(pools(fresh=True))
def test_an_unhealthy_cluster_comes_after_every_healthy_one_that_nobody_enabled(pool: list[Cluster]) -> None:
    order = [
        each.unhealthy()
        for each in rank(pool, NOW, WALL)
        if each.spec is not None and each.spec.effective_state(WALL) is RULE
    ]
    assert order == sorted(order)


def test_an_unhealthy_cluster_comes_last_whatever_its_priority() -> None:
    pool = [cluster("a", 1, failures=3), cluster("b", 999)]
    assert names(rank(pool, NOW, WALL)) == ["b", "a"]
    assert names(rank([cluster("a", 1, failures=2), cluster("b", 999)], NOW, WALL)) == ["a", "b"]


def test_an_unhealthy_cluster_forges_when_nobody_else_can() -> None:
    pool = [cluster("a", 1, failures=9, ours=True), cluster("b", 2, ready=False)]
    verdict = Arbitration(HOLD_DOWN).judge(pool, held_since=0, now=NOW, wall_s=WALL)
    assert verdict.want
    assert verdict.winner == "a"
    assert "nobody else can" in verdict.why


# --- who cannot be chosen ---


def test_a_silent_cluster_is_not_chosen() -> None:
    pool = [cluster("a", 1, seen=NOW - FRESH), cluster("b", 2, seen=NOW - FRESH + 1)]
    assert names(rank(pool, NOW, WALL)) == ["b"]
    assert pool[0].against(NOW, WALL) == "silent"


def test_our_own_cluster_is_judged_by_what_we_know_and_not_by_its_status() -> None:
    assert names(rank([cluster("a", seen=0, ours=True)], NOW, WALL)) == ["a"]


def test_a_cluster_that_is_not_ready_says_why() -> None:
    unfit = dataclasses.replace(cluster("a", ready=False), why_not="no node process")
    assert unfit.against(NOW, WALL) == "no node process"
    assert cluster("a", ready=False).against(NOW, WALL) == "not ready"


def test_a_cluster_whose_spec_cannot_be_read_is_not_chosen() -> None:
    odd = Cluster("a", "", None, unreadable="spec.priority must be a whole number", ready=True, changed_at=NOW)
    assert rank([odd], NOW, WALL) == ()
    assert "spec.priority" in odd.against(NOW, WALL)


def test_a_cluster_that_is_not_known_to_itself_wants_nothing() -> None:
    verdict = Arbitration(HOLD_DOWN).judge([cluster("b")], held_since=1, now=NOW, wall_s=WALL)
    assert (verdict.want, verdict.successor) == (False, "b")


# --- preemption ---


class Watch:
    """The arbiter of cluster `a`, which holds the lock, and what it sees of `b`, second by second."""

    def __init__(self) -> None:
        self.arbitration = Arbitration(HOLD_DOWN)
        self.now = NOW
        self.ours = cluster("a", 50)

    held_since = 1
    passed_over = ""

    def sees(self, other: Cluster, seconds: int = 0, *, holding: bool = True) -> Verdict:
        """For so long, and the last verdict."""
        for second in range(seconds + 1):
            self.now += S * bool(second)
            pool = [dataclasses.replace(self.ours, ours=True), heard(other, self.now)]
            held_since = self.held_since if holding else 0
            verdict = self.arbitration.judge(
                pool, held_since=held_since, now=self.now, wall_s=WALL, passed_over=self.passed_over
            )
        return verdict

    def takes_back_from(self, other: Cluster) -> None:
        """What was left to this one, which did not take it."""
        self.sees(other, holding=False)
        self.now += S
        self.held_since, self.passed_over = self.now, other.name
        self.now += S
        self.sees(other)

    def gives_way_after(self, other: Cluster) -> int:
        """Seconds."""
        began = self.now
        while self.sees(other).want:
            self.now += S
            assert self.now - began < 3 * 3600 * S
        return (self.now - began) // S


def test_a_holder_gives_way_to_a_better_cluster_that_has_been_fit_for_the_hold_down() -> None:
    watch = Watch()
    verdict = watch.sees(cluster("b", 1))
    assert verdict.want
    assert verdict.look_again == NOW + HOLD_DOWN
    assert watch.gives_way_after(cluster("b", 1)) == 60
    verdict = watch.sees(cluster("b", 1))
    assert (verdict.want, verdict.successor, verdict.place) == (False, "b", 1)


@pytest.mark.parametrize(
    "commanded",
    [
        cluster("b", state=ENABLED),
        cluster("b", 50, override=Override(enabled=True, force_priority=1)),
        cluster("b", 50, override=Override(enabled=True, force_state=ENABLED)),
    ],
)
def test_what_a_person_has_commanded_acts_at_once(commanded: Cluster) -> None:
    assert Watch().gives_way_after(commanded) == 0


def test_a_cluster_that_does_not_take_what_is_left_to_it_is_left_it_more_and_more_rarely_though_commanded() -> None:
    watch, other = Watch(), cluster("b", state=ENABLED)
    assert watch.gives_way_after(other) == 0
    waited = []
    for _ in range(6):
        watch.takes_back_from(other)
        waited.append(watch.gives_way_after(other))
    assert waited == [15, 30, 60, 120, 240, 240]


def test_another_word_of_an_operator_is_not_waited_for_what_came_of_the_last() -> None:
    watch, other = Watch(), cluster("b", state=ENABLED)
    watch.takes_back_from(other)
    assert watch.gives_way_after(cluster("b", 7, state=ENABLED)) == 0


def test_what_was_not_taken_an_hour_ago_is_forgiven() -> None:
    watch, other = Watch(), cluster("b", state=ENABLED)
    for _ in range(3):
        watch.takes_back_from(other)
    watch.now += 3600 * S
    watch.takes_back_from(other)
    assert watch.gives_way_after(other) == 15


def test_the_lock_is_left_to_the_best_of_those_that_reach_a_majority() -> None:
    ours = cluster("a", 1, state=DISABLED, ours=True)
    lost, next_one = dataclasses.replace(cluster("b", 2), coordinated=False), cluster("c", 3)
    verdict = Arbitration(0).judge([ours, lost, next_one], held_since=1, now=NOW, wall_s=WALL)
    assert (verdict.want, verdict.successor) == (False, "c")
    verdict = Arbitration(0).judge([ours, lost], held_since=1, now=NOW, wall_s=WALL)
    assert (verdict.want, verdict.successor) == (False, "")


def test_an_expired_command_does_not_act_at_once() -> None:
    expired = Override(enabled=True, force_priority=1, expires_at=WALL)
    assert Watch().gives_way_after(cluster("b", 1, override=expired)) == 60


def test_a_holder_that_is_disabled_lets_go_at_once_in_favour_of_the_best() -> None:
    watch = Watch()
    watch.ours = cluster("a", 50, state=DISABLED)
    verdict = watch.sees(cluster("b", 100))
    assert (verdict.want, verdict.successor) == (False, "b")


def test_a_holder_that_is_unfit_lets_go_at_once() -> None:
    watch = Watch()
    watch.ours = cluster("a", 50, ready=False)
    assert not watch.sees(cluster("b", 100, prefers=False)).want


def test_a_better_cluster_that_comes_and_goes_is_waited_for_from_its_coming() -> None:
    watch = Watch()
    watch.sees(cluster("b", 1), 50)
    watch.sees(cluster("b", 99), 1)
    assert watch.gives_way_after(cluster("b", 1)) == 60


def test_the_hold_down_begins_anew_for_one_that_came_back_while_we_ourselves_were_unfit() -> None:
    watch = Watch()
    watch.sees(cluster("b", 1), 30)
    watch.ours = cluster("a", 50, ready=False)
    watch.sees(cluster("b", 99), 600, holding=False)
    watch.ours = cluster("a", 50)
    assert watch.gives_way_after(cluster("b", 1)) == 60


def test_each_loss_of_fitness_doubles_the_hold_down_up_to_a_limit() -> None:
    watch = Watch()
    waits = []
    for _ in range(MOST_DOUBLINGS + 2):
        watch.sees(cluster("b", 1), 1)
        watch.sees(cluster("b", 1, ready=False), 1)
        watch.sees(cluster("b", 1))
        verdict = watch.sees(cluster("b", 1))
        waits.append((verdict.look_again - watch.now) // (60 * S))
    assert waits == [2, 4, 8, 16, 32, 64, 64, 64]


def test_a_loss_of_fitness_is_forgiven_after_an_hour() -> None:
    watch = Watch()
    watch.sees(cluster("b", 99), 1)
    watch.sees(cluster("b", 99, ready=False), 1)
    watch.sees(cluster("b", 99), FORGIVEN // S - 1)
    assert watch.gives_way_after(cluster("b", 1)) == 60


def holds_down_s(arbitration: Arbitration, began: int, *behind: Cluster, taken_with: Cluster) -> list[int]:
    """Of `b`, each time after we took the lock while it was so, and then saw it so and so, and well at last."""
    waits = []
    for turn in range(MOST_DOUBLINGS + 2):
        taken_at = began + 10 * turn * S
        for second, other in enumerate([taken_with, *behind, cluster("b", 1)]):
            now = taken_at + second * S
            pool = [cluster("a", 50, ours=True), heard(other, now)]
            verdict = arbitration.judge(pool, held_since=taken_at, now=now, wall_s=WALL)
        waits.append((verdict.look_again - now) // S)
    return waits


def test_each_time_that_forging_moves_for_failing_health_checks_doubles_the_hold_down_up_to_a_limit() -> None:
    waits = holds_down_s(Arbitration(HOLD_DOWN), NOW, taken_with=cluster("b", 1, failures=3))
    assert waits == [60 * times for times in (2, 4, 8, 16, 32, 64, 64, 64)]
    waits = holds_down_s(Arbitration(HOLD_DOWN), NOW, taken_with=cluster("b", 1, failures=1))
    assert waits[:2] == [120, 240]


@pytest.mark.parametrize(
    "taken_with",
    [
        cluster("b", 99),
        cluster("b", 99, failures=3),
        cluster("b", 1, failures=3, state=DISABLED),
    ],
)
def test_a_lock_that_came_to_us_for_another_reason_is_no_flapping_of_health_checks(taken_with: Cluster) -> None:
    assert set(holds_down_s(Arbitration(HOLD_DOWN), NOW, taken_with=taken_with)) == {60}


def test_a_health_check_that_fails_while_forging_stays_where_it_is_doubles_nothing() -> None:
    failing = [cluster("b", 1, failures=failures) for failures in (1, 0, 2, 0, 3)]
    assert set(holds_down_s(Arbitration(HOLD_DOWN), NOW, *failing, taken_with=cluster("b", 99))) == {60}


def test_to_be_disabled_and_enabled_again_is_no_flapping() -> None:
    watch = Watch()
    for _ in range(3):
        watch.sees(cluster("b", 1), 1)
        watch.sees(cluster("b", 1, state=DISABLED), 1)
    assert watch.gives_way_after(cluster("b", 1)) == 60


def test_a_holder_gives_way_only_to_a_cluster_that_says_itself_that_it_should_forge() -> None:
    watch = Watch()
    assert watch.sees(cluster("b", 1, prefers=False), 1000).want
    assert not watch.sees(cluster("b", 1, prefers=True)).want


def preempted(quiet_at: int, now: int, *, wait: int = 600 * S, better: Cluster | None = None) -> Verdict:
    """The verdict of a holder at `now`, to whom a better one came at NOW."""
    arbitration = Arbitration(HOLD_DOWN, wait)
    pool = [cluster("a", 50, ours=True), better or cluster("b", 1)]
    arbitration.judge(pool, held_since=1, now=NOW, wall_s=WALL)
    fresh = [pool[0], heard(pool[1], now)]
    return arbitration.judge(fresh, held_since=1, now=now, wall_s=WALL, quiet_at=quiet_at)


def test_a_preemption_waits_for_a_gap_in_the_leadership_schedule_but_not_for_ever() -> None:
    due = NOW + HOLD_DOWN
    verdict = preempted(due + 20 * S, due)
    assert verdict.want
    assert "gap" in verdict.why
    assert verdict.look_again == due + 20 * S
    assert not preempted(due + 20 * S, due + 20 * S).want
    assert preempted(due + 9999 * S, due).look_again == due + 600 * S
    assert not preempted(due + 9999 * S, due + 600 * S).want
    assert not preempted(due + 9999 * S, due, wait=0).want


@pytest.mark.parametrize(
    "better", [cluster("b", 100, state=ENABLED), cluster("b", 60, override=Override(True, force_priority=1))]
)
def test_what_a_person_commands_waits_for_no_gap(better: Cluster) -> None:
    assert not preempted(NOW + 9999 * S, NOW + HOLD_DOWN, better=better).want


def test_a_command_for_one_does_not_wait_behind_another_that_waits_for_a_gap() -> None:
    arbitration = Arbitration(HOLD_DOWN, 600 * S)
    pool = [cluster("a", 50, ours=True), cluster("b", 1), cluster("c", 40, override=Override(True, force_priority=2))]
    arbitration.judge(pool, held_since=1, now=NOW, wall_s=WALL)
    now = NOW + HOLD_DOWN
    fresh = [heard(each, now) for each in pool]
    verdict = arbitration.judge(fresh, held_since=1, now=now, wall_s=WALL, quiet_at=now + 99 * S)
    assert (verdict.want, verdict.successor) == (False, "c")


def test_a_cluster_that_is_disabled_waits_for_no_gap() -> None:
    pool = [cluster("a", 1, state=DISABLED, ours=True), cluster("b", 2)]
    assert (
        not Arbitration(HOLD_DOWN, 600 * S).judge(pool, held_since=1, now=NOW, wall_s=WALL, quiet_at=NOW + 99 * S).want
    )


def test_a_holder_gives_way_to_the_first_that_may_preempt_though_a_better_one_may_not_yet() -> None:
    arbitration = Arbitration(HOLD_DOWN)
    pool = [cluster("a", 50, ours=True), cluster("b", 1, prefers=False), cluster("c", 2)]
    assert arbitration.judge(pool, held_since=1, now=NOW, wall_s=WALL).want
    verdict = arbitration.judge(pool, held_since=1, now=NOW + HOLD_DOWN, wall_s=WALL)
    assert (verdict.want, verdict.successor) == (False, "c")


def test_a_holder_does_not_give_way_to_one_that_has_not_said_a_word_since_it_took_the_lock() -> None:
    arbitration = Arbitration(HOLD_DOWN)
    pool = [cluster("a", 50, ours=True), heard(cluster("b", 1), NOW)]
    later = NOW + HOLD_DOWN + S
    assert arbitration.judge(pool, held_since=0, now=NOW, wall_s=WALL).want
    assert arbitration.judge(pool, held_since=NOW + S, now=later, wall_s=WALL).want
    pool[1] = heard(pool[1], NOW + 2 * S)
    assert not arbitration.judge(pool, held_since=NOW + S, now=later, wall_s=WALL).want


@pytest.mark.parametrize("better", [cluster("b", 1), cluster("b", state=ENABLED)])
def test_a_holder_that_has_just_started_does_not_give_way_to_one_of_which_it_has_only_read_what_stood_there(
    better: Cluster,
) -> None:
    """It may be the last word of one that died long ago: as fresh as the look at it, and nobody's since."""
    arbitration = Arbitration(HOLD_DOWN)
    found = dataclasses.replace(better, changed_at=NOW + S, said_at=0)
    pool = [cluster("a", 50, ours=True), found]
    assert arbitration.judge(pool, held_since=NOW, now=NOW + S, wall_s=WALL).want
    assert arbitration.judge(pool, held_since=NOW, now=NOW + HOLD_DOWN + S, wall_s=WALL).want
    later = NOW + HOLD_DOWN + 2 * S
    pool[1] = heard(better, later)
    assert not arbitration.judge(pool, held_since=NOW, now=later, wall_s=WALL).want


def test_who_does_not_hold_the_lock_wants_it_in_its_turn_whoever_is_better() -> None:
    verdict = Watch().sees(cluster("b", 1), holding=False)
    assert (verdict.want, verdict.place) == (True, 1)


# --- several arbiters with one lock ---


class Several:
    """Arbiters with one lock: whoever wants it takes it, the successor first, then by place.

    Each sees the others' word (whether they should forge) as it was at the last turn; `clocks`: how far each wall
    clock is off; `views`: how each sees the pool, if not alike.
    """

    def __init__(
        self,
        pool: list[Cluster],
        *,
        clocks: dict[str, float] | None = None,
        views: dict[str, list[Cluster]] | None = None,
    ) -> None:
        self.pool = pool
        self.clocks, self.views = clocks or {}, views or {}
        self.arbiters = {each.name: Arbitration(HOLD_DOWN) for each in pool}
        self.preferring: dict[str, bool] = {}
        self.holder = self.left_to = ""
        self.held_at = 0
        self.changes: list[str] = []
        self.now = NOW

    def turn(self) -> None:
        self.now += 20 * S
        verdicts: dict[str, Verdict] = {}
        for name, arbiter in self.arbiters.items():
            seen = [
                dataclasses.replace(
                    heard(each, self.now),
                    ours=each.name == name,
                    prefers_itself=self.preferring.get(each.name, False),
                )
                for each in self.views.get(name, self.pool)
            ]
            wall_s = WALL + (self.now - NOW) / S + self.clocks.get(name, 0.0)
            verdicts[name] = arbiter.judge(
                seen, held_since=self.held_at if name == self.holder else 0, now=self.now, wall_s=wall_s
            )
        self.preferring = {name: verdict.want and verdict.place == 0 for name, verdict in verdicts.items()}
        if self.holder and not verdicts[self.holder].want:
            self.left_to, self.holder = verdicts[self.holder].successor, ""
        if not self.holder:
            takers = [(name != self.left_to, verdict.place, name) for name, verdict in verdicts.items() if verdict.want]
            if takers:
                self.holder, self.held_at = min(takers)[2], self.now
                self.changes.append(self.holder)

    def run(self, seconds: int) -> list[str]:
        """Who has got the lock meanwhile."""
        before = len(self.changes)
        for _ in range(seconds // 20):
            self.turn()
        return self.changes[before:]


@settings(deadline=None, max_examples=40)
@given(pools(fresh=True))
def test_with_constant_input_the_lock_comes_to_the_best_and_stays(pool: list[Cluster]) -> None:
    several = Several(pool)
    several.run(120)
    order = rank([dataclasses.replace(each, changed_at=several.now) for each in pool], several.now, WALL + 120)
    assert several.holder == (order[0].name if order else "")
    assert several.run(3600) == []


@settings(deadline=None, max_examples=40)
@given(pools(fresh=True), st.data())
def test_arbiters_that_see_different_pools_do_not_throw_the_lock_to_and_fro(
    pool: list[Cluster], data: st.DataObject
) -> None:
    """As long as each knows of itself alike; what they say of the others may be anything."""
    able = [each for each in pool if not each.against(NOW, WALL)]
    views = {
        each.name: [
            other
            if other is each
            else dataclasses.replace(other, spec=data.draw(specs), ready=data.draw(st.booleans()))
            for other in able
        ]
        for each in able
    }
    several = Several(able, views=views)
    several.run(600)
    assert len(several.run(3600)) <= len(able)
    assert several.run(3600) == []


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.sampled_from([-3600.0, -1800.0, 0.0, 1800.0, 3600.0]), min_size=3, max_size=3),
    st.lists(overrides.map(lambda o: dataclasses.replace(o, enabled=True)), min_size=3, max_size=3),
    st.integers(-3600, 3600),
)
def test_clocks_an_hour_apart_do_not_throw_the_lock_to_and_fro_when_an_override_expires_between(
    clocks: list[float], given_overrides: list[Override], expires_in: int
) -> None:
    pool = [
        cluster(name, priority, override=dataclasses.replace(override, expires_at=WALL + expires_in))
        for name, priority, override in zip("abc", (10, 20, 30), given_overrides, strict=True)
    ]
    several = Several(pool, clocks=dict(zip("abc", clocks, strict=True)))
    changes = several.run(3 * 3600)
    assert len(changes) <= 8
    assert several.run(3600) == []


def test_two_clusters_that_both_see_the_other_as_better_leave_the_lock_where_it_is() -> None:
    views = {
        "a": [cluster("a", 50), cluster("b", 1)],
        "b": [cluster("a", 1), cluster("b", 50)],
    }
    assert len(Several([cluster("a"), cluster("b")], views=views).run(3600)) == 1


def test_two_enabled_clusters_give_the_lock_to_the_better_once() -> None:
    several = Several([cluster("a", 9, state=ENABLED), cluster("b", 3, state=ENABLED)])
    several.run(3600)
    assert several.holder == "b"
    assert len(several.changes) <= 2


def test_a_better_cluster_that_comes_back_preempts_once_after_its_hold_down() -> None:
    several = Several([cluster("a", 50), cluster("b", 1, ready=False)])
    several.run(600)
    assert several.holder == "a"
    several.pool = [cluster("a", 50), cluster("b", 1)]
    assert several.run(60) == []
    assert several.run(3600) == ["b"]


def test_health_checks_that_come_and_go_move_forging_ever_more_rarely() -> None:
    several = Several([cluster("a", 50), cluster("b", 1)])
    for _ in range(3 * 3600 // 200):  # a hundred seconds each: longer than a hold-down
        several.pool = [cluster("a", 50), cluster("b", 1, failures=3)]
        several.run(100)
        several.pool = [cluster("a", 50), cluster("b", 1)]
        several.run(100)
    assert 2 <= len(several.changes) <= 3 * 3


# --- a pause ---


def paused_verdict(pool: list[Cluster], *, held_since: int = 1) -> Verdict:
    """After a day in which everybody was as they are."""
    arbitration, day = Arbitration(HOLD_DOWN), 86_400 * S
    arbitration.judge(pool, held_since=held_since, now=NOW, wall_s=WALL, paused="until resumed")
    fresh = [heard(each, NOW + day) for each in pool]
    return arbitration.judge(fresh, held_since=held_since, now=NOW + day, wall_s=WALL, paused="until resumed")


def test_in_a_pause_a_better_cluster_does_not_preempt() -> None:
    verdict = paused_verdict([cluster("a", 1), cluster("b", 2, ours=True)])
    assert verdict.want
    assert verdict.why == "a comes first, but paused until resumed"


def test_in_a_pause_a_holder_that_is_not_ready_keeps_the_lock() -> None:
    verdict = paused_verdict([cluster("a", 1), cluster("b", 2, ours=True, ready=False)])
    assert verdict.want
    assert verdict.successor == "b"


@pytest.mark.parametrize(
    "pool",
    [
        [cluster("a", state=ENABLED), cluster("b", ours=True)],
        [cluster("a", override=Override(enabled=True, force_priority=1)), cluster("b", ours=True)],
        [cluster("a"), cluster("b", ours=True, state=DISABLED)],
    ],
)
def test_what_a_person_commands_acts_in_a_pause(pool: list[Cluster]) -> None:
    verdict = paused_verdict(pool)
    assert not verdict.want
    assert verdict.successor == "a"


def test_who_does_not_hold_the_lock_gains_nothing_by_a_pause() -> None:
    verdict = paused_verdict([cluster("a", 1), cluster("b", 2, ours=True, ready=False)], held_since=0)
    assert not verdict.want
