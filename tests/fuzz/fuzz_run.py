"""How long to fuzz, from which seed, and what may have grown by then.

FORGE_FUZZ_FRAMES: spoilt frames of the run in process; each real socket gets a fiftieth of it.
FORGE_FUZZ_SEED: which ones; a failure says its seed.
"""

from __future__ import annotations

import gc
import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

LONG: Final = "FORGE_FUZZ_FRAMES" in os.environ
FRAMES: Final = int(os.environ.get("FORGE_FUZZ_FRAMES", "50000"))
ON_SOCKETS: Final = max(FRAMES // 50, 500)
SEED: Final = int(os.environ.get("FORGE_FUZZ_SEED", str(random.SystemRandom().randrange(2**32)) if LONG else "4"))
"""Another one each time where there is time to find something new; else one that fails again for whoever looks."""

PATIENCE_S: Final = 120
MOST_BLOCKS: Final = 1000
"""Python objects that may remain beyond those of the warm-up: caches of a few hundred, and no more for more frames."""
MOST_RSS: Final = 24 * 2**20


def _rss() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _interned_for_ever() -> bool:
    """Whether this Python never frees an interned text, and msgpack interns each key of a map (3.12 did: gh-113993)."""
    before = sys.getallocatedblocks()
    for number in range(1000):
        sys.intern(f"fuzz {SEED} {number}")
    return sys.getallocatedblocks() - before > 500


class Memory:
    """What this process holds, compared with what it held when warm."""

    def __init__(self) -> None:
        self.blocks, self.rss = self._now()

    @staticmethod
    def _now() -> tuple[int, int]:
        gc.collect()
        return sys.getallocatedblocks(), _rss()

    def has_not_grown(self) -> str:
        """Asserts it; what to say of it."""
        blocks, rss = self._now()
        said = f"{blocks - self.blocks:+} objects, {(rss - self.rss) / 2**20:+.1f} MiB resident since warm"
        assert blocks - self.blocks < MOST_BLOCKS or _interned_for_ever(), said
        assert rss - self.rss < MOST_RSS, said
        return said


class Run:
    """`with Run(...) as run`: random numbers by the seed; says how it went, in failures too."""

    def __init__(self, name: str, frames: int, say: Callable[[str], None]) -> None:
        self.rng = random.Random(f"{SEED} {name}")
        self.frames = frames
        self.done = 0
        self.facts: list[str] = []
        self._name, self._say = name, say

    def __enter__(self) -> Self:
        self._say(f"fuzz {self._name}: {self.frames} frames, FORGE_FUZZ_SEED={SEED}")
        self._began = time.monotonic()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        took = time.monotonic() - self._began
        how = "fails after" if kind is not None else "done,"
        facts = "; ".join([f"{self.done} frames in {took:.1f} s ({self.done / took:.0f}/s)", *self.facts])
        self._say(f"fuzz {self._name}: {how} {facts}; FORGE_FUZZ_SEED={SEED}")
