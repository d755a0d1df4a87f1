"""One pod: the product's Elector and Arbiter as they are, and an actuator and prober reduced to what those two see.

What these four say to each other travels as on the state sockets: in order, each a little late, the last word heard
again after a restart, once who hears it has connected again.  A killed worker says nothing more, and its successor
begins with what was written to disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

from config import Config, load
from devkit import states
from gateway.views import Picture, ready
from ipc.messages import (
    ArbiterState,
    Body,
    ElectorState,
    Fence,
    Grant,
    LockPhase,
    NodeView,
    Proof,
    Role,
    StandDown,
    StartFlag,
    State,
    Worker,
    news,
)
from ipc.peers import Peer
from kube.session import ApiSession
from policy import timing
from policy.election import may_hold
from policy.grants import Right, right_to_forge
from workers.arbiter import Arbiter
from workers.elector import Elector
from workers.runtime import Context

from simulated_api import Session, SimulatedApi
from simulated_time import Clock, clock, loop_now

WORKERS = (Worker.PROBER, Worker.ACTUATOR, Worker.ELECTOR, Worker.ARBITER)
HEARTBEAT_S = timing.HEARTBEAT / timing.SECOND
NODE = NodeView(pid=1, start_ticks=1, up=True, takes_hup=True, flag=StartFlag.NON_PRODUCING, problem="")
SOUGHT_EVERY_S = 0.5
"""A worker that has gone: as `ipc.pubsub` does it."""
KERNEL_S = 0.002
"""Until the kernel has told a dead actuator's node to stop."""


