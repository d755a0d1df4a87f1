"""Two keys: what gives the right to forge."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ipc.messages import Grant
from policy import timing
from policy.grants import Refusal, Right, right_to_forge

S = timing.SECOND


def grant(*, deadline: int, exclusive: bool, renewed_at: int = 1, token: int = 7) -> Grant:
    return Grant("pod", token, deadline, renewed_at, exclusive)


def weigh(elector: Grant | None, arbiter: Grant | None, now: int, **more: object) -> Right | Refusal:
    options: dict[str, object] = {"managed": False, "void_before": 0, **more}
    return right_to_forge(elector, arbiter, now=now, **options)  # type: ignore[arg-type]


def test_both_grants_give_the_right_until_the_earlier_deadline() -> None:
    right = weigh(grant(deadline=20 * S, exclusive=True), grant(deadline=15 * S, exclusive=False), 5 * S)
    assert right == Right(15 * S, 7)


def test_one_grant_alone_gives_nothing() -> None:
    assert isinstance(weigh(grant(deadline=20 * S, exclusive=True), None, 5 * S), Refusal)
    assert isinstance(weigh(None, grant(deadline=20 * S, exclusive=True), 5 * S), Refusal)


def test_a_grant_ends_at_its_soft_deadline_not_a_nanosecond_later() -> None:
    elector, arbiter = grant(deadline=20 * S, exclusive=True), grant(deadline=90 * S, exclusive=False)
    end = timing.soft_deadline(20 * S)
    assert isinstance(weigh(elector, arbiter, end - 1), Right)
    assert isinstance(weigh(elector, arbiter, end), Refusal)


def test_without_cluster_management_only_an_exclusive_grant_of_the_elector_counts() -> None:
    assert isinstance(
        weigh(grant(deadline=20 * S, exclusive=False), grant(deadline=20 * S, exclusive=True), 5 * S), Refusal
    )


def test_with_cluster_management_only_an_exclusive_grant_of_the_arbiter_counts() -> None:
    shared, sole = grant(deadline=20 * S, exclusive=False), grant(deadline=20 * S, exclusive=True)
    assert isinstance(weigh(sole, shared, 5 * S, managed=True), Refusal)
    assert isinstance(weigh(shared, sole, 5 * S, managed=True), Right)


def test_a_grant_renewed_before_a_jump_of_the_wall_clock_is_void() -> None:
    elector = grant(deadline=20 * S, exclusive=True, renewed_at=4 * S)
    arbiter = grant(deadline=20 * S, exclusive=False, renewed_at=6 * S)
    assert isinstance(weigh(elector, arbiter, 7 * S, void_before=3 * S), Right)
    assert isinstance(weigh(elector, arbiter, 7 * S, void_before=4 * S), Refusal)


@given(
    now=st.integers(1, 10**12),
    first=st.integers(0, 10**12),
    second=st.integers(0, 10**12),
    exclusive=st.tuples(st.booleans(), st.booleans()),
    managed=st.booleans(),
    renewed=st.integers(0, 10**12),
    void=st.integers(0, 10**12),
)
def test_a_right_never_outlives_either_grant(
    now: int, first: int, second: int, exclusive: tuple[bool, bool], managed: bool, renewed: int, void: int
) -> None:
    elector = Grant("a", 1, first, renewed, exclusive[0])
    arbiter = Grant("b", 2, second, renewed, exclusive[1])
    right = right_to_forge(elector, arbiter, managed=managed, void_before=void, now=now)
    if isinstance(right, Right):
        assert now < right.soft <= min(first, second)
        assert renewed > void
        assert exclusive[1] if managed else exclusive[0]
