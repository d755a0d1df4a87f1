"""One Lease of `coordination.k8s.io/v1`, read, written by compare-and-swap, and watched.

A PUT replaces the whole object: what a write does not mean to change (labels, annotations, owners, strategy) it sends
back as it was read.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, TypeVar

from kube.errors import ApiFailure, Failure
from kube.session import ApiSession, Json
from policy.certificate_counter import ANNOTATION as COUNTER
from policy.lease import RELEASED_DURATION_S, LeaseRecord, Renewals
from policy.pause import ANNOTATION as PAUSED
from policy.timing import LONGEST_LEASE_S

T = TypeVar("T", str, int)

SEAL: Final = "cardano.io/lease-seal"
KEY: Final = "cardano.io/lease-key"
"""Annotations: a term's seal, and what opens it (`policy.seal`)."""
CHALLENGE: Final = "cardano.io/lease-challenge"
"""Annotation: of the arbiter of the pod that wrote this version (`policy.witness`)."""


PREFERRED: Final = "cardano.io/preferred-holder"
"""Annotation: to whom the last holder left it.  A stock API server drops spec.preferredHolder."""
MEMBERS: Final = "cardano.io/lock-members"
"""Annotation: how many coordination APIs the holder of the pool-wide lock counts its majority of."""
APIS: Final = "cardano.io/lock-apis"
"""Annotation: which these are, by `LeaseClient.api_identity`, separated by commas, as far as they were reached."""
MOST_APIS: Final = 32
MOST_IDENTITY: Final = 64
"""Characters; a uid has 36."""


@dataclass(frozen=True, slots=True)
class LeaseChange:
    kind: str
    """ADDED, MODIFIED or DELETED."""
    record: LeaseRecord | None
    """None after DELETED."""
    version: str = field(default="", compare=False)
    """The resource version of the change itself: a watch goes on after it."""