class Subscription:
    """One worker's view of another."""

    def __init__(self, sockets: Sockets, worker: Worker, on_change: Callable[[], None]) -> None:
        self.worker = worker
        self.connected = False
        self._sockets = sockets
        self._on_change = on_change
        self._state: State | None = None
        self._closed = False
        self._away = True
        """Nobody is connected."""
        self._last_at = 0.0
        self._context = contextvars.copy_context()
        """Of who hears it."""
        sockets.subscriptions.append(self)
        self.seek()

    def seek(self) -> None:
        """It is tried again every half a second at the latest."""
        delay_s = self._sockets.rng.uniform(0.002, SOUGHT_EVERY_S)
        asyncio.get_running_loop().call_later(delay_s, self._connect, context=self._context.copy())

    def _connect(self) -> None:
        if not self._away or self._closed or self.worker not in self._sockets.instances:
            return
        self._away = False
        if (state := self._sockets.latest.get(self.worker)) is not None:
            self.send(state)

    def send(self, state: State) -> None:
        """It arrives after whatever was sent before it; not where nobody is connected."""
        if self._away:
            return
        rng = self._sockets.rng
        self._arrives(rng.choice([0.0002, 0.001, 0.003, 0.02]) * rng.random(), lambda: self._take(state))

    def breaks(self) -> None:
        """Its sender has ended; what that sent arrives all the same."""
        self._away = True
        self._arrives(0.0005, self._broken)

    def _arrives(self, delay: float, action: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        self._last_at = max(self._last_at + 1e-6, loop.time() + delay)
        loop.call_at(self._last_at, action, context=self._context.copy())

    def _take(self, state: State) -> None:
        if self._closed:
            return
        self._state, self.connected = state, True
        self._on_change()

    def _broken(self) -> None:
        if not self._closed:
            self.connected = False
            self._on_change()

    def last(self) -> State | None:
        return self._state

    def current(self, now: int) -> State | None:
        return self._state if self._state is not None and now < self._state.valid_until else None

    def close(self) -> None:
        self._closed = True
        self._sockets.subscriptions.remove(self)


class Sockets:
    """The state sockets of one pod."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.latest: dict[Worker, State] = {}
        self.instances: dict[Worker, str] = {}
        self.subscriptions: list[Subscription] = []
        self._counted = 0

    def begin(self, worker: Worker) -> str:
        self._counted += 1
        self.instances[worker] = str(self._counted)
        for each in self.subscriptions:
            if each.worker is worker:
                each.seek()
        return self.instances[worker]

    def publish(self, worker: Worker, instance: str, body: Body) -> None:
        now = loop_now()
        self._counted += 1
        state = State(worker, instance, 1, self._counted, now, now, now + timing.STATE_VALIDITY, body)
        self.latest[worker] = state
        for each in self.subscriptions:
            if each.worker is worker:
                each.send(state)

    def end(self, worker: Worker) -> None:
        self.latest.pop(worker, None)
        self.instances.pop(worker, None)
        for each in self.subscriptions:
            if each.worker is worker:
                each.breaks()


class Surroundings:
    """In place of a `workers.runtime.Context`: one life of one worker."""

    def __init__(self, sockets: Sockets, worker: Worker, config: Config) -> None:
        self.config = config
        self.stopping = asyncio.Event()
        self.parent: int | None = None
        self._sockets, self._worker = sockets, worker
        self._instance = sockets.begin(worker)
        self._body: Body | None = None
        self._beat: asyncio.TimerHandle | None = None
        self._subscriptions: list[Subscription] = []

    def subscribe(self, worker: Worker, on_change: Callable[[], None]) -> Subscription:
        made = Subscription(self._sockets, worker, on_change)
        self._subscriptions.append(made)
        return made

    def publish(self, body: Body) -> None:
        is_news, self._body = news(self._body, body), body
        if is_news:
            self._send()

    def _send(self) -> None:
        assert self._body is not None
        if self._beat is not None:
            self._beat.cancel()
        self._beat = asyncio.get_running_loop().call_later(HEARTBEAT_S, self._send)
        self._sockets.publish(self._worker, self._instance, self._body)

    def close(self) -> None:
        if self._beat is not None:
            self._beat.cancel()
        for each in self._subscriptions:
            each.close()
        self._sockets.end(self._worker)


class Node:
    """What forges."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        self.up = True
        self.forging = False
        self.right_until = 0
        """Hard end of the right that it was armed under last, ns."""
        self.tell_actuator: Callable[[], None] = lambda: None
        self._on_change = on_change

    def forge(self, on: bool) -> None:  # as a switch
        if on != self.forging:
            self.forging = on
            self._on_change()

    def set_up(self, up: bool) -> None:  # as a switch
        self.up = up
        if not up:
            self.forge(False)
        self.tell_actuator()


class SimulatedActuator:
    """Arms and fences by `policy.grants`; how long the node takes is up to chance."""

    def __init__(self, surroundings: Surroundings, node: Node, rng: random.Random) -> None:
        self._around, self._node, self._rng = surroundings, node, rng
        self._managed = surroundings.config.enable_cluster_management
        self._wake = asyncio.Event()
        node.tell_actuator = self._wake.set
        self._elector = surroundings.subscribe(Worker.ELECTOR, self._wake.set)
        self._arbiter = surroundings.subscribe(Worker.ARBITER, self._wake.set)
        self._granted: Grant | None = None
        self._fence, self._proof, self._gone_at = Fence.FENCING, Proof.NONE, 0
        self._done_at = asyncio.get_running_loop().time() + 0.05
        """When the node will have done what it was told last (s)."""

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._finished():
            self._wake.clear()
            self._step(loop.time(), loop_now())
            pause = 1.0
            if self._fence in (Fence.ARMING, Fence.FENCING):
                pause = self._done_at - loop.time()
            if self._fence in (Fence.ARMING, Fence.ARMED):
                pause = min(pause, (timing.soft_deadline(self._node.right_until) - loop_now()) / timing.SECOND)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(pause, 0.0001)):
                    await self._wake.wait()

    def stop(self) -> None:
        self._around.stopping.set()
        self._wake.set()

    def _finished(self) -> bool:
        if not self._around.stopping.is_set() or self._fence is not Fence.FENCED:
            return False
        state = self._elector.current(loop_now()) if self._elector.connected else None
        body = cast("ElectorState", state.body) if state is not None else None
        if body is not None and may_hold(body):
            return False
        arbiter = self._arbiter.current(loop_now()) if self._arbiter.connected else None
        pool = cast("ArbiterState", arbiter.body).pool if arbiter is not None else None
        return pool is None or pool.phase is LockPhase.IDLE

    def _step(self, time: float, now: int) -> None:
        arbiter, giving_up, withdrawn = self._arbiter_says()
        right = right_to_forge(self._elector_says(), arbiter, managed=self._managed, void_before=0, now=now)
        may = isinstance(right, Right) and not self._around.stopping.is_set()
        if not self._node.up:
            self._gone_at = self._gone_at if self._proof is Proof.NODE_GONE else now
            self._fence, self._proof = Fence.FENCED, Proof.NODE_GONE
        elif self._fence in (Fence.ARMING, Fence.ARMED) and not may:
            self._fence = Fence.FENCING
            self._done_at = time + self._rng.choice([0.01, 0.03, 0.03, 1.0]) * self._rng.random()
        elif self._fence is Fence.ARMING and time >= self._done_at:
            self._fence = Fence.ARMED
            self._node.forge(True)
        if self._fence is Fence.FENCING and time >= self._done_at:
            self._fence, self._proof = Fence.FENCED, Proof.METRICS
            self._node.forge(False)
        if self._fence is Fence.FENCED and may and self._node.up:
            self._fence, self._proof = Fence.ARMING, Proof.NONE
            self._done_at = time + self._rng.uniform(0.001, 0.02)
        if isinstance(right, Right) and self._fence in (Fence.ARMING, Fence.ARMED):
            self._node.right_until = right.deadline
        self._publish(giving_up, withdrawn)

    def _elector_says(self) -> Grant | None:
        state = self._elector.last()
        if state is not None and isinstance(state.body, ElectorState) and state.body.settled:
            self._granted = state.body.grant
        return self._granted

    def _arbiter_says(self) -> tuple[Grant | None, str, int]:
        state = self._arbiter.last()
        if state is None or not isinstance(state.body, ArbiterState):
            return None, "", 0
        body = state.body
        return (body.grant, "", 0) if body.grant is not None else (None, body.giving_up, body.withdrawn)

    def _publish(self, giving_up: str, withdrawn: int) -> None:
        stopping = self._around.stopping.is_set()
        ready = self._node.up and self._fence is not Fence.FENCING and not stopping
        self._around.publish(
            states.actuator(
                fence=self._fence,
                since=0,
                proof=self._proof,
                ready=ready,
                refusals=() if ready else ("not ready",),
                node=NODE if self._node.up else None,
                node_gone_at=self._gone_at,
                heard_giving_up=giving_up,
                heard_withdrawn=withdrawn,
            )
        )


