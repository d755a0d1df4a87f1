"""Kubernetes Events: what happened to an object, for `kubectl describe` and `kubectl get events`."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Final

from kube.session import ApiSession, Json
from policy.wall_time import rfc3339

COMPONENT: Final = "cardano-forge-manager"
MOST_MESSAGE: Final = 1024
"""The API takes no longer one."""


@dataclass(frozen=True, slots=True)
class Regarding:
    """The object that an event is about."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str


async def emit(
    session: ApiSession,
    about: Regarding,
    *,
    reason: str,
    message: str,
    warning: bool,
    pod: str,
    wall_s: float,
    timeout_s: float,
) -> None:
    """Record one event.  `reason`: one word; `wall_s`: seconds since 1970.  Raises ApiFailure."""
    at = rfc3339(int(wall_s))
    body: Json = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{about.name}.{secrets.token_hex(8)}", "namespace": about.namespace},
        "involvedObject": {
            "apiVersion": about.api_version,
            "kind": about.kind,
            "namespace": about.namespace,
            "name": about.name,
            "uid": about.uid,
        },
        "reason": reason,
        "message": message[:MOST_MESSAGE],
        "type": "Warning" if warning else "Normal",
        "firstTimestamp": at,
        "lastTimestamp": at,
        "count": 1,
        "source": {"component": COMPONENT, "host": pod},
        "reportingComponent": COMPONENT,
        "reportingInstance": pod,
    }
    await session.request("create", f"/api/v1/namespaces/{about.namespace}/events", body=body, timeout_s=timeout_s)