class LeaseClient:
    """Reads and writes one Lease.  Every method raises ApiFailure and ends in time."""

    def __init__(self, session: ApiSession, namespace: str, name: str) -> None:
        self._session = session
        self._namespace = namespace
        self._name = name
        self._folder = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._path = f"{self._folder}/{name}"
        self._known: Json = {}
        """The object as last read or written: what a replacement starts from."""
        self._renewals = Renewals()

    def is_foreign(self, record: LeaseRecord | None) -> bool:
        """Whether another client has renewed it last (`policy.lease.Renewals`), if this one has written it before."""
        return self._renewals.is_foreign(record)

    async def api_identity(self, *, timeout_s: float) -> str:
        """The uid of the Lease's namespace: which API server this is, by whatever address it is reached.

        The server makes it with the namespace and never changes it (API conventions, Metadata); a backup brings it
        back.  A namespaced Role can grant the request: its namespace is the one that it names.
        """
        path = f"/api/v1/namespaces/{self._namespace}"
        try:
            metadata = (await self._session.request("get", path, timeout_s=timeout_s)).get("metadata")
        except ApiFailure as failure:
            if failure.kind is Failure.NOT_FOUND:
                raise ApiFailure(Failure.INVALID, f"there is no namespace {self._namespace} on it: create it") from None
            if failure.kind is Failure.FORBIDDEN:
                text = f"{failure}: the Role has to grant get on namespaces (deploy/rbac/pool.yaml)"
                raise ApiFailure(Failure.FORBIDDEN, text) from None
            raise
        uid = metadata.get("uid") if isinstance(metadata, dict) else None
        if not isinstance(uid, str) or not _is_identity(uid):
            raise ApiFailure(Failure.MALFORMED, "a namespace without a uid")
        return uid

    async def look(self, *, timeout_s: float) -> tuple[LeaseRecord | None, str]:
        """The Lease, and a version that a watch can go on from without missing anything, be there a Lease or not."""
        query = [("fieldSelector", f"metadata.name={self._name}")]
        raw = await self._session.request("list", self._folder, query=query, timeout_s=timeout_s)
        metadata, items = raw.get("metadata"), raw.get("items") or []
        version = metadata.get("resourceVersion") if isinstance(metadata, dict) else None
        if not isinstance(version, str) or not version or not isinstance(items, list) or len(items) > 1:
            raise ApiFailure(Failure.MALFORMED, "a list that is none, or of more than was asked for")
        if not items:
            self._known = {}
            return None, version
        if not isinstance(items[0], dict):
            raise ApiFailure(Failure.MALFORMED, "a list of something else than objects")
        return self._note(items[0]), version

    async def create(
        self,
        *,
        holder: str,
        duration_s: int,
        transitions: int,
        timeout_s: float,
        seal: str = "",
        challenge: str = "",
        members: int = 0,
        apis: Sequence[str] = (),
        counter: str = "",
    ) -> LeaseRecord:
        """Make the Lease, held by `holder`.  ALREADY_EXISTS if somebody was faster, MALFORMED if it is not kept."""
        now = self._renewal(over=None)
        metadata: Json = {"name": self._name, "namespace": self._namespace}
        marks = {SEAL: seal, CHALLENGE: challenge, MEMBERS: str(members or ""), APIS: ",".join(apis), COUNTER: counter}
        if annotations := _annotated(None, marks):
            metadata["annotations"] = annotations
        body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": metadata,
            "spec": {
                "holderIdentity": holder,
                "leaseDurationSeconds": duration_s,
                "acquireTime": now,
                "renewTime": now,
                "leaseTransitions": transitions,
            },
        }
        return self._kept(body, await self._session.request("create", self._folder, body=body, timeout_s=timeout_s))

    async def replace(
        self,
        known: LeaseRecord,
        *,
        holder: str,
        duration_s: int,
        transitions: int,
        acquired: bool,
        timeout_s: float,
        preferred_holder: str | None = None,
        seal: str | None = None,
        key: str = "",
        challenge: str | None = None,
        members: int = 0,
        apis: Sequence[str] = (),
        counter: str = "",
    ) -> LeaseRecord:
        """One PUT that succeeds only if the Lease is still as `known` (else CONFLICT) and it is kept (else MALFORMED).

        `acquired`: a new term, whose acquireTime is now.  `preferred_holder`, `challenge`: None leaves them as they
        are, empty removes them.  `seal`: None leaves seal and key as they are.  `members`: 0 leaves them and `apis`.
        `counter`: empty leaves it.
        """
        body = self._body(known)
        marks = {} if seal is None else {SEAL: seal, KEY: key}
        marks |= {} if challenge is None else {CHALLENGE: challenge}
        marks |= {} if preferred_holder is None else {PREFERRED: preferred_holder}
        marks |= {MEMBERS: str(members), APIS: ",".join(apis)} if members else {}
        marks |= {COUNTER: counter} if counter else {}
        if marks:
            body["metadata"]["annotations"] = _annotated(body["metadata"].get("annotations"), marks)
        now = self._renewal(over=known)
        body["spec"] |= {
            "holderIdentity": holder,
            "leaseDurationSeconds": duration_s,
            "renewTime": now,
            "leaseTransitions": transitions,
        }
        if acquired or not body["spec"].get("acquireTime"):
            body["spec"]["acquireTime"] = now
        return self._kept(body, await self._session.request("update", self._path, body=body, timeout_s=timeout_s))

    async def release(
        self,
        known: LeaseRecord,
        *,
        timeout_s: float,
        preferred_holder: str | None = None,
        seal: str | None = None,
        key: str = "",
    ) -> LeaseRecord:
        """Give the Lease up as client-go does: no holder, a duration of one second, both times now; and open it."""
        return await self.replace(
            known,
            holder="",
            duration_s=RELEASED_DURATION_S,
            transitions=known.transitions,
            acquired=True,
            timeout_s=timeout_s,
            preferred_holder=preferred_holder,
            seal=seal,
            key=key,
        )

    async def annotate(self, known: LeaseRecord, marks: dict[str, str], *, timeout_s: float) -> LeaseRecord:
        """Set these annotations (an empty one goes) and nothing else, if the Lease is still as `known`."""
        body = self._body(known)
        body["metadata"]["annotations"] = _annotated(body["metadata"].get("annotations"), marks)
        return self._note(await self._session.request("update", self._path, body=body, timeout_s=timeout_s))

    async def watch(self, version: str, *, timeout_s: int) -> AsyncGenerator[LeaseChange, None]:
        """Each change after `version`, in order and without a gap, until the server ends the watch.

        GONE if the server does not know any more what came after it: look again.
        """
        query = [("fieldSelector", f"metadata.name={self._name}"), ("resourceVersion", version)]
        async with contextlib.aclosing(self._session.watch(self._folder, query, timeout_s=timeout_s)) as events:
            async for event in events:
                change = self._change(event)
                if change is not None:
                    yield change

    def _change(self, event: Json) -> LeaseChange | None:
        """What an event says of our Lease; None: nothing (bookmarks, kinds of later servers)."""
        kind = event.get("type")
        if kind == "DELETED":
            last = event["object"].get("metadata")
            version = last.get("resourceVersion") if isinstance(last, dict) else None
            version = version if isinstance(version, str) else ""
            if not self._is_late(version):
                self._known = {}
            return LeaseChange(kind, None, version)
        if kind in ("ADDED", "MODIFIED"):
            record = parse_lease(event["object"])
            if not self._is_late(record.resource_version):
                self._known = event["object"]
            return LeaseChange(kind, record, record.resource_version)
        return None

    def _is_late(self, version: str) -> bool:
        """Whether a watch tells of what we have written over since."""
        return went_back(version, self._known_version)

    @property
    def _known_version(self) -> str:
        return str(self._known.get("metadata", {}).get("resourceVersion", ""))

    def _body(self, known: LeaseRecord) -> Json:
        """The object to send: as last seen, at the version that the caller decided upon.

        Raises ApiFailure (CONFLICT) where another was seen since: sent without what else is in it, it would lose that.
        """
        if self._known_version != known.resource_version:
            raise ApiFailure(Failure.CONFLICT, f"the lease {self._name} was seen to change in between")
        body: Json = copy.deepcopy(self._known)
        body.setdefault("apiVersion", "coordination.k8s.io/v1")
        body.setdefault("kind", "Lease")
        metadata = body.setdefault("metadata", {})
        metadata |= {"name": self._name, "namespace": self._namespace, "resourceVersion": known.resource_version}
        if known.uid:
            metadata["uid"] = known.uid  # without it a late PUT would bring a deleted Lease back to life (201)
        metadata.pop("managedFields", None)
        if not isinstance(body.get("spec"), dict):
            body["spec"] = {}
        return body

    def _renewal(self, *, over: LeaseRecord | None) -> str:
        now = _micro_time()
        self._renewals.wrote(now, over=over)
        return now

    def _kept(self, sent: Json, raw: Json) -> LeaseRecord:
        """What the server made of a write.  MALFORMED where it is not what was sent.

        A webhook may put another holder or time into it, a proxy may say yes and keep nothing: whoever waits for us
        would see no renewal, and count on while we count anew.
        """
        record = parse_lease(raw)
        seal = (sent["metadata"].get("annotations") or {}).get(SEAL, "")
        said = {
            "holderIdentity": (sent["spec"]["holderIdentity"], record.holder),
            "renewTime": (sent["spec"]["renewTime"], record.renew_time),
            "leaseTransitions": (sent["spec"]["leaseTransitions"], record.transitions),
            SEAL: (seal, record.seal),
        }
        if changed := [name for name, (ours, theirs) in said.items() if ours != theirs]:
            text = (
                f"the Lease is not kept as it was written ({', '.join(changed)}): does a webhook or a proxy change it?"
            )
            raise ApiFailure(Failure.MALFORMED, text)
        return self._note(raw)

    def _note(self, raw: Json) -> LeaseRecord:
        record = parse_lease(raw)
        self._known = raw
        return record


