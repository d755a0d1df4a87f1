"""`deploy/dashboards/forge-manager.json`: a Grafana dashboard whose queries are made of the catalogue's names.

`python -m devkit.docs` writes it.  Grafana 10 or newer.  The data source is a variable, and no input of an import: a
dashboard that Grafana's sidecar loads from a ConfigMap is asked for no inputs, and would show nothing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from gateway import catalogue as c
from gateway.catalogue import Described

FILE: Final = "deploy/dashboards/forge-manager.json"
_WIDTH: Final = 24
"""Of Grafana's grid."""
_OURS: Final = 'network=~"$network", pool_id=~"$pool"'


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture."""

    title: str
    kind: str
    queries: tuple[tuple[str, str], ...]
    """PromQL and legend."""
    width: int = 8
    unit: str = "short"
    text: str = ""
    steps: tuple[tuple[float | None, str], ...] = ((None, "green"),)
    """From which value on which colour."""
    mappings: tuple[tuple[str, str, str], ...] = ()
    """Value, what is written for it, colour."""


def _of(metric: Described, *matchers: str) -> str:
    return f"{metric.name}{{{', '.join(matchers)}}}"


def _ours(query: str, window: str = "") -> str:
    """What carries no pool, of the pods of the chosen pools alone; window: also of those that are gone since then."""
    pods = _of(c.FORGING, _OURS)
    chosen = f"last_over_time({pods}[{window}])" if window else pods
    return f"{query} and on (job, instance) {chosen}"


_WHO: Final = "{{pod}} {{instance}}"
"""Pods of two regions may have one name, and of a metric that does not name its pod the scraper may not either."""


_YES_NO: Final = (("0", "no", "text"), ("1", "yes", "green"))

ROWS: Final[tuple[tuple[str, tuple[Panel, ...]], ...]] = (
    (
        "Who forges",
        (
            Panel(
                "Nodes that forge",
                "stat",
                ((f"sum by (network, pool_id) ({_of(c.FORGING, _OURS)})", "{{network}} {{pool_id}}"),),
                width=4,
                text="One, or none during a change. More is an emergency.",
                steps=((None, "red"), (1, "green"), (2, "red")),
            ),
            Panel(
                "Pods that could forge",
                "stat",
                ((f"sum by (network, pool_id) ({_of(c.READY, _OURS)})", "{{network}} {{pool_id}}"),),
                width=4,
                text="The forger and its standbys. With one there is no fail-over.",
                steps=((None, "red"), (1, "orange"), (2, "green")),
            ),
            Panel(
                "Forging, by pod",
                "state-timeline",
                ((_of(c.FORGING, _OURS), _WHO),),
                width=16,
                text="As each node confirmed.",
                mappings=_YES_NO,
            ),
            Panel(
                "Clusters with the right to forge",
                "state-timeline",
                ((f"max by (network, pool_id, cluster) ({_of(c.CLUSTER_ENABLED, _OURS)})", "{{pool_id}} {{cluster}}"),),
                width=12,
                mappings=_YES_NO,
            ),
            Panel(
                "Effective priority (1 comes first)",
                "timeseries",
                (
                    (
                        f"max by (network, pool_id, cluster) ({_of(c.CLUSTER_PRIORITY, _OURS)})",
                        "{{pool_id}} {{cluster}}",
                    ),
                ),
                width=12,
            ),
        ),
    ),
    (
        "Taking over",
        (
            Panel(
                "Seconds without a forger, a day",
                "timeseries",
                (
                    (
                        f"max({_ours(f'increase({c.WITHOUT_FORGER.name}[1d])', '1d')})",
                        "as the pod that saw most saw it",
                    ),
                ),
                unit="s",
            ),
            Panel(
                "Take-overs: from the last sign of the forger before",
                "timeseries",
                tuple(
                    (
                        f"histogram_quantile({q}, sum by (le) ({_ours(f'rate({c.TAKEOVERS.name}_bucket[7d])', '7d')}))",
                        f"{q:.0%} within",
                    )
                    for q in (0.5, 0.9)
                ),
                unit="s",
            ),
            Panel(
                "Paused by an operator",
                "state-timeline",
                ((_ours(c.PAUSED.name), f"{_WHO} {{{{what}}}}"),),
                mappings=(("0", "no", "text"), ("1", "paused", "orange")),
            ),
            Panel(
                "Changes of leadership, an hour",
                "timeseries",
                ((_ours(f"increase({c.CHANGES.name}[1h])", "1h"), _WHO),),
            ),
            Panel(
                "Left of the right when it was renewed",
                "timeseries",
                ((_ours(c.RENEWAL_MARGIN.name), _WHO), (f"max({_ours(c.USUAL_MARGIN.name)})", "usual")),
                unit="s",
                text="At rest near what is usual by LEASE_DURATION and SLEEP_INTERVAL. Less: the API server is slow.",
            ),
            Panel(
                "Told and confirmed differ",
                "timeseries",
                ((f"abs({_of(c.INTENDED, _OURS)} - {_of(c.FORGING, _OURS)})", _WHO),),
                text="More than a moment is a node that does not do as it is told.",
            ),
            Panel(
                "SIGHUPs, an hour",
                "timeseries",
                ((_ours(f"increase({c.SIGHUPS.name}[1h])", "1h"), f"{_WHO} {{{{reason}}}}"),),
            ),
        ),
    ),
    (
        "Keys",
        (
            Panel(
                "KES days left",
                "timeseries",
                ((f"({_of(c.EXPIRES_AT, _OURS)} - time()) / 86400", _WHO),),
                unit="d",
                steps=((None, "red"), (2, "orange"), (7, "yellow"), (14, "green")),
            ),
            Panel("Certificate counter", "timeseries", ((_of(c.OPCERT_COUNTER, _OURS), _WHO),)),
            Panel(
                "Findings",
                "timeseries",
                ((f"{_of(c.FINDINGS, _OURS)} > 0", f"{_WHO} {{{{severity}}}} {{{{check}}}}"),),
                text="An error keeps a pod from contending.",
            ),
        ),
    ),
    (
        "Nodes and clusters",
        (
            Panel("Fit", "state-timeline", ((_ours(c.FIT.name), _WHO),), mappings=_YES_NO),
            Panel("Tip behind", "timeseries", ((_ours(c.TIP_LAG.name), _WHO),), unit="s"),
            Panel(
                "Health checks that failed in a row",
                "timeseries",
                ((_ours(c.HEALTH_FAILURES.name), f"{{{{cluster}}}} {_WHO}"),),
            ),
            Panel("Coordination APIs", "timeseries", ((_ours(c.LOCK_MEMBERS.name), f"{_WHO} {{{{state}}}}"),)),
            Panel("Next slot of the pool", "timeseries", ((_ours(c.NEXT_SLOT.name), _WHO),), unit="s"),
            Panel(
                "Requests to API servers, a minute",
                "timeseries",
                (
                    (f"60 * sum without (verb) ({_ours(f'rate({c.API_REQUESTS.name}[5m])')})", _WHO),
                    (f"60 * ({_ours(f'rate({c.API_FAILURES.name}[5m])')})", f"{_WHO} failed"),
                ),
            ),
        ),
    ),
    (
        "The sidecar itself",
        (
            Panel("Memory", "timeseries", ((_ours(c.WORKER_MEMORY.name), f"{_WHO} {{{{worker}}}}"),), unit="bytes"),
            Panel(
                "CPU",
                "timeseries",
                ((_ours(f"rate({c.WORKER_CPU.name}[5m])"), f"{_WHO} {{{{worker}}}}"),),
                unit="percentunit",
            ),
            Panel(
                "Restarts, a day",
                "timeseries",
                ((_ours(f"increase({c.WORKER_RESTARTS.name}[1d])", "1d"), f"{_WHO} {{{{worker}}}}"),),
            ),
            Panel(
                "Sandbox closed",
                "state-timeline",
                ((_ours(c.SANDBOX_CLOSED.name), f"{_WHO} {{{{worker}}}}"),),
                mappings=_YES_NO,
            ),
            Panel("Beyond the declaration", "timeseries", ((_ours(c.VIOLATIONS.name), f"{_WHO} {{{{worker}}}}"),)),
            Panel("Versions", "table", ((_ours(c.BUILD.name), ""),)),
            Panel("Notices that wait", "timeseries", ((_ours(c.NOTICES_QUEUED.name), _WHO),)),
            Panel(
                "Notices, an hour",
                "timeseries",
                ((_ours(f"increase({c.NOTICES.name}[1h])", "1h"), f"{_WHO} {{{{outcome}}}}"),),
                text="Dropped: nobody will get them.",
            ),
        ),
    ),
)


def rendered() -> str:
    """The file's content."""
    return json.dumps(_dashboard(), indent=2) + "\n"


