"""OpenAPI v3 as far as kubectl needs it: schemas for `explain`, and that writes take `fieldValidation`.

kubectl validates on the server's side when a kind's PATCH is documented to know that parameter.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any, Final

from devkit.api.discovery import VERSION
from devkit.api.kinds import ResourceType
from devkit.api.objectmeta import META_SCHEMA

Json = dict[str, Any]

_QUERY: Final = [
    {"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": True}}
    for name in ("dryRun", "fieldManager", "fieldValidation")
]


def index(resources: Iterable[ResourceType]) -> Json:
    """/openapi/v3"""
    listed = list(resources)
    roots = sorted({one.root for one in listed})
    paths = {}
    for root in roots:
        digest = hashlib.sha256(json.dumps(document(listed, root), sort_keys=True).encode()).hexdigest()[:32]
        paths[root.lstrip("/")] = {"serverRelativeURL": f"/openapi/v3{root}?hash={digest}"}
    return {"paths": paths}


def document(resources: Iterable[ResourceType], root: str) -> Json | None:
    """/openapi/v3/apis/GROUP/VERSION, None when there is no such group version."""
    found = [one for one in resources if one.root == root]
    if not found:
        return None
    paths: Json = {}
    schemas: Json = {}
    for one in found:
        gvk = {"group": one.group, "version": one.version, "kind": one.kind}
        name = f"{'.'.join(reversed((one.group or 'core').split('.')))}.{one.version}.{one.kind}"
        schemas[name] = {**_documented(one), "x-kubernetes-group-version-kind": [gvk]}
        for path in _addresses(one):
            operation = {
                "parameters": _QUERY,
                "x-kubernetes-group-version-kind": gvk,
                "responses": {"200": {"description": "OK"}},
            }
            paths[path] = {"get": operation, "put": operation, "patch": operation}
    info = {"title": "Kubernetes", "version": VERSION["gitVersion"]}
    return {"openapi": "3.0.0", "info": info, "paths": paths, "components": {"schemas": schemas}}


def _documented(one: ResourceType) -> Json:
    given = one.schema or {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {**given, "properties": {**given.get("properties", {}), "metadata": META_SCHEMA}}


def _addresses(one: ResourceType) -> list[str]:
    if one.virtual:
        return []
    place = f"{one.root}/namespaces/{{namespace}}/{one.plural}" if one.namespaced else f"{one.root}/{one.plural}"
    addresses = [f"{place}/{{name}}"]
    if one.status_subresource:
        addresses.append(f"{place}/{{name}}/status")
    return addresses
