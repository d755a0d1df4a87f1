"""Tells NOTIFY_URL what happens to this pod, in the prober: it is the one worker that may speak to the outside.

Promises: nothing waits for it.  It notes what the workers say and returns; what is made of that, and sending it, are
tasks of its own.  Should they end by a fault of ours, notices end and the prober goes on: no election may depend on a
webhook.  What was told and what waits is written down, so that the prober's next life repeats nothing and forgets
nothing; a pod that is made anew begins anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
import secrets
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

from config import Config
from ipc.messages import Notifications, ProberState, Sandbox
from ipc.pubsub import Subscription
from kernel.clock import boot_id, boottime_ns
from kernel.ledger import MOST, Ledger
from outgoing import reach
from outgoing.webhook import Webhook
from policy import cloud_event, timing
from policy.cloud_event import Sender
from policy.notice_kinds import filter_of
from policy.notices import Notice, Seen, Teller
from policy.outbox import Failed, Letter, Outbox, Refused, Result, Sent
from workers.runtime import Context
from workers.tasks import woken

log = logging.getLogger("notifier")

TICK_S: Final = 5.0
"""What time alone makes true is told so much later at most."""
MOST_PICTURES: Final = 256
FLUSH_S: Final = 0.8
"""What a stopping prober gives a receiver that answers; with its linger below supervisord's stopwaitsecs."""


class Receiver(Protocol):
    """Whom to tell."""

    def prepare(self) -> None: ...

    async def deliver(self, letter: Letter, wall_s: float) -> Result: ...


class Memory:
    """What one pod has told and has to tell, over the restarts of its prober."""

    def __init__(self, ledger: Ledger | None) -> None:
        self._ledger = ledger
        self._boot = boot_id()
        self._written = b""
        self.origin, self.teller, self.outbox = secrets.token_hex(8), Teller(), Outbox()
        self._read()

    def _read(self) -> None:
        """As an earlier life left it, in this boot; instants of another one are worth nothing."""
        written = self._ledger.read() if self._ledger is not None else b""
        if not written:
            return
        try:
            raw = json.loads(written)
            if raw["boot"] != self._boot:
                return
            origin = bytes.fromhex(raw["origin"]).hex()
            teller, outbox = Teller.resumed(raw["teller"]), Outbox.resumed(raw["outbox"])
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            log.warning("unreadable ledger; telling as a stranger", extra={"event": "ledger_unreadable"})
        else:
            self.origin, self.teller, self.outbox = origin, teller, outbox
            if outbox.dropped:
                said = "%d notices are given up: more waited when the life before ended than could be written down"
                log.warning(said, outbox.dropped, extra={"event": "notices_dropped"})

    def keep(self) -> None:
        """Write it down, if it changed; of too many letters the latest."""
        if self._ledger is None:
            return
        known = {"boot": self._boot, "origin": self.origin, "teller": self.teller.kept()}

        def record_without(cut: int) -> bytes:
            return _record(known | {"outbox": self.outbox.kept(cut)})

        record = record_without(0)
        if len(record) > MOST:
            counts = range(1, len(self.outbox) + 1)
            fewest = bisect_left(counts, True, key=lambda cut: len(record_without(cut)) <= MOST)
            record = record_without(fewest + 1)
        if record != self._written and len(record) <= MOST:
            self._written = record
            self._ledger.write(record)


def _record(known: Mapping[str, Any]) -> bytes:
    return json.dumps(known, separators=(",", ":")).encode("ascii")


