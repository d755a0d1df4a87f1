"""The actuator's decisions: when to arm the node, when and how to fence it, and what proves that it stopped.

`FenceMachine.step(now, view)` is told what is (grants, node, the node's own metrics, files) and answers with the
actions to carry out, in that order.  It keeps the invariants

- keys are exposed to a node that can forge with them only while `right_to_forge` says so;
- before keys are exposed and the node is told, the kernel has been told what to do if we die (`Aim`) or hang
  (`SetDeath`);
- `Fence.FENCED` is reported only with a `Proof`; until then the fence is escalated: SIGHUP, SIGTERM, SIGKILL;
- one SIGHUP at a time, none to a node that has no handler for it, none without need.

Facts about the node: cardano-node Run.hs and Protocol/Shelley.hs (docs/safety.md).  All instants are ns of
CLOCK_BOOTTIME.
"""

from __future__ import annotations

from dataclasses import dataclass

from ipc.messages import Fence, Grant, NodeSample, NodeView, Proof, StartFlag, Startup
from policy import timing
from policy.grants import Refusal, Right, right_to_forge
from policy.quiet import may_begin


@dataclass(frozen=True, slots=True)
class Aim:
    """Have the kernel send SIGHUP to this process when we die."""

    pid: int


@dataclass(frozen=True, slots=True)
class Unaim:
    """Our death shall signal nobody."""


@dataclass(frozen=True, slots=True)
class SetDeath:
    """Have the kernel kill us at this instant unless told otherwise before."""

    deadline: int


@dataclass(frozen=True, slots=True)
class ClearDeath:
    pass


@dataclass(frozen=True, slots=True)
class Expose:
    """Make the credential files visible at the target paths."""

    why: str


@dataclass(frozen=True, slots=True)
class Replace:
    """Make another set of files visible in place of the one that is."""

    why: str


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Make the target paths cease to exist."""

    why: str


@dataclass(frozen=True, slots=True)
class Hup:
    reason: str
    """Label of cardano_sighup_signals_total: enable, disable, rotate, startup, rogue, repeat."""


@dataclass(frozen=True, slots=True)
class Kill:
    signal: str
    """TERM or KILL."""
    why: str


Action = Aim | Unaim | SetDeath | ClearDeath | Expose | Replace | Withdraw | Hup | Kill


@dataclass(frozen=True, slots=True)
class View:
    """What the actuator sees at one instant."""

    elector: Grant | None = None
    arbiter: Grant | None = None
    calm: bool = False
    """The elector keeps the lease until we report `fenced`: if the arbiter sees it too, there is time."""
    giving_up: bool = False
    """The arbiter grants nothing because the elector wants to release the lease: whoever of them we hear first."""
    node: NodeView | None = None
    unseen: str = ""
    """Why a node that runs here is not `node`; empty: none is known to run."""
    born_after_us: bool = False
    """The node process is younger than this actuator: no earlier life of ours can have armed it."""
    hup_pending: bool = False
    """A SIGHUP has been sent to the node but not yet taken by it."""
    sample: NodeSample | None = None
    sources: str = ""
    """Why the source credentials must not be installed at all; empty: a node can start with them."""
    unfit: tuple[str, ...] = ()
    """Why a node could not forge with the source credentials now, though it could start with them."""
    rotated: bool = False
    """The sources hold another set than the one that is exposed, and a node could forge with it."""
    spent: str = ""
    """Why the set that is exposed is of no use any more; empty: it is."""
    targets: str = ""
    """Why the target paths are not under our control; empty: they are."""
    read: bool = False
    """All three offered files have been opened and closed by somebody since they were offered."""
    void_before: int = 0
    stopping: bool = False
    quiet_at: int = 0
    """When the pool's leadership schedule has a gap; asked for new keys only, never for a fence."""


def mute(sample: NodeSample) -> bool:
    """Whether an answer has nothing by which a node shows that it forges, or does not.

    Some versions show nothing of it before they forged, or ever; such an answer is worth as much as none.
    """
    return sample.answered and sample.forging_enabled is None and sample.about_to_lead is None


