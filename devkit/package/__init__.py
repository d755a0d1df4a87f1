"""`python -m devkit.package`: the files of a release, from one commit, with their checksums.

Promises: what is packaged is what was committed, not what lies about; the same commit gives the same bytes (times are
the commit's, owners nobody's); the wheel is made of the very source distribution that stands beside it; a part that
cannot be made is an error, never left out; nothing is made of a commit that its tag contradicts.  An unpacked source
distribution packages itself the same way, without git.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from devkit.package.others import chart, image, sbom
from devkit.package.python import install, sdist, wheel
from devkit.package.release import contradictions
from devkit.package.source import CannotPackage, Making, changed_since, source_of, tags_of

__all__ = ["DEFAULT", "PARTS", "ROOT", "SUMS", "CannotPackage", "changed_since", "install", "package", "sums"]

ROOT: Final = Path(__file__).resolve().parents[2]
SUMS: Final = "SHA256SUMS"
PARTS: Final[dict[str, Callable[[Making], list[Path]]]] = {
    "wheel": wheel,
    "sdist": sdist,
    "chart": chart,
    "image": image,
    "sbom": sbom,
}
"""Part -> who makes it: files in `out`, or CannotPackage."""
DEFAULT: Final = ("wheel", "sdist")
"""What needs nothing but Python, git and a package index."""


def package(parts: list[str], root: Path, out: Path) -> list[Path]:
    """Make `out` hold these parts and their checksums, and nothing else.

    Raises CannotPackage; then `out` is as it was.
    """
    if unknown := [part for part in parts if part not in PARTS]:
        raise CannotPackage(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    with source_of(root) as source, tempfile.TemporaryDirectory(prefix="package-") as made:
        if wrong := contradictions(source.folder, tags_of(root)):
            raise CannotPackage("the commit is not the release that its tag says:\n" + "\n".join(wrong))
        work, fresh = Path(made) / "work", Path(made) / "out"
        work.mkdir()
        fresh.mkdir()
        making = Making(source, root, work, fresh)
        files = [file for part in dict.fromkeys(parts) for file in PARTS[part](making)]
        (fresh / SUMS).write_text("".join(sums(files)), "ascii")
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(fresh, out)
    return sorted(out.iterdir())


def sums(files: list[Path]) -> list[str]:
    """As `sha256sum --check` reads them."""
    return [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in sorted(files)]