def went_back(version: str, position: str) -> bool:
    """Whether `version`, now a server's, is older than one that it gave before: it was restored from a backup.

    A watch from such a `position` is silent until the server has counted up to it again (etcd, watch of a future
    revision).  Resource versions are decimal numbers and comparable by contract since Kubernetes 1.35 (KEP-5504), and
    with etcd ever since; of others nothing is said.
    """
    return version.isdecimal() and position.isdecimal() and int(version) < int(position)


def parse_lease(raw: Json) -> LeaseRecord:
    """A Lease object as a record.  Absent and null fields mean nobody, nothing, zero.  Raises ApiFailure."""
    metadata = raw.get("metadata")
    spec = raw.get("spec") or {}
    if not isinstance(metadata, dict) or not isinstance(spec, dict):
        raise ApiFailure(Failure.MALFORMED, "a Lease without metadata")
    annotations = metadata.get("annotations") or {}
    if not isinstance(annotations, dict):
        raise ApiFailure(Failure.MALFORMED, "a Lease whose annotations are none")
    version = metadata.get("resourceVersion")
    if not isinstance(version, str) or not version:
        raise ApiFailure(Failure.MALFORMED, "a Lease without a resourceVersion")
    return LeaseRecord(
        resource_version=version,
        holder=_field(spec, "holderIdentity", ""),
        duration_s=min(_field(spec, "leaseDurationSeconds", 0), LONGEST_LEASE_S),  # by hand: not for years
        transitions=_field(spec, "leaseTransitions", 0),
        acquire_time=_field(spec, "acquireTime", ""),
        uid=_field(metadata, "uid", ""),
        preferred_holder=_field(annotations, PREFERRED, ""),
        seal=_field(annotations, SEAL, ""),
        key=_field(annotations, KEY, ""),
        challenge=_field(annotations, CHALLENGE, ""),
        members=_number(_field(annotations, MEMBERS, "")),
        apis=_identities(_field(annotations, APIS, "")),
        renew_time=_field(spec, "renewTime", ""),
        counter=_field(annotations, COUNTER, ""),
        paused=_field(annotations, PAUSED, ""),
    )


def _annotated(annotations: Json | None, marks: dict[str, str]) -> Json:
    """The annotations with these; an empty one goes, others stay."""
    others = {name: value for name, value in (annotations or {}).items() if name not in marks}
    return others | {name: value for name, value in marks.items() if value}


def _field(spec: Json, name: str, default: T) -> T:
    value = spec.get(name)
    if value is None:
        return default
    if type(value) is not type(default):
        raise ApiFailure(Failure.MALFORMED, f"a Lease whose {name} is no {type(default).__name__}")
    return value


def _number(text: str) -> int:
    """0: none, or nonsense of somebody else's."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 4 else 0


def _is_identity(text: str) -> bool:
    return 0 < len(text) <= MOST_IDENTITY and text.isascii() and text.replace("-", "").isalnum()


def _identities(text: str) -> tuple[str, ...]:
    """Sorted, each once; nothing of a text that is nonsense in part."""
    found = tuple(sorted(set(text.split(","))))
    return found if len(found) <= MOST_APIS and all(_is_identity(each) for each in found) else ()


def _micro_time() -> str:
    """Now as a Kubernetes MicroTime: UTC with six digits of a second.  For people; nobody compares it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
