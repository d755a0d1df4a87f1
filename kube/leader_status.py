"""CardanoLeader: the object in which operators see who leads.

Its status is written by merge patch carrying the resourceVersion we know, so that a late write of a former leader
is refused by the server.  A missing CRD is an outcome, not an error: the election does not depend on it.
"""

from __future__ import annotations

import enum
from dataclasses import asdict, dataclass
from typing import Final

from kernel.clock import boottime_ns
from kube.errors import ApiFailure, Failure
from kube.events import Regarding
from kube.session import ApiSession, Json

LOOK_AGAIN_NS: Final = 300 * 1_000_000_000
"""After finding no CRD, or one without a status: it is not asked for at every change."""
DESCRIPTION: Final = "Which pod of this block producer forges; written by Cardano Forge Manager"


class Outcome(enum.Enum):
    WRITTEN = "written"
    UNCHANGED = "unchanged"
    LOST = "lost"
    """Somebody else has written since: the next leader."""
    NO_CRD = "no-crd"
    NO_STATUS = "no-status"
    """The resource has no status subresource there, though the object is read."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A Kubernetes condition; `status` is "True", "False" or "Unknown"."""

    type: str
    status: str
    reason: str
    message: str
    last_transition_time: str


@dataclass(frozen=True, slots=True)
class LeaderStatus:
    """Times are RFC 3339."""

    leader_pod: str
    forging_enabled: bool
    last_transition_time: str
    reason: str
    message: str
    conditions: tuple[Condition, ...] = ()
    counter: int | None = None
    """Of the certificates with which blocks were made, the highest counter; None: not known."""


class LeaderStatusClient:
    """Writes one CardanoLeader's status."""

    def __init__(self, session: ApiSession, namespace: str, group: str, version: str, plural: str, name: str) -> None:
        self._session = session
        self._namespace = namespace
        self._name = name
        self._api_version = f"{group}/{version}"
        self._folder = f"/apis/{group}/{version}/namespaces/{namespace}/{plural}"
        self._path = f"{self._folder}/{name}"
        self._version = ""
        self._generation = 0
        self._written: LeaderStatus | None = None
        self._missing, self._missing_until = Outcome.NO_CRD, 0
        self._refusals = 0
        """Patches in a row whose path was not found."""
        self._mine = ""
        """The leader that we named last, be it written or not."""
        self._there = ""
        """The leader named when we last read."""
        self._about: Regarding | None = None

    async def regarding(self, *, timeout_s: float) -> Regarding | None:
        """The object, for Events about it; None: there is none.  Raises ApiFailure."""
        if self._about is None:
            try:
                self._note_uid(await self._session.request("get", self._path, timeout_s=timeout_s))
            except ApiFailure as failure:
                if failure.kind is not Failure.NOT_FOUND:
                    raise
        return self._about

    async def publish(self, status: LeaderStatus, *, timeout_s: float, taking_over: bool) -> Outcome:
        """Make `status` the object's.

        `taking_over`: we are the holder now, whatever was written before us.  Otherwise only what we wrote ourselves is
        replaced: LOST if another leader is named there by now.
        Raises ApiFailure for what may pass (no answer, server error) and for what an operator must mend
        (forbidden, invalid).
        """
        if status == self._written:
            return Outcome.UNCHANGED
        if boottime_ns() < self._missing_until:
            return self._missing
        self._mine = status.leader_pod or self._mine
        if reads := taking_over or not self._version:
            if not await self._read_or_create(timeout_s):
                return self._misses(Outcome.NO_CRD)
            if not taking_over and self._there not in ("", self._mine):
                self._version = ""
                return Outcome.LOST
        try:
            await self._patch(status, timeout_s)
        except ApiFailure as failure:
            self._version, self._written = "", None
            self._refusals = self._refusals + 1 if failure.kind is Failure.NOT_FOUND else 0
            if self._refusals > 1 and reads:  # once, it may have been deleted in between
                return self._misses(Outcome.NO_STATUS)
            if failure.kind in (Failure.CONFLICT, Failure.NOT_FOUND):
                return Outcome.LOST
            raise
        self._written, self._refusals = status, 0
        return Outcome.WRITTEN

    def _misses(self, what: Outcome) -> Outcome:
        self._missing, self._missing_until = what, boottime_ns() + LOOK_AGAIN_NS
        return what

    async def _read_or_create(self, timeout_s: float) -> bool:
        """Know the object's version; False when the resource itself does not exist."""
        try:
            self._note(await self._session.request("get", self._path, timeout_s=timeout_s))
            return True
        except ApiFailure as failure:
            if failure.kind is not Failure.NOT_FOUND:
                raise
        body: Json = {
            "apiVersion": self._api_version,
            "kind": "CardanoLeader",
            "metadata": {"name": self._name, "namespace": self._namespace},
            "spec": {"namespace": self._namespace, "description": DESCRIPTION},
        }
        try:
            self._note(await self._session.request("create", self._folder, body=body, timeout_s=timeout_s))
        except ApiFailure as failure:
            if failure.kind is Failure.NOT_FOUND:
                return False
            if failure.kind is not Failure.ALREADY_EXISTS:
                raise
            self._note(await self._session.request("get", self._path, timeout_s=timeout_s))
        return True

    async def _patch(self, status: LeaderStatus, timeout_s: float) -> None:
        body: Json = {
            "metadata": {"resourceVersion": self._version},
            "status": {
                "leaderPod": status.leader_pod,
                "forgingEnabled": status.forging_enabled,
                "lastTransitionTime": status.last_transition_time,
                "reason": status.reason,
                "message": status.message,
                "observedGeneration": self._generation,
                "opCertCounter": status.counter,
                "conditions": [_condition(c) for c in status.conditions],
            },
        }
        self._note(
            await self._session.request(
                "patch",
                f"{self._path}/status",
                body=body,
                content_type="application/merge-patch+json",
                timeout_s=timeout_s,
            )
        )

    def _note(self, raw: Json) -> None:
        metadata = raw.get("metadata")
        if not isinstance(metadata, dict) or not isinstance(metadata.get("resourceVersion"), str):
            raise ApiFailure(Failure.MALFORMED, "a CardanoLeader without a resourceVersion")
        self._note_uid(raw)
        generation = metadata.get("generation")
        self._version = metadata["resourceVersion"]
        self._generation = generation if isinstance(generation, int) else 0
        status = raw.get("status")
        leader = status.get("leaderPod") if isinstance(status, dict) else None
        self._there = leader if isinstance(leader, str) else ""

    def _note_uid(self, raw: Json) -> None:
        metadata = raw.get("metadata")
        uid = metadata.get("uid") if isinstance(metadata, dict) else None
        if isinstance(uid, str):
            self._about = Regarding(self._api_version, "CardanoLeader", self._namespace, self._name, uid)


def _condition(condition: Condition) -> Json:
    fields = asdict(condition)
    fields["lastTransitionTime"] = fields.pop("last_transition_time")
    return fields
