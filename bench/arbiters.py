"""The processes of `bench.clusters`: an API server that counts what it sends, and a host of many arbiters.

A host runs the real `workers.arbiter.Arbiter` for many clusters in one process, with sessions of their own over HTTP;
or starts a real arbiter process for each and speaks to it over its state sockets.  The other workers of those pods are
stand-ins: an elector that always leads its cluster, a prober that is always fit, an actuator that is armed the moment
it hears of a grant and fenced the moment it hears of none.

Both answer a line on standard input (`tell`) with a line of JSON, and end with it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final, cast

from bench.cost import cpu_s, pss_kib
from config import Config, load
from devkit import states
from devkit.api import EmbeddedApi
from devkit.api.watch import Watching
from ipc.messages import (
    ActuatorState,
    ArbiterState,
    Body,
    ElectorState,
    Fence,
    NodeView,
    Role,
    StartFlag,
    State,
    Worker,
)
from ipc.pubsub import StatePublisher, Subscription
from kernel.clock import boottime_ns
from kube.session import ApiSession
from workers.arbiter import Arbiter
from workers.coordination import sessions
from workers.runtime import Context

log = logging.getLogger("bench")

FOREVER: Final = 2**62
_LAUNCH: Final = str(Path(__file__).parent.parent / "devkit" / "launch.py")
_NODE: Final = NodeView(pid=1, start_ticks=1, up=True, takes_hup=True, flag=StartFlag.NON_PRODUCING, problem="")
_FIT: Final = states.prober(health=None)


def launched(*command: str) -> list[str]:
    """A command that dies with this process, by the kernel."""
    return [sys.executable, "-S", "-E", _LAUNCH, "--parent", str(os.getpid()), "--", *command]


def tell(**what: object) -> None:
    print(json.dumps(what), flush=True)  # to whoever started us


async def asked() -> AsyncIterator[str]:
    """The lines of standard input, until its end."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        yield line.decode().strip()


# --- the server ---


async def serve() -> None:
    """An embedded API server for everybody; counts the events of all watches and their bytes."""
    sent: Counter[str] = Counter()
    tell_one = Watching._told  # what one watch sends of one change

    def counted(watching: Watching, change: Any) -> bytes | None:
        line = tell_one(watching, change)
        if line is not None:
            sent["events"] += 1
            sent[f"events of {change.key.resource if hasattr(change.key, 'resource') else ''}"] += 1
            sent["bytes"] += len(line)
        return line

    setattr(Watching, "_told", counted)  # noqa: B010  # a bench's own measuring point
    async with EmbeddedApi(namespaces=[NAMESPACE]) as api:
        tell(url=api.url)
        async for _ in asked():
            requests: Counter[str] = Counter()
            for verbs in api.counts().values():
                requests.update(verbs)
            tell(requests=requests, sent=sent)


NAMESPACE: Final = "bench"


# --- the other workers ---


def elector(pod: str) -> ElectorState:
    return states.elector(role=Role.LEADER, identity=pod, lease="")


def actuator(heard: ArbiterState | None) -> ActuatorState:
    """What one says that does at once as it is told."""
    armed = heard is not None and heard.grant is not None
    return states.actuator(
        fence=Fence.ARMED if armed else Fence.FENCED,
        since=0,
        node=_NODE,
        heard_withdrawn=heard.withdrawn if heard is not None and not armed else 0,
    )


class Heard:
    """In place of a subscription: always connected, never out of date."""

    def __init__(self, body: Body, worker: Worker, on_change: Callable[[], None]) -> None:
        self.connected = True
        self._worker, self._on_change = worker, on_change
        self._set(body)

    def _set(self, body: Body) -> None:
        now = boottime_ns()
        self._state = State(self._worker, "bench", os.getpid(), 1, now, now, FOREVER, body)

    def say(self, body: Body) -> None:
        self._set(body)
        self._on_change()

    def last(self) -> State:
        return self._state

    def current(self, now: int) -> State | None:
        return self._state if now < self._state.valid_until else None


class Around:
    """In place of the context of an arbiter that shares its process with others."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.stopping = asyncio.Event()
        self._teller = Teller(config)
        self._heard: dict[Worker, Heard] = {}

    def subscribe(self, worker: Worker, on_change: Callable[[], None]) -> Heard:
        bodies: dict[Worker, Body] = {
            Worker.ELECTOR: elector(self.config.pod_name),
            Worker.ACTUATOR: actuator(None),
            Worker.PROBER: _FIT,
        }
        self._heard[worker] = Heard(bodies[worker], worker, on_change)
        return self._heard[worker]

    def publish(self, body: Body) -> None:
        if isinstance(body, ArbiterState) and (said := self._teller.told(body)) is not None:
            asyncio.get_running_loop().call_soon(self._heard[Worker.ACTUATOR].say, said)


class Teller:
    """What follows from an arbiter's state; every change of who forges is written to standard output."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._said = actuator(None)

    def told(self, body: ArbiterState) -> ActuatorState | None:
        """The actuator's next state; None: it stays as it is."""
        before, self._said = self._said, actuator(body)
        if self._said == before:
            return None
        if self._said.fence is not before.fence:
            config, forges = self._config, self._said.fence is Fence.ARMED
            tell(cluster=config.forge_cluster_name, pool=config.pool_id, forges=forges, at=time.monotonic_ns())
        return self._said