class Pod:
    """Four workers and a node."""

    def __init__(
        self,
        number: int,
        folder: Path,
        api: SimulatedApi,
        on_change: Callable[[], None],
        *,
        name: str = "",
        environment: dict[str, str] | None = None,
        coordinators: Sequence[SimulatedApi] = (),
    ) -> None:
        """`coordinators`: of cluster management, in the order of its configuration."""
        self.name = name or f"pod-{number}"
        self.node = Node(on_change)
        self.clock = Clock()
        self._api, self._rng, self._coordinators = api, api.rng, tuple(coordinators)
        given = {"RUN_DIR": str(folder), "POD_NAME": self.name, "KUBECONFIG": "/unused"}
        self._config = load(given | (environment or {}))
        for worker in (Worker.ELECTOR, Worker.ARBITER):
            self._config.worker_dir(worker).mkdir(parents=True)
        self._config.instance_file.write_text(f"{number:08x}\n", encoding="ascii")
        self._sockets = Sockets(api.rng)
        self._lives: dict[Worker, Surroundings] = {}
        self._tasks: dict[Worker, asyncio.Task[None]] = {}
        self._starts: list[asyncio.TimerHandle] = []
        self._fit = True
        self._elector: Elector | None = None
        self._actuator: SimulatedActuator | None = None

    def start(self, worker: Worker) -> None:
        """On this pod's own machine, by its clock."""
        if worker not in self._tasks:
            contextvars.copy_context().run(self._start, worker)

    def _start(self, worker: Worker) -> None:
        clock.set(self.clock)
        around = self._lives[worker] = Surroundings(self._sockets, worker, self._config)
        context, session = cast("Context", around), cast("ApiSession", Session(self._api, self.name))
        if worker is Worker.ELECTOR:
            self._elector = Elector(context, session)
            work = self._elector.run()
        elif worker is Worker.ARBITER:
            others = [cast("ApiSession", Session(each, self.name)) for each in self._coordinators]
            work = Arbiter(context, session, others).run()
        elif worker is Worker.ACTUATOR:
            self._actuator = SimulatedActuator(around, self.node, self._rng)
            work = self._actuator.run()
        else:
            work = self._probe(around)
        task = self._tasks[worker] = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(lambda task: self._ended(worker, task))

    async def _probe(self, around: Surroundings) -> None:
        self.say_fit(self._fit)
        await around.stopping.wait()

    def _ended(self, worker: Worker, task: asyncio.Task[None]) -> None:
        if self._tasks.get(worker) is task:
            del self._tasks[worker]
            self._lives.pop(worker).close()
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error  # to the loop's exception handler, which fails the schedule

    def kill(self, worker: Worker) -> None:
        task = self._tasks.pop(worker, None)
        if task is None:
            return
        self._lives.pop(worker).close()
        task.cancel()
        if worker is Worker.ACTUATOR:
            asyncio.get_running_loop().call_later(KERNEL_S, self._kernel_fences)

    def _kernel_fences(self) -> None:
        if Worker.ACTUATOR not in self._tasks:
            self.node.forge(False)

    def kill_all(self) -> None:
        for each in self._starts:
            each.cancel()
        for worker in WORKERS:
            self.kill(worker)

    def start_all(self) -> None:
        """Each some time within a second, as real processes do."""
        loop = asyncio.get_running_loop()
        self._starts = [loop.call_later(self._rng.uniform(0, 0.8), self.start, worker) for worker in WORKERS]

    def ask_to_stop(self) -> None:
        """SIGTERM to all."""
        for around in tuple(self._lives.values()):
            around.stopping.set()
        if self._actuator is not None:
            self._actuator.stop()

    def replace(self) -> None:
        """By a pod of the same name that knows nothing of this one, and whose node is up already."""
        self.kill_all()
        for file in [*self._config.run_dir.rglob("term"), *self._config.run_dir.rglob("pool-lock")]:
            file.unlink()
        self._config.instance_file.write_text(f"{self._rng.randrange(2**32):08x}\n", encoding="ascii")
        self.start_all()

    def leads(self) -> bool:
        """By its elector's last word."""
        state = self._sockets.latest.get(Worker.ELECTOR)
        return state is not None and cast("ElectorState", state.body).role in (Role.LEADER, Role.HANDOVER)

    def ready(self) -> bool:
        """As the gateway would answer /ready."""
        states = self._sockets.latest
        picture = Picture(self._config, "", loop_now(), 0, states, dict.fromkeys(states, True))
        return ready(picture).status == 200

    def say_fit(self, fit: bool) -> None:  # as a switch
        self._fit = fit
        if Worker.PROBER in self._lives:
            state = states.prober(fit=fit, reasons=() if fit else ("no peers",))
            self._lives[Worker.PROBER].publish(state)

    def stand_down(self, seconds: float) -> None:
        if self._elector is not None and Worker.ELECTOR in self._tasks:
            operator = Peer(pid=1, uid=0, gid=0)
            self._elector._stand_down(StandDown(seconds, "asked by the schedule"), operator)  # its socket
