"""CREDENTIAL_MODE=file: plain files at the target paths, for a node that cannot see our /proc.

The same verbs as `kernel.cwdstage.Stage`, with a weaker promise: when this process is killed the files stay until
its successor takes them away, and three files change one after the other, not at once.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kernel.cwdstage import write_new
from kernel.secretmem import Content


@dataclass(frozen=True, slots=True)
class PlainSet:
    """Prepared files: temporary name -> target, in the order of exposure."""

    moves: tuple[tuple[Path, Path], ...]


class PlainStage:
    """Copies in, takes away.  Begins by taking away what an earlier life left."""

    def __init__(self, targets: Mapping[str, Path]) -> None:
        self._targets = dict(targets)
        self.exposed = False
        self.found = tuple(name for name, target in self._targets.items() if os.path.lexists(target))
        """Names of the files that an earlier life left."""
        self.withdraw()

    def prepare(self, files: Mapping[str, Content]) -> PlainSet:
        """Write all files beside their targets, 0400.  Raises OSError with the path; then nothing of them remains."""
        moves = tuple((_beside(target), target) for target in self._targets.values())
        try:
            for name, target in self._targets.items():
                _beside(target).unlink(missing_ok=True)
                write_new(_beside(target), files[name])
        except OSError:
            for temporary, _ in moves:
                with contextlib.suppress(OSError):  # the first error is the one to tell; withdraw() tries again
                    temporary.unlink(missing_ok=True)
            raise
        return PlainSet(moves)

    def expose(self, prepared: PlainSet) -> None:
        """Rename the files to their targets.  Raises OSError; some of them may be visible then: withdraw."""
        self.exposed = True
        for temporary, target in prepared.moves:
            temporary.rename(target)

    def withdraw(self) -> list[str]:
        """Unlink the targets; what could not be unlinked, in words.

        One missing file is enough to fence: `exposed` stays true only if none could be taken away.
        """
        problems = []
        for target in self._targets.values():
            for path in (target, _beside(target)):
                try:
                    path.unlink(missing_ok=True)
                except OSError as error:
                    problems.append(f"{path} cannot be removed: {error.strerror}")
        self.exposed = self.exposed and all(os.path.lexists(target) for target in self._targets.values())
        return problems

    def problems(self) -> list[str]:
        """Why the targets are not under our control; empty: they are."""
        found = []
        for target in self._targets.values():
            folder = target.parent
            if not folder.is_dir():
                found.append(f"{folder} does not exist; mount the volume shared with the node there")
            elif not os.access(folder, os.W_OK | os.X_OK):
                found.append(f"{folder} is not writable for uid {os.getuid()}")
            elif target.is_dir():
                found.append(f"{target} is a folder, and the node wants a file there: mount its folder, not the file")
        return sorted(set(found))


def _beside(target: Path) -> Path:
    return target.with_name(f".{target.name}.forge-manager")
