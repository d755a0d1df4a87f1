"""The arbiter as witness: what it countersigns, and that no electors gone bad make two pods forge."""

from __future__ import annotations

import copy
import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipc.messages import Grant
from policy import timing
from policy.lease import LeaseRecord
from policy.seal import half_of, joined, opens, seal_of
from policy.witness import Ledger, Witness

S = timing.SECOND
D = 15
START = 1000 * S


@dataclasses.dataclass
class Pod:
    """A pod's witness, what its elector (good or bad) has in hand, and an actuator that knows what it was told.

    Its elector grants always: the node forges while the last grant of the arbiter that the actuator heard holds.
    """

    name: str
    witness: Witness
    seen: int = 0
    term: int = 0
    heard: Grant | None = None
    heard_giving_up: str = ""
    fenced_and_heard: str = ""
    """As the arbiter heard it of the actuator last."""

    def forges(self, now: int) -> bool:
        return self.heard is not None and now < self.heard.deadline

    def actuator_listens(self, now: int) -> None:
        self.heard = self.witness.grant(now, claimed="", void_before=0)
        self.heard_giving_up = self.witness.giving_up if self.heard is None else ""

    def arbiter_listens(self, now: int) -> None:
        self.fenced_and_heard = "" if self.forges(now) else self.heard_giving_up

    def lets_go(self) -> None:
        """As its elector says, honest or not."""
        self.witness.let_go(self.witness.half, fenced_and_heard=self.fenced_and_heard)

    def clings(self) -> None:
        self.witness.let_go("", fenced_and_heard=self.fenced_and_heard)

    @property
    def seal(self) -> str:
        """For a term of its own."""
        return joined(half_of(self.key), self.witness.half)

    @property
    def holder(self) -> str:
        return f"{self.name}_1"

    @property
    def key(self) -> str:
        """The elector's key of its present term; nobody else knows it."""
        return f"{self.name} {self.term}"


class World:
    """One Lease and every version it ever had; each witness is told of them in order, sooner or later."""

    def __init__(self, pods: int = 3, *, known: bool = True) -> None:
        self.now = START
        self.history: list[LeaseRecord | None] = [None]
        self.pods = [self._pod(f"pod-{i}", Ledger()) for i in range(pods)]
        if known:  # long ago, and nobody since
            for pod in self.pods:
                pod.witness.looked(None, "0", self.now)
            self.pass_s(60)

    def _pod(self, name: str, ledger: Ledger) -> Pod:
        return Pod(name, self._witness(name, ledger))

    def _witness(self, name: str, ledger: Ledger) -> Witness:
        key = name.encode()
        return Witness(name, key, lease_duration_s=D, sleep_interval=5 * S, now=self.now, ledger=ledger)

    @property
    def record(self) -> LeaseRecord | None:
        return self.history[-1]

    def pass_s(self, seconds: float) -> None:
        self.now += int(seconds * S)

    def write(
        self, pod: Pod, holder: str, *, seal: str = "", key: str = "", challenge: str | None = None, duration_s: int = D
    ) -> None:
        """Whatever it says: the API token allows it."""
        if challenge is None:
            challenge = pod.witness.challenge(self.now, void_before=0)[0]
        version = str(len(self.history))
        self.history.append(
            LeaseRecord(version, holder, duration_s, 1, uid="u", seal=seal, key=key, challenge=challenge)
        )

    def hold(self, pod: Pod) -> None:
        """As an honest elector takes or renews, except that nothing is asked before."""
        self.write(pod, pod.holder, seal=pod.seal)

    def release(self, pod: Pod) -> None:
        """As an honest elector does: the node is fenced, and then the arbiter gives its half of the key."""
        pod.lets_go()
        pod.actuator_listens(self.now)
        pod.arbiter_listens(self.now)
        pod.lets_go()
        self.write_release(pod)
        pod.term += 1

    def write_release(self, pod: Pod) -> None:
        """With all that an elector knows of the key."""
        key = joined(pod.key, pod.witness.ledger.given_away)
        self.write(pod, "", seal=seal_of(key), key=key, duration_s=1)

    def tell(self, pod: Pod, most: int = 1000) -> None:
        for record in self.history[pod.seen + 1 :][:most]:
            pod.seen += 1
            pod.witness.saw(record, str(pod.seen), self.now)

    def tell_all(self) -> None:
        for pod in self.pods:
            self.tell(pod)

    def grant(self, pod: Pod) -> Grant | None:
        return pod.witness.grant(self.now, claimed="", void_before=0)

    def willing(self, pod: Pod) -> bool:
        pod.witness.challenge(self.now, void_before=0)
        return pod.witness.willing(self.now)

    def restart(self, pod: Pod) -> None:
        pod.witness = self._witness(pod.name, copy.deepcopy(pod.witness.ledger))

    def lose_track(self, pod: Pod) -> None:
        pod.witness.lost_track()
        pod.seen = len(self.history) - 1
        pod.witness.looked(self.record, str(pod.seen), self.now)

    def led_by(self, pod: Pod) -> Pod:
        self.hold(pod)
        self.tell_all()
        assert self.grant(pod) is not None
        return pod


