"""Hands on a pool from outside: on the Lease as an operator's or a thief's, on the secrets as whoever mounts them.

For all who break pods: `faults` and the campaign.  And a disk without room.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from devkit import keys
from devkit.pods import LEASE, Cluster, Pod
from kube.leases import KEY

# --- the Lease ---


def _leases(cluster: Cluster) -> str:
    return f"/apis/coordination.k8s.io/v1/namespaces/{cluster.namespace}/leases"


def lease(cluster: Cluster, method: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """A request for the cluster's Lease, which must succeed; the answer's body."""
    answer = cluster.admin.request(method, f"{_leases(cluster)}/{LEASE}", body)
    assert answer.code == 200, answer.text
    return answer.body


def edit_lease(cluster: Cluster, change: Callable[[dict[str, Any]], None]) -> None:
    """As kubectl edit does: read, change, write; again after a conflict."""
    for _ in range(20):
        found = lease(cluster, "GET")
        change(found)
        answer = cluster.admin.request("PUT", f"{_leases(cluster)}/{LEASE}", found)
        if answer.code != 409:
            assert answer.code == 200, answer.text
            return
    raise AssertionError("twenty conflicts in a row")


def give_lease_to(cluster: Cluster, holder: str) -> None:
    edit_lease(cluster, lambda found: found["spec"].update(holderIdentity=holder))


def forge_a_release(cluster: Cluster) -> None:
    """All is right but the key."""

    def forge(found: dict[str, Any]) -> None:
        found["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1}
        found["metadata"]["annotations"] |= {KEY: "00" * 16}

    edit_lease(cluster, forge)


def make_lease_without_holder(cluster: Cluster) -> None:
    """Where there is none, unless the leader is faster."""
    body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": LEASE}, "spec": {}}
    answer = cluster.admin.request("POST", _leases(cluster), body)
    assert answer.code in (201, 409), answer.text


# --- the secrets ---


def put(path: Path, content: bytes) -> None:
    """Another file in its place, with its owner and mode."""
    info = path.stat()
    fresh = path.with_name(f".{path.name}")
    fresh.write_bytes(content)
    fresh.chmod(info.st_mode & 0o777)
    if os.getuid() == 0:
        os.chown(fresh, info.st_uid, info.st_gid)
    fresh.replace(path)


@contextlib.contextmanager
def other_secrets(pod: Pod, **how: int) -> Iterator[None]:
    """In place of its own: those of another pool."""
    before = {path: path.read_bytes() for path in pod.secrets.iterdir() if path.is_file()}
    folder = pod.root / "other-keys"
    made = keys.generate(folder, **{"kes_period": keys.current_kes_period("mainnet"), **how})
    try:
        for path in before:
            put(path, (made.folder / path.name).read_bytes())
        yield
    finally:
        for path, raw in before.items():
            put(path, raw)
        shutil.rmtree(folder)


# --- the disk ---

KEPT_FULL_S = 0.02
"""A worker that is started anew does not get round to write in so short a time."""


@contextlib.contextmanager
def no_room(pod: Pod) -> Iterator[None]:
    """No file of the pod's workers can be written, those in RUN_DIR above all, as on a disk that is full.

    By RLIMIT_FSIZE: EFBIG, where a disk would say ENOSPC.  Needs no privilege, and no disk that somebody else uses.
    """
    full, ended = set[int](), threading.Event()

    def fill() -> None:
        while not ended.wait(KEPT_FULL_S):
            for pid in pod.worker_pids().values():
                if pid not in full:
                    full.add(pid)
                    _limit_files(pid, 0)

    filling = threading.Thread(target=fill, name=f"no room for {pod.name}", daemon=True)
    filling.start()
    try:
        yield
    finally:
        ended.set()
        filling.join()
        for pid in full:
            _limit_files(pid, None)


def _limit_files(pid: int, size: int | None) -> None:
    """To so many bytes, until further notice; None: as many as it may."""
    with contextlib.suppress(ProcessLookupError, PermissionError):  # it has ended, and the number may be another's
        _, most = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (most if size is None else size, most))
