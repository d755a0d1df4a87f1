"""A notice as receivers get it: a CloudEvent 1.0 in JSON (structured mode).  Pure.

Source: CloudEvents 1.0.2, "CloudEvents - JSON Format".  `severity` is an extension attribute of ours.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from policy.notices import Notice
from policy.wall_time import shown

CONTENT_TYPE: Final = "application/cloudevents+json; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Sender:
    """Who tells."""

    namespace: str
    pod: str
    network: str
    pool_id: str
    cluster: str
    subject: str
    """The pool, or where it has no name the Lease."""


def cloud_event(notice: Notice, identity: str, sender: Sender) -> dict[str, Any]:
    """All attributes.  `identity`: the id, the same for each attempt to send it."""
    return {
        "specversion": "1.0",
        "id": identity,
        "source": f"/{sender.namespace}/{sender.pod}",
        "type": notice.kind.type,
        "subject": sender.subject,
        "time": shown(notice.wall_s),
        "datacontenttype": "application/json",
        "severity": str(notice.gravity),
        "data": _data(notice, sender),
    }


def body(notice: Notice, identity: str, sender: Sender) -> str:
    """The same as it is sent."""
    return json.dumps(cloud_event(notice, identity, sender), separators=(",", ":"))


def _data(notice: Notice, sender: Sender) -> dict[str, Any]:
    return {
        "message": in_words(notice, sender.pod),
        "pod": sender.pod,
        "namespace": sender.namespace,
        "network": sender.network,
        "pool_id": sender.pool_id,
        "cluster": sender.cluster,
        "about": notice.about,
        "old": notice.old,
        "new": notice.new,
        "why": notice.why,
        "token": notice.token or None,
        "seconds": notice.seconds,
        "held_back": notice.held_back,
        **dict(notice.more),
    }


def in_words(notice: Notice, pod: str) -> str:
    """One line for people."""
    about = f" ({notice.about})" if notice.about else ""
    change = f"{notice.old} -> {notice.new}" if notice.old else notice.new
    why = f": {notice.why}" if notice.why else ""
    return f"{pod}: {notice.kind.name}{about}: {change}{why}"
