"""Whether the commit is what its tag says: `make package` makes nothing of one that contradicts itself."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Final

_TAG: Final = re.compile(r"v\d.*")
_BASE: Final = re.compile(r"\d+\.\d+\.\d+")


def contradictions(source: Path, tags: list[str]) -> list[str]:
    """What differs from the tags vVERSION of this commit, a line each; nothing where there is no such tag."""
    released = [tag[1:] for tag in tags if _TAG.fullmatch(tag)]
    if not released:
        return []
    version = str(tomllib.loads(_text(source / "pyproject.toml"))["project"]["version"])
    found = [f"it is tagged v{other}, and pyproject.toml says {version}" for other in released if other != version]
    if not re.search(rf"^## {re.escape(version)} \(\d{{4}}-\d\d-\d\d\)$", _text(source / "CHANGELOG.md"), re.MULTILINE):
        found.append(f"CHANGELOG.md has no section `## {version} (YYYY-MM-DD)`")
    base = _BASE.match(version)
    for name in ("deploy/chart/Chart.yaml", "deploy/chart-crds/Chart.yaml"):
        told = set(re.findall(r'^(?:version|appVersion): "?([^"\s]+)', _text(source / name), re.MULTILINE))
        if base is not None and told != {base[0]}:
            found.append(f"{name} says {' and '.join(sorted(told)) or 'no version'}")
    return found


def _text(file: Path) -> str:
    return file.read_text("utf-8") if file.is_file() else ""