def test_a_free_lease_is_countersigned_as_soon_as_it_is_seen_to_be_ours() -> None:
    world = World()
    a, b, _ = world.pods
    assert world.willing(a)
    world.hold(a)
    assert world.grant(a) is None
    world.tell_all()
    granted = world.grant(a)
    assert granted is not None
    assert not granted.exclusive
    assert granted.holder == a.holder
    assert world.grant(b) is None


def test_a_lease_that_jumps_from_a_live_stranger_to_us_is_withheld_for_the_whole_term() -> None:
    world = World()
    a, b, _ = world.pods
    world.led_by(a)
    world.pass_s(3)
    assert not world.willing(b)
    for _ in range(30):
        world.hold(b)
        world.tell_all()
        assert world.grant(b) is None
        world.pass_s(5)
    assert "had not released" in b.witness.reason


def test_a_release_by_its_holder_passes_the_lease_at_once() -> None:
    world = World()
    a, b, _ = world.pods
    world.led_by(a)
    world.pass_s(3)
    world.release(a)
    world.tell_all()
    assert world.grant(a) is None
    assert world.willing(b)
    world.hold(b)
    world.tell_all()
    assert world.grant(b) is not None


def test_a_release_that_the_holder_did_not_write_passes_nothing() -> None:
    for seal, key in ((seal_of("mine"), "mine"), ("", ""), ("", "guess")):
        world = World()
        a, b, _ = world.pods
        world.led_by(a)
        world.write(b, "", seal=seal, key=key, duration_s=1)
        world.tell_all()
        assert not world.willing(b)
        world.hold(b)
        world.tell_all()
        assert world.grant(b) is None


def test_an_opened_seal_that_a_stranger_sends_back_frees_nothing_of_what_he_holds() -> None:
    world = World()
    a, b, c = world.pods
    world.led_by(a)
    world.pass_s(3)
    world.release(a)
    left = world.record
    assert left is not None
    world.tell_all()
    world.write(c, "older", seal=left.seal, key=left.key)
    world.tell_all()
    world.write(c, "", seal=left.seal, key=left.key)
    world.tell_all()
    assert not world.willing(b)
    world.hold(b)
    world.tell_all()
    assert world.grant(b) is None


def test_a_thief_that_releases_what_it_stole_frees_nothing_of_the_victim() -> None:
    world = World()
    a, b, c = world.pods
    world.led_by(a)
    world.hold(b)
    world.release(b)
    world.tell_all()
    assert not world.willing(c)
    world.pass_s(D)
    assert world.willing(c)


def test_a_holder_that_went_silent_is_followed_after_a_whole_lease_duration_from_its_last_change() -> None:
    world = World()
    a, b, _ = world.pods
    world.led_by(a)
    world.pass_s(5)
    world.hold(a)
    world.tell_all()
    world.pass_s(D - 0.1)
    assert not world.willing(b)
    world.pass_s(0.1)
    assert world.willing(b)
    world.hold(b)
    world.tell_all()
    assert world.grant(b) is not None


def test_a_take_over_that_the_watch_tells_late_is_judged_by_when_it_was_written() -> None:
    world = World()
    a, b, _ = world.pods
    world.led_by(a)
    world.pass_s(1)
    world.hold(b)  # over a live holder, but told only after the holder's right has ended
    world.pass_s(D + 1)
    world.tell(b)
    assert world.grant(b) is None


def test_a_deleted_lease_is_not_free_and_costs_its_holder_nothing() -> None:
    world = World()
    a, b, _ = world.pods
    world.led_by(a)
    world.history.append(None)
    world.tell_all()
    assert world.grant(a) is not None
    assert not world.willing(b)
    world.hold(a)
    world.tell_all()
    assert world.grant(a) is not None


