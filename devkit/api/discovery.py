"""What clients ask before anything else: which groups, versions and resources there are.

Both forms are given: the plain one (one document a group version) and the aggregated one that kubectl asks for first.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from devkit.api.kinds import ResourceType

Json = dict[str, Any]

AGGREGATED: Final = "APIGroupDiscoveryList"
_SUB_VERBS: Final = ["get", "patch", "update"]

VERSION: Final[Json] = {
    "major": "1",
    "minor": "37",
    "gitVersion": "v1.37.2",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "go1.26",
    "compiler": "gc",
    "platform": "linux/amd64",
}


def core_versions(address: str) -> Json:
    """/api"""
    by_client = [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}]
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": by_client}


def group_list(resources: Iterable[ResourceType]) -> Json:
    """/apis"""
    groups = [_group(name, versions) for name, versions in _groups(resources).items() if name]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def group(resources: Iterable[ResourceType], name: str) -> Json | None:
    """/apis/GROUP, None when there is no such group."""
    versions = _groups(resources).get(name)
    return None if versions is None else {"kind": "APIGroup", "apiVersion": "v1", **_group(name, versions)}


def resource_list(resources: Iterable[ResourceType], group_name: str, version: str) -> Json | None:
    """/api/v1 and /apis/GROUP/VERSION, None when there is nothing."""
    found = [one for one in resources if (one.group, one.version) == (group_name, version)]
    if not found:
        return None
    told: list[Json] = []
    for one in found:
        entry: Json = {
            "name": one.plural,
            "singularName": one.singular,
            "namespaced": one.namespaced,
            "kind": one.kind,
            "verbs": one.verbs,
        }
        if one.short_names:
            entry["shortNames"] = list(one.short_names)
        if one.categories:
            entry["categories"] = list(one.categories)
        told.append(entry)
        if one.status_subresource:
            told.append(
                {
                    "name": f"{one.plural}/status",
                    "singularName": "",
                    "namespaced": one.namespaced,
                    "kind": one.kind,
                    "verbs": _SUB_VERBS,
                }
            )
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{group_name}/{version}" if group_name else version,
        "resources": told,
    }


def aggregated(resources: Iterable[ResourceType], *, core: bool) -> Json:
    """The same in one document: of /api (core) or of /apis."""
    items = [
        {
            "metadata": {"name": name, "creationTimestamp": None} if name else {"creationTimestamp": None},
            "versions": [
                {"version": version, "freshness": "Current", "resources": [_aggregated_resource(one) for one in found]}
                for version, found in versions.items()
            ],
        }
        for name, versions in _groups(resources).items()
        if core == (not name)
    ]
    return {"kind": AGGREGATED, "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items}


def _aggregated_resource(one: ResourceType) -> Json:
    response = {"group": one.group, "version": one.version, "kind": one.kind}
    told: Json = {
        "resource": one.plural,
        "responseKind": response,
        "scope": "Namespaced" if one.namespaced else "Cluster",
        "singularResource": one.singular,
        "verbs": one.verbs,
    }
    if one.short_names:
        told["shortNames"] = list(one.short_names)
    if one.categories:
        told["categories"] = list(one.categories)
    if one.status_subresource:
        told["subresources"] = [{"subresource": "status", "responseKind": response, "verbs": _SUB_VERBS}]
    return told


def _groups(resources: Iterable[ResourceType]) -> dict[str, dict[str, list[ResourceType]]]:
    found: dict[str, dict[str, list[ResourceType]]] = {}
    for one in resources:
        found.setdefault(one.group, {}).setdefault(one.version, []).append(one)
    return found


def _group(name: str, versions: Iterable[str]) -> Json:
    told = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"name": name, "versions": told, "preferredVersion": told[0]}
