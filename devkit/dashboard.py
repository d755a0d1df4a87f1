"""`deploy/dashboards/forge-manager.json`: a Grafana dashboard whose queries are made of the catalogue's names.

`python -m devkit.docs` writes it.  Grafana 10 or newer; the data source is asked for when it is imported.
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


_YES_NO: Final = (("0", "no", "text"), ("1", "yes", "green"))

ROWS: Final[tuple[tuple[str, tuple[Panel, ...]], ...]] = (
    (
        "Who forges",
        (
            Panel(
                "Nodes that forge",
                "stat",
                ((f"sum by (network, pool_id) ({_of(c.FORGING, _OURS)})", "{{pool_id}}"),),
                width=4,
                text="One, or none during a change. More is an emergency.",
                steps=((None, "red"), (1, "green"), (2, "red")),
            ),
            Panel(
                "Pods that could forge",
                "stat",
                ((f"sum by (network, pool_id) ({_of(c.READY, _OURS)})", "{{pool_id}}"),),
                width=4,
                text="The forger and its standbys. With one there is no fail-over.",
                steps=((None, "red"), (1, "orange"), (2, "green")),
            ),
            Panel(
                "Forging, by pod",
                "state-timeline",
                ((_of(c.FORGING, _OURS), "{{pod}}"),),
                width=16,
                text="As each node confirmed.",
                mappings=_YES_NO,
            ),
            Panel(
                "Clusters with the right to forge",
                "state-timeline",
                ((f"max by (cluster) ({_of(c.CLUSTER_ENABLED, _OURS)})", "{{cluster}}"),),
                width=12,
                mappings=_YES_NO,
            ),
            Panel(
                "Effective priority (1 comes first)",
                "timeseries",
                ((f"max by (cluster) ({_of(c.CLUSTER_PRIORITY, _OURS)})", "{{cluster}}"),),
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
                ((f"max(increase({c.WITHOUT_FORGER.name}[1d]))", "as the pod that saw most saw it"),),
                unit="s",
            ),
            Panel(
                "Take-overs: from the last sign of the forger before",
                "timeseries",
                tuple(
                    (f"histogram_quantile({q}, sum by (le) (rate({c.TAKEOVERS.name}_bucket[7d])))", f"{q:.0%} within")
                    for q in (0.5, 0.9)
                ),
                unit="s",
            ),
            Panel(
                "Paused by an operator",
                "state-timeline",
                ((c.PAUSED.name, "{{instance}} {{what}}"),),
                mappings=(("0", "no", "text"), ("1", "paused", "orange")),
            ),
            Panel(
                "Changes of leadership, an hour",
                "timeseries",
                ((f"increase({c.CHANGES.name}[1h])", "{{instance}}"),),
            ),
            Panel(
                "Left of the right when it was renewed",
                "timeseries",
                ((c.RENEWAL_MARGIN.name, "{{instance}}"), (f"max({c.USUAL_MARGIN.name})", "usual")),
                unit="s",
                text="At rest near what is usual by LEASE_DURATION and SLEEP_INTERVAL. Less: the API server is slow.",
            ),
            Panel(
                "Told and confirmed differ",
                "timeseries",
                ((f"abs({_of(c.INTENDED, _OURS)} - {_of(c.FORGING, _OURS)})", "{{pod}}"),),
                text="More than a moment is a node that does not do as it is told.",
            ),
            Panel("SIGHUPs, an hour", "timeseries", ((f"increase({c.SIGHUPS.name}[1h])", "{{instance}} {{reason}}"),)),
        ),
    ),
    (
        "Keys",
        (
            Panel(
                "KES days left",
                "timeseries",
                ((f"({_of(c.EXPIRES_AT, _OURS)} - time()) / 86400", "{{pod}}"),),
                unit="d",
                steps=((None, "red"), (2, "orange"), (7, "yellow"), (14, "green")),
            ),
            Panel("Certificate counter", "timeseries", ((_of(c.OPCERT_COUNTER, _OURS), "{{pod}}"),)),
            Panel(
                "Findings",
                "timeseries",
                ((f"{_of(c.FINDINGS, _OURS)} > 0", "{{pod}} {{severity}} {{check}}"),),
                text="An error keeps a pod from contending.",
            ),
        ),
    ),
    (
        "Nodes and clusters",
        (
            Panel("Fit", "state-timeline", ((c.FIT.name, "{{instance}}"),), mappings=_YES_NO),
            Panel("Tip behind", "timeseries", ((c.TIP_LAG.name, "{{instance}}"),), unit="s"),
            Panel(
                "Health checks that failed in a row",
                "timeseries",
                ((c.HEALTH_FAILURES.name, "{{cluster}}"),),
            ),
            Panel("Coordination APIs", "timeseries", ((c.LOCK_MEMBERS.name, "{{instance}} {{state}}"),)),
            Panel("Next slot of the pool", "timeseries", ((c.NEXT_SLOT.name, "{{instance}}"),), unit="s"),
            Panel(
                "Requests to API servers, a minute",
                "timeseries",
                (
                    (f"60 * sum by (instance) (rate({c.API_REQUESTS.name}[5m]))", "{{instance}}"),
                    (f"60 * rate({c.API_FAILURES.name}[5m])", "{{instance}} failed"),
                ),
            ),
        ),
    ),
    (
        "The sidecar itself",
        (
            Panel("Memory", "timeseries", ((c.WORKER_MEMORY.name, "{{instance}} {{worker}}"),), unit="bytes"),
            Panel(
                "CPU",
                "timeseries",
                ((f"rate({c.WORKER_CPU.name}[5m])", "{{instance}} {{worker}}"),),
                unit="percentunit",
            ),
            Panel(
                "Restarts, a day",
                "timeseries",
                ((f"increase({c.WORKER_RESTARTS.name}[1d])", "{{instance}} {{worker}}"),),
            ),
            Panel(
                "Sandbox closed",
                "state-timeline",
                ((c.SANDBOX_CLOSED.name, "{{instance}} {{worker}}"),),
                mappings=_YES_NO,
            ),
            Panel("Beyond the declaration", "timeseries", ((c.VIOLATIONS.name, "{{instance}} {{worker}}"),)),
            Panel("Versions", "table", ((c.BUILD.name, ""),)),
            Panel("Notices that wait", "timeseries", ((c.NOTICES_QUEUED.name, "{{instance}}"),)),
            Panel(
                "Notices, an hour",
                "timeseries",
                ((f"increase({c.NOTICES.name}[1h])", "{{instance}} {{outcome}}"),),
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
        "__inputs": [
            {"name": "DS_PROMETHEUS", "label": "Prometheus", "type": "datasource", "pluginId": "prometheus"},
        ],
        "title": "Cardano Forge Manager",
        "uid": "cardano-forge-manager",
        "tags": ["cardano"],
        "schemaVersion": 39,
        "editable": True,
        "time": {"from": "now-6h", "to": "now"},
        "refresh": "30s",
        "templating": {"list": [_variable("network", "Network"), _variable("pool", "Pool", "pool_id")]},
        "annotations": {"list": []},
        "panels": panels,
    }


_HEIGHT: Final = 8
_SOURCE: Final = {"type": "prometheus", "uid": "${DS_PROMETHEUS}"}


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