@pytest.mark.parametrize("forged", ["virgin", "erased", "own seal and key"])
def test_a_lease_that_is_emptied_by_anybody_but_its_holder_costs_the_holder_nothing(forged: str) -> None:
    world = World()
    a, b, _ = world.pods
    world.led_by(a)
    before = world.grant(a)
    if forged == "virgin":
        world.history.append(None)
        world.write(b, "", challenge="", duration_s=0)
    elif forged == "erased":
        world.write(b, "", seal=a.seal)
    else:
        world.write(b, "", seal=seal_of("evil"), key="evil", duration_s=1)
    world.tell_all()
    assert world.grant(a) == before
    assert not world.willing(b)
    world.hold(a)
    world.tell_all()
    after = world.grant(a)
    assert before is not None
    assert after is not None
    assert after.deadline >= before.deadline


def test_a_grant_ends_a_lease_duration_after_the_challenge_however_late_the_renewal_is_told() -> None:
    world = World()
    a = world.pods[0]
    made = a.witness.challenge(world.now, void_before=0)[1]
    world.hold(a)
    world.pass_s(9)
    world.tell_all()
    granted = world.grant(a)
    assert granted is not None
    assert granted.deadline == timing.grant_deadline(made, D * S)
    world.pass_s(D)
    assert world.grant(a) is None


def test_a_grant_that_ran_out_says_that_no_renewal_came_and_not_that_the_lease_is_ours() -> None:
    world = World()
    a = world.led_by(world.pods[0])
    assert a.witness.reason == "the lease is ours, by its own observation"
    world.pass_s(D + 1)
    assert world.grant(a) is None
    assert a.witness.reason == "the lease was ours, and no renewal of it was seen in time"
    world.led_by(a)
    assert a.witness.reason == "the lease is ours, by its own observation"


def test_a_term_that_begins_with_an_old_challenge_is_renewed_once_with_a_fresh_one() -> None:
    world = World()
    a = world.pods[0]
    world.willing(a)
    old, made = a.witness.challenge(world.now, void_before=0)
    world.pass_s(2)
    world.write(a, a.holder, seal=a.seal, challenge=old)
    world.tell(a)
    assert a.witness.renew_after(world.now, 0) == made
    _, fresh = a.witness.challenge(world.now, void_before=0)
    assert fresh == world.now
    world.hold(a)
    world.tell(a)
    assert a.witness.renew_after(world.now, 0) == 0
    granted = world.grant(a)
    assert granted is not None
    assert granted.deadline == timing.grant_deadline(fresh, D * S)


@pytest.mark.parametrize("late_s", [0.05, 1, 2, 4])
def test_a_renewal_carries_a_fresh_challenge_however_late_the_news_of_the_one_before_came(late_s: float) -> None:
    world = World()
    a = world.led_by(world.pods[0])
    for _ in range(3):
        renewed_at = world.now
        world.hold(a)
        while world.now < renewed_at + 5 * S:
            if world.now >= renewed_at + int(late_s * S):
                world.tell(a)
            _, made = a.witness.challenge(world.now, void_before=0, renewed_at=renewed_at)
            world.pass_s(0.05)
        assert world.now - made <= 0.6 * S


def test_a_false_word_of_the_renewals_instant_makes_one_challenge_a_second_at_most() -> None:
    world = World()
    a = world.led_by(world.pods[0])
    made = set()
    for tick in range(400):
        world.pass_s(0.05)
        said = (1, world.now, world.now - 4 * S, world.now + 10**6 * S)[tick % 4]
        made.add(a.witness.challenge(world.now, void_before=0, renewed_at=said)[1])
    assert len(made) <= 20 + 1


def test_writing_an_old_challenge_again_prolongs_nothing() -> None:
    world = World()
    a = world.led_by(world.pods[0])
    first = world.grant(a)
    assert world.record is not None
    for _ in range(3):
        world.pass_s(3)
        world.write(a, a.holder, seal=a.seal, challenge=world.record.challenge)
        world.tell_all()
    assert first is not None
    assert world.grant(a) == first
    world.pass_s(D)
    assert world.grant(a) is None


def test_a_pod_of_the_same_name_elsewhere_is_a_stranger() -> None:
    world = World()
    a = world.pods[0]
    elsewhere = Witness("pod-0", b"other", lease_duration_s=D, sleep_interval=5 * S, now=world.now, ledger=Ledger())
    world.write(a, "pod-0_2", challenge=elsewhere.challenge(world.now, void_before=0)[0])
    world.tell_all()
    assert world.grant(a) is None
    assert not world.willing(a)


