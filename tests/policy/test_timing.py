"""The arithmetic of time holds for every configuration that is accepted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from policy import timing

S = timing.SECOND


@given(sent=st.integers(0, 10**15), lease_s=st.integers(6, 3600), rate=st.floats(0.99, 1.01))
def test_the_grant_ends_before_anybody_else_may_take_the_lease_whatever_the_clocks_rates(
    sent: int, lease_s: int, rate: float
) -> None:
    """Another machine's clock runs up to 1 % faster or slower; it counts a whole lease from seeing the renewal."""
    others_wait = int(lease_s * S * rate)
    assert timing.grant_deadline(sent, lease_s * S) < sent + others_wait


@given(lease_s=st.integers(6, 3600))
def test_an_unconfirmed_node_is_killed_before_the_lease_can_pass(lease_s: int) -> None:
    fenced_at = timing.soft_deadline(timing.grant_deadline(0, lease_s * S))
    assert fenced_at + timing.CONFIRM_HURRY_KILL < lease_s * S * 99 // 100


def test_force_is_used_in_order_and_only_after_a_chance() -> None:
    assert 0 < timing.CONFIRM_HURRY_TERM < timing.CONFIRM_HURRY_KILL
    assert timing.FLAT_SLOTS < timing.CONFIRM_CALM_TERM < timing.CONFIRM_CALM_KILL < timing.HANDOVER_PATIENCE


def test_a_restarting_worker_costs_nothing() -> None:
    """What a worker said last is borne with until its successor has come, also when the kernel had to end it."""
    assert timing.ARBITER_SILENCE >= timing.HEARTBEAT + timing.WATCHDOG + 2 * S


def test_the_defaults_leave_room_for_several_requests_between_a_missed_renewal_and_the_fence() -> None:
    fence = timing.soft_deadline(timing.grant_deadline(0, 15 * S))
    attempts = (fence - 5 * S) // (timing.REQUEST_TIMEOUT + timing.RETRY_PAUSE * 3 // 2)
    assert attempts >= 3