class Notifier:
    """Of one prober."""

    def __init__(self, config: Config, receiver: Receiver, memory: Memory, place: _Place) -> None:
        self._receiver = receiver
        self._memory = memory
        self._place = place
        self._filter = filter_of(config.notify_events)
        self._sender = Sender(
            namespace=config.namespace,
            pod=config.pod_name,
            network=config.cardano_network,
            pool_id=config.pool_id,
            cluster=config.cluster,
            subject=config.pool_id or f"{config.namespace}/{config.lease_name}",
        )
        self._began = boottime_ns()
        self._followed: Sequence[Subscription] = ()
        self._own: Callable[[], ProberState | None] = lambda: None
        self._counted: Callable[[], None] = lambda: None
        self._pictures: deque[Seen] = deque(maxlen=MOST_PICTURES)
        self._news = asyncio.Event()
        self._letters = asyncio.Event()
        """There may be something to send."""
        self._emptied = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._faulty = False
        self._complaint = ""
        """What was said last of the receiver; empty: all is well."""
        self._gave_up = False
        """It was said that notices are given up; not again before one arrives."""

    def follow(
        self, followed: Sequence[Subscription], own: Callable[[], ProberState | None], counted: Callable[[], None]
    ) -> None:
        """Whose states count, what the prober itself knows, and whom to tell that `report` is another one."""
        self._followed, self._own, self._counted = followed, own, counted

    def note(self) -> None:
        """Somebody has spoken: take the picture as it is now."""
        self._pictures.append(self._picture())
        self._news.set()

    def start(self) -> None:
        self._receiver.prepare()
        self._task = asyncio.get_running_loop().create_task(self._run(), name="notices")
        self._task.add_done_callback(self._ended)

    async def finish(self) -> None:
        """Give what waits a last chance, if it has one, and end."""
        outbox = self._memory.outbox
        if self._task is None:
            return
        if not self._faulty and outbox.calm:
            self.note()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FLUSH_S):
                    await self._told_everything()
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError, ExceptionGroup):  # its fault is logged already
            await self._task

    async def _told_everything(self) -> None:
        while self._pictures or len(self._memory.outbox):
            self._emptied.clear()
            await self._emptied.wait()

    @property
    def report(self) -> Notifications:
        """What became of the notices so far."""
        outbox = self._memory.outbox
        lost = len(outbox) if self._faulty else 0
        return Notifications(
            sent_total=outbox.sent,
            failed_total=outbox.failed,
            dropped_total=outbox.dropped + lost + self._faulty,
            queued=1 if self._faulty else len(outbox),  # for all that is told to nobody now: no alert may end by itself
            problem="ended by a fault of its own; the log has it" if self._faulty else outbox.problem,
        )

    def _picture(self) -> Seen:
        states = {each.worker: state for each in self._followed if (state := each.last()) is not None}
        return Seen(
            now=boottime_ns(),
            wall_s=time.time(),
            states=states,
            own=self._own(),
            sandbox=self._place.sandbox,
            began=self._began,
            followed=tuple(each.worker for each in self._followed),
            stopping=self._place.stopping.is_set(),
        )

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._faulty = True
            log.critical("no more notices: ended by a fault", exc_info=error, extra={"event": "notices_fault"})
            self._emptied.set()
            self._counted()

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_watching(), name="notices-watching")
            group.create_task(self._keep_sending(), name="notices-sending")

    # --- what is to be told ---

    async def _keep_watching(self) -> None:
        while True:
            await woken(self._news, TICK_S)
            self._news.clear()
            if not self._pictures:
                self._pictures.append(self._picture())
            while self._pictures:
                for notice in self._memory.teller.look(self._pictures[0]):
                    self._put(notice)
                self._pictures.popleft()
            self._settle()

    def _put(self, notice: Notice) -> None:
        if not self._filter.passes(notice.kind, notice.gravity):
            return
        identity = f"{self._memory.origin}-{notice.number}"
        said = cloud_event.in_words(notice, self._sender.pod)
        log.info("to be told: %s", said, extra={"event": "notice", "type": notice.kind.type, "id": identity})
        body = cloud_event.body(notice, identity, self._sender)
        with self._noticing_what_is_given_up():
            self._memory.outbox.put(Letter(identity, boottime_ns(), body))
        self._letters.set()
        self._counted()

    def _settle(self) -> None:
        """All that is known has been looked at, or an attempt has ended."""
        self._memory.keep()
        self._emptied.set()

    # --- telling ---

    async def _keep_sending(self) -> None:
        outbox = self._memory.outbox
        while True:
            self._letters.clear()
            now = boottime_ns()
            with self._noticing_what_is_given_up():
                due = outbox.due(now)
            if due is None:
                await self._letters.wait()
            elif due > now:
                await asyncio.sleep((due - now) / timing.SECOND)
            else:
                await self._send()

    async def _send(self) -> None:
        outbox = self._memory.outbox
        letter = outbox.begun()
        result = await self._receiver.deliver(letter, time.time())
        outbox.ended(result, boottime_ns(), random.random())  # noqa: S311  # no secret
        self._say(result)
        self._settle()
        self._counted()

    def _say(self, result: Result) -> None:
        """Once, until something else is wrong or it is well again."""
        match result:
            case Sent():
                if self._complaint:
                    log.info("notices arrive again", extra={"event": "notices_arrive"})
                self._complaint, self._gave_up = "", False
            case Failed(why=why) | Refused(why=why):
                if why != self._complaint:
                    what = "a notice was refused: %s" if isinstance(result, Refused) else "a notice was not sent: %s"
                    log.warning(what, why, extra={"event": "notice_failed"})
                self._complaint = why

    @contextlib.contextmanager
    def _noticing_what_is_given_up(self) -> Iterator[None]:
        before = self._memory.outbox.dropped
        yield
        if self._memory.outbox.dropped == before:
            return
        if not self._gave_up:
            log.warning("notices are given up: too old, or too many wait", extra={"event": "notices_dropped"})
        self._gave_up = True
        self._memory.keep()
        self._counted()


class _Place(Protocol):
    """What it needs of its worker's context."""

    stopping: asyncio.Event

    @property
    def sandbox(self) -> Sandbox: ...


def of(context: Context, environment: Mapping[str, str]) -> Notifier:
    """The one of this process, whose NOTIFY_URL is set."""
    config = context.config
    open_ = reach.of_notices(config, environment)
    webhook = Webhook(config.notify_url, config.notify_secret_file, open_.ports if open_ is not None else ())
    return Notifier(config, webhook, Memory(context.ledger), context)