def test_a_restart_keeps_the_grant_and_remembers_whom_it_saw() -> None:
    world = World()
    a, b, _ = world.pods
    world.led_by(a)
    before = world.grant(a)
    for pod in (a, b):
        world.restart(pod)
    assert world.grant(a) == before
    assert not world.willing(b)


def test_after_a_gap_a_lease_duration_must_pass_without_a_stranger() -> None:
    world = World()
    a, b, _ = world.pods
    world.led_by(a)
    world.pass_s(3)
    world.hold(b)
    world.lose_track(b)
    assert world.grant(b) is None
    for _ in range(3):
        world.pass_s(5)
        world.hold(b)
        world.tell(b)
    assert world.grant(b) is not None


def test_a_server_restored_from_a_backup_may_have_forgotten_somebodys_term_even_where_it_says_what_it_said() -> None:
    world = World()
    a = world.led_by(world.pods[0])
    world.pass_s(3)
    a.witness.looked(world.record, "0", world.now, restored=True)
    assert a.witness.clear_at == world.now + D * S
    world.hold(a)
    world.tell(a)
    assert not a.witness.willing(world.now)
    world.pass_s(D)
    world.hold(a)
    world.tell(a)
    assert world.grant(a) is not None


def test_a_gap_in_which_nothing_was_written_is_none() -> None:
    world = World()
    a = world.led_by(world.pods[0])
    before = world.grant(a)
    world.pass_s(3)
    world.lose_track(a)
    assert world.grant(a) == before
    world.hold(a)
    world.tell(a)
    after = world.grant(a)
    assert before is not None
    assert after is not None
    assert after.deadline > before.deadline


def test_a_first_look_at_a_released_lease_does_not_make_it_free() -> None:
    """Anybody may have written that over a holder whose seal nobody here has seen."""
    world = World(known=False)
    a, b, _ = world.pods
    world.hold(b)
    world.release(b)
    a.witness.looked(world.record, "2", world.now)
    assert not world.willing(a)
    world.pass_s(D)
    assert world.willing(a)


def test_a_first_look_at_an_unknown_lease_does_not_make_it_free() -> None:
    world = World(known=False)
    a = world.pods[0]
    assert not world.willing(a)
    a.witness.looked(None, "0", world.now)
    assert not world.willing(a)
    world.pass_s(D)
    assert world.willing(a)


def test_after_a_jump_of_the_wall_clock_a_renewal_is_asked_for_and_only_it_is_countersigned() -> None:
    world = World()
    a = world.led_by(world.pods[0])
    void = world.now
    world.pass_s(0.01)
    wrote = a.witness.ledger.anchor
    _, made = a.witness.challenge(world.now, void_before=void)
    assert made > void
    assert a.witness.renew_after(world.now, void) >= wrote
    world.hold(a)
    world.tell_all()
    granted = a.witness.grant(world.now, claimed="", void_before=void)
    assert granted is not None
    assert granted.renewed_at > void
    assert a.witness.renew_after(world.now, void) == 0


def test_an_identity_that_the_elector_does_not_claim_gets_no_longer_grant() -> None:
    world = World()
    a = world.pods[0]
    world.hold(a)
    world.tell_all()
    assert a.witness.grant(world.now, claimed="pod-0_9", void_before=0) is None
    assert a.witness.grant(world.now, claimed=a.holder, void_before=0) is not None


def test_an_elector_cannot_release_under_a_node_that_may_still_forge() -> None:
    world = World()
    a, b, _ = world.pods
    world.led_by(a)
    a.actuator_listens(world.now)
    a.lets_go()
    assert world.grant(a) is None, "the term is being given up"
    a.arbiter_listens(world.now)
    a.lets_go()
    assert a.witness.ledger.given_away == "", "the actuator has not heard it"
    world.write_release(a)
    world.tell_all()
    assert not world.willing(b)
    a.actuator_listens(world.now)
    a.lets_go()
    assert a.witness.ledger.given_away == "", "the arbiter has not heard that"


def test_when_the_actuator_has_heard_that_the_term_is_given_up_the_key_is_given_away_once() -> None:
    world = World()
    a = world.led_by(world.pods[0])
    half = a.witness.half
    a.lets_go()
    a.actuator_listens(world.now)
    a.arbiter_listens(world.now)
    a.lets_go()
    given = a.witness.ledger.given_away
    assert opens(given, half)
    assert a.witness.half != half
    a.witness.let_go(half, fenced_and_heard=half)
    assert (a.witness.ledger.given_away, a.witness.giving_up) == (given, "")


