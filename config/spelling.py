"""Environment variables whose names are almost one of ours: what nobody reads, though somebody meant it to be read.

Of a variable that is not ours nothing but its name is looked at, or shown.  Workers do without: whoever starts them
says it, and `forgectl`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Final

from config.variables import variables

LIKENESS: Final = 0.92
"""Of difflib: one letter too few or too many in POOL_ID, a wrong one or two in longer names.

POD_NAMESPACE and RELEASE_NAME, which many pods have for other purposes, are below it.
"""
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{4,64}")
_SERVICE: Final = re.compile(r".*_(SERVICE_(HOST|PORT(_.*)?)|PORT_[0-9]+_.*)")
"""What Kubernetes sets for each service of the namespace."""


@dataclass(frozen=True, slots=True)
class Misspelt:
    """A variable that is set and not ours."""

    REASON: ClassVar[str] = "is no variable of ours, and is not read"

    name: str
    meant: str
    """The one of ours that it is almost."""

    def __str__(self) -> str:
        return f"{self.name} {self.REASON}; did you mean {self.meant}?"


def misspelt(names: Iterable[str]) -> tuple[Misspelt, ...]:
    """Those of `names` that are almost ours, in alphabetical order."""
    ours = [variable.name for variable in variables()]
    others = sorted(name for name in set(names) - set(ours) if _NAME.fullmatch(name) and not _SERVICE.fullmatch(name))
    close = ((name, difflib.get_close_matches(name.upper(), ours, 1, LIKENESS)) for name in others)
    return tuple(Misspelt(name, found[0]) for name, found in close if found)
