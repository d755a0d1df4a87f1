"""The kinds of object the server knows: names, scope, schema, printer columns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of `kubectl get`."""

    name: str
    type: str
    """string, integer, number, boolean or date."""
    path: tuple[str, ...]
    """Where in the object."""
    priority: int = 0
    """Above 0: only with -o wide."""
    description: str = ""
    format: str = ""
    show: Callable[[Any], str] | None = None
    """Makes the cell of the value where it is not the value itself."""
    cell: Callable[[Json], Any] | None = None
    """Makes the cell of the whole object; `path` is not looked at."""


@dataclass(frozen=True, slots=True)
class ResourceType:
    """One resource as discovery tells of it."""

    group: str
    """Empty: the core group."""
    version: str
    kind: str
    plural: str
    singular: str
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    status_subresource: bool = False
    custom: bool = False
    """Made by a CustomResourceDefinition: kind and apiVersion must be in every body, and it has a generation."""
    create_on_update: bool = False
    """A PUT to a name that does not exist creates it."""
    unconditional_update: bool = False
    """A PUT without a resourceVersion overwrites."""
    schema: Json | None = None
    """A structural OpenAPI v3 schema; None: spec and status are kept as they come."""
    columns: tuple[Column, ...] = ()
    field_labels: tuple[str, ...] = ()
    """What a fieldSelector may name beside metadata.name and metadata.namespace."""
    label_values: dict[str, Callable[[Json], str]] = field(default_factory=dict)
    """How those are read that are no paths into the object."""
    zero: Json = field(default_factory=dict)
    """What an empty object of a built-in kind holds beside its metadata."""
    name_column: bool = True
    """Whether a table begins with the names."""
    virtual: bool = False
    """A question: its create is answered, and nothing is kept."""

    @property
    def verbs(self) -> list[str]:
        """What can be done with it, as discovery tells."""
        return ["create"] if self.virtual else ["create", "delete", "get", "list", "patch", "update", "watch"]

    @property
    def api_version(self) -> str:
        """As an object's apiVersion says it."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def qualified(self) -> str:
        """As an error message names it: leases.coordination.k8s.io."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def root(self) -> str:
        """The address under which group and version live."""
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"

    @property
    def key(self) -> tuple[str, str]:
        """(group, plural): what tells it from the others."""
        return (self.group, self.plural)


def dig(found: Any, path: tuple[str, ...]) -> Any:
    """The value at that path, or None."""
    for step in path:
        if not isinstance(found, dict):
            return None
        found = found.get(step)
    return found
