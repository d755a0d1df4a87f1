"""Every right in the Roles has a reason: without it a thing that the product does is refused, and nothing else is.

What the workers do is done here by the product's own clients, as the account of the Role, on the embedded API server
with its RBAC.  Whole pods with these very Roles run in tests/e2e (on the real API server by `make test-k8s`).
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from config import Config, load
from devkit.api import EmbeddedApi, ThreadedApi
from devkit.pods import SERVICE_ACCOUNT
from devkit.realapi.client import AdminClient
from kube import events, rights
from kube.errors import ApiFailure, Failure
from kube.forge_clusters import CARRIER, PLURAL, POOL_LABEL, ForgeClusterClient
from kube.leader_status import LeaderStatus, LeaderStatusClient
from kube.leases import LeaseClient
from kube.rights import LEASES, Right
from kube.session import ApiSession

Json = dict[str, Any]

DEPLOY: Final = Path(__file__).parents[2] / "deploy"
NAMESPACE: Final = "default"
USER: Final = f"system:serviceaccount:{NAMESPACE}:{SERVICE_ACCOUNT}"
RBAC: Final = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{NAMESPACE}"
TIMEOUT_S: Final = 30.0
STATUS: Final = LeaderStatus("pod-0", True, "2026-01-01T00:00:00Z", "Forging", "pod-0 forges")
ALONE: Final = load({}, hostname=lambda: "pod-0")
REGION: Final = load(
    {
        "CARDANO_NETWORK": "mainnet",
        "POOL_ID": "pool1abcd1234567890",
        "CLUSTER_REGION": "us-east-1",
        "ENABLE_CLUSTER_MANAGEMENT": "true",
    },
    hostname=lambda: "pod-0",
)


class Worker:
    """What the workers have of one API server, as one user."""

    def __init__(self, session: ApiSession, config: Config) -> None:
        label = f"{config.cardano_network}-{config.pool_label}"
        self.session, self.config = session, config
        self.lease = LeaseClient(session, NAMESPACE, config.lease_name)
        self.lock = LeaseClient(session, NAMESPACE, config.pool_lock_name)
        self.leader = LeaderStatusClient(session, NAMESPACE, "cardano.io", "v1", "cardanoleaders", config.crd_name)
        self.clusters = ForgeClusterClient(session, NAMESPACE, label, group="cardano.io", version="v1")
        self.cluster: Json = {
            "metadata": {"labels": {POOL_LABEL: label}},
            "spec": {"network": {"name": "mainnet"}, "region": "us-east-1"},
        }


Deed = Callable[[Worker, Worker], Awaitable[None]]
"""(the account of the Role, an administrator who prepares)"""


def _takes(which: str) -> Deed:
    async def deed(us: Worker, _: Worker) -> None:
        await getattr(us, which).create(holder="us", duration_s=15, transitions=1, timeout_s=TIMEOUT_S)

    return deed


def _looks_for(which: str) -> Deed:
    async def deed(us: Worker, _: Worker) -> None:
        await getattr(us, which).look(timeout_s=TIMEOUT_S)

    return deed


def _follows(which: str) -> Deed:
    async def deed(us: Worker, admin: Worker) -> None:
        _, version = await getattr(admin, which).look(timeout_s=TIMEOUT_S)
        await getattr(admin, which).create(holder="x", duration_s=15, transitions=1, timeout_s=TIMEOUT_S)
        async for change in getattr(us, which).watch(version, timeout_s=60):
            assert change.kind == "ADDED"
            return

    return deed


def _renews(which: str) -> Deed:
    async def deed(us: Worker, admin: Worker) -> None:
        record = await getattr(admin, which).create(holder="us", duration_s=15, transitions=1, timeout_s=TIMEOUT_S)
        getattr(us, which)._known = getattr(admin, which)._known  # as if it had looked, which is another right
        await getattr(us, which).replace(
            record, holder="us", duration_s=15, transitions=1, acquired=False, timeout_s=TIMEOUT_S
        )

    return deed


async def _first_report(us: Worker, _: Worker) -> None:
    await us.leader.publish(STATUS, timeout_s=TIMEOUT_S, taking_over=True)


async def _report(us: Worker, admin: Worker) -> None:
    await admin.leader.publish(STATUS, timeout_s=TIMEOUT_S, taking_over=True)
    await us.leader.publish(STATUS, timeout_s=TIMEOUT_S, taking_over=True)


async def _event(us: Worker, admin: Worker) -> None:
    await admin.leader.publish(STATUS, timeout_s=TIMEOUT_S, taking_over=True)
    about = await admin.leader.regarding(timeout_s=TIMEOUT_S)
    assert about is not None
    await events.emit(
        us.session,
        about,
        reason="CredentialsGood",
        message="m",
        warning=False,
        pod="pod-0",
        wall_s=1.7e9,
        timeout_s=TIMEOUT_S,
    )


async def _which_server(us: Worker, _: Worker) -> None:
    await us.lock.api_identity(timeout_s=TIMEOUT_S)


async def _apply_first(us: Worker, _: Worker) -> None:
    await us.clusters.apply(us.config.forge_cluster_name, us.cluster, timeout_s=TIMEOUT_S)


async def _carry(us: Worker, _: Worker) -> None:
    await us.clusters.create(us.config.forge_cluster_name, us.cluster, timeout_s=TIMEOUT_S)


async def _apply(us: Worker, admin: Worker) -> None:
    await _carry(admin, admin)
    await us.clusters.apply(us.config.forge_cluster_name, {"metadata": {}, "spec": {}}, timeout_s=TIMEOUT_S)


async def _mark(us: Worker, admin: Worker) -> None:
    await _carry(admin, admin)
    body = {"metadata": {"annotations": {"a": "b"}}}
    name = us.config.forge_cluster_name
    await us.clusters.patch(name, body, version="", manager=CARRIER, timeout_s=TIMEOUT_S)


async def _cluster_status(us: Worker, admin: Worker) -> None:
    made = await admin.clusters.create(us.config.forge_cluster_name, us.cluster, timeout_s=TIMEOUT_S)
    await us.clusters.patch_status(made, {"reason": "Forging"}, timeout_s=TIMEOUT_S)


async def _own_cluster(us: Worker, admin: Worker) -> None:
    await _carry(admin, admin)
    await us.clusters.get(us.config.forge_cluster_name, timeout_s=TIMEOUT_S)


async def _all_clusters(us: Worker, _: Worker) -> None:
    await us.clusters.every(timeout_s=TIMEOUT_S)


async def _follow_clusters(us: Worker, admin: Worker) -> None:
    _, version = await admin.clusters.every(timeout_s=TIMEOUT_S)
    await _carry(admin, admin)
    async for change in us.clusters.watch(version, timeout_s=60):
        assert change.kind == "ADDED"
        return


OF_A_POD: Final[dict[str, Deed]] = {
    "the first pod takes the Lease": _takes("lease"),
    "elector and arbiter look for the Lease": _looks_for("lease"),
    "elector and arbiter follow the Lease": _follows("lease"),
    "the leader renews, releases and marks the Lease": _renews("lease"),
    "the first leader makes the CardanoLeader": _first_report,
    "a leader tells in the CardanoLeader who forges": _report,
    "what becomes of the keys is an Event": _event,
}
OF_A_REGION: Final[dict[str, Deed]] = {
    **OF_A_POD,
    "the first region takes the pool's lock": _takes("lock"),
    "the arbiter looks for the lock": _looks_for("lock"),
    "the arbiter follows the lock": _follows("lock"),
    "the holder renews and leaves the lock": _renews("lock"),
    "the arbiter tells which server this is": _which_server,
    "a region makes its cluster's object": _apply_first,
    "a region applies what its environment says": _apply,
    "a copy is made on a server that has none": _carry,
    "a copy is marked and carried over": _mark,
    "a region tells in its object what it does": _cluster_status,
    "a region reads its object again": _own_cluster,
    "the arbiter reads all clusters of the pool": _all_clusters,
    "the arbiter follows the clusters of the pool": _follow_clusters,
}

TAKES, LOCKS = "the first pod takes the Lease", "the first region takes the pool's lock"
REASONS_OF_A_POD: Final[dict[Right, set[str]]] = {
    Right(LEASES, "leases", "create"): {TAKES},
    Right(LEASES, "leases", "list", ALONE.lease_name): {"elector and arbiter look for the Lease"},
    Right(LEASES, "leases", "watch", ALONE.lease_name): {"elector and arbiter follow the Lease"},
    Right(LEASES, "leases", "update", ALONE.lease_name): {"the leader renews, releases and marks the Lease"},
    Right("cardano.io", "cardanoleaders", "create"): {"the first leader makes the CardanoLeader"},
    Right("cardano.io", "cardanoleaders", "get", ALONE.crd_name): {
        "the first leader makes the CardanoLeader",
        "a leader tells in the CardanoLeader who forges",
    },
    Right("cardano.io", "cardanoleaders/status", "patch", ALONE.crd_name): {
        "the first leader makes the CardanoLeader",
        "a leader tells in the CardanoLeader who forges",
    },
    Right("", "events", "create"): {"what becomes of the keys is an Event"},
}
REASONS_OF_A_REGION: Final[dict[Right, set[str]]] = {
    **{
        Right(right.group, right.resource, right.verb, REGION.lease_name if right.name else ""): reasons
        for right, reasons in REASONS_OF_A_POD.items()
    },
    Right(LEASES, "leases", "create"): {TAKES, LOCKS},
    Right(LEASES, "leases", "list", REGION.pool_lock_name): {"the arbiter looks for the lock"},
    Right(LEASES, "leases", "watch", REGION.pool_lock_name): {"the arbiter follows the lock"},
    Right(LEASES, "leases", "update", REGION.pool_lock_name): {"the holder renews and leaves the lock"},
    Right("", "namespaces", "get"): {"the arbiter tells which server this is"},
    Right("cardano.io", PLURAL, "create"): {
        "a region makes its cluster's object",
        "a copy is made on a server that has none",
    },
    Right("cardano.io", PLURAL, "list"): {"the arbiter reads all clusters of the pool"},
    Right("cardano.io", PLURAL, "watch"): {"the arbiter follows the clusters of the pool"},
    Right("cardano.io", PLURAL, "get", REGION.forge_cluster_name): {"a region reads its object again"},
    Right("cardano.io", PLURAL, "patch", REGION.forge_cluster_name): {
        "a region makes its cluster's object",
        "a region applies what its environment says",
        "a copy is marked and carried over",
    },
    Right("cardano.io", f"{PLURAL}/status", "patch", REGION.forge_cluster_name): {
        "a region tells in its object what it does"
    },
}
ROLES: Final = {
    "role": (ALONE, OF_A_POD, REASONS_OF_A_POD, rights.of_pod(ALONE)),
    "pool": (REGION, OF_A_REGION, REASONS_OF_A_REGION, rights.of_pod(REGION) | rights.of_coordination(REGION)),
}
"""File in deploy/rbac -> whose it is, what is done with it, why each right is in it, what the program asks for."""


@pytest.fixture(scope="module")
def api() -> Iterator[ThreadedApi]:
    with EmbeddedApi.threaded(users=[USER], authorize=True) as server:
        yield server


@pytest.fixture
def operator(api: ThreadedApi) -> AdminClient:
    return AdminClient(api.url, api.ca_file, api.token_for("admin"))


@pytest.fixture
async def sessions(api: ThreadedApi, tmp_path: Path) -> AsyncIterator[tuple[ApiSession, ApiSession]]:
    """The account's, and the administrator's."""
    for user in (USER, "admin"):
        api.write_kubeconfig(tmp_path / user, user)
    async with (
        ApiSession(tmp_path / USER, user_agent="test/us") as us,
        ApiSession(tmp_path / "admin", user_agent="test/admin") as admin,
    ):
        yield us, admin


def _shipped(name: str) -> list[Json]:
    return [d for d in yaml.safe_load_all((DEPLOY / "rbac" / f"{name}.yaml").read_text()) if d]


def _apply_role(operator: AdminClient, name: str, without: Right | None) -> None:
    """The shipped manifest, less that right."""
    for document in _shipped(name):
        if document["kind"] != "Role":
            operator.create(document, NAMESPACE)
            continue
        role = document["metadata"]["name"]
        operator.request("DELETE", f"{RBAC}/roles/{role}")
        operator.create(document | {"rules": list(_less(document["rules"], without))}, NAMESPACE)
    other = "pool" if name == "role" else "role"
    for document in _shipped(other):
        if document["kind"] == "RoleBinding":
            operator.request("DELETE", f"{RBAC}/rolebindings/{document['metadata']['name']}")


def _less(rules: list[Json], without: Right | None) -> Iterator[Json]:
    for rule in rules:
        names = rule.get("resourceNames", [""])
        for group, resource, verb, name in itertools.product(
            rule["apiGroups"], rule["resources"], rule["verbs"], names
        ):
            if Right(group, resource, verb, name) != without:
                single = {"apiGroups": [group], "resources": [resource], "verbs": [verb]}
                yield single | ({"resourceNames": [name]} if name else {})


def _empty(operator: AdminClient, config: Config) -> None:
    leases = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"
    custom = f"/apis/cardano.io/v1/namespaces/{NAMESPACE}"
    for name in (config.lease_name, config.pool_lock_name):
        operator.request("DELETE", f"{leases}/{name}")
    operator.request("DELETE", f"{custom}/cardanoleaders/{config.crd_name}")
    operator.request("DELETE", f"{custom}/{PLURAL}/{config.forge_cluster_name}")


async def _refused(sessions: tuple[ApiSession, ApiSession], operator: AdminClient, role: str) -> set[str]:
    """What the account cannot do of all that is done with that Role."""
    config, deeds, _, _ = ROLES[role]
    found = set()
    for name, deed in deeds.items():
        _empty(operator, config)
        us, admin = (Worker(session, config) for session in sessions)
        try:
            await deed(us, admin)
        except ApiFailure as failure:
            assert failure.kind is Failure.FORBIDDEN, f"{name}: {failure}"
            found.add(name)
    return found


@pytest.mark.parametrize("role", ROLES)
async def test_with_the_whole_role_all_of_it_is_done(
    sessions: tuple[ApiSession, ApiSession], operator: AdminClient, role: str
) -> None:
    _apply_role(operator, role, None)
    assert await _refused(sessions, operator, role) == set()


@pytest.mark.parametrize(
    ("role", "right"),
    [(role, right) for role, (_, _, reasons, _) in ROLES.items() for right in reasons],
    ids=lambda each: str(each).replace(" ", "-"),
)
async def test_without_one_right_what_it_is_for_is_refused_and_all_else_is_done(
    sessions: tuple[ApiSession, ApiSession], operator: AdminClient, role: str, right: Right
) -> None:
    _apply_role(operator, role, right)
    assert await _refused(sessions, operator, role) == ROLES[role][2][right]


@pytest.mark.parametrize("role", ROLES)
def test_every_right_that_the_role_gives_has_its_reason_here(role: str) -> None:
    (document,) = [each for each in _shipped(role) if each["kind"] == "Role"]
    given = {
        Right(rule["apiGroups"][0], rule["resources"][0], rule["verbs"][0], rule.get("resourceNames", [""])[0])
        for rule in _less(document["rules"], None)
    }
    _, deeds, reasons, asked = ROLES[role]
    assert reasons.keys() == given == asked
    assert set().union(*reasons.values()) == deeds.keys()
