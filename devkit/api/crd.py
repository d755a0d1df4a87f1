"""Reads CustomResourceDefinitions: what they say becomes resources of the server."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import yaml

from devkit.api.kinds import Column, ResourceType, dig

Json = dict[str, Any]

DEFAULT_FOLDER: Final = Path(__file__).resolve().parents[2] / "deploy" / "crds"
"""The product's own definitions."""

_AGE: Final[Json] = {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}


def load_manifests(path: Path) -> list[Json]:
    """The objects of a YAML file, or of every YAML file of a folder.  OSError, yaml.YAMLError."""
    files = sorted(path.glob("*.yaml")) if path.is_dir() else [path]
    found: list[Json] = []
    for file in files:
        with file.open(encoding="utf-8") as stream:
            found += [document for document in yaml.safe_load_all(stream) if isinstance(document, dict)]
    return found


def resources_of(definition: Json) -> list[ResourceType]:
    """One resource for each served version.  KeyError when the definition lacks what it must have."""
    spec = definition["spec"]
    names = spec["names"]
    return [
        ResourceType(
            group=spec["group"],
            version=version["name"],
            kind=names["kind"],
            plural=names["plural"],
            singular=names.get("singular") or names["kind"].lower(),
            namespaced=spec.get("scope") == "Namespaced",
            short_names=tuple(names.get("shortNames", ())),
            categories=tuple(names.get("categories", ())),
            status_subresource=dig(version, ("subresources", "status")) is not None,
            custom=True,
            schema=dig(version, ("schema", "openAPIV3Schema")),
            columns=tuple(_column(told) for told in version.get("additionalPrinterColumns") or [_AGE]),
        )
        for version in spec["versions"]
        if version.get("served")
    ]


def _column(told: Json) -> Column:
    return Column(
        name=told["name"],
        type=told["type"],
        path=tuple(told["jsonPath"].lstrip(".").split(".")),
        priority=told.get("priority", 0),
        description=told.get("description", ""),
        format=told.get("format", ""),
    )


def established(definition: Json, since: str) -> Json:
    """The status of a definition that was accepted, as the real server's controllers write it."""
    names = definition["spec"]["names"]
    conditions = [
        ("NamesAccepted", "NoConflicts", "no conflicts found"),
        ("Established", "InitialNamesAccepted", "the initial names have been accepted"),
    ]
    return {
        "acceptedNames": names,
        "storedVersions": [version["name"] for version in definition["spec"]["versions"] if version.get("storage")],
        "conditions": [
            {"type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": since}
            for kind, reason, message in conditions
        ],
    }
