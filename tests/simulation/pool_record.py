"""What was seen of a simulated pool's pods: who forged when, and what must not have been."""

from __future__ import annotations

import asyncio
import dataclasses

from simulated_pod import Pod
from simulated_time import loop_now


@dataclasses.dataclass(kw_only=True)
class PoolRecord:
    pods: list[Pod] = dataclasses.field(init=False, repr=False)
    violations: list[str] = dataclasses.field(default_factory=list)
    story: list[str] = dataclasses.field(default_factory=list)
    gaps: list[float] = dataclasses.field(default_factory=list)
    """Seconds without a forger, since `gaps` was emptied."""
    turns: list[tuple[float, str]] = dataclasses.field(default_factory=list)
    """When (s) who began to forge; "": from then on nobody did."""
    _forged: set[str] = dataclasses.field(default_factory=set)
    _none_since: float | None = None

    def tell(self, what: str) -> None:
        self.story.append(f"{asyncio.get_running_loop().time():10.4f} {what}")

    def interruptions(self, since_s: float) -> list[float]:
        """Seconds without a forger, for each time that the last one ceased at `since_s` or later; one may last yet.

        By it hand-overs are counted: one that was not needed costs little, and shows in no bound for a single gap.
        """
        found: list[float] = []
        stopped_s: float | None = None
        for at_s, forgers in self.turns:
            if not forgers and at_s >= since_s:
                stopped_s = at_s
            elif forgers and stopped_s is not None:
                found.append(at_s - stopped_s)
                stopped_s = None
        if stopped_s is not None:
            found.append(asyncio.get_running_loop().time() - stopped_s)
        return found

    def forgers(self) -> list[Pod]:
        return [pod for pod in self.pods if pod.node.forging]

    def changed(self) -> None:
        """A node began or ended to forge."""
        forgers = self.forgers()
        now_s = asyncio.get_running_loop().time()
        self.tell("forging: " + (", ".join(pod.name for pod in forgers) or "nobody"))
        if len(forgers) > 1:
            self.violations.append(f"{now_s:.4f}: two forge: {[pod.name for pod in forgers]}")
        for pod in forgers:
            if pod.name not in self._forged and loop_now() > pod.node.right_until:
                self.violations.append(f"{now_s:.4f}: {pod.name} forges beyond its right")
        self._forged = {pod.name for pod in forgers}
        self.turns.append((now_s, ", ".join(sorted(self._forged))))
        if not forgers:
            self._none_since = now_s
        elif self._none_since is not None:
            self.gaps.append(now_s - self._none_since)
            self._none_since = None
