"""Keeps CardanoLeader in step with what this pod is: written on change, never in the way of the lease.

Only the holder writes the status; what it wrote last is taken back after a hand-over unless the next leader was faster
(the patch carries the resourceVersion we know, so a late write of ours is refused by the server).  What becomes of this
pod's credentials every pod tells by Events about that object: a bad key on a standby too.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from datetime import UTC, datetime
from typing import Final

from ipc.complaints import Complaint
from kube import events
from kube.errors import ApiFailure, Failure
from kube.leader_status import Condition, LeaderStatus, LeaderStatusClient, Outcome
from kube.session import ApiSession
from policy import timing
from policy.credential_summary import CONDITION, GOOD, Summary

log = logging.getLogger("elector")

TIMEOUT_S: Final = 3.0
RETRY_S: Final = 5.0
LAST_WRITE_S: Final = 0.7
SETTLE: Final = 3 * timing.SECOND
MOST_EVENTS: Final = 8
"""That wait to be told; older ones are old news."""

_MISSING: Final = {
    Outcome.NO_CRD: "CardanoLeader not written: the CRD is not installed (kubectl apply -f deploy/crds)",
    Outcome.NO_STATUS: "CardanoLeader not written: the CRD has no status subresource (kubectl apply -f deploy/crds)",
}


class LeaderReporter:
    """`report` says what is; a task of its own writes it."""

    def __init__(self, client: LeaderStatusClient, session: ApiSession, pod: str) -> None:
        self._client = client
        self._session = session
        self._pod = pod
        self._led = False
        self._said: tuple[object, ...] | None = None
        self._since: dict[str, tuple[str, str]] = {}
        """Of each condition, its status and since when it has it."""
        self._credentials: Summary = GOOD
        self._seen: tuple[Summary, int] = (GOOD, 0)
        """What was heard last, and since when."""
        self._events: deque[Summary] = deque(maxlen=MOST_EVENTS)
        self._wanted: LeaderStatus | None = None
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._settled = asyncio.Event()
        """Nothing is waiting to be written, or writing it failed."""
        self._failing = Complaint(
            log, "status_failed", "CardanoLeader not written", end=("status_ok", "CardanoLeader is written again")
        )
        self._missing: Outcome | None = None
        """What was said last to be missing at the server."""
        self._lost = 0
        """Writes in a row that somebody's else came before."""
        self._refused = Complaint(log, "event_refused", "no Event is recorded", passes=True)

    def report(
        self,
        now: int,
        *,
        leading: bool,
        forging: bool,
        reason: str,
        credentials: Summary | None,
        counter: int | None = None,
    ) -> None:
        """Call as often as you like, a second apart at most; only a change is written.

        `now`: ns of CLOCK_BOOTTIME.  `credentials`: None: not known now.
        """
        if credentials is not None and self._stands(now, credentials):
            self._credentials = credentials
            self._events.append(credentials)
            self._begin()
        said = (leading, forging, self._credentials, counter)
        if said == self._said or not (leading or self._led):
            return
        self._said = said
        self._led = leading
        instant = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        why = "Forging" if forging else ("Elected" if leading else "Released")
        message = f"{self._pod} forges" if forging else f"{self._pod}: {reason}"
        keys = self._credentials
        conditions = (
            self._condition("LeaderElected", leading, why, message, instant),
            self._condition("Forging", forging, why, message, instant),
            self._condition(CONDITION, keys.usable, keys.reason, f"{self._pod}: {keys.message}", instant),
        )
        self._wanted = LeaderStatus(
            leader_pod=self._pod if leading else "",
            forging_enabled=forging,
            last_transition_time=max(each.last_transition_time for each in conditions[:2]),
            reason=why,
            message=message,
            conditions=conditions,
            counter=counter,
        )
        self._settled.clear()
        self._begin()

    def _stands(self, now: int, credentials: Summary) -> bool:
        """Whether it is news, and more than a moment in which files are replaced one after the other."""
        if credentials != self._seen[0]:
            self._seen = (credentials, now)
        return credentials != self._credentials and now - self._seen[1] >= SETTLE

    def _condition(self, name: str, value: bool, reason: str, message: str, now: str) -> Condition:
        status = "True" if value else "False"
        known = self._since.get(name)
        since = known[1] if known is not None and known[0] == status else now
        self._since[name] = (status, since)
        return Condition(name, status, reason, message, since)

    def _begin(self) -> None:
        self._changed.set()
        if self._task is None:
            self._task = asyncio.create_task(self._write_changes(), name="leader-report")

    async def _write_changes(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                again = await self._write_status()
                if not again:
                    await self._tell()
            except ApiFailure as failure:
                self._failing.again(str(failure.kind), why=str(failure))
                self._settled.set()
                await asyncio.sleep(RETRY_S)
                self._changed.set()
                continue
            self._failing.over()
            if again:
                self._changed.set()
                if self._lost > 1:
                    self._settled.set()
                await asyncio.sleep(RETRY_S if self._lost > 1 else 0)

    async def _write_status(self) -> bool:
        """Write what is wanted; whether that has to be tried again.  Raises ApiFailure."""
        wanted = self._wanted
        if wanted is None:
            return False
        outcome = await self._client.publish(wanted, timeout_s=TIMEOUT_S, taking_over=self._led)
        if outcome in _MISSING and outcome is not self._missing:
            self._missing = outcome
            log.warning(_MISSING[outcome], extra={"event": "crd_missing"})
        self._lost = self._lost + 1 if outcome is Outcome.LOST else 0
        if outcome is Outcome.LOST and self._led:
            return True  # written over between our read and our patch; we are the holder
        if self._wanted is wanted:
            self._wanted = None
            self._settled.set()
        return False

    async def _tell(self) -> None:
        """One Event for each change of the credentials.  Raises ApiFailure for what may pass."""
        while self._events:
            about = await self._client.regarding(timeout_s=TIMEOUT_S)
            if about is None:
                return  # nobody has led yet, or no CRD: the log has it, and the event is told with the next change
            told = self._events[0]
            try:
                await events.emit(
                    self._session,
                    about,
                    reason=_word(told),
                    message=f"{self._pod}: {told.message}",
                    warning=told.reason != GOOD.reason,
                    pod=self._pod,
                    wall_s=time.time(),
                    timeout_s=TIMEOUT_S,
                )
            except ApiFailure as failure:
                if failure.kind not in (Failure.FORBIDDEN, Failure.INVALID, Failure.NOT_FOUND):
                    raise
                remedy = "the Role has to grant create on events (deploy/rbac)"
                text = f"{failure}: {remedy}" if failure.kind is Failure.FORBIDDEN else str(failure)
                self._refused.again(str(failure.kind), why=text)
            if self._events and self._events[0] is told:
                self._events.popleft()

    async def close(self) -> None:
        """Give the last change a moment, then stop."""
        if self._task is None:
            return
        if self._wanted is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_WRITE_S):
                    await self._settled.wait()
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task


def _word(told: Summary) -> str:
    """An Event's reason."""
    if told.reason == GOOD.reason:
        return "CredentialsGood"
    return "CredentialsWarning" if told.usable else "CredentialsUnusable"
