"""The chart's table of values, from the comments in its values.yaml; and the files that it shares with deploy/.

Helm reads nothing outside of a chart's own folder, and Kustomize nothing outside of a kustomization's: what they ship
of deploy/ is a copy, made here, and held against its source by the test of everything that is generated.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import yaml

_DEPLOY: Final = Path(__file__).parent.parent / "deploy"
CHART: Final = _DEPLOY / "chart"
CHART_CRDS: Final = _DEPLOY / "chart-crds"
_KEY: Final = re.compile(r"( *)([A-Za-z]+):(?: |$)")


@dataclass(frozen=True, slots=True)
class Value:
    """What an operator can set."""

    path: str
    """As `helm --set` names it."""
    default: Any
    help: str


def values(chart: Path) -> tuple[Value, ...]:
    """Every value of a chart in the order of its file.  Raises ValueError for one without a comment."""
    text = (chart / "values.yaml").read_text("utf-8")
    return tuple(_values(text, yaml.safe_load(text)))


def _values(text: str, loaded: dict[str, Any]) -> Iterator[Value]:
    comment: list[str] = []
    path: list[str] = []
    for line in text.splitlines():
        if line.lstrip().startswith("#"):
            comment.append(line.lstrip().removeprefix("#").strip())
            continue
        found = _KEY.match(line)
        if found is None:
            comment = []
            continue
        path = [*path[: len(found[1]) // 2], found[2]]
        default: Any = loaded
        for name in path:
            default = default[name]
        if isinstance(default, dict) and default and line.rstrip().endswith(":"):
            comment = []  # what stands below it has rows of its own
            continue
        if not comment:
            raise ValueError(f"{'.'.join(path)} has no comment")
        yield Value(".".join(path), default, " ".join(comment))
        comment = []


def table(chart: Path) -> str:
    """In Markdown."""
    lines = ["| value | default | meaning |", "|---|---|---|"]
    for value in values(chart):
        shown = json.dumps(value.default)
        shown = shown.strip('"') or "(empty)"
        lines.append(f"| `{value.path}` | `{shown}` | {value.help} |")
    return "\n".join(lines)


def _copy(source: Path) -> str:
    return source.read_text("utf-8")


def copies() -> dict[str, Callable[[], str]]:
    """Path below the root -> what belongs there."""
    shared = {
        "deploy/chart/files/rules.yaml": _DEPLOY / "alerts" / "rules.yaml",
        "deploy/chart/files/forge-manager.json": _DEPLOY / "dashboards" / "forge-manager.json",
    }
    for file in sorted((_DEPLOY / "crds").glob("*.yaml")):
        shared |= {f"deploy/{folder}/{file.name}": file for folder in ("chart-crds/files", "kustomize/crds")}
    return {path: partial(_copy, source) for path, source in shared.items()}