def test_an_old_word_of_the_actuator_opens_nothing_in_a_later_term() -> None:
    world = World()
    a, b, _ = world.pods
    world.led_by(a)
    a.lets_go()
    a.actuator_listens(world.now)
    a.arbiter_listens(world.now)
    world.hold(b)  # before a could release
    world.tell_all()
    world.pass_s(D)
    assert world.willing(a)
    world.hold(a)
    world.tell_all()
    assert world.grant(a) is not None
    a.lets_go()
    a.lets_go()
    assert a.witness.ledger.given_away == ""


def test_an_elector_that_does_not_let_go_after_all_goes_on_with_another_half() -> None:
    """Its Lease was deleted, or the API failed until its right had ended; what it wrote before is not believed."""
    world = World()
    a, b, _ = world.pods
    world.led_by(a)
    a.lets_go()
    a.actuator_listens(world.now)
    a.arbiter_listens(world.now)
    world.history.append(None)
    world.tell_all()
    a.clings()
    assert world.willing(a)
    assert world.grant(a) is None
    world.hold(a)
    world.tell_all()
    assert world.grant(a) is not None
    a.lets_go()
    assert a.witness.ledger.given_away == ""
    assert not world.willing(b)


def test_a_term_that_was_given_up_is_not_granted_again_and_the_next_one_is() -> None:
    world = World()
    a = world.led_by(world.pods[0])
    old = a.seal
    world.release(a)
    world.write(a, a.holder, seal=old)
    world.tell_all()
    assert world.grant(a) is None
    world.pass_s(D)
    assert world.willing(a)
    world.hold(a)
    world.tell_all()
    assert world.grant(a) is not None


def test_a_term_that_is_being_given_up_is_so_after_a_restart_too() -> None:
    world = World()
    a = world.led_by(world.pods[0])
    a.lets_go()
    world.restart(a)
    assert world.grant(a) is None
    assert not world.willing(a)
    assert a.witness.giving_up == a.witness.half


ACTS = st.tuples(
    st.sampled_from((0, 0.02, 0.5, 2, 5, 11, 15)),
    st.sampled_from(
        (
            *("hold", "hold", "hold", "forge", "erase", "delete", "release", "restart", "gap", "tell", "tell"),
            *(
                "let go",
                "let go",
                "let go",
                "actuator listens",
                "actuator listens",
                "arbiter listens",
                "release honestly",
            ),
        )
    ),
    st.integers(0, 2),
    st.integers(0, 2),
    st.booleans(),
)


def carry_out(world: World, act: str, pod: Pod, other: Pod, twist: bool) -> None:
    """One thing that an elector gone bad, the network or a crash can do."""
    record = world.record
    match act:
        case "hold":
            world.hold(pod)
            if twist:
                world.tell(pod)
        case "forge":  # another's name, its seal or our own, the challenge that stands there
            seal = record.seal if twist and record is not None else seal_of(f"forged by {pod.name}")
            world.write(pod, other.holder, seal=seal, challenge=record.challenge if record is not None else "")
        case "erase":
            key = f"forged by {pod.name}"
            world.write(pod, "", seal=seal_of(key), key=key if twist else "", duration_s=1 if twist else D)
        case "delete":
            world.history.append(None)
        case "release":
            world.write_release(pod)
        case "release honestly":
            world.release(pod)
        case "let go":
            if twist:
                pod.lets_go()
            else:
                pod.clings()
        case "actuator listens":
            pod.actuator_listens(world.now)
        case "arbiter listens":
            pod.arbiter_listens(world.now)
        case "restart":
            world.restart(pod)
        case "gap":
            world.lose_track(pod)
            if twist:
                world.hold(pod)
                world.tell(pod)
        case "tell":
            world.tell(pod, 1 if twist else 1000)


@settings(max_examples=600, deadline=None)
@given(st.lists(ACTS, min_size=12, max_size=40))
def test_no_electors_gone_bad_and_no_delays_make_two_forge_at_once(
    acts: list[tuple[float, str, int, int, bool]],
) -> None:
    world = World()
    for pause, act, i, j, twist in acts:
        world.pass_s(pause)
        carry_out(world, act, world.pods[i], world.pods[j], twist)
        able = [pod.name for pod in world.pods if world.grant(pod) is not None or pod.forges(world.now)]
        assert len(able) <= 1