class Process:
    """A real arbiter in a process of its own, and the sockets of the workers around it."""

    def __init__(self, config: Config, environment: dict[str, str]) -> None:
        self._config, self._environment = config, environment
        self._teller = Teller(config)
        self._publishers: dict[Worker, StatePublisher] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._arbiter: Subscription | None = None

    async def run(self) -> None:
        config, uids = self._config, frozenset({os.getuid(), 0})
        said: dict[Worker, Body] = {
            Worker.ELECTOR: elector(config.pod_name),
            Worker.ACTUATOR: actuator(None),
            Worker.PROBER: _FIT,
        }
        config.worker_dir(Worker.ARBITER).mkdir(parents=True)
        for worker, body in said.items():
            config.worker_dir(worker).mkdir(parents=True, exist_ok=True)
            publisher = StatePublisher(worker, config.state_socket(worker), allowed_uids=uids, mode=0o600)
            await publisher.start()
            publisher.publish(body)
            self._publishers[worker] = publisher
        command = launched(sys.executable, "-m", "workers.arbiter")
        log = (config.run_dir / "log").open("wb")
        self._process = subprocess.Popen(command, env=self._environment, stdout=log, stderr=log)
        socket = config.state_socket(Worker.ARBITER)
        self._arbiter = Subscription(Worker.ARBITER, socket, self._on_change, allowed_uids=uids)
        self._arbiter.start()
        while self._process.poll() is None:
            await asyncio.sleep(1)
        sys.exit(f"an arbiter ended: {(config.run_dir / 'log').read_text()}")

    def _on_change(self) -> None:
        state = self._arbiter.last() if self._arbiter is not None else None
        if state is not None and isinstance(state.body, ArbiterState):
            said = self._teller.told(state.body)
            if said is not None:
                self._publishers[Worker.ACTUATOR].publish(said)

    def cost(self) -> dict[str, float]:
        assert self._process is not None
        return {"pss_kib": pss_kib(self._process.pid), "cpu_s": cpu_s(self._process.pid)}


# --- the host ---


def environment(folder: Path, pool: int, cluster: int, own: Path, coordination: Path) -> dict[str, str]:
    """Of one pod: cluster `cluster` of pool `pool`, the lower the better."""
    run = folder / f"{pool}-{cluster}"
    run.mkdir()
    return {
        "PATH": os.environ.get("PATH", ""),
        "RUN_DIR": str(run),
        "POD_NAME": f"pod-{pool}-{cluster}",
        "NAMESPACE": NAMESPACE,
        "KUBECONFIG": str(own),
        "COORDINATION_KUBECONFIGS": str(coordination),
        "ENABLE_CLUSTER_MANAGEMENT": "true",
        "CARDANO_NETWORK": "mainnet",
        "POOL_ID": f"pool1{pool:05d}{'x' * 20}",
        "CLUSTER_REGION": f"region-{cluster:02d}",
        "CLUSTER_PRIORITY": str(cluster + 1),
        "PREEMPTION_DELAY": "5",
        "SANDBOX": "permissive",
        "LOG_LEVEL": "WARNING",
    }


async def one(config: Config) -> None:
    """One arbiter in this process."""
    config.worker_dir(Worker.ARBITER).mkdir(parents=True, exist_ok=True)
    async with contextlib.AsyncExitStack() as stack:
        session = await stack.enter_async_context(ApiSession(config.kubeconfig, user_agent="bench"))
        coordinators = await stack.enter_async_context(sessions(config))
        await Arbiter(cast("Context", Around(config)), session, coordinators).run()


async def host(arguments: argparse.Namespace) -> None:
    """All of `arguments.clusters` (pool:cluster), begun at the first line of standard input."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s %(why)s", defaults={"why": ""}))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    pods = [(int(pool), int(cluster)) for pool, cluster in (word.split(":") for word in arguments.clusters)]
    given = [environment(arguments.folder, *pod, arguments.own, arguments.coordination) for pod in pods]
    processes = [Process(load(each), each) for each in given] if arguments.real else []
    tasks: list[asyncio.Task[None]] = []
    tell(ready=len(pods))
    profile: Any = None
    async for line in asked():
        if line == "start":
            work = [each.run() for each in processes] or [one(load(each)) for each in given]
            tasks = [asyncio.create_task(each) for each in work]
            for task in tasks:
                task.add_done_callback(_fail_stop)
        elif line == "profile":
            import cProfile

            profile = cProfile.Profile()
            profile.enable()
        elif line == "profiled":
            profile.disable()
            profile.dump_stats(arguments.folder / f"profile-{os.getpid()}")
            tell(profile=str(arguments.folder / f"profile-{os.getpid()}"))
        else:
            tell(cpu_s=cpu_s(os.getpid()), arbiters=len(pods), real=[each.cost() for each in processes])
    os._exit(0)


def _fail_stop(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("ended by a fault", exc_info=error)
        os._exit(1)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.arbiters")
    kinds = parser.add_subparsers(dest="kind", required=True)
    kinds.add_parser("serve")
    hosting = kinds.add_parser("host")
    hosting.add_argument("--real", action="store_true", help="a process for each")
    hosting.add_argument("--folder", type=Path, required=True)
    hosting.add_argument("--own", type=Path, required=True, help="kubeconfig")
    hosting.add_argument("--coordination", type=Path, required=True, help="kubeconfig")
    hosting.add_argument("clusters", nargs="+")
    arguments = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # some connections for each arbiter
    asyncio.run(serve() if arguments.kind == "serve" else host(arguments))


if __name__ == "__main__":
    main()
