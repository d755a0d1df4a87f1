"""Prints what the fault tests measured: `python -m devkit.results FILE...`, one column per file."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main() -> None:
    files = [Path(name) for name in sys.argv[1:]]
    found: dict[str, dict[str, dict[str, float]]] = {}
    for file in files:
        for line in file.read_text().splitlines() if file.exists() else []:
            row = json.loads(line)
            found.setdefault(row["fault"], {})[file.stem] = row
    width = max((len(name) for name in found), default=5)
    print(f"{'fault':<{width}}  {'bound':>6}  " + "  ".join(f"{f.stem + ' (gap, two)':>26}" for f in files))
    for name, rows in sorted(found.items()):
        bound = next(iter(rows.values()))["bound"]
        cells = [
            f"{rows[f.stem]['gap']:>18.3f} {rows[f.stem]['overlap']:>7.3f}" if f.stem in rows else " " * 26
            for f in files
        ]
        print(f"{name:<{width}}  {bound:>6.1f}  " + "  ".join(cells))


if __name__ == "__main__":
    main()
