"""What the kernel counts per user, one worker can use up for all of that user: that must end in a fence."""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Iterator

import pytest
from redteam_inside import HOOK, ask
from redteam_pods import SHORT, UID

from devkit.api.embedded import EmbeddedApi, ThreadedApi
from devkit.pods import Cluster

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(200)]


@pytest.fixture
def few_signals() -> Iterator[None]:
    """Processes started now may have few signals pending, so that using them up takes no time."""
    before = resource.getrlimit(resource.RLIMIT_SIGPENDING)
    resource.setrlimit(resource.RLIMIT_SIGPENDING, (min(3000, before[0]), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_SIGPENDING, before)


@pytest.mark.usefixtures("few_signals")
def test_a_worker_that_uses_up_what_its_user_may_have_keeps_no_node_forging() -> None:
    """Timers, pending signals, epoll watches and pipe memory: the death of the actuator is signalled all the same."""
    api = ThreadedApi(EmbeddedApi())
    api.start_sync()
    try:
        uid = UID if os.getuid() == 0 else None
        with Cluster(api, 1, environment={"PYTHONPATH": str(HOOK), **SHORT}, uid=uid) as cluster:
            cluster.wait_healthy(90)
            pod = cluster.leader()
            answer = ask(pod.run_dir / "prober" / "redteam.sock", "use_up", None, ("redteam_tools", "redteam_hunger"))
            assert "EAGAIN" in answer["done"], answer  # no more signals can be queued for this user
            assert cluster.leader() is pod
            pod.kill_worker("actuator", signal.SIGSTOP)  # its own timer has to kill it, and its death to signal
            since = time.monotonic()
            cluster.wait_for(lambda: not cluster.forgers(), 30, "its node has stopped")
            assert time.monotonic() - since < 10  # a lease, and the slowness of the machine
    finally:
        api.stop_sync()
