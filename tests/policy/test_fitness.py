"""The node's tip against the wall clock: what is too old, and what is ahead, is not fit."""

from __future__ import annotations

from dataclasses import replace

import pytest

from policy.fitness import Began, Fitness, Look, Owner

WALL = 1_000_000


def judged(slot: int, *, max_tip_lag_s: float = 180, slot_length_s: float = 1.0) -> Fitness:
    fitness = Fitness(0, max_tip_lag_s=max_tip_lag_s)
    fitness.judge(Look(1, True, "", True, "", slot, WALL, slot_length_s))
    return fitness


@pytest.mark.parametrize(
    ("slots_ahead", "max_tip_lag_s", "slot_length_s", "says"),
    [
        (0, 180, 1.0, ""),
        (-180, 180, 1.0, ""),
        (-181, 180, 1.0, "181 s behind the wall clock, allowed are 180 s"),
        (180, 180, 1.0, ""),
        (3600, 180, 1.0, "3600 s ahead of the wall clock: this machine's clock is behind"),
        (60, 1, 1.0, ""),
        (61, 1, 1.0, "61 s ahead of the wall clock"),
        (100, 180, 20.0, "2000 s ahead of the wall clock"),
    ],
)
def test_a_tip_is_fit_if_it_is_neither_too_old_nor_ahead(
    slots_ahead: int, max_tip_lag_s: float, slot_length_s: float, says: str
) -> None:
    fitness = judged(WALL + slots_ahead, max_tip_lag_s=max_tip_lag_s, slot_length_s=slot_length_s)
    assert fitness.fit is not bool(says)
    assert says in "".join(fitness.reasons)


def test_a_tip_that_is_ahead_has_no_lag() -> None:
    assert judged(WALL + 3600).tip_lag_s == 0


NOON = 1_800_000_000
BEGAN = Began(pid=7, ticks=70, process_s=NOON, socket_s=NOON + 600.0)


@pytest.mark.parametrize(
    ("started_s", "began", "says"),
    [
        (NOON, BEGAN, ""),
        (NOON + 600, BEGAN, ""),  # a script prepared the database before it became the node
        (NOON - 60, BEGAN, ""),
        (NOON - 61, BEGAN, "it started 61 s before process 7"),
        (NOON + 660, BEGAN, ""),
        (NOON + 661, BEGAN, "it started 61 s after process 7"),
        (NOON + 661, replace(BEGAN, socket_s=None), ""),
        (NOON - 61, replace(BEGAN, socket_s=None), "it started 61 s before process 7"),
        (None, BEGAN, ""),
        (NOON - 61, None, ""),
        (3, BEGAN, ""),  # its clock knew no time
        (NOON * 1000, BEGAN, ""),  # in another unit
    ],
)
def test_metrics_are_another_nodes_if_that_cannot_have_started_when_ours_did(
    started_s: int | None, began: Began | None, says: str
) -> None:
    told = Owner().stranger(started_s, began)
    assert bool(told) is bool(says)
    assert says in told


def test_a_clock_that_is_set_makes_nobody_a_stranger_who_was_none() -> None:
    owner = Owner()
    assert not owner.stranger(NOON, BEGAN)
    set_forward = replace(BEGAN, process_s=NOON + 3600.0)
    assert not owner.stranger(NOON, set_forward)
    assert owner.stranger(NOON, replace(set_forward, ticks=71)), "another process has to agree anew"
    assert owner.stranger(NOON - 1, set_forward), "another start too"


def test_who_agreed_before_the_socket_was_there_has_to_agree_with_the_socket_too() -> None:
    owner = Owner()
    assert not owner.stranger(NOON + 700, replace(BEGAN, socket_s=None))
    assert owner.stranger(NOON + 700, BEGAN)


def test_a_node_in_whose_place_another_answers_is_not_fit_whether_it_answered_before_or_not() -> None:
    for before in ("", "another answers"):
        fitness = Fitness(0, max_tip_lag_s=180)
        fitness.judge(Look(1, True, "", not before, before, None, WALL, stranger=before))
        assert fitness.fit is not bool(before)
        fitness.judge(Look(2, True, "", False, "another answers", None, WALL, stranger="another answers"))
        assert not fitness.fit
        assert fitness.reasons == ("another answers",)
        fitness.judge(Look(3, True, "", True, "", WALL, WALL))
        assert fitness.fit
