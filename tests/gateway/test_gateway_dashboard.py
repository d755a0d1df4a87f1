"""The dashboard asks for series that there are, in PromQL that Prometheus takes, and is what the code makes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from promtool import needs_promtool, promtool

from devkit import dashboard
from devkit.docs import ROOT
from gateway import catalogue
from gateway.catalogue import Kind

SHOWN: dict[str, Any] = json.loads((ROOT / dashboard.FILE).read_text())
PANELS = [panel for panel in SHOWN["panels"] if panel["type"] != "row"]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]
VARIABLES = {each["name"]: each for each in SHOWN["templating"]["list"]}
QUERIES += [
    re.sub(r"label_values\((.*), .*\)", r"\1", each["definition"])
    for each in VARIABLES.values()
    if each["type"] == "query"
]
TARGETS = {"instance", "job", "pod"}
"""Labels that a scraper gives; of `pod` nothing but a legend may make use, for not every scraper does."""


def test_the_file_is_what_the_code_makes_now() -> None:
    """Run `python -m devkit.docs` when this fails."""
    assert (ROOT / dashboard.FILE).read_text() == dashboard.rendered()


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_names_metrics_and_labels_that_there_are(query: str) -> None:
    names = set(re.findall(r"\bcardano_\w+", query))
    assert names
    for name in names:
        described = catalogue.EVERY[name.removesuffix("_bucket") if name.endswith("_bucket") else name]
        assert name.endswith("_bucket") == (described.kind is Kind.HISTOGRAM)
        matched = re.findall(rf"{name}\{{([^}}]*)\}}", query)
        labels = {label for each in matched for label in re.findall(r"(\w+)=", each)}
        labels |= {label.strip() for each in re.findall(r"by \(([^)]*)\)", query) for label in each.split(",")}
        assert labels - {"le", "instance"} <= set(described.labels)


def test_a_dashboard_that_grafana_loads_from_a_file_finds_its_source_without_being_asked() -> None:
    """Nobody answers the inputs of an import there: `${DS_PROMETHEUS}` would stay as it is, and all panels empty."""
    assert "__inputs" not in SHOWN
    assert VARIABLES["datasource"]["type"] == "datasource"
    asked = [part["datasource"] for panel in PANELS for part in (panel, *panel["targets"])]
    asked += [each["datasource"] for each in VARIABLES.values() if each["type"] == "query"]
    assert {each["uid"] for each in asked} == {"${datasource}"}
    for name in re.findall(r"\$\{?(\w+)", json.dumps(SHOWN).replace("$__all", "")):
        assert name in VARIABLES


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_shows_the_chosen_pools_and_no_other(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        assert 'network=~"$network", pool_id=~"$pool"' in target["expr"]
    assert all(VARIABLES[name]["allValue"] == ".*" for name in ("network", "pool")), "pods without POOL_ID, too"


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_what_a_legend_names_survives_the_query(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        named = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
        kept = re.search(r"by \(([^)]*)\)", target["expr"])
        if kept:
            assert named <= {label.strip() for label in kept[1].split(",")}
        else:
            described = next(catalogue.EVERY[n] for n in re.findall(r"\bcardano_\w+", target["expr"]))
            assert named <= {*described.labels, *TARGETS}


def test_no_panel_lies_on_another() -> None:
    assert len({panel["id"] for panel in SHOWN["panels"]}) == len(SHOWN["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in SHOWN["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert max(x for x, _ in cells) < 24
        assert not taken & cells, panel["title"]
        taken |= cells


@needs_promtool
def test_prometheus_takes_every_query(tmp_path: Path) -> None:
    rules = [{"record": f"query:{n}", "expr": query} for n, query in enumerate(QUERIES)]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = promtool("check", "rules", str(file))
    assert done.returncode == 0, done.stdout + done.stderr
