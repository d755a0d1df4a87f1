"""Pods without a cluster: started in order, brought back, measured, and gone without a trace."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from devkit import record
from devkit.api import EmbeddedApi
from devkit.pods import WORKERS, Cluster, MemoryFolder

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with EmbeddedApi.threaded() as api, Cluster(api, 1) as made:
        made.wait_healthy(90)
        yield made


def events(cluster: Cluster) -> list[str]:
    return [event["event"] for event in record.read(cluster.pods[0].record_file) if event["event"] != "slot"]


def within(seconds: float, what: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_the_five_workers_are_found_by_name(cluster: Cluster) -> None:
    assert set(cluster.pods[0].worker_pids()) == set(WORKERS)


def test_a_killed_node_forged_until_it_was_reaped_and_comes_back(cluster: Cluster) -> None:
    pod = cluster.pods[0]
    before, pid = time.monotonic_ns(), pod.node_pid
    pod.kill_node()
    cluster.wait_for(lambda: "exit" in events(cluster), 10, "the exit is in the record")
    last = pod.intervals(time.monotonic_ns())[-1]
    assert before < last.end < time.monotonic_ns()
    cluster.wait_healthy(90)
    assert pod.node_pid not in (0, pid)


def test_a_sidecar_that_was_told_to_stop_stays_away_until_it_is_revived(cluster: Cluster) -> None:
    pod = cluster.pods[0]
    pod.terminate()
    cluster.wait_for(lambda: not pod.sidecar_running(), 20, "the sidecar ends")
    assert cluster.forgers() == []
    pod.revive()
    cluster.wait_healthy(90)


def test_a_sidecar_that_is_revived_while_it_is_ending_comes_back(cluster: Cluster) -> None:
    pod = cluster.pods[0]
    old = pod.sidecar_pids()[0]
    pod.terminate()
    pod.revive()
    cluster.wait_for(lambda: pod.sidecar_pids()[:1] not in ([], [old]), 30, "a new sidecar")
    cluster.wait_healthy(90)


def test_a_description_tells_what_the_nodes_recorded_and_the_sidecars_logged(cluster: Cluster) -> None:
    told = cluster.describe()
    assert "record" in told
    assert "took the lease" in told


def test_closing_a_cluster_leaves_no_process_and_no_file() -> None:
    with EmbeddedApi.threaded() as api:
        with Cluster(api, 1) as made:
            made.wait_healthy(90)
            pids = [made.pods[0].node_pid, *made.pods[0].sidecar_pids()]
            assert len(pids) == 2 + len(WORKERS)
        assert within(10, lambda: not any(map(alive, pids)))
        assert not made.root.exists()


_HOLDER = """
import sys, time
from devkit.api import EmbeddedApi
from devkit.pods import Cluster
with EmbeddedApi.threaded() as api, Cluster(api, 1) as cluster:
    cluster.wait_healthy(90)
    print(cluster.root, cluster.pods[0].node_pid, *cluster.pods[0].sidecar_pids(), flush=True)
    time.sleep(300)
"""


def test_killing_whoever_runs_the_pods_ends_them_all_and_the_next_one_cleans_up() -> None:
    holder = subprocess.Popen([sys.executable, "-c", _HOLDER], stdout=subprocess.PIPE, text=True)
    with holder:
        assert holder.stdout is not None
        root, *pids = holder.stdout.readline().split()
        holder.send_signal(signal.SIGKILL)
    assert len(pids) == 2 + len(WORKERS)
    assert within(10, lambda: not any(alive(int(pid)) for pid in pids))
    MemoryFolder().close()
    assert not Path(root).exists()


def test_a_folder_in_use_is_not_taken_for_an_orphan() -> None:
    mine = MemoryFolder()
    MemoryFolder().close()
    assert mine.path.exists()
    mine.close()
    assert not mine.path.exists()
    assert not os.path.lexists(mine.path / "lock")


@pytest.mark.parametrize("left", ["another program's", "a link to another's", "a link's folder"])
def test_what_only_looks_like_an_orphan_is_left_where_it_is(left: str, tmp_path: Path) -> None:
    ours = MemoryFolder()
    said = (ours.path / "lock").read_bytes()
    ours.close()
    folder, kept = ours.path.with_name(f"fm-{os.getpid()}-{tmp_path.name}"), tmp_path / "kept"
    kept.mkdir()
    if left == "a link's folder":
        (kept / "lock").write_bytes(said)
        folder.symlink_to(kept)
    else:
        folder.mkdir()
        if left == "another program's":
            (folder / "lock").write_text("4711\n")
        else:
            (kept / "told").write_bytes(said)
            (folder / "lock").symlink_to(kept / "told")
    try:
        MemoryFolder().close()
        assert (folder / "lock").exists()
    finally:
        folder.unlink() if folder.is_symlink() else shutil.rmtree(folder)
