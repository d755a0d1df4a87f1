"""`python -m devkit.helm.kustomize`: writes deploy/kustomize from what the chart renders by itself.

One source for both ways to install.  What belongs to Helm is left out: its labels, and the namespace, which the overlay
sets.  Files that are written by hand there (kustomization.yaml, examples/) are left alone.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import yaml

from devkit.chart_doc import CHART
from devkit.helm.build import BuildError
from devkit.helm.chart import Json, render

FOLDER: Final = CHART.parent / "kustomize"
_HEAD: Final = "# Made from deploy/chart by python -m devkit.helm.kustomize.\n"
_HELMS: Final = ("helm.sh/chart", "app.kubernetes.io/managed-by")
_MONITORING: Final[Json] = {
    "scrape": "podMonitor",
    "rules": {"enabled": True},
    "dashboard": {"enabled": True},
}
_OF_MONITORING: Final = ("PodMonitor", "PrometheusRule", "ConfigMap")


def rendered() -> dict[Path, str]:
    """File -> what belongs into it.  Raises BuildError."""
    monitoring = [
        each for each in render(CHART, settings={"monitoring": _MONITORING}) if each["kind"] in _OF_MONITORING
    ]
    return {
        **_files(FOLDER / "base", render(CHART, settings={})),
        **_files(FOLDER / "components" / "monitoring", monitoring),
    }


def _files(folder: Path, objects: Iterable[Json]) -> dict[Path, str]:
    return {folder / f"{each['kind'].lower()}.yaml": _HEAD + _dump(without_helm(each)) for each in objects}


def _dump(document: Json) -> str:
    return yaml.safe_dump(document, sort_keys=False, width=120, allow_unicode=True)


def without_helm(document: Json) -> Json:
    """The object as it is, less what Helm puts into it."""
    metadata = {name: value for name, value in document["metadata"].items() if name != "namespace"}
    metadata["labels"] = {name: value for name, value in metadata["labels"].items() if name not in _HELMS}
    found = document | {"metadata": metadata}
    if "subjects" in found:  # of the binding's own namespace
        found["subjects"] = [{k: v for k, v in each.items() if k != "namespace"} for each in found["subjects"]]
    return found


def main() -> int:
    """Command line."""
    try:
        made = rendered()
    except BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for path, text in made.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
