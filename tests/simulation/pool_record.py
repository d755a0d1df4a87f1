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
    _forged: set[str] = dataclasses.field(default_factory=set)
    _none_since: float | None = None

    def tell(self, what: str) -> None:
        self.story.append(f"{asyncio.get_running_loop().time():10.4f} {what}")

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
        if not forgers:
            self._none_since = now_s
        elif self._none_since is not None:
            self.gaps.append(now_s - self._none_since)
            self._none_since = None
