"""The fence machine, in the small world of `fence_world`."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ipc.messages import Fence, Proof, StartFlag, Startup
from policy import timing

from fence_world import NO_ROOM, TICK, Node, S, World


def armed_world(node: Node | None = None, *, handover_wait: int = 0) -> World:
    world = World(node=node or Node(pid=10), handover_wait=handover_wait)
    world.step()
    world.grant()
    world.run_until(Fence.ARMED)
    assert world.node is not None
    assert world.node.forging
    return world


def test_bootstrap_files_are_offered_until_the_node_has_read_them() -> None:
    world = World()
    world.step()
    assert world.keys_visible
    assert world.machine.startup(world.view())[0] is Startup.OFFERED
    world.node = Node(pid=10, up=False, takes_hup=False)
    world.tick()
    assert world.keys_visible
    world.read = True
    world.tick()
    assert not world.keys_visible
    assert world.machine.startup(world.view())[0] is Startup.READ


def test_bootstrap_files_are_taken_back_when_the_node_is_up_though_nobody_saw_them_read() -> None:
    world = World()
    world.step()
    world.node = Node(pid=10)
    world.tick()
    assert not world.keys_visible
    assert world.machine.startup(world.view())[0] is Startup.UP


def test_files_read_by_somebody_without_a_node_are_offered_again() -> None:
    world = World()
    world.step()
    world.read = True
    world.tick()
    assert not world.keys_visible
    world.read = False
    world.run(timing.BOOTSTRAP_REEXPOSE / S + 0.1)
    assert world.keys_visible


def test_no_files_are_offered_while_a_source_is_missing() -> None:
    world = World(sources="SOURCE_KES_KEY: no such file")
    world.step()
    assert not world.keys_visible
    assert world.machine.startup(world.view())[0] is Startup.FAILED


def test_a_node_started_without_forging_needs_no_signal_to_be_fenced() -> None:
    world = World()
    world.step()
    world.node = Node(pid=10)
    world.run(5)
    assert world.machine.fence is Fence.FENCED
    assert world.machine.proof is Proof.NOT_STARTED
    assert not [line for line in world.log if "Hup" in line]


def test_arming_tells_the_kernel_before_the_node() -> None:
    world = armed_world()
    order = [line.split("(")[0] for line in world.log if not line.startswith(("Withdraw", "Unaim", "ClearDeath"))]
    assert order[order.index("Aim") :][:4] == ["Aim", "SetDeath", "Expose", "Hup"]


def test_one_grant_alone_does_not_arm() -> None:
    world = World(node=Node(pid=10))
    world.step()
    world.grant()
    world.arbiter = None
    world.run(3)
    assert world.machine.fence is Fence.FENCED
    assert not world.keys_visible


def test_a_right_about_to_end_is_not_worth_arming() -> None:
    world = World(node=Node(pid=10))
    world.step()
    world.grant((timing.ARM_MINIMUM + timing.SOFT_LEAD) / S - 0.1)
    world.run(0.05)
    assert world.machine.fence is Fence.FENCED


def test_a_grant_that_is_not_renewed_ends_forging_before_its_hard_deadline() -> None:
    world = armed_world()
    assert world.elector is not None
    deadline = world.elector.deadline
    world.run_until(Fence.FENCED)
    assert world.now < deadline
    assert world.machine.proof is Proof.METRICS
    assert world.node is not None
    assert not world.node.forging
    assert world.aimed == 0
    assert world.death == 0


def test_renewals_keep_it_armed_and_move_the_kernels_deadline() -> None:
    world = armed_world()
    for _ in range(20):
        world.grant()
        world.run(5)
        assert world.machine.fence is Fence.ARMED
        assert world.elector is not None
        assert world.death == world.elector.deadline
    assert len([line for line in world.log if "Hup" in line]) == 1


def test_a_withdrawn_grant_is_fenced_within_a_few_ticks() -> None:
    world = armed_world()
    world.run(3)
    world.withdraw_grant()
    assert world.run_until(Fence.FENCED) <= 0.3


def test_a_node_that_needs_a_second_to_reload_is_waited_for_not_killed() -> None:
    world = armed_world(Node(pid=10, reload=1 * S))
    world.run(5)
    world.withdraw_grant(calm=False)
    waited = world.run_until(Fence.FENCED)
    assert waited >= 1.0
    assert world.node is not None
    assert not [line for line in world.log if "Kill" in line]


def test_what_a_node_said_before_it_was_told_to_stop_is_no_proof_that_it_did() -> None:
    """The answer of an instant at which it did not forge yet, told late."""
    world = World(node=Node(pid=10, reload=1 * S))
    world.step()
    before = world.view().sample
    assert before is not None
    assert before.forging_enabled == 0
    world.grant()
    world.run_until(Fence.ARMED)
    world.withdraw_grant(calm=False)
    world.late_sample = dataclasses.replace(before, answered_at=world.now + TICK)
    world.run(0.8)
    assert world.node is not None
    assert world.node.forging
    assert world.machine.fence is Fence.FENCING
    world.late_sample = None
    world.run_until(Fence.FENCED)


def test_a_deaf_node_is_killed_before_the_lease_can_pass() -> None:
    world = armed_world()
    assert world.elector is not None
    assert world.node is not None
    lease_ends = world.elector.deadline + timing.FENCE_MARGIN
    world.node.deaf = True
    world.run_until(Fence.FENCED)
    assert world.node is None
    assert world.now < lease_ends
    assert world.machine.proof is Proof.NODE_GONE


def test_a_frozen_node_is_killed_before_the_lease_can_pass() -> None:
    world = armed_world()
    assert world.elector is not None
    assert world.node is not None
    lease_ends = world.elector.deadline + timing.FENCE_MARGIN
    world.node.frozen = world.node.deaf = True
    world.run_until(Fence.FENCED)
    assert world.node is None
    assert world.now < lease_ends


def test_in_a_calm_handover_a_deaf_node_gets_more_time_but_not_for_ever() -> None:
    world = armed_world()
    assert world.node is not None
    world.node.deaf = True
    world.withdraw_grant(calm=True)
    waited = world.run_until(Fence.FENCED)
    assert timing.CONFIRM_CALM_TERM / S <= waited <= timing.CONFIRM_CALM_KILL / S + 1
    assert world.node is None


def test_a_handover_is_as_calm_when_the_arbiters_word_of_it_comes_before_the_electors() -> None:
    world = armed_world()
    assert world.elector is not None
    assert world.node is not None
    lease_ends = world.elector.deadline + timing.FENCE_MARGIN
    world.node.deaf = True
    world.arbiter, world.calm, world.giving_up = None, True, True
    world.tick()
    world.withdraw_grant(calm=True)
    waited = world.run_until(Fence.FENCED)
    assert timing.CONFIRM_CALM_TERM / S <= waited <= timing.CONFIRM_CALM_KILL / S + 1
    assert world.node is None
    assert world.now < lease_ends


def test_a_deaf_node_is_killed_before_the_lease_can_pass_though_only_the_arbiters_grant_ran_out() -> None:
    """It counts from an earlier instant of the same renewal; an elector that still grants does not mean time."""
    world = armed_world()
    assert world.elector is not None
    assert world.arbiter is not None
    assert world.node is not None
    lease_ends = world.elector.deadline + timing.FENCE_MARGIN
    world.arbiter = dataclasses.replace(world.arbiter, deadline=world.elector.deadline - 2 * S)
    world.calm = world.node.deaf = True
    world.run_until(Fence.FENCED)
    assert world.node is None
    assert world.now < lease_ends


def test_a_handover_that_begins_late_in_the_right_is_calm_no_longer_than_the_right() -> None:
    world = armed_world()
    assert world.elector is not None
    assert world.node is not None
    lease_ends = world.elector.deadline + timing.FENCE_MARGIN
    world.node.deaf = True
    world.run(9)
    world.withdraw_grant(calm=True)
    world.run_until(Fence.FENCED)
    assert world.node is None
    assert world.now < lease_ends


def test_a_wrong_gauge_does_not_prove_anything_while_leadership_checks_go_on() -> None:
    """forging_enabled is absent; the count of leadership checks alone decides."""
    world = armed_world(Node(pid=10, gauge=False))
    world.withdraw_grant(calm=True)
    waited = world.run_until(Fence.FENCED)
    assert world.machine.proof is Proof.FLAT
    assert waited >= timing.FLAT_SLOTS / S


def test_a_node_without_metrics_is_believed_only_after_a_pause() -> None:
    world = armed_world(Node(pid=10, metrics=False))
    world.withdraw_grant(calm=True)
    waited = world.run_until(Fence.FENCED)
    assert world.machine.proof is Proof.SETTLED
    assert waited >= timing.SETTLE / S


SAYS_NOTHING = {"gauge": False, "counter": False}
"""Of a node that answers with metrics, but with none of forging."""


def test_a_page_without_a_word_of_forging_is_worth_as_much_as_none() -> None:
    world = World(Node(7, **SAYS_NOTHING))
    world.step()
    world.grant()
    assert world.run_until(Fence.ARMED) <= 1.2
    world.rotate()
    world.run(3)
    assert not world.machine.busy(), "the rotation is over"
    assert world.node is not None
    assert world.node.keys == 2
    world.withdraw_grant()
    assert 5 <= world.run_until(Fence.FENCED) <= 5.2
    assert world.machine.proof is Proof.SETTLED
    assert world.node is not None, "it was not ended"


def test_a_standby_whose_page_has_no_word_of_forging_outlives_a_restart_of_the_actuator() -> None:
    world = World(Node(7, born_after_us=False, **SAYS_NOTHING))
    world.step()
    assert world.run_until(Fence.FENCED) <= 6.2
    world.run(20)
    assert world.machine.fence is Fence.FENCED
    assert "Kill" not in " ".join(world.log)


def test_a_node_that_showed_that_it_forges_is_not_believed_when_its_page_has_no_word_of_it_any_more() -> None:
    world = World(Node(7))
    world.step()
    world.grant()
    world.run_until(Fence.ARMED)
    assert world.node is not None
    world.node.gauge = world.node.counter = False
    world.node.deaf = True
    world.withdraw_grant(calm=False)
    world.run_until(Fence.FENCED)
    assert world.machine.proof is Proof.NODE_GONE


@pytest.mark.parametrize("flag", StartFlag)
@pytest.mark.parametrize("metrics", [False, True])
def test_a_signal_that_the_kernel_refused_proves_nothing_however_long_ago(flag: StartFlag, metrics: bool) -> None:
    node = Node(7, flag=flag, born_after_us=False, protected=True, forging=True, metrics=metrics)
    world = World(node)
    world.step()
    world.run(60)
    assert world.machine.fence is Fence.FENCING
    assert sum(line.startswith("refused Hup") for line in world.log) > 20, "it is sent again"
    node.protected = False
    world.run_until(Fence.FENCED)
    assert not node.forging or world.node is None


def test_a_node_that_refuses_signals_and_says_that_it_is_off_is_believed() -> None:
    world = World(Node(7, flag=StartFlag.PRODUCING, born_after_us=False, protected=True))
    world.step()
    assert world.run_until(Fence.FENCED) <= 5
    assert world.machine.proof is Proof.FLAT


def test_a_node_that_was_not_told_is_not_called_armed() -> None:
    world = World(Node(7, metrics=False, protected=True))
    world.step()
    world.grant(60)
    world.run(20)
    assert world.machine.fence is Fence.ARMING
    assert world.node is not None
    world.node.protected = False
    world.run(4)
    assert world.machine.fence is Fence.ARMED
    assert world.node.forging


def test_no_files_are_offered_while_a_node_runs_that_cannot_be_held() -> None:
    world = World(unseen="NODE_SOCKET answers, but its process is not visible")
    world.run(30)
    assert not [line for line in world.log if "Expose" in line]
    assert world.machine.startup(world.view()) == (Startup.FAILED, world.unseen)
    world.unseen = ""
    world.run(1)
    assert world.keys_visible
    world.unseen = "again"
    world.run(1)
    assert not world.keys_visible


def test_no_files_are_offered_while_the_metrics_of_a_node_that_is_not_found_tell_of_forging() -> None:
    world = World(Node(7))
    world.step()
    view = dataclasses.replace(world.view(), node=None)
    machine = World().machine
    assert machine.step(world.now, view) == []
    why = machine.startup(view)[1]
    assert "NODE_METRICS_URL is answered by a node that is not found here" in why
    assert why in machine.refusals(view), "whoever asks why the pod is not ready is told, too"


def test_an_offer_to_a_node_that_does_not_come_up_ends_after_a_minute_and_is_made_to_the_next() -> None:
    world = World(Node(7, up=False, born_after_us=False))
    world.run(59)
    assert world.keys_visible
    world.run(3600)
    assert not world.keys_visible
    assert sum("Expose" in line for line in world.log) == 1
    world.node = Node(8, up=False)
    world.run(1)
    assert world.keys_visible


def test_a_node_that_tells_of_forging_is_offered_nothing_though_its_socket_is_not_answered() -> None:
    world = World(Node(7, up=False, born_after_us=False, early=True))
    world.run(100)
    assert not [line for line in world.log if "Expose" in line]
    assert "NODE_SOCKET is not answered" in world.machine.startup(world.view())[1]


def test_a_node_that_is_not_up_and_forges_unasked_is_told_to_stop() -> None:
    world = World(Node(7, up=False, born_after_us=False, early=True))
    world.run(10)
    assert world.machine.fence is Fence.FENCED
    assert world.node is not None
    world.node.forging = True
    world.run(5)
    assert not world.node.forging
    assert world.run_until(Fence.FENCED) <= 5


def test_a_script_that_becomes_a_producing_node_is_judged_anew() -> None:
    world = World(Node(7, up=False, flag=StartFlag.NO_CREDENTIALS))
    world.run(1)
    assert world.machine.fence is Fence.FENCED
    assert world.node is not None
    world.node.flag = StartFlag.PRODUCING
    world.run(1)
    assert world.machine.fence is Fence.FENCING
    world.node.forging = world.node.up = True
    world.run(2)
    assert not world.node.forging
    world.run_until(Fence.FENCED)
    assert world.machine.proof is Proof.FLAT


def test_keys_that_cannot_be_written_are_tried_again_ever_more_seldom_and_that_is_said() -> None:
    world = World(no_room=True)
    world.run(30)
    tries = [line for line in world.log if line.startswith("no room")]
    assert 6 <= len(tries) <= 8
    assert world.machine.startup(world.view()) == (Startup.FAILED, NO_ROOM)
    assert NO_ROOM in world.machine.refusals(world.view())
    world.no_room = False
    world.run(60)
    assert world.keys_visible
    assert world.machine.startup(world.view())[0] is Startup.OFFERED
    assert NO_ROOM not in world.machine.refusals(world.view())


def test_a_node_that_cannot_be_armed_for_want_of_room_says_so_and_is_armed_when_there_is() -> None:
    world = World(Node(7), no_room=True)
    world.step()
    world.grant(120)
    world.run(20)
    assert world.machine.fence is Fence.FENCED
    assert world.machine.refusals(world.view()) == (NO_ROOM,)
    assert world.node is not None
    assert not world.node.pending, "nobody was told"
    world.no_room = False
    world.run_until(Fence.ARMED, 60)


def test_metrics_that_fall_silent_while_armed_prove_nothing() -> None:
    world = armed_world()
    assert world.node is not None
    world.node.metrics = False
    world.withdraw_grant(calm=False)
    world.run_until(Fence.FENCED)
    assert world.machine.proof is Proof.NODE_GONE


def test_the_end_of_the_node_is_the_strongest_proof_and_takes_the_keys_away() -> None:
    world = armed_world()
    world.node = None
    world.elector = None
    world.tick()
    assert world.machine.fence is Fence.FENCED
    assert world.machine.proof is Proof.NODE_GONE
    assert world.aimed == 0
    assert world.machine.exposed == "bootstrap"


def test_a_restarted_node_under_valid_grants_is_armed_again_with_a_new_aim() -> None:
    world = armed_world()
    world.node = Node(pid=11)
    world.grant()
    world.run_until(Fence.ARMED)
    world.run(0.2)
    assert world.aimed == 11
    assert world.node is not None
    assert world.node.forging


def test_a_node_of_unknown_history_is_not_called_fenced_without_proof() -> None:
    """This process restarted while the node forged on (its keys are gone, but was it told?)."""
    world = World(node=Node(pid=10, born_after_us=False, forging=True))
    world.step()
    assert world.machine.fence is Fence.FENCING
    world.run_until(Fence.FENCED)
    assert world.node is not None
    assert not world.node.forging


def test_a_node_of_unknown_history_that_says_it_is_off_gets_no_needless_signal() -> None:
    world = World(node=Node(pid=10, born_after_us=False, forging=False))
    assert world.run_until(Fence.FENCED) < 0.5
    assert not [line for line in world.log if "Hup" in line]


def test_a_slow_node_of_unknown_history_has_its_time_to_obey_from_the_signal_on() -> None:
    """On a busy machine: neither has it taken the signal for half a second, nor has anybody asked for its metrics."""
    world = World(node=Node(pid=10, born_after_us=False, forging=False, frozen=True, metrics=False))
    while not [line for line in world.log if "Hup" in line]:
        world.tick()
    world.run(1)
    assert world.node is not None
    world.node.frozen, world.node.metrics = False, True
    world.run_until(Fence.FENCED)
    assert not [line for line in world.log if "Kill" in line]


def test_a_node_of_unknown_history_that_does_not_obey_is_ended_within_two_seconds_of_the_signal() -> None:
    world = World(node=Node(pid=10, born_after_us=False, forging=True, deaf=True))
    while not [line for line in world.log if "Hup" in line]:
        world.tick()
    assert world.run_until(Fence.FENCED) < 2.1
    assert world.node is None


def test_a_producing_node_is_told_to_stop_as_soon_as_it_is_up_and_again_until_its_count_is_flat() -> None:
    world = World()
    world.step()
    node = Node(pid=10, flag=StartFlag.PRODUCING, up=False, takes_hup=False)
    world.node = node
    world.run(1)
    assert world.machine.fence is Fence.FENCING
    world.read = True
    world.run(1)
    node.up = node.takes_hup = node.forging = True
    world.run(0.2)
    assert not node.forging
    node.forging = True  # the race in Run.hs: its own initial setting comes after our signal
    world.run_until(Fence.FENCED)
    assert not node.forging
    assert world.machine.proof is Proof.FLAT


def test_a_producing_node_never_finds_keys_when_it_is_told() -> None:
    """It comes up while the bootstrap files still stand: they go first."""
    world = World()
    world.step()
    world.node = Node(pid=10, flag=StartFlag.PRODUCING, forging=True)
    world.node.forging = False
    world.run(1)
    withdrawn = next(i for i, line in enumerate(world.log) if line.startswith("Withdraw"))
    told = next(i for i, line in enumerate(world.log) if line.startswith("Hup"))
    assert withdrawn < told


def test_a_fenced_node_that_counts_leadership_checks_again_is_fenced_again() -> None:
    world = armed_world()
    world.withdraw_grant()
    world.run_until(Fence.FENCED)
    world.run(3)
    assert world.node is not None
    world.node.forging = True  # somebody else's keys, somebody else's signal
    world.run_until(Fence.FENCING, most=4)
    world.run_until(Fence.FENCED)
    assert world.node is None or not world.node.forging


def test_a_slow_reload_that_ends_after_the_proof_is_noticed_by_the_gauge_at_once() -> None:
    """Two reloads side by side: the older one, which still found the keys, is the last to take effect."""
    world = armed_world()
    world.withdraw_grant()
    world.run_until(Fence.FENCED)
    assert world.node is not None
    world.node.forging = True
    assert world.run_until(Fence.FENCING) <= 0.1
    world.run_until(Fence.FENCED)
    assert not world.node.forging


def test_a_jump_of_the_wall_clock_fences_until_the_next_renewal() -> None:
    world = armed_world()
    world.void_before = world.now
    world.run_until(Fence.FENCED)
    world.run(1)
    assert not world.keys_visible
    world.grant()
    world.run_until(Fence.ARMED)


def test_a_fence_during_an_unconfirmed_arming_is_told_twice() -> None:
    """Two reloads run side by side in the node and may end in either order."""
    world = World(node=Node(pid=10, reload=300 * timing.MILLISECOND))
    world.step()
    world.grant()
    world.tick()
    assert world.machine.fence is Fence.ARMING
    world.withdraw_grant()
    world.run_until(Fence.FENCED)
    assert len([line for line in world.log if "disable" in line]) == 2
    assert world.node is not None
    assert not world.node.forging


def test_a_target_that_cannot_be_made_ours_fences_and_keeps_from_arming() -> None:
    world = armed_world()
    world.targets = "the target path is a directory"
    world.run_until(Fence.FENCED)
    world.grant()
    world.run(2)
    assert world.machine.fence is Fence.FENCED
    assert "the target path is a directory" in world.machine.refusals(world.view())


def test_stopping_fences_and_offers_nothing() -> None:
    world = armed_world()
    world.stopping = True
    world.run_until(Fence.FENCED)
    world.node = None
    world.run(1)
    assert not world.keys_visible


def test_an_arming_signal_without_effect_is_repeated_one_at_a_time() -> None:
    world = World(node=Node(pid=10, deaf=True))
    world.step()
    world.grant()
    world.run(5)
    hups = [line for line in world.log if "Hup" in line]
    assert 2 <= len(hups) <= 3


@pytest.mark.parametrize("seconds", [0.05, 0.5, 2.0, 7.0])
def test_grants_that_come_and_go_never_leave_the_node_forging_without_a_right(seconds: float) -> None:
    world = World(node=Node(pid=10))
    world.step()
    for _ in range(8):
        world.grant()
        world.run(seconds)
        world.withdraw_grant()
        world.run_until(Fence.FENCED)
        assert world.node is not None
        assert not world.node.forging


# --- rotation ---


def hups(world: World) -> list[str]:
    return [line for line in world.log if "Hup" in line]


def test_a_rotation_under_a_forging_node_costs_one_signal_and_no_moment_of_forging() -> None:
    world = armed_world()
    before = len(hups(world))
    world.rotate()
    for _ in range(100):
        world.grant()
        world.tick()
        assert world.node is not None
        assert world.node.forging
        assert world.machine.fence is Fence.ARMED
    assert world.node.keys == 2
    assert hups(world)[before:] == ["Hup(reason='rotate')"]
    assert not world.machine.busy()


def waiting_world(quiet_s: float, wait_s: float = 600) -> World:
    """Armed, with new keys in the secret and a gap in the leadership schedule so many seconds away."""
    world = armed_world(handover_wait=int(wait_s * S))
    world.quiet_at = world.now + int(quiet_s * S)
    world.rotate()
    return world


def lives_on(world: World, seconds: float) -> int:
    """With grants, for so long; the number of the set that its node has then."""
    for _ in range(int(seconds * 20)):
        world.grant()
        world.tick()
    assert world.node is not None
    return world.node.keys


def test_new_keys_wait_for_a_gap_in_the_leadership_schedule_but_not_for_ever() -> None:
    assert lives_on(waiting_world(20), 19) == 1
    assert lives_on(waiting_world(20), 21) == 2
    assert lives_on(waiting_world(9999, wait_s=30), 29) == 1
    assert lives_on(waiting_world(9999, wait_s=30), 31) == 2


def test_new_keys_do_not_wait_if_those_in_use_have_expired() -> None:
    world = waiting_world(9999)
    world.spent = 1
    assert lives_on(world, 2) == 2
    assert world.machine.fence is Fence.ARMED


def test_a_fence_waits_for_no_gap() -> None:
    world = waiting_world(9999)
    world.withdraw_grant()
    assert world.run_until(Fence.FENCED) < 1


def test_a_node_whose_keys_have_expired_is_fenced_so_that_another_can_be_asked() -> None:
    world = armed_world()
    world.spent = 1
    world.grant()
    assert world.run_until(Fence.FENCED) < 1
    assert "expired" in world.machine.reason


def test_of_rotations_that_follow_each_other_the_last_is_installed() -> None:
    world = armed_world()
    for _ in range(5):
        world.rotate()
        world.grant()
        world.run(0.3)
    for _ in range(100):
        world.grant()
        world.tick()
    assert world.node is not None
    assert world.node.keys == 6
    assert world.node.forging
    assert len(hups(world)) <= 1 + 4


def test_a_node_that_rejects_the_new_keys_forges_on_and_is_told_once() -> None:
    world = armed_world(Node(pid=10, refuses=2))
    world.rotate()
    for _ in range(200):
        world.grant()
        world.tick()
    assert world.node is not None
    assert world.node.forging
    assert world.node.keys == 1
    assert len(hups(world)) == 2


def test_a_node_that_stops_when_it_is_told_of_new_keys_is_told_again() -> None:
    world = armed_world()
    world.rotate()
    world.tick()
    assert world.node is not None
    world.node.pending = []  # it found a file missing
    world.node.forging = False
    for _ in range(80):
        world.grant()
        world.tick()
    assert world.node.forging
    assert world.machine.fence is Fence.ARMED
    assert world.node.keys == 2


def test_a_set_that_cannot_be_written_leaves_the_old_one_and_tells_nobody() -> None:
    world = armed_world()
    world.no_room = True
    world.rotate()
    for _ in range(100):
        world.grant()
        world.tick()
    assert world.node is not None
    assert (world.node.forging, world.node.keys, len(hups(world))) == (True, 1, 1)
    world.no_room = False
    for _ in range(100):
        world.grant()
        world.tick()
    assert (world.node.forging, world.node.keys, len(hups(world))) == (True, 2, 2)


@pytest.mark.parametrize("reload_ms", [5, 400, 2000])
def test_a_fence_right_after_a_rotation_outlasts_the_reload_for_it(reload_ms: int) -> None:
    world = armed_world()
    assert world.node is not None
    world.node.reload = reload_ms * timing.MILLISECOND
    world.rotate()
    world.tick()
    world.withdraw_grant()
    world.run_until(Fence.FENCED)
    world.run(5)
    assert world.node is not None
    assert not world.node.forging


def test_nothing_is_installed_for_a_rotation_while_the_node_is_not_armed() -> None:
    world = World(node=Node(pid=10))
    world.step()
    world.rotate()
    world.run(5)
    assert not hups(world)
    assert not world.keys_visible


@pytest.mark.parametrize("metrics", [True, False])
def test_without_metrics_a_rotation_is_over_a_second_after_the_signal_was_taken(metrics: bool) -> None:
    world = armed_world(Node(pid=10, metrics=metrics))
    world.rotate()
    for _ in range(40):
        world.grant()
        world.tick()
    assert world.node is not None
    assert world.node.keys == 2
    assert not world.machine.busy()


ACTS = st.sampled_from(
    [
        "grant",
        "withdraw",
        "arbiter ends",
        "arbiter silent",
        "lose",
        "node dies",
        "node starts",
        "deaf",
        "freeze",
        "thaw",
        "no metrics",
        "jump",
        "rotate",
        "expire",
        "slots to come",
        "no room",
        "wait",
    ]
)


@example(acts=[("node starts", 20), ("grant", 40), ("arbiter silent", 20)])
@example(acts=[("node starts", 20), ("grant", 40), ("arbiter ends", 40)])
@settings(max_examples=200, deadline=None)
@given(acts=st.lists(st.tuples(ACTS, st.integers(1, 60)), max_size=30))
def test_whatever_happens_nothing_forges_past_the_end_of_the_lease(acts: list[tuple[str, int]]) -> None:
    """The worst that a schedule of faults can do: the node forges until its last grant's lease ends, not longer."""
    world = World(handover_wait=20 * S)
    world.step()
    pid = 10
    lease_ends = 0
    for act, ticks in acts:
        match act:
            case "grant":
                world.calm = False
                world.grant()
                assert world.elector is not None
                lease_ends = max(lease_ends, world.elector.deadline + timing.FENCE_MARGIN)
            case "withdraw":
                world.withdraw_grant(calm=ticks % 2 == 0)
            case "arbiter ends" if world.arbiter is not None:
                world.arbiter = dataclasses.replace(world.arbiter, deadline=world.now + ticks * S // 10)
                world.calm = ticks % 2 == 0
            case "arbiter silent":
                world.arbiter = None
            case "lose":
                world.elector = None
            case "node dies":
                world.node = None
            case "expire":
                world.spent = world.source - ticks % 2
            case "slots to come":
                world.quiet_at = world.now + ticks * S
            case "node starts" if world.node is None:
                pid += 1
                world.node = Node(pid=pid)
                world.read = True
            case "deaf" if world.node is not None:
                world.node.deaf = True
            case "freeze" if world.node is not None:
                world.node.frozen = True
            case "thaw" if world.node is not None:
                world.node.frozen = False
            case "no metrics" if world.node is not None:
                world.node.metrics = not world.node.metrics
            case "jump":
                world.void_before = world.now
            case "rotate":
                world.rotate()
            case "no room":
                world.no_room = not world.no_room
        for _ in range(ticks):
            world.tick()
            forging = world.node is not None and world.node.forging and not world.node.frozen
            assert not forging or world.now <= lease_ends + TICK, f"forging {world.now - lease_ends} ns after the lease"
