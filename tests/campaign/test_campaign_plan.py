"""A seed makes the list of faults: the same one again, with every kind in it, in rounds that can be played."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaign_plan import Act, Card, Deck, Planned, Round, acts, rounds

CARDS = [
    Card("kill", 3, (0.1, 0.5), ("forger", "standby")),
    Card("cut", 1, (2, 9), ("pool",), group="api"),
    Card("stall", 2, (2, 9), ("pool",), group="api"),
    Card("rotate", 1, (0.5, 0.5), ("pool",)),
]
SCRIPTS = [Card("script: one", alone=True, victims=("pool",)), Card("script: two", alone=True, victims=("pool",))]


def some(seed: int, count: int = 200, part: str = "cluster", share: float = 0.1) -> list[Round]:
    return list(itertools.islice(rounds(CARDS, seed, part, SCRIPTS, share), count))


@given(st.integers(0, 1 << 40))
def test_a_seed_gives_the_same_list_again(seed: int) -> None:
    assert some(seed, 30) == some(seed, 30)


def test_seeds_and_parts_differ() -> None:
    assert some(1) != some(2)
    assert some(1) != some(1, part="fleet")


def test_the_list_of_a_seed_is_what_it_was() -> None:
    """A seed in a report of last month still means these faults, as long as the kinds are the same."""
    found = [[fault.kind for fault in each.faults] for each in some(7, 6, share=0.0)]
    assert found == [["cut"], ["kill"], ["stall"], ["stall"], ["kill"], ["rotate"]]


def test_no_kind_waits_longer_than_two_decks() -> None:
    found = Counter(fault.kind for each in some(5, 40, share=0.0) for fault in each.faults)
    assert set(found) == {card.kind for card in CARDS}
    assert found["kill"] > found["stall"] > found["cut"]


@given(st.integers(0, 1 << 32))
def test_faults_in_a_round_go_together_and_each_begins_while_the_one_before_lasts(seed: int) -> None:
    groups = {card.kind: card.group for card in CARDS}
    for each in some(seed, 60):
        kinds = [fault.kind for fault in each.faults]
        assert len(kinds) == len(set(kinds)) <= 3
        named = [groups[kind] for kind in kinds if groups.get(kind)]
        assert len(named) == len(set(named))
        assert len(kinds) == 1 or not any(kind.startswith("script") for kind in kinds)
        assert each.faults[0].at_s == 0
        for before, after in itertools.pairwise(each.faults):
            assert before.at_s < after.at_s < before.at_s + before.hold_s


@given(st.integers(0, 1 << 32))
def test_victims_and_lengths_are_those_of_the_kind(seed: int) -> None:
    known = {card.kind: card for card in [*CARDS, *SCRIPTS]}
    for fault in (fault for each in some(seed, 40) for fault in each.faults):
        card = known[fault.kind]
        assert fault.victim in card.victims
        assert card.hold_s[0] <= fault.hold_s <= card.hold_s[1]


def test_about_a_third_of_the_rounds_have_several_faults_and_the_scripts_their_share() -> None:
    found = some(11, 2000)
    several = sum(len(each.faults) > 1 for each in found)
    assert 0.2 < several / len(found) < 0.35
    assert any(len(each.faults) == 3 for each in found)
    assert 0.07 < sum(each.faults[0].kind.startswith("script") for each in found) / len(found) < 0.13


@given(st.integers(0, 1 << 32))
def test_in_what_is_to_be_done_each_fault_begins_before_it_ends_and_the_first_lasts_while_the_second_begins(
    seed: int,
) -> None:
    for each in some(seed, 40):
        order = acts(each)
        assert [act.at_s for act in order] == sorted(act.at_s for act in order)
        assert sorted((act.fault, not act.begins) for act in order) == [
            (place, ends) for place in range(len(each.faults)) for ends in (False, True)
        ]
        where = {(act.fault, act.begins): number for number, act in enumerate(order)}
        for place in range(len(each.faults)):
            assert where[place, True] < where[place, False]
        for place in range(len(each.faults) - 1):
            assert where[place, True] < where[place + 1, True] < where[place, False]


def test_a_fault_that_is_over_at_once_begins_first_all_the_same() -> None:
    planned = Round(1, (Planned("restart", "pool", 0.0, 0.0, 1),), 0.5)
    assert acts(planned) == [Act(0.0, 0, True), Act(0.0, 0, False)]


def test_what_does_not_fit_stays_on_top_of_the_deck() -> None:
    import random

    deck = Deck([Card("a", alone=True), Card("b")], random.Random(1))
    drawn = deck.draw(lambda card: not card.alone)
    assert drawn is not None
    assert drawn.kind == "b"
    assert deck.draw(lambda card: not card.alone) is None
    following = deck.draw()
    assert following is not None
    assert following.kind == "a"


def test_a_deck_without_a_card_is_refused() -> None:
    with pytest.raises(ValueError, match="without a card"):
        next(rounds([], 1, "cluster"))
