"""What `forgectl doctor` asks of an API server.  It reads, and asks what it may; nothing is written anywhere."""

from __future__ import annotations

import asyncio
import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from typing import Final

from cli.where import Place
from config import Config
from kube import rights, served
from kube.errors import ApiFailure, Failure, SessionConfigError
from kube.leases import LeaseClient
from kube.rights import Right
from kube.served import Kind
from kube.session import ApiSession
from policy.doctor.findings import Unseen
from policy.doctor.servers import ApiFacts, Asked, Served
from policy.lease import LeaseRecord

TIMEOUT_S: Final = 8.0
"""For one request: longer than most of what a leader would wait, so that a slow server is told from a dead one."""
REQUESTS: Final = 5
LATENCY_S: Final = 12.0
"""For all requests whose time is taken."""
USER_AGENT: Final = "cardano-forge-manager/forgectl-doctor"


@dataclass(frozen=True, slots=True)
class Server:
    """One to be asked."""

    place: Place
    own: bool
    coordinates: bool
    account: bool


async def ask(config: Config, server: Server) -> ApiFacts:
    """Everything of one server.  One that answers each time just before its time is over takes half a minute."""
    place = server.place
    begun = ApiFacts(
        name=place.name,
        own=server.own,
        coordinates=server.coordinates,
        kubectl=place.same_by(),
        role=_role(config, server),
        account=server.account,
    )
    session = ApiSession(place.kubeconfig, context=place.context, user_agent=USER_AGENT)
    try:
        async with session:
            return await _asked(config, server, session, begun)
    except SessionConfigError as error:
        return replace(begun, setup_problem=str(error))


async def _asked(config: Config, server: Server, session: ApiSession, begun: ApiFacts) -> ApiFacts:
    sent_wall, sent = time.time(), time.monotonic()
    try:
        version, headers = await session.exchange("get", "/version", timeout_s=TIMEOUT_S)
    except ApiFailure as failure:
        if failure.kind is Failure.UNAUTHORIZED:
            return replace(
                begun, setup_problem=f"the server refuses its credentials ({failure}): expired, or another's"
            )
        return replace(begun, problem=str(failure))
    if not isinstance(version.get("gitVersion"), str):
        return replace(begun, problem="what answers there is no Kubernetes API server: it tells no version")
    ahead, unsure = _clock(headers, sent_wall, time.monotonic() - sent)
    begun = replace(begun, version=str(version["gitVersion"])[:40], clock_ahead_s=ahead, clock_unsure_s=unsure)
    namespace = server.place.namespace
    needed = (rights.of_pod(config) if server.own else frozenset()) | (
        rights.of_coordination(config) if server.coordinates else frozenset()
    )
    lease_name = config.lease_name if server.own else config.pool_lock_name
    took, unanswered = await _timed(session, namespace, lease_name)  # before there is more for the server to do
    allowed, kinds, lease, lock, identity = await asyncio.gather(
        _rights(session, namespace, sorted(needed)),
        _kinds(config, session),
        _lease(session, namespace, config.lease_name) if server.own else _nothing(),
        _lease(session, namespace, config.pool_lock_name) if server.coordinates else _nothing(),
        _identity(session, namespace) if server.coordinates else _nothing(),
    )
    return replace(
        begun,
        took_s=took,
        unanswered=unanswered,
        rights=allowed,
        leader=kinds[0],
        cluster=kinds[1],
        lease=lease,
        lock=lock,
        identity=identity if identity is not None else Unseen(f"it has no namespace {namespace}"),
        no_namespace=namespace if identity is None else "",
    )


async def _nothing() -> Unseen:
    return Unseen("not asked for of this server")


def _role(config: Config, server: Server) -> str:
    """The manifest with the names of this pool, as a command that prints it."""
    if server.own and not config.pool_label:
        return "cat deploy/rbac/role.yaml"
    file = "deploy/rbac/pool.yaml" if server.own else "deploy/examples/coordination-account.yaml"
    names = (
        ("mainnet", config.cardano_network),
        ("pool1abcd1", config.pool_label),
        ("us-east-1", config.cluster_region),
    )
    return shlex.join(("sed", "; ".join(f"s/{old}/{new}/g" for old, new in names if new), file))


# --- how long it takes, and what its clock says ---