class FenceMachine:
    """State of one actuator.  Begins not knowing what the node does, which is treated as `FENCING`."""

    def __init__(self, now: int, *, managed: bool, handover_wait: int = 0) -> None:
        """`handover_wait`: ns for which new keys wait at most for a gap in the leadership schedule."""
        self.fence = Fence.FENCED
        self.since = now
        self.proof = Proof.NODE_GONE
        self.reason = "no node yet"
        self.deadline = 0
        self.node_gone_at = 0
        self.exposed = ""
        """Why keys are visible now: "", "bootstrap" or "armed"."""
        self._managed = managed
        self._handover_wait = handover_wait
        self._rotated_since = 0
        self._telling = False
        """Armed; the node was told of another set, and its reload may still be under way."""
        self._replace_at = 0
        """Not before."""
        self._not_exposed = ""
        """Why the keys could not be installed a moment ago; until `_expose_at` that is a reason not to lead."""
        self._expose_at = 0
        self._expose_pause = 0
        self._appeared_at = 0
        self._not_offered = ""
        """Why no files are offered to a node that is not up; empty: they may be."""
        self._proof_before = Proof.NONE
        self._node: NodeView | None = None
        self._metrics_seen = False
        self._hup_at = 0
        self._hup_taken_at = 0
        self._hup_refused = False
        """The last signal was not sent: the kernel, or a node without a handler, was against it."""
        self._fencing_since = 0
        self._hurry = True
        self._right_until = 0
        """Hard end of the right that the node was armed under last."""
        self._second_hup_due = 0
        self._termed = False
        self._killed = False
        self._strict = False
        """Only a flat count of leadership checks proves that this node stopped (it started as producing)."""
        self._flat_base: tuple[int, int] | None = None
        self._flat_before: tuple[int, int] | None = None
        """That of before the last signal, if neither that one nor the one before it reached the node."""
        self._rising = False
        """Leadership checks were counted after the node took our last signal."""
        self._rogue_base: tuple[int, int] | None = None
        self._bootstrap_read = False
        self._reoffer_at = 0
        self._last_sample_at = 0

    # --- what others may ask ---

    def refusals(self, view: View) -> tuple[str, ...]:
        """Why this pod could not arm even if both grants came; empty: it could, at once."""
        found = []
        if view.node is None:
            found.append("no node process")
            if self._not_offered and not view.unseen:  # the actuator says that by itself
                found.append(self._not_offered)
        elif not view.node.up:
            found.append("the node is not up")
        elif not view.node.takes_hup:
            found.append("the node has no handler for SIGHUP yet")
        elif view.node.problem:
            found.append(view.node.problem)
        if view.sources:
            found.append(view.sources)
        found += view.unfit
        if view.targets:
            found.append(view.targets)
        if self._not_exposed:
            found.append(self._not_exposed)
        if self.fence is Fence.FENCING:
            found.append("the node is not proven to be fenced")
        if view.stopping:
            found.append("stopping")
        return tuple(found)

    def startup(self, view: View) -> tuple[Startup, str]:
        """Whether the node may be started, and why."""
        if view.node is not None and view.node.up:
            return Startup.UP, "the node is up"
        if self.exposed == "bootstrap":
            return Startup.OFFERED, "the credential files are in place: the node may start"
        if why := view.sources or view.targets or self._not_exposed or self._not_offered:
            return Startup.FAILED, why
        if self._bootstrap_read:
            return Startup.READ, "the node has read the credential files and is starting"
        return Startup.PREPARING, self.reason

    def busy(self) -> bool:
        """Whether the next look should come soon: something is waiting to be confirmed."""
        return self.fence in (Fence.ARMING, Fence.FENCING) or self._telling

    def not_exposed(self, now: int, why: str) -> None:
        """The keys of the last `Expose` could not be installed: nothing is visible, nobody was told."""
        self.not_armed(now, why)
        self._expose_pause = min(max(2 * self._expose_pause, timing.EXPOSE_AGAIN), timing.EXPOSE_AGAIN_AT_MOST)
        self._expose_at, self._not_exposed = now + self._expose_pause, why

    def not_armed(self, now: int, why: str) -> None:
        """The last `Aim` found no node: nothing is visible, nobody was told."""
        if self.fence is Fence.ARMING:
            self._become(Fence.FENCED, now, why, self._proof_before)
        self.exposed, self.deadline = "", 0

    def not_sent(self) -> None:
        """The last `Hup` did not reach the node: it proves nothing, however much time passes."""
        self._hup_refused, self._flat_base = True, self._flat_before

    def not_replaced(self) -> None:
        """The keys of the last `Replace` could not be installed: those before are visible, nobody was told."""
        self._telling = False

    # --- the step ---

    def step(self, now: int, view: View) -> list[Action]:
        """Decide.  The caller carries out every action, in order, before it steps again."""
        if self.exposed:
            self._expose_pause = 0
        if now >= self._expose_at:
            self._not_exposed = ""
        actions = self._meet_node(now, view)
        self._not_offered = self._serves_nobody(now, view)
        self._note_sample(now, view)
        right = right_to_forge(view.elector, view.arbiter, managed=self._managed, void_before=view.void_before, now=now)
        if self.fence in (Fence.ARMING, Fence.ARMED):
            actions += self._while_armed(now, view, right)
        elif self.fence is Fence.FENCING:
            actions += self._take_back(now, view)
            actions += self._while_fencing(now, view)
        if self.fence is Fence.FENCED:
            actions += self._while_fenced(now, view, right)
        return actions

    def _become(self, fence: Fence, now: int, reason: str, proof: Proof = Proof.NONE) -> None:
        if fence is not self.fence:
            self.since = now
        self.fence, self.reason, self.proof = fence, reason, proof

    # --- the node comes and goes ---

    def _meet_node(self, now: int, view: View) -> list[Action]:
        old, new = self._node, view.node
        self._node = new
        same = old is not None and new is not None and (old.pid, old.start_ticks) == (new.pid, new.start_ticks)
        if same or (old is None and new is None):
            if old is not None and new is not None and old.flag is not new.flag:
                self._node_appeared(now, new, view)  # a script that was taken for the node has become it
            return []
        actions: list[Action] = []
        if old is not None:
            actions += self._node_ended(now)
        if new is not None:
            self._node_appeared(now, new, view)
        return actions

    def _node_ended(self, now: int) -> list[Action]:
        """The process is gone: the strongest proof there is."""
        actions: list[Action] = []
        if self.exposed:
            actions.append(Withdraw("the node ended"))
        actions += [ClearDeath(), Unaim()]
        self.exposed, self.deadline, self.node_gone_at = "", 0, now
        self._telling = False
        self._bootstrap_read, self._reoffer_at = False, 0
        self._become(Fence.FENCED, now, "the node process ended", Proof.NODE_GONE)
        return actions

    def _node_appeared(self, now: int, node: NodeView, view: View) -> None:
        self._metrics_seen = False
        self._appeared_at = now
        self._hup_at, self._hup_taken_at, self._hup_refused = 0, 0, False
        self._flat_base = self._rogue_base = None
        self._last_sample_at = now
        quiet = node.flag in (StartFlag.NON_PRODUCING, StartFlag.NO_CREDENTIALS)
        self._strict = not quiet
        if quiet and view.born_after_us:
            self._become(Fence.FENCED, now, "the node started without forging", Proof.NOT_STARTED)
            return
        why = "the node was there before this process" if quiet else "the node was started as a producing node"
        self._begin_fencing(now, why, hurry=True)

    # --- armed ---

    def _arm(self, now: int, view: View, right: Right) -> list[Action]:
        assert view.node is not None
        self.exposed, self.deadline = "armed", right.deadline
        self._proof_before = self.proof
        self._hup_at, self._hup_taken_at, self._hup_refused = now, 0, False
        self._rogue_base = self._flat_base = None
        self._become(Fence.ARMING, now, "both grants are valid")
        return [
            Aim(view.node.pid),
            SetDeath(right.deadline),
            Expose("armed"),
            Hup("enable"),
        ]

    def _while_armed(self, now: int, view: View, right: Right | Refusal) -> list[Action]:
        why = ""
        if view.stopping:
            why = "stopping"
        elif isinstance(right, Refusal):
            why = right.reason
        elif view.targets:
            why = view.targets
        elif view.spent and not view.rotated:
            why = view.spent
        if why:
            seen = view.arbiter is not None and now < timing.soft_deadline(view.arbiter.deadline)
            return self._fence(now, why, hurry=not (view.calm and (seen or view.giving_up)) or view.stopping)
        assert isinstance(right, Right)
        actions: list[Action] = []
        if right.deadline != self.deadline:
            self.deadline = right.deadline
            actions.append(SetDeath(right.deadline))
        if self.fence is Fence.ARMING:
            actions += self._confirm_armed(now, view)
        elif self._telling:
            actions += self._confirm_told(now, view)
        elif self._may_replace(now, view):
            self._telling, self._replace_at = True, now + timing.REPEAT_HUP
            actions += [Replace("rotated"), *self._hup(now, "rotate")]
        return actions

    def _may_replace(self, now: int, view: View) -> bool:
        """Whether another set is to be installed now; a reload costs a slot at worst, so it may wait for a gap."""
        if not view.rotated:
            self._rotated_since = 0
            return False
        if now < self._replace_at or view.node is None or not view.node.takes_hup:
            return False
        asked_at = self._rotated_since = self._rotated_since or now
        at_most = 0 if view.spent else self._handover_wait
        return may_begin(now, asked_at=asked_at, quiet_at=view.quiet_at, at_most=at_most)

    def _confirm_told(self, now: int, view: View) -> list[Action]:
        """A node that rejects the new keys forges on with the old ones; one that found a file missing stops."""
        if not self._signal_taken(now, view):
            return self._once_more(now)
        sample = self._fresh_sample(view, self._hup_taken_at)
        if sample is None:
            self._telling = self._metrics_seen or now - self._hup_taken_at < timing.SECOND
        elif sample.forging_enabled == 1 or self._count_rose(sample):
            self._telling = False
        elif sample.forging_enabled == 0 and now - self._hup_at >= timing.REPEAT_HUP:
            self._telling = False
            self._become(Fence.ARMING, now, "the node stopped forging when it was told of new keys")
            return self._hup(now, "repeat")
        return []

    def _confirm_armed(self, now: int, view: View) -> list[Action]:
        if not self._signal_taken(now, view):
            return self._once_more(now)
        sample = self._fresh_sample(view, self._hup_taken_at)
        if sample is not None:
            if sample.forging_enabled == 1 or self._count_rose(sample):
                self._become(Fence.ARMED, now, "the node forges")
            elif sample.forging_enabled == 0 and now - self._hup_at >= timing.REPEAT_HUP:
                return self._hup(now, "repeat")
        elif not self._metrics_seen and now - self._hup_taken_at >= timing.SECOND:
            self._become(Fence.ARMED, now, "the node took the signal; it offers no metrics to confirm it")
        return []

    # --- fencing ---

    def _fence(self, now: int, why: str, *, hurry: bool) -> list[Action]:
        """Take the keys away and tell the node; from here on only proof counts."""
        unsure, self._telling = self.fence is Fence.ARMING or self._telling, False
        self._right_until = self.deadline
        self.exposed, self.deadline = "", 0
        self._begin_fencing(now, why, hurry=hurry)
        # A reload for the last signal may still be running and end after the one we cause now: tell it twice.
        self._second_hup_due = now + timing.SECOND // 2 if unsure else 0
        return [Withdraw(why), *self._hup(now, "disable"), ClearDeath()]

    def _begin_fencing(self, now: int, why: str, *, hurry: bool) -> None:
        self._become(Fence.FENCING, now, why)
        self._fencing_since = now
        self._hurry = hurry
        self._termed = self._killed = False
        self._second_hup_due = 0
        self._flat_base, self._rising = None, False
        self._hup_at, self._hup_taken_at, self._hup_refused = 0, 0, False

    def _hup(self, now: int, reason: str) -> list[Action]:
        self._flat_before = self._flat_base if self._hup_refused else None
        self._hup_at, self._hup_taken_at, self._hup_refused = now, 0, False
        self._flat_base, self._rising = None, False
        return [Hup(reason)]

    def _once_more(self, now: int) -> list[Action]:
        """What could not be sent is sent again after a while."""
        return self._hup(now, "repeat") if self._hup_refused and now - self._hup_at >= timing.REPEAT_HUP else []

    def _while_fencing(self, now: int, view: View) -> list[Action]:
        assert view.node is not None
        if not view.node.takes_hup or (self._strict and not view.node.up):
            # It cannot forge before its handler exists (Run.hs installs that first), and cannot be told either.
            self._fencing_since = now
            if not self._strict:
                self._become(Fence.FENCED, now, "the node is still starting", Proof.NOT_STARTED)
            return []
        proof = self._proof(now, view)
        if proof is not Proof.NONE:
            self._become(Fence.FENCED, now, self.reason, proof)
            self._rogue_base = None
            self._strict = False  # from here on its gauge follows our signals
            return [Unaim()]
        return self._insist(now, view)

    def _insist(self, now: int, view: View) -> list[Action]:
        """No proof yet: say it again, then stop asking."""
        actions: list[Action] = []
        if self._hup_at == 0:
            # State unknown after our start: look first, a needless reload drops the node's connections.
            if now - self._fencing_since >= timing.SECOND or self._strict:
                if self.exposed:
                    self.exposed = ""
                    actions.append(Withdraw("before a signal that must not find keys"))
                actions += self._hup(now, "startup")
                self._fencing_since = now  # what it has had no time to obey is no reason for force
            return actions
        if self._second_hup_due and now >= self._second_hup_due and not view.hup_pending:
            self._second_hup_due = 0
            actions += self._hup(now, "disable")
        elif self._still_forging(view) and now - self._hup_at >= self._repeat_after():
            actions += self._hup(now, "repeat")
        else:
            actions += self._once_more(now)
        waited = now - self._fencing_since
        term, kill = timing.CONFIRM_HURRY_TERM, timing.CONFIRM_HURRY_KILL
        if not self._hurry:
            # Calm as long as our own right would have lasted: whether the lease is renewed meanwhile, we cannot see.
            left = max(timing.soft_deadline(self._right_until) - self._fencing_since, 0)
            term = min(timing.CONFIRM_CALM_TERM, left + term)
            kill = min(timing.CONFIRM_CALM_KILL, left + kill)
        if self._strict or self._no_metrics(view):
            # Three slots, or the pause that stands for a proof, must be given a chance before force.
            term, kill = term + timing.SETTLE, kill + timing.SETTLE
        if waited >= kill and not self._killed:
            self._killed = True
            actions.append(Kill("KILL", "the node did not confirm that it stopped forging"))
        elif waited >= term and not self._termed:
            self._termed = True
            actions.append(Kill("TERM", "the node did not confirm that it stopped forging"))
        return actions

    def _still_forging(self, view: View) -> bool:
        """Whether the node took the last signal and yet says that it forges."""
        if view.hup_pending or self._hup_taken_at == 0:
            return False
        sample = self._fresh_sample(view, self._hup_taken_at)
        return self._rising or (sample is not None and sample.forging_enabled == 1)

    def _repeat_after(self) -> int:
        """A producing node may set its initial forging after our signal: there the next one must come soon."""
        return timing.SECOND // 2 if self._strict else timing.REPEAT_HUP

    def _no_metrics(self, view: View) -> bool:
        """The node took the signal and never had metrics: assumption A3 is all there is."""
        return not self._metrics_seen and not view.hup_pending

    def _proof(self, now: int, view: View) -> Proof:
        if self._second_hup_due:
            return Proof.NONE
        refused = self._hup_refused and not view.hup_pending
        if self._hup_at and not refused and not self._signal_taken(now, view):
            return Proof.NONE
        since = max(self._hup_taken_at, self._hup_at) if self._hup_at else self._fencing_since
        sample = self._fresh_sample(view, since)
        if sample is not None:
            if sample.forging_enabled == 0 and not self._strict:
                return Proof.METRICS
            if sample.about_to_lead is not None:
                if self._flat_base is None or self._flat_base[1] != sample.about_to_lead:
                    self._rising = self._flat_base is not None
                    self._flat_base = (sample.asked_at, sample.about_to_lead)
                elif sample.asked_at - self._flat_base[0] >= timing.FLAT_SLOTS:
                    return Proof.FLAT
        elif not self._metrics_seen and self._hup_taken_at and now - self._hup_taken_at >= timing.SETTLE:
            return Proof.SETTLED
        return Proof.NONE

    # --- fenced ---

    def _while_fenced(self, now: int, view: View, right: Right | Refusal) -> list[Action]:
        if self._rogue(view):
            self._begin_fencing(now, "the node forges without our keys", hurry=True)
            withdrawn: list[Action] = [Withdraw("rogue")] if self.exposed else []
            self.exposed = ""
            return [*withdrawn, Aim(view.node.pid), *self._hup(now, "rogue")] if view.node else withdrawn
        if isinstance(right, Right) and not self.refusals(view) and right.soft - now >= timing.ARM_MINIMUM:
            return self._arm(now, view, right)
        return self._bootstrap(now, view)

    def _rogue(self, view: View) -> bool:
        """Whether a node that was proven to be off says that it is on again, or counts leadership checks."""
        sample, node = view.sample, view.node
        # One that is not up, as its socket's file is gone, can forge as well.
        if node is None or not (node.up or node.takes_hup):
            self._rogue_base = None
            return False
        if not self._is_about(sample, node) or sample is None or not sample.answered:
            self._rogue_base = None
            return False
        if self.proof is Proof.METRICS and sample.forging_enabled == 1 and sample.asked_at >= self.since:
            return True  # its gauge followed our signal and went up again: a reload that was slower than ours
        if sample.about_to_lead is None or sample.asked_at < self.since + timing.ROGUE_SETTLE:
            return False
        base = self._rogue_base
        if base is None or sample.about_to_lead < base[1]:
            self._rogue_base = (sample.asked_at, sample.about_to_lead)
            return False
        return sample.about_to_lead > base[1]

    def _bootstrap(self, now: int, view: View) -> list[Action]:
        """Offer the files a node needs to be able to start; take them back once they are read."""
        if self.exposed:
            return self._take_back(now, view)
        node = view.node
        if node is None and self._bootstrap_read and now >= self._reoffer_at:
            self._bootstrap_read = False
        wanted = (node is None or not node.up) and not (self._bootstrap_read or self._not_exposed or self._not_offered)
        if wanted and not view.stopping and not view.sources and not view.targets:
            self.exposed = "bootstrap"
            return [Expose("bootstrap")]
        return []

    def _take_back(self, now: int, view: View) -> list[Action]:
        """End the offer of bootstrap files as soon as it has served, or must not stand."""
        if self.exposed != "bootstrap":
            return []
        up = view.node is not None and view.node.up
        why = ""
        if up:
            why = "the node is up"
        elif view.read:
            why = "the node has read them"
            self._bootstrap_read, self._reoffer_at = True, now + timing.BOOTSTRAP_REEXPOSE
        elif view.stopping:
            why = "stopping"
        else:
            why = view.sources or view.targets or self._not_offered
        if not why:
            return []
        self.exposed = ""
        return [Withdraw(why)]

    def _serves_nobody(self, now: int, view: View) -> str:
        """Why no node can need the files, which it reads when it starts; empty: one may.

        Whoever signals a node that runs beside files that are offered would have it forge without a right.
        """
        node, sample = view.node, view.sample
        if node is not None and node.up:
            return ""
        if node is None and view.unseen:
            return view.unseen
        tells = sample is not None and sample.answered and not mute(sample) and sample.asked_at > self.node_gone_at
        if tells and node is None:
            return (
                "NODE_METRICS_URL is answered by a node that is not found here: NODE_SOCKET must lead to it, or the "
                "address to another"
            )
        if node is None:
            return ""
        if tells and self._is_about(sample, node):
            return "the node's metrics tell of its forging, so it has started; NODE_SOCKET is not answered"
        if now - self._appeared_at >= timing.OFFER_LASTS:
            return "the node has been starting for a minute: what it needs of the credential files it has read by now"
        return ""

    # --- evidence ---

    def _signal_taken(self, now: int, view: View) -> bool:
        if self._hup_taken_at == 0 and not self._hup_refused and not view.hup_pending and now > self._hup_at:
            self._hup_taken_at = now
        return self._hup_taken_at != 0

    @staticmethod
    def _is_about(sample: NodeSample | None, node: NodeView) -> bool:
        return sample is not None and sample.node_pid in (0, node.pid)

    def _note_sample(self, now: int, view: View) -> None:
        sample = view.sample
        if (
            sample is not None
            and sample.answered
            and view.node is not None
            and self._is_about(sample, view.node)
            and sample.asked_at >= self._last_sample_at
            and not mute(sample)
        ):
            self._metrics_seen = True
            self._last_sample_at = sample.asked_at

    def _fresh_sample(self, view: View, since: int) -> NodeSample | None:
        """The sample, if the node answered it, with a word of forging, and it was asked for at or after `since`."""
        sample = view.sample
        if sample is None or view.node is None or not sample.answered or mute(sample) or sample.asked_at < since:
            return None
        return sample if self._is_about(sample, view.node) else None

    def _count_rose(self, sample: NodeSample) -> bool:
        if sample.about_to_lead is None:
            return False
        if self._flat_base is None:
            self._flat_base = (sample.asked_at, sample.about_to_lead)
            return False
        return sample.about_to_lead > self._flat_base[1]
