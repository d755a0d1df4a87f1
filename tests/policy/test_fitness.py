"""The node's tip against the wall clock: what is too old, and what is ahead, is not fit."""

from __future__ import annotations

import pytest

from policy.fitness import Fitness, Look

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
