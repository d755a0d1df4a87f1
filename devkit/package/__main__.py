"""Command line."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from devkit.ending import end_cleanly
from devkit.package import DEFAULT, PARTS, ROOT, CannotPackage, changed_since, package


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m devkit.package", description="The files of a release, from one commit, with their checksums."
    )
    parser.add_argument("parts", nargs="*", default=list(DEFAULT), help=f"of {', '.join(PARTS)}")
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    asked = parser.parse_args()
    end_cleanly()
    try:
        made = package(asked.parts or list(DEFAULT), ROOT, asked.out)
    except CannotPackage as error:
        sys.exit(f"package: {error}")
    if changed := changed_since(ROOT):
        print("package: not committed, and so not in it:", *changed, sep="\n", file=sys.stderr)
    for file in made:
        print(f"{file.stat().st_size:>10}  {file}")


if __name__ == "__main__":
    main()