def _dashboard() -> dict[str, Any]:
    panels: list[dict[str, Any]] = []
    top = 0
    for title, members in ROWS:
        panels.append(_row(title, len(panels) + 1, top))
        top += 1
        left = 0
        for member in members:
            if left + member.width > _WIDTH:
                top, left = top + _HEIGHT, 0
            place = {"h": _HEIGHT, "w": member.width, "x": left, "y": top}
            panels.append(_panel(member, len(panels) + 1, place))
            left += member.width
        top += _HEIGHT
    return {
        "title": "Cardano Forge Manager",
        "uid": "cardano-forge-manager",
        "tags": ["cardano"],
        "schemaVersion": 39,
        "editable": True,
        "time": {"from": "now-6h", "to": "now"},
        "refresh": "30s",
        "templating": {"list": [_SOURCES, _variable("network", "Network"), _variable("pool", "Pool", "pool_id")]},
        "annotations": {"list": []},
        "panels": panels,
    }


_HEIGHT: Final = 8
_SOURCES: Final = {
    "name": "datasource",
    "label": "Prometheus",
    "type": "datasource",
    "query": "prometheus",
    "includeAll": False,
    "multi": False,
    "refresh": 1,
    "current": {},
}
_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}


def _variable(name: str, label: str, of: str = "") -> dict[str, Any]:
    query = f"label_values({c.FORGING.name}, {of or name})"
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": query, "refId": name},
        "definition": query,
        "includeAll": True,
        "allValue": ".*",  # also pods without POOL_ID, which have no such label
        "multi": True,
        "refresh": 2,
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
    }


def _row(title: str, number: int, top: int) -> dict[str, Any]:
    place = {"h": 1, "w": _WIDTH, "x": 0, "y": top}
    return {"type": "row", "id": number, "title": title, "collapsed": False, "gridPos": place, "panels": []}


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    options = {
        value: {"text": text, "color": colour, "index": i} for i, (value, text, colour) in enumerate(panel.mappings)
    }
    instant = panel.kind in ("stat", "table")
    return {
        "type": panel.kind,
        "id": number,
        "title": panel.title,
        "description": panel.text,
        "datasource": _SOURCE,
        "gridPos": place,
        "targets": [
            {
                "refId": chr(ord("A") + i),
                "expr": query,
                "legendFormat": legend,
                "datasource": _SOURCE,
                "instant": instant,
                "range": not instant,
                **({"format": "table"} if panel.kind == "table" else {}),
            }
            for i, (query, legend) in enumerate(panel.queries)
        ],
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit,
                "mappings": [{"type": "value", "options": options}] if options else [],
                "thresholds": {
                    "mode": "absolute",
                    "steps": [{"value": value, "color": colour} for value, colour in panel.steps],
                },
            },
            "overrides": [],
        },
        "options": {},
    }
