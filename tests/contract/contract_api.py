"""A plain HTTP client for the contract tests: what is sent and what comes back, nothing between."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from devkit.api import ADMIN, SyncApiServer

Json = dict[str, Any]

PATIENCE_S = 60.0
"""For what must happen; only a broken server waits so long."""

SIDECAR_NAMESPACE = "forge-rbac"
SIDECAR = f"system:serviceaccount:{SIDECAR_NAMESPACE}:cardano-forge-crds"
"""The user that deploy/rbac's ServiceAccount is, in that namespace."""

Kubectl = Callable[..., Awaitable[str]]
"""Arguments in, standard output out."""

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON_PATCH = "application/json-patch+json"
APPLY = "application/apply-patch+yaml"
UNASKED = "<nil>"
"""The field of a cause that is about none."""
AS_TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"


@dataclass(frozen=True)
class Answer:
    """What the server said."""

    code: int
    text: str
    warnings: list[str]

    @property
    def body(self) -> Json:
        found: Json = json.loads(self.text)
        return found

    @property
    def version(self) -> str:
        found: str = self.body["metadata"]["resourceVersion"]
        return found

    @property
    def spec(self) -> Json:
        found: Json = self.body["spec"]
        return found

    @property
    def managers(self) -> list[Json]:
        """Whose the fields are, without times."""
        entries = self.body["metadata"].get("managedFields", [])
        return [{name: value for name, value in entry.items() if name != "time"} for entry in entries]

    def owned_by(self, manager: str, operation: str = "Apply", subresource: str = "") -> Json:
        """fieldsV1 of that manager; empty when he has no entry."""
        wanted = (manager, operation, subresource)
        for entry in self.managers:
            if (entry["manager"], entry["operation"], entry.get("subresource", "")) == wanted:
                fields: Json = entry["fieldsV1"]
                return fields
        return {}

    @property
    def reason(self) -> str:
        return str(self.body.get("reason", ""))

    @property
    def fields(self) -> set[str]:
        """The fields that a refusal names; not that rules in CEL were left unasked because of them."""
        return {cause["field"] for cause in self._causes}

    @property
    def findings(self) -> list[str]:
        """What it says of them, in order."""
        return [cause["message"] for cause in self._causes]

    @property
    def _causes(self) -> list[Json]:
        causes = self.body.get("details", {}).get("causes", [])
        return [cause for cause in causes if cause["field"] != UNASKED]


class Stream:
    """A running watch."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.code = response.status

    async def next(self) -> Json:
        """The next event.  AssertionError when the stream ended instead."""
        event = await self.next_or_end()
        assert event is not None, "the watch ended"
        return event

    async def next_or_end(self) -> Json | None:
        async with asyncio.timeout(PATIENCE_S):
            line = await self._response.content.readline()
        return json.loads(line) if line.strip() else None

    async def to_the_end(self) -> list[Json]:
        events: list[Json] = []
        while (event := await self.next_or_end()) is not None:
            events.append(event)
        return events


@dataclass
class Api:
    """One user in one namespace."""

    session: aiohttp.ClientSession
    server: SyncApiServer
    namespace: str
    user: str | None = ADMIN
    headers: dict[str, str] = field(default_factory=dict)

    def leases(self, name: str = "") -> str:
        return f"/apis/coordination.k8s.io/v1/namespaces/{self.namespace}/leases" + (f"/{name}" if name else "")

    def clusters(self, name: str = "") -> str:
        return f"/apis/cardano.io/v1/namespaces/{self.namespace}/cardanoforgeclusters" + (f"/{name}" if name else "")

    def events(self, name: str = "") -> str:
        return f"/api/v1/namespaces/{self.namespace}/events" + (f"/{name}" if name else "")

    def leaders(self, name: str = "") -> str:
        return f"/apis/cardano.io/v1/namespaces/{self.namespace}/cardanoleaders" + (f"/{name}" if name else "")

    def _headers(self, content: str, accept: str) -> dict[str, str]:
        given = {"Content-Type": content, "Accept": accept, **self.headers}
        if self.user is not None:
            given["Authorization"] = f"Bearer {self.server.token_for(self.user)}"
        return given

    async def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        content: str = "application/json",
        accept: str = "application/json",
        query: Mapping[str, str] | None = None,
    ) -> Answer:
        data = body if isinstance(body, str) or body is None else json.dumps(body)
        async with self.session.request(
            method, self.server.url + path, data=data, headers=self._headers(content, accept), params=query
        ) as response:
            return Answer(response.status, await response.text(), response.headers.getall("Warning", []))

    async def get(self, path: str, **query: str) -> Answer:
        return await self.request("GET", path, query=query)

    async def post(self, path: str, body: Any, **query: str) -> Answer:
        return await self.request("POST", path, body, query=query)

    async def put(self, path: str, body: Any, **query: str) -> Answer:
        return await self.request("PUT", path, body, query=query)

    async def patch(self, path: str, body: Any, content: str = MERGE, **query: str) -> Answer:
        return await self.request("PATCH", path, body, content=content, query=query)

    async def apply(self, path: str, body: Any, manager: str, *, force: bool = False) -> Answer:
        """Server-side apply."""
        return await self.patch(path, body, APPLY, fieldManager=manager, force="true" if force else "false")

    async def delete(self, path: str, body: Any = None) -> Answer:
        return await self.request("DELETE", path, body)

    @asynccontextmanager
    async def watch(self, path: str, accept: str = "application/json", **query: str) -> AsyncIterator[Stream]:
        """A watch; leaving ends it from our side."""
        async with self.session.get(
            self.server.url + path, headers=self._headers("application/json", accept), params={"watch": "1", **query}
        ) as response:
            try:
                yield Stream(response)
            finally:
                # Without this a TLS connection waits for the server's goodbye, longer than the test's loop lives.
                if response.connection is not None and response.connection.transport is not None:
                    response.connection.transport.abort()

    async def create_lease(self, name: str, **spec: Any) -> Answer:
        """It must succeed."""
        answer = await self.post(self.leases(), lease(name, **spec))
        assert answer.code == 201, answer.text
        return answer

    async def create_cluster(self, name: str, **spec: Any) -> Answer:
        """It must succeed."""
        answer = await self.post(self.clusters(), cluster(name, **spec))
        assert answer.code == 201, answer.text
        return answer


def lease(name: str, **spec: Any) -> Json:
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}, "spec": spec}


def cluster(name: str, **spec: Any) -> Json:
    return {
        "apiVersion": "cardano.io/v1",
        "kind": "CardanoForgeCluster",
        "metadata": {"name": name},
        "spec": {"network": {"name": "mainnet", "magic": 764824073}, "region": "us-east-1", **spec},
    }


def leader(name: str) -> Json:
    return {"apiVersion": "cardano.io/v1", "kind": "CardanoLeader", "metadata": {"name": name}, "spec": {}}


def client_context(server: SyncApiServer) -> ssl.SSLContext | bool:
    """What aiohttp needs to trust the server."""
    return True if server.ca_file is None else ssl.create_default_context(cafile=str(server.ca_file))
