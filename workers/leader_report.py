"""Keeps CardanoLeader's status in step with what this pod is: written on change, never in the way of the lease.

Only the holder writes; what it wrote last is taken back after a hand-over unless the next leader was faster (the
patch carries the resourceVersion we know, so a late write of ours is refused by the server).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from datetime import UTC, datetime
from typing import Final

from kube.errors import ApiFailure
from kube.leader_status import Condition, LeaderStatus, LeaderStatusClient, Outcome

log = logging.getLogger("elector")

TIMEOUT_S: Final = 3.0
RETRY_S: Final = 5.0
LAST_WRITE_S: Final = 0.7


class LeaderReporter:
    """`report` says what is; a task of its own writes it."""

    def __init__(self, client: LeaderStatusClient, pod: str) -> None:
        self._client = client
        self._pod = pod
        self._led = False
        self._said: tuple[bool, bool] | None = None
        self._wanted: LeaderStatus | None = None
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._settled = asyncio.Event()
        """Nothing is waiting to be written, or writing it failed."""
        self._failed = False
        self._no_crd = False

    def report(self, *, leading: bool, forging: bool, reason: str) -> None:
        """Call as often as you like; only a change is written."""
        if (leading, forging) == self._said or not (leading or self._led):
            return
        self._said = (leading, forging)
        self._led = leading
        now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        why = "Forging" if forging else ("Elected" if leading else "Released")
        message = f"{self._pod} forges" if forging else f"{self._pod}: {reason}"
        self._wanted = LeaderStatus(
            leader_pod=self._pod if leading else "",
            forging_enabled=forging,
            last_transition_time=now,
            reason=why,
            message=message,
            conditions=(
                Condition("LeaderElected", "True" if leading else "False", why, message, now),
                Condition("Forging", "True" if forging else "False", why, message, now),
            ),
        )
        self._settled.clear()
        self._changed.set()
        if self._task is None:
            self._task = asyncio.create_task(self._write_changes(), name="leader-report")

    async def _write_changes(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            wanted = self._wanted
            if wanted is None:
                continue
            try:
                outcome = await self._client.publish(wanted, timeout_s=TIMEOUT_S, taking_over=self._led)
            except ApiFailure as failure:
                if not self._failed:
                    log.warning("CardanoLeader not written", extra={"event": "status_failed", "why": str(failure)})
                self._failed = True
                self._settled.set()
                await asyncio.sleep(RETRY_S)
                self._changed.set()
                continue
            self._failed = False
            if outcome is Outcome.NO_CRD and not self._no_crd:
                self._no_crd = True
                log.warning(
                    "CardanoLeader not written: the CRD is not installed (kubectl apply -f deploy/crds)",
                    extra={"event": "crd_missing"},
                )
            if outcome is Outcome.LOST and self._led:
                self._changed.set()  # written over between our read and our patch; we are the holder
                await asyncio.sleep(0)
                continue
            if self._wanted is wanted:
                self._wanted = None
                self._settled.set()

    async def close(self) -> None:
        """Give the last change a moment, then stop."""
        if self._task is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WRITE_S):
                await self._settled.wait()
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
