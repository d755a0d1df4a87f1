"""A blocking client for setting a server up: standard library only, one connection a request."""

from __future__ import annotations

import http.client
import json
import ssl
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

Json = dict[str, Any]

_TIMEOUT_S: Final = 30.0
_CLUSTER_WIDE: Final = {"CustomResourceDefinition", "Namespace"}


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer."""

    code: int
    text: str

    @property
    def body(self) -> Json:
        """The JSON in it; ValueError when it is none."""
        found: Json = json.loads(self.text)
        return found


class SetupError(RuntimeError):
    """The server refused what a test's setting needs."""


class AdminClient:
    """Requests to one server as one user."""

    def __init__(self, url: str, ca_file: Path | None, token: str | None) -> None:
        self.timeout_s = _TIMEOUT_S
        """Of each step of a request."""
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 0
        self._context = ssl.create_default_context(cafile=str(ca_file)) if parts.scheme == "https" else None
        self._headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"

    def request(
        self, method: str, path: str, body: Json | None = None, *, content_type: str = "application/json"
    ) -> Answer:
        """One request.  OSError, http.client.HTTPException."""
        connection: http.client.HTTPConnection
        if self._context is None:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=self.timeout_s)
        else:
            connection = http.client.HTTPSConnection(
                self._host, self._port, timeout=self.timeout_s, context=self._context
            )
        try:
            headers = self._headers | {"Content-Type": content_type}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            return Answer(answer.status, answer.read().decode())
        finally:
            connection.close()

    def exists(self, path: str) -> bool:
        """Whether a GET finds something there."""
        return self.request("GET", path).code == HTTPStatus.OK

    def create(self, document: Json, namespace: str = "default") -> None:
        """Creates the object unless there is one of its name.  SetupError."""
        answer = self.request("POST", _collection(document, namespace), document)
        if answer.code not in {HTTPStatus.CREATED, HTTPStatus.CONFLICT}:
            raise SetupError(f"{document['kind']} {document['metadata']['name']}: {answer.code} {answer.text}")

    def merge(self, path: str, patch: Json) -> None:
        """A merge patch.  SetupError."""
        answer = self.request("PATCH", path, patch, content_type="application/merge-patch+json")
        if answer.code != HTTPStatus.OK:
            raise SetupError(f"{path}: {answer.code} {answer.text}")

    def served(self, definition: Json) -> bool:
        """Whether objects of that definition can be listed already."""
        spec = definition["spec"]
        return all(
            self.exists(f"/apis/{spec['group']}/{version['name']}/{spec['names']['plural']}")
            for version in spec["versions"]
            if version["served"]
        )


def _collection(document: Json, namespace: str) -> str:
    version = document["apiVersion"]
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    plural = f"{document['kind'].lower()}s"  # true of every kind that is set up here
    if document["kind"] in _CLUSTER_WIDE:
        return f"{root}/{plural}"
    return f"{root}/namespaces/{document['metadata'].get('namespace', namespace)}/{plural}"
