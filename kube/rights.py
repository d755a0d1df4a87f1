"""What the sidecar asks of an API server, as the rights that its account needs there: each once, with its reason.

deploy/rbac and deploy/examples grant exactly these (a test compares), `forgectl doctor` asks the server for each.  A
create carries its name in the body, so no rule can limit it by name; a list or watch by a fieldSelector on one name is
of that name (k8s.io/apiserver, pkg/endpoints/request).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from config import Config
from kube.forge_clusters import PLURAL
from kube.session import Json

LEASES: Final = "coordination.k8s.io"
REVIEWS: Final = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


@dataclass(frozen=True, slots=True, order=True)
class Right:
    """One verb on one resource of a namespace."""

    group: str
    """Empty: the core group."""
    resource: str
    """With its subresource behind a slash."""
    verb: str
    name: str = ""
    """Of the one object that it is limited to; empty: any."""

    def __str__(self) -> str:
        """As people write it: update leases.coordination.k8s.io/cardano-node-leader."""
        resource, _, sub = self.resource.partition("/")
        kind = f"{resource}.{self.group}" if self.group else resource
        return f"{self.verb} {kind}" + (f"/{self.name}" if self.name else "") + (f" ({sub})" if sub else "")

    def review(self, namespace: str) -> Json:
        """The SelfSubjectAccessReview that asks for it."""
        resource, _, sub = self.resource.partition("/")
        about = {
            "namespace": namespace,
            "verb": self.verb,
            "group": self.group,
            "resource": resource,
            "subresource": sub,
            "name": namespace if resource == "namespaces" else self.name,
        }
        attributes = {name: value for name, value in about.items() if value}
        return {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }


def of_pod(config: Config) -> frozenset[Right]:
    """On the pod's own API server: its cluster's Lease, the CardanoLeader, Events about it."""
    group, leaders = config.crd_group, config.crd_plural
    return frozenset(
        {
            *_lease(config.lease_name),
            Right(group, leaders, "create"),
            Right(group, leaders, "get", config.crd_name),
            Right(group, f"{leaders}/status", "patch", config.crd_name),
            Right("", "events", "create"),
        }
    )


def of_coordination(config: Config) -> frozenset[Right]:
    """On each coordination API: the pool-wide lock, the pool's clusters, which server it is.

    Without a POOL_ID or a CLUSTER_REGION of which names can be made, what is limited to such a name is left out.
    """
    group = config.crd_group
    found = {
        Right(group, PLURAL, "create"),
        Right(group, PLURAL, "list"),  # of all clusters of the pool, by their label
        Right(group, PLURAL, "watch"),
        Right("", "events", "create"),
        Right("", "namespaces", "get"),  # its uid tells which server this is
    }
    if config.pool_label:
        found |= _lease(config.pool_lock_name)
    if config.pool_label and "CLUSTER_REGION" in config.explicit:
        own = config.forge_cluster_name
        found |= {Right(group, PLURAL, verb, own) for verb in ("get", "patch")}
        found.add(Right(group, f"{PLURAL}/status", "patch", own))
    return frozenset(found)


def _lease(name: str) -> set[Right]:
    return {Right(LEASES, "leases", "create"), *(Right(LEASES, "leases", v, name) for v in ("list", "watch", "update"))}
