"""A node, its metrics and a kernel, small enough to think about: the world in which the fence machine is tested.

The node follows field facts: on SIGHUP it reads the files after `reload` ns; missing files disable, present ones
enable; a deaf one does nothing; SIGTERM and SIGKILL end it.  Samples are taken every 50 ms.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ipc.messages import Fence, Grant, NodeSample, NodeView, StartFlag
from policy import timing
from policy.fencing import Aim, ClearDeath, Expose, FenceMachine, Hup, Kill, Replace, SetDeath, Unaim, View, Withdraw

S = timing.SECOND
TICK = 50 * timing.MILLISECOND
NO_ROOM = "kes.skey: No space left on device"


@dataclass
class Node:
    pid: int
    flag: StartFlag = StartFlag.NON_PRODUCING
    up: bool = True
    takes_hup: bool = True
    born_after_us: bool = True
    deaf: bool = False
    frozen: bool = False
    protected: bool = False
    """The kernel refuses every signal to it."""
    reload: int = 5 * timing.MILLISECOND
    metrics: bool = True
    early: bool = False
    """Its metrics answer though its socket does not."""
    gauge: bool = True
    counter: bool = True
    forging: bool = False
    keys: int = 0
    """Number of the set that it read last."""
    refuses: int = 0
    """Number of a set that it rejects: that leaves its forging, and its keys, as they are."""
    count: int = 100
    pending: list[int] = field(default_factory=list)

    def hup(self, at: int) -> None:
        if not self.deaf:
            self.pending.append(at + self.reload)


@dataclass
class World:
    """Machine and node on one clock; records who forged when and checks the invariants at every step."""

    node: Node | None = None
    now: int = 100 * S
    keys_visible: bool = False
    source: int = 1
    """Number of the set in the secret."""
    visible: int = 0
    """Number of the set that is visible, or was last."""
    no_room: bool = False
    """No set can be written."""
    aimed: int = 0
    death: int = 0
    elector: Grant | None = None
    arbiter: Grant | None = None
    calm: bool = False
    giving_up: bool = False
    unseen: str = ""
    sources: str = ""
    spent: int = 0
    """Number of the last set that has expired."""
    targets: str = ""
    read: bool = False
    stopping: bool = False
    quiet_at: int = 0
    handover_wait: int = 0
    void_before: int = 0
    late_sample: NodeSample | None = None
    """What the prober tells instead of what it could ask now: an answer that is on its way for long."""
    told: Fence = Fence.FENCING
    """What the machine said last."""
    log: list[str] = field(default_factory=list)
    forged: list[tuple[int, bool]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.machine = FenceMachine(self.now, managed=False, handover_wait=self.handover_wait)

    # --- what happens ---

    def grant(self, seconds: float = 12.85) -> None:
        """Both workers renew now: a hard deadline `seconds` ahead."""
        deadline = self.now + int(seconds * S)
        self.elector = Grant("pod", 1, deadline, self.now, exclusive=True)
        self.arbiter = Grant("cluster", 0, self.now + 1000 * S, self.now, exclusive=False)

    def withdraw_grant(self, *, calm: bool = True) -> None:
        self.elector, self.calm = None, calm

    def rotate(self) -> None:
        """Another set stands in the secret."""
        self.source += 1

    def run(self, seconds: float) -> None:
        """Let time pass in ticks of 50 ms."""
        end = self.now + int(seconds * S)
        while self.now < end:
            self.tick()

    def run_until(self, fence: Fence, most: float = 30) -> float:
        """Seconds until the machine reports `fence`."""
        began = self.now
        while self.machine.fence is not fence:
            assert self.now - began < most * S, f"{fence} not reached: {self.machine.fence} {self.machine.reason}"
            self.tick()
        return (self.now - began) / S

    def tick(self) -> None:
        before = self.now // S
        self.now += TICK
        self._node_lives(slot_began=self.now // S != before)
        self.step()

    def step(self) -> None:
        """One step of the machine; its actions take effect at once."""
        for action in self.machine.step(self.now, self.view()):
            if isinstance(action, Replace) and self.no_room:
                self.machine.not_replaced()
                break
            if isinstance(action, Expose) and self.no_room:
                self.log.append(f"no room for {action}")
                self.death = self.aimed = 0
                self.machine.not_exposed(self.now, NO_ROOM)
                break
            if isinstance(action, Hup) and self.node is not None and self.node.protected:
                self.log.append(f"refused {action}")
                self.machine.not_sent()
                continue
            self._obey(action)
        self._check()

    def view(self) -> View:
        node = self.node
        shown = None
        if node is not None:
            shown = NodeView(node.pid, node.pid, node.up, node.takes_hup, node.flag, "")
        return View(
            elector=self.elector,
            arbiter=self.arbiter,
            calm=self.calm,
            giving_up=self.giving_up,
            node=shown,
            unseen=self.unseen,
            born_after_us=node.born_after_us if node is not None else False,
            hup_pending=node is not None and node.frozen and bool(node.pending),
            sample=self.late_sample or self._sample(),
            sources=self.sources,
            rotated=self.keys_visible and self.machine.exposed == "armed" and self.source != self.visible,
            unfit=("it has expired",) if self.source <= self.spent else (),
            spent="it has expired" if 0 < self.visible <= self.spent and self.keys_visible else "",
            targets=self.targets,
            read=self.read,
            void_before=self.void_before,
            stopping=self.stopping,
            quiet_at=self.quiet_at,
        )

    # --- how it happens ---

    def _sample(self) -> NodeSample | None:
        node = self.node
        if node is None:
            return None
        asked = self.now - 2 * timing.MILLISECOND
        on = node.metrics and (node.up or node.early)
        return NodeSample(
            node_pid=node.pid,
            asked_at=asked,
            answered_at=self.now - timing.MILLISECOND,
            answered=on,
            forging_enabled=int(node.forging) if on and node.gauge else None,
            about_to_lead=node.count if on and node.counter else None,
            slot=None,
            epoch=None,
            remaining_kes_periods=None,
        )

    def _node_lives(self, *, slot_began: bool) -> None:
        node = self.node
        if node is None or node.frozen:
            return
        due = [at for at in node.pending if at <= self.now]
        node.pending = [at for at in node.pending if at > self.now]
        for _ in due:
            if self.keys_visible and self.visible == node.refuses:
                continue
            node.forging = self.keys_visible
            node.keys = self.visible if self.keys_visible else 0
        if node.forging and slot_began:
            node.count += 1

    def _obey(self, action: object) -> None:
        self.log.append(str(action))
        node = self.node
        match action:
            case Aim(pid):
                self.aimed = pid
            case Unaim():
                self.aimed = 0
            case SetDeath(deadline):
                self.death = deadline
            case ClearDeath():
                self.death = 0
            case Expose():
                self.keys_visible, self.visible = True, self.source
            case Replace():
                assert self.keys_visible
                self.visible = self.source
            case Withdraw():
                self.keys_visible = False
            case Hup(reason):
                assert node is not None
                assert node.takes_hup, f"SIGHUP {reason} would have killed the node"
                node.hup(self.now)
            case Kill(signal):
                if node and not node.protected and (signal == "KILL" or not node.deaf):
                    self.node = None

    def _check(self) -> None:
        """The invariants, at every step."""
        node, machine = self.node, self.machine
        if machine.fence in (Fence.ARMED, Fence.ARMING):
            assert self.keys_visible
            assert self.aimed, "armed without a death signal"
            assert self.death, "armed without a deadline in the kernel"
            assert self.now < self.death - timing.SOFT_LEAD + TICK
            for grant in (self.elector, self.arbiter):
                assert grant is not None, "armed with one key"
                assert self.now < timing.soft_deadline(grant.deadline), "armed with a key that has run out"
        if self.keys_visible and machine.fence not in (Fence.ARMED, Fence.ARMING):
            assert machine.exposed == "bootstrap"
            assert node is None or not node.forging
        if machine.fence is Fence.FENCED is not self.told and node is not None and node.gauge and node.metrics:
            assert not node.forging, "reported fenced while forging"
        self.told = machine.fence