async def _timed(session: ApiSession, namespace: str, name: str) -> tuple[tuple[float, ...], int]:
    """Seconds of each that was answered, and how many were not.

    What is asked is what a pod asks, a list of one Lease; where that is refused, the refusal is an answer too.
    """
    path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
    query = [("fieldSelector", f"metadata.name={name}")]
    took: list[float] = []
    unanswered = 0
    begun = time.monotonic()
    for _ in range(REQUESTS):
        if time.monotonic() - begun > LATENCY_S - TIMEOUT_S and took:
            break
        sent = time.monotonic()
        try:
            await session.exchange("list", path, query=query, timeout_s=TIMEOUT_S)
        except ApiFailure as failure:
            if failure.kind not in (Failure.FORBIDDEN, Failure.UNAUTHORIZED, Failure.NOT_FOUND):
                unanswered += 1
                if unanswered > 1:
                    break
                continue
        took.append(time.monotonic() - sent)
    return tuple(took), unanswered


def _clock(headers: Mapping[str, str], sent_wall: float, took: float) -> tuple[float | Unseen, float]:
    """The server's clock before ours, and how sure that is, in seconds.

    Date has whole seconds, and was written somewhen between question and answer.
    """
    theirs = _date(headers)
    if theirs is None:
        return Unseen("its answers have no Date"), 0.0
    return theirs + 0.5 - (sent_wall + took / 2), 0.5 + took / 2


def _date(headers: Mapping[str, str]) -> float | None:
    try:
        return parsedate_to_datetime(headers.get("Date", "")).timestamp()
    except (ValueError, OverflowError):
        return None


# --- what may be done ---


async def _rights(session: ApiSession, namespace: str, needed: list[Right]) -> tuple[Asked, ...] | Unseen:
    """Some at a time: a server may limit how many a client asks at once."""
    turn = asyncio.Semaphore(4)

    async def may(right: Right) -> bool:
        async with turn:
            body = right.review(namespace)
            answer = await session.request("create", rights.REVIEWS, body=body, timeout_s=TIMEOUT_S)
        status = answer.get("status")
        if not isinstance(status, dict) or not isinstance(status.get("allowed"), bool):
            raise ApiFailure(Failure.MALFORMED, "a review without an answer")
        return bool(status["allowed"])

    answers = await asyncio.gather(*map(may, needed), return_exceptions=True)
    found = []
    for right, answer in zip(needed, answers, strict=True):
        if isinstance(answer, ApiFailure):
            return Unseen(f"the server does not say what may be done: {answer}")
        if isinstance(answer, BaseException):
            raise answer
        found.append(Asked(str(right), answer))
    return tuple(found)


# --- what is there ---


async def _kinds(config: Config, session: ApiSession) -> tuple[Served, Served]:
    """CardanoLeader and CardanoForgeCluster."""
    root = f"/apis/{config.crd_group}/{config.crd_version}"
    listed, document = await asyncio.gather(
        session.request("get", root, timeout_s=TIMEOUT_S),
        session.request("get", f"/openapi/v3{root}", timeout_s=TIMEOUT_S),
        return_exceptions=True,
    )
    leader = replace(served.LEADER, plural=config.crd_plural)
    return _served(config, leader, listed, document), _served(config, served.CLUSTER, listed, document)


def _served(config: Config, kind: Kind, listed: object, document: object) -> Served:
    where = f"{kind.plural} in {config.crd_group}/{config.crd_version}"
    fields: tuple[str, ...] | Unseen = ()
    problem = ""
    if isinstance(listed, dict):
        problem = served.resource(listed, kind.plural, kind.kind)
    elif isinstance(listed, ApiFailure) and listed.kind is Failure.NOT_FOUND:
        problem = f"nothing is served in {config.crd_group}/{config.crd_version}: the definition is not installed"
    elif isinstance(listed, ApiFailure):
        fields = Unseen(str(listed))
    elif isinstance(listed, BaseException):
        raise listed
    if isinstance(document, dict) and not isinstance(fields, Unseen):
        schema = served.schema_of(document, config.crd_group, config.crd_version, kind.kind)
        fields = served.dropped(kind, schema) if schema is not None else Unseen("the server does not document them")
    elif isinstance(document, ApiFailure):
        fields = Unseen(str(document))
    elif isinstance(document, BaseException):
        raise document
    return Served(kind.kind, where, problem, fields, kind.needed)


async def _lease(session: ApiSession, namespace: str, name: str) -> LeaseRecord | Unseen | None:
    try:
        record, _ = await LeaseClient(session, namespace, name).look(timeout_s=TIMEOUT_S)
    except ApiFailure as failure:
        return Unseen(f"Lease {name}: {failure}")
    return record


async def _identity(session: ApiSession, namespace: str) -> str | Unseen | None:
    """None: there is no such namespace."""
    try:
        return await LeaseClient(session, namespace, "").api_identity(timeout_s=TIMEOUT_S)
    except ApiFailure as failure:
        return None if failure.kind is Failure.INVALID else Unseen(str(failure))
