"""What the field's older manager does on the cluster's Lease and its two kinds of objects: for upgrades and back.

Every five seconds it looks, by its own wall clock; the Lease is its own once the written renewal plus the written
duration has passed.  It sends back what it read, whoever's annotations are in it, writes a duration only into a Lease
that it makes, and never seals.  It believes in
itself from its write until it notices, or is ended.
"""

from __future__ import annotations

import contextlib
import http.client
import threading
import time
from datetime import UTC, datetime
from typing import Any

from devkit.realapi.client import AdminClient
from devkit.record import Interval

DURATION_S = 15
EVERY_S = 5.0
DESCRIPTION = "Cardano block producer leader"


class OlderManager:
    """One pod of the older version, in a thread of its own."""

    def __init__(self, admin: AdminClient, namespace: str, lease: str, leader: str, pod: str) -> None:
        """`lease`, `leader`: names of the Lease and of the CardanoLeader."""
        self.pod = pod
        self.renewals: list[int] = []
        """When it had last written the Lease (CLOCK_MONOTONIC, ns, when the answer was there)."""
        self.looks = 0
        self._admin, self._leader = admin, leader
        self._leases = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._path, self._lease = f"{self._leases}/{lease}", lease
        self._leaders = f"/apis/cardano.io/v1/namespaces/{namespace}/cardanoleaders"
        self._namespace = namespace
        self._beliefs: list[Interval] = []
        self._since = 0
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name=pod, daemon=True)
        self._thread.start()

    @property
    def believes(self) -> bool:
        return self._since > 0

    def intervals(self, now: int) -> list[Interval]:
        """When it believed that it was to forge."""
        since = self._since
        return [*self._beliefs, *([Interval(since, now)] if since else [])]

    def stop(self, *, clears: bool = False) -> None:
        """Ends it: it does not forge any more; then it clears the holder, or leaves the Lease as it is."""
        self._ending.set()
        self._thread.join(30)
        self._believe(False)
        if clears:
            lease = self._read()
            lease["spec"]["holderIdentity"] = ""
            self._write(lease)

    # --- its loop ---

    def _run(self) -> None:
        while not self._ending.is_set():
            try:
                self._believe(self._hold())
                self.looks += 1
            except (OSError, http.client.HTTPException):
                self._believe(False)
            self._ending.wait(EVERY_S)

    def _hold(self) -> bool:
        lease, now = self._read(), datetime.now(UTC)
        spec = lease["spec"]
        holder = spec.get("holderIdentity") or ""
        if holder and holder != self.pod and not _passed(spec, now):
            return False
        if holder != self.pod:
            spec |= {"leaseTransitions": (spec.get("leaseTransitions") or 0) + 1, "acquireTime": _micro(now)}
        spec |= {"holderIdentity": self.pod, "renewTime": _micro(now)}
        spec.setdefault("leaseDurationSeconds", DURATION_S)
        return self._write(lease)

    def _read(self) -> dict[str, Any]:
        answer = self._admin.request("GET", self._path)
        if answer.code == 200:
            return answer.body
        return {"metadata": {"name": self._lease, "namespace": self._namespace}, "spec": {}}

    def _write(self, lease: dict[str, Any]) -> bool:
        """With the version that it read: whoever was faster has it."""
        made = "resourceVersion" not in lease["metadata"]
        lease |= {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease"}
        answer = self._admin.request("POST" if made else "PUT", self._leases if made else self._path, lease)
        if answer.code in (200, 201):
            self.renewals.append(time.monotonic_ns())
        return answer.code in (200, 201)

    def _believe(self, believes: bool) -> None:  # as a switch
        now = time.monotonic_ns()
        if believes:
            self._since = self._since or now
            with contextlib.suppress(OSError, http.client.HTTPException):
                self._tell()
        elif self._since:
            self._beliefs.append(Interval(self._since, now))
            self._since = 0

    def _tell(self) -> None:
        """Its CardanoLeader: a status without conditions."""
        status = {
            "leaderPod": self.pod,
            "forgingEnabled": True,
            "lastTransitionTime": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        }
        path, kind = f"{self._leaders}/{self._leader}/status", "application/merge-patch+json"
        if self._admin.request("PATCH", path, {"status": status}, content_type=kind).code == 404:
            body = {"apiVersion": "cardano.io/v1", "kind": "CardanoLeader", "metadata": {"name": self._leader}}
            self._admin.request("POST", self._leaders, body | {"spec": {"description": DESCRIPTION}})
            self._admin.request("PATCH", path, {"status": status}, content_type=kind)


def _passed(spec: dict[str, Any], now: datetime) -> bool:
    """By the wall clock."""
    renewed = spec.get("renewTime")
    if not renewed:
        return True
    age = now - datetime.fromisoformat(renewed.replace("Z", "+00:00"))
    return age.total_seconds() > (spec.get("leaseDurationSeconds") or DURATION_S)


def _micro(instant: datetime) -> str:
    return instant.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
