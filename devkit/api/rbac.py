"""Role-based authorization, as far as Roles, ClusterRoles and their bindings decide it.

Sources: k8s.io/kubernetes pkg/registry/rbac/validation (subjects, rules), k8s.io/apiserver pkg/endpoints/request (which
verb, namespace and name a request has).  Not known here: aggregated roles, rules on addresses that are no resources
(discovery, health and versions are everybody's who has a token), the check that nobody grants what he has not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from devkit.api import errors
from devkit.api.errors import Cause
from devkit.api.kinds import ResourceType
from devkit.api.server_protocol import ADMIN
from devkit.api.store import Key, Store

Json = dict[str, Any]

GROUP: Final = "rbac.authorization.k8s.io"
_ACCOUNT: Final = "system:serviceaccount:"
_EVERYBODYS: Final = ("/api", "/openapi", "/version", "/healthz", "/livez", "/readyz")
"""Addresses that whoever has a token may read (system:discovery)."""


def _kind(kind: str, *, namespaced: bool) -> ResourceType:
    return ResourceType(
        GROUP,
        "v1",
        kind,
        f"{kind.lower()}s",
        kind.lower(),
        namespaced=namespaced,
        create_on_update=True,
        unconditional_update=True,
    )


ROLES: Final = _kind("Role", namespaced=True)
ROLE_BINDINGS: Final = _kind("RoleBinding", namespaced=True)
CLUSTER_ROLES: Final = _kind("ClusterRole", namespaced=False)
CLUSTER_ROLE_BINDINGS: Final = _kind("ClusterRoleBinding", namespaced=False)
ACCOUNTS: Final = ResourceType("", "v1", "ServiceAccount", "serviceaccounts", "serviceaccount", short_names=("sa",))
SELF_REVIEW: Final = ResourceType(
    "authorization.k8s.io",
    "v1",
    "SelfSubjectAccessReview",
    "selfsubjectaccessreviews",
    "selfsubjectaccessreview",
    namespaced=False,
    virtual=True,
)
"""May I?  Whoever has a token may ask (system:basic-user)."""
KINDS: Final = (ROLES, ROLE_BINDINGS, CLUSTER_ROLES, CLUSTER_ROLE_BINDINGS, ACCOUNTS)


@dataclass(frozen=True, slots=True)
class Asked:
    """What somebody wants to do."""

    verb: str
    group: str
    resource: str
    sub: str = ""
    namespace: str = ""
    """Empty: all, or the resource has none."""
    name: str = ""
    """Empty: of no one object, as in a create."""


class Authorizer:
    """Says who may do what, by the objects in the store."""

    def __init__(self, store: Store, *, everybody: bool) -> None:
        """everybody: may do everything."""
        self._store: Final = store
        self._everybody: Final = everybody

    def allows(self, user: str, asked: Asked) -> bool:
        """Whether some binding gives him that."""
        if self._everybody or user == ADMIN:
            return True
        return any(_covers(rule, asked) for rule in self._rules(user, asked.namespace))

    def _rules(self, user: str, namespace: str) -> Iterator[Json]:
        for binding in self._store.items(CLUSTER_ROLE_BINDINGS.key, None):
            yield from self._granted(user, binding, "")
        if namespace:
            for binding in self._store.items(ROLE_BINDINGS.key, namespace):
                yield from self._granted(user, binding, namespace)

    def _granted(self, user: str, binding: Json, namespace: str) -> Iterator[Json]:
        if not any(_means(subject, user, namespace) for subject in binding.get("subjects") or ()):
            return
        named = binding.get("roleRef") or {}
        own = named.get("kind") == ROLES.kind
        kind = ROLES if own else CLUSTER_ROLES
        role = self._store.get(Key(kind.group, kind.plural, namespace if own else "", str(named.get("name"))))
        yield from (role or {}).get("rules") or ()


def _means(subject: Mapping[str, Any], user: str, namespace: str) -> bool:
    name = subject.get("name")
    match subject.get("kind"):
        case "User":
            return bool(name == user)
        case "Group":
            return name in _groups(user)
        case "ServiceAccount":
            return bool(f"{_ACCOUNT}{subject.get('namespace') or namespace}:{name}" == user)
    return False


def _groups(user: str) -> tuple[str, ...]:
    everybody = ("system:authenticated",)
    if not user.startswith(_ACCOUNT):
        return everybody
    return (*everybody, "system:serviceaccounts", f"system:serviceaccounts:{user.split(':')[2]}")


def _covers(rule: Mapping[str, Any], asked: Asked) -> bool:
    resources = rule.get("resources") or ()
    wanted = {"*", f"{asked.resource}/{asked.sub}", f"*/{asked.sub}"} if asked.sub else {"*", asked.resource}
    return (
        _has(rule.get("verbs"), asked.verb)
        and _has(rule.get("apiGroups"), asked.group)
        and not wanted.isdisjoint(resources)
        and (not rule.get("resourceNames") or asked.name in rule["resourceNames"])
    )


def _has(listed: Any, wanted: str) -> bool:
    return wanted in (listed or ()) or "*" in (listed or ())


# --- requests ---


def asked(group: str, rest: list[str]) -> Asked:
    """What the address of a resource names; no verb yet.  rest: the address behind group and version."""
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in ("status", "finalize"):
        namespace, rest = rest[1], rest[2:]
    resource, name, sub = (*rest, "", "")[:3]
    # A namespace is in itself.
    return Asked("", group, resource, sub, name if (group, resource) == ("", "namespaces") else namespace, name)


def selected(asked_for: Asked, selector: str) -> Asked:
    """A list or watch whose fieldSelector leaves one name is of that name."""
    names = [
        value
        for name, _, value in (term.replace("==", "=").partition("=") for term in selector.split(","))
        if name == "metadata.name"
    ]
    return replace(asked_for, name=names[0]) if names and asked_for.verb in ("list", "watch") else asked_for


def refusal(asked_for: Asked, version: str, user: str) -> errors.ApiError:
    """403."""
    plural = asked_for.resource + (f"/{asked_for.sub}" if asked_for.sub else "")
    stub = ResourceType(asked_for.group, version, "", plural, "")
    return errors.forbidden(stub, asked_for.name, asked_for.namespace, user, asked_for.verb)


def reviewed(body: Json, user: str, authorizer: Authorizer) -> Json:
    """The answer to a SelfSubjectAccessReview.  400, 422."""
    spec = body.get("spec") or {}
    if not isinstance(spec, dict):
        raise errors.bad_request("json: cannot unmarshal into Go struct field SelfSubjectAccessReview.spec")
    resource, other = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    if (resource is None) == (other is None):
        field = "spec.resourceAttributes" if other is None else "spec.nonResourceAttributes"
        said = "Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes must be specified"
        raise errors.invalid(SELF_REVIEW, "", [Cause("FieldValueInvalid", field, said)])
    given = resource if resource is not None else other
    if not isinstance(given, dict) or not all(isinstance(value, str) for value in given.values()):
        raise errors.bad_request("json: cannot unmarshal into Go struct field SelfSubjectAccessReviewSpec.spec")
    if resource is None:
        allowed = given.get("verb") == "get" and str(given.get("path")).startswith(_EVERYBODYS)
    else:
        names = ("verb", "group", "resource", "subresource", "namespace", "name")
        allowed = authorizer.allows(user, Asked(*(given.get(name, "") for name in names)))
    head = {"kind": SELF_REVIEW.kind, "apiVersion": SELF_REVIEW.api_version, "metadata": {}}
    return {**head, "spec": spec, "status": {"allowed": allowed}}
