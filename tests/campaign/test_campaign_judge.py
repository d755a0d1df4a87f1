"""Whose a gap is and whether it was allowed, against an oracle that looks at every nanosecond."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devkit.record import NS, Interval

from campaign_judge import Fault, Gap, Round, Terms, attribute, by_kind, forgers_in, judge, quantile, verdict

HORIZON = 60
TERMS = Terms(slack_s=1.5, recovery_s=40)
FLEET = Terms(slack_s=1.5, recovery_s=40, planned_s=1.0, longest=True)


def s(seconds: float) -> int:
    return round(seconds * NS)


def alone(bound_s: float, *, lasts: float = 1.0, missed: str = "") -> Round:
    return Round(1, s(10), s(60), [Fault("kill", "pod-0", s(10), s(10 + lasts), bound_s, missed)])


def gap(begin: float, end: float, number: int | None = 1) -> Gap:
    return Gap(s(begin), s(end), number, (0,))


STARTS = st.lists(st.integers(0, HORIZON), min_size=1, max_size=5, unique=True).map(sorted)
NODES = st.dictionaries(
    st.sampled_from("abc"),
    st.lists(st.integers(0, HORIZON), max_size=8).map(
        lambda ends: [Interval(*pair) for pair in zip(*[iter(sorted(ends))] * 2, strict=False)]
    ),
)
"""Intervals in order that do not overlap, as a record has them."""


def following(starts: list[int]) -> list[Round]:
    """Rounds of which each ends with the next one's beginning."""
    return [
        Round(number, begin, end, [Fault("kill", "a", begin, end), Fault("cut", "b", (begin + end) // 2, end)])
        for number, (begin, end) in enumerate(zip(starts, [*starts[1:], HORIZON + 1], strict=True), 1)
    ]


@given(STARTS, NODES)
def test_every_gap_belongs_to_the_round_in_which_it_began_and_none_is_lost(
    starts: list[int], nodes: dict[str, list[Interval]]
) -> None:
    rounds = following(starts)
    found = verdict(nodes, rounds, TERMS, 0, HORIZON)
    for each in found.gaps:
        owner = next((r.number for r in rounds if r.began <= each.begin < r.ended), None)
        assert each.round == owner
    lengths = sum(judged.gap_s for judged in found.judgements) * NS
    lengths += sum(each.end - each.begin for each in found.gaps if each.round is None)
    dark = sum(not any(i.begin <= t < i.end for own in nodes.values() for i in own) for t in range(HORIZON))
    assert math.isclose(lengths, dark, abs_tol=1e-3)


@given(STARTS, NODES)
def test_a_gap_is_explained_by_the_faults_of_its_round_that_had_begun_before_it_ended(
    starts: list[int], nodes: dict[str, list[Interval]]
) -> None:
    rounds = following(starts)
    for each in verdict(nodes, rounds, TERMS, 0, HORIZON).gaps:
        if each.round is not None:
            faults = rounds[each.round - 1].faults
            assert each.faults == tuple(n for n, fault in enumerate(faults) if fault.began < each.end)
        else:
            assert each.faults == ()


@given(STARTS, NODES)
def test_two_that_forge_at_once_are_a_violation_whatever_was_done(
    starts: list[int], nodes: dict[str, list[Interval]]
) -> None:
    found = verdict(nodes, following(starts), TERMS, 0, HORIZON)
    both = any(sum(any(i.begin <= t < i.end for i in own) for own in nodes.values()) > 1 for t in range(HORIZON))
    assert bool(found.overlaps) is both
    assert any("two forged" in each for each in found.violations) is both


def test_a_fault_that_was_missed_explains_nothing() -> None:
    played = alone(5, missed="no such process")
    (found,) = attribute([Interval(s(12), s(13))], [played])
    assert found.faults == ()
    judged = judge(played, [gap(12, 13)], TERMS)
    assert judged.violations == ("1.000 s without a forger, at most 0 s were promised",)


@pytest.mark.parametrize(
    ("bound", "gaps", "held"),
    [
        (0, [], True),
        (0, [(11, 11.04)], True),
        (0, [(11, 11.06)], False),
        (1, [(11, 13.4)], True),
        (1, [(11, 13.6)], False),
        (1, [(11, 12.3), (14, 15.3)], False),
        (16, [(11, 28)], True),
        (16, [(11, 29)], False),
    ],
)
def test_all_gaps_of_a_clusters_round_together_keep_its_bound(
    bound: float, gaps: list[tuple[float, float]], held: bool
) -> None:
    assert (judge(alone(bound), [gap(*each) for each in gaps], TERMS).violations == ()) is held


def test_of_a_fleets_gaps_the_longest_counts() -> None:
    gaps = [gap(11, 13), gap(14, 16)]
    assert judge(alone(1), gaps, FLEET).violations == ()
    assert judge(alone(1), gaps, TERMS).violations != ()


def test_a_fleet_that_was_not_at_home_when_a_round_began_may_go_there_in_it_and_one_at_home_may_not() -> None:
    gaps, away = [gap(11, 11.8)], alone(0)
    away.home = False
    assert judge(away, gaps, FLEET, forgers=2).violations == ()
    assert judge(away, gaps, FLEET, forgers=1).violations != ()
    assert judge(away, gaps, TERMS, forgers=2).violations != ()
    assert judge(alone(0), gaps, FLEET, forgers=2).violations != ()


def test_a_bound_of_zero_and_the_recovery_have_slack_on_a_busy_machine_only_and_it_is_said() -> None:
    busy, long = alone(0), [gap(10.5, 52)]
    busy.waited = 0.75
    assert judge(busy, [gap(11, 12.4)], TERMS).violations == ()
    (told,) = judge(busy, [gap(11, 12.6)], TERMS).violations
    assert told.endswith("at most 0 s were promised (something waited for a processor in 75% of the round)")
    busy.faults[0].bound_s = 99
    assert judge(busy, long, TERMS).violations == ()
    busy.waited = 0.25
    assert judge(busy, long, TERMS).violations != ()


def test_two_forgers_have_no_slack_however_busy_the_machine_is() -> None:
    busy = alone(0)
    busy.waited = 1.0
    nodes = {"a": [Interval(s(0), s(60))], "b": [Interval(s(20), s(20) + 1)]}
    (told,) = verdict(nodes, [busy], TERMS, 0, s(60)).violations
    assert told.startswith("two forged")


def test_of_several_faults_at_once_only_the_recovery_is_bounded() -> None:
    played = alone(0, lasts=20)
    played.faults.append(Fault("cut", "pool", s(12), s(50)))
    assert judge(played, [gap(11, 89)], TERMS).bound_s is None
    assert judge(played, [gap(11, 89)], TERMS).violations == ()
    assert judge(played, [gap(11, 91)], TERMS).violations != ()
    assert judge(played, [gap(51, 91)], TERMS).violations == ()
    assert judge(played, [gap(51, 91.5)], TERMS).violations != ()
    assert judge(played, [gap(11, 89)], TERMS).back_s == 39


def test_interruptions_after_all_was_mended_are_counted() -> None:
    gaps = [gap(10.5, 12), gap(13, 14), gap(15, 16), gap(17, 18)]
    assert judge(alone(1), gaps, FLEET).restless == 3
    assert judge(alone(1), gaps[:1], FLEET).restless == 0


def test_a_hand_on_the_machines_clock_excuses_gaps_and_never_two_forgers() -> None:
    played = alone(0)
    played.excused = "somebody set the clock"
    assert judge(played, [gap(11, 15)], TERMS).violations == ()
    nodes = {"a": [Interval(s(0), s(60))], "b": [Interval(s(20), s(21))]}
    assert verdict(nodes, [played], TERMS, 0, s(60)).violations == (
        "two forged for 1.000 s, 20.000 s from the beginning",
    )


def test_what_went_wrong_beside_the_gaps_is_a_violation_too() -> None:
    played = alone(0)
    played.notes.append("not at rest")
    assert judge(played, [], TERMS).violations == ("not at rest",)


def test_a_gap_before_the_first_round_is_nobodys() -> None:
    nodes = {"a": [Interval(0, s(2)), Interval(s(3), s(60))]}
    assert verdict(nodes, [alone(5)], TERMS, 0, s(60)).violations == (
        "before the first round nobody forged for 1.000 s",
    )
    assert verdict(nodes, [alone(5)], FLEET, 0, s(60)).violations == ()


@given(NODES, st.integers(0, HORIZON), st.integers(1, HORIZON))
def test_who_forged_in_a_window(nodes: dict[str, list[Interval]], begin: int, length: int) -> None:
    expected = [
        name
        for name, own in nodes.items()
        if any(i.begin <= t < i.end for i in own for t in range(begin, begin + length))
        or any(i.begin == i.end and begin < i.begin < begin + length for i in own)
    ]
    assert forgers_in(nodes, begin, begin + length) == expected


def test_figures_are_of_faults_that_struck_alone() -> None:
    rounds = [alone(1) for _ in range(4)]
    rounds[1].faults.append(Fault("cut", "pool", s(12), s(13)))
    rounds[2].faults[0].missed = "nobody there"
    gaps = [[gap(11, 11.5)], [gap(11, 19)], [], [gap(11, 12.5)]]
    judged = [judge(played, own, TERMS) for played, own in zip(rounds, gaps, strict=True)]
    cut, kill = by_kind(rounds, judged)
    assert (cut.kind, cut.count, cut.alone, cut.max_s, cut.bound_s) == ("cut", 1, 0, None, None)
    assert (kill.count, kill.alone, kill.missed) == (4, 2, 1)
    assert (kill.median_s, kill.p95_s, kill.max_s, kill.bound_s) == (1.0, 1.5, 1.5, 1)


@given(st.lists(st.floats(0, 100), min_size=1), st.floats(0, 1))
def test_a_quantile_is_one_of_the_values_and_not_exceeded_by_its_share(values: list[float], share: float) -> None:
    found = quantile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-6


def test_of_nothing_there_is_no_quantile() -> None:
    with pytest.raises(ValueError, match="no values"):
        quantile([], 0.5)
