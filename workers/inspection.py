"""What a worker tells over its debug socket.  Nothing is counted or kept for it that is not there anyway."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from types import FrameType
from typing import Final

from ipc.debug import CannotAnswer, DebugServer, fitting
from ipc.frames import FrameReader
from ipc.messages import (
    DebugCounters,
    DebugDecisions,
    DebugLogLevel,
    DebugReply,
    DebugSubscriptions,
    DebugTasks,
    DebugWhat,
    State,
    SubscriberView,
    SubscriptionView,
    TaskView,
    Worker,
)
from ipc.pubsub import StatePublisher, Subscription
from ipc.shown import decode_shown_state
from kernel.clock import boottime_ns
from workers import logs

log = logging.getLogger("worker")

LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR")
MOST_TASKS: Final = 200
DEEPEST: Final = 16
"""Frames of a task's stack, the innermost."""
ROOT: Final = str(Path(__file__).parent.parent)
"""Where our packages are: an editable installation does not put it into Python's path."""


class Inspection:
    """Answers for one worker."""

    def __init__(
        self,
        worker: Worker,
        publisher: StatePublisher,
        subscriptions: list[Subscription],
        recent: logs.Recent,
        server: DebugServer,
    ) -> None:
        """subscriptions: as they will be; the list is read at each question."""
        self._worker = worker
        self._publisher = publisher
        self._subscriptions = subscriptions
        self._recent = recent
        self._server = server
        answers: dict[DebugWhat, Callable[[str], DebugReply]] = {
            DebugWhat.STATE: self._state,
            DebugWhat.DECISIONS: self._decisions,
            DebugWhat.SUBSCRIPTIONS: self._follows,
            DebugWhat.COUNTERS: self._counters,
            DebugWhat.TASKS: self._tasks,
            DebugWhat.LOG_LEVEL: self._log_level,
        }
        for what, handler in answers.items():
            server.answer(what, handler)

    def _state(self, argument: str) -> State:
        for payload in FrameReader().feed(self._publisher.latest):
            return decode_shown_state(payload, self._worker)
        raise CannotAnswer(f"the {self._worker} has no state yet; ask again in a moment")

    def _decisions(self, argument: str) -> DebugReply:
        return fitting(DebugDecisions, self._recent.decisions)

    def _follows(self, argument: str) -> DebugSubscriptions:
        now = boottime_ns()
        views = []
        for each in self._subscriptions:
            last = each.last()
            age = now - last.sent_at if last is not None else -1
            views.append(SubscriptionView(each.worker, each.connected, age, each.errors_total))
        who = tuple(SubscriberView(peer.pid, peer.uid) for peer in self._publisher.subscribers)
        return DebugSubscriptions(tuple(views), who)

    def _counters(self, argument: str) -> DebugCounters:
        publisher, server = self._publisher, self._server
        followed = sum(each.errors_total for each in self._subscriptions)
        return DebugCounters(
            frames_sent=publisher.sent_total,
            subscribers_refused=publisher.refused_total,
            protocol_errors=followed + publisher.errors_total + server.errors_total,
            debug_requests=server.requests_total,
            debug_refused=server.refused_total,
            log_lines=dict(self._recent.lines),
        )

    def _tasks(self, argument: str) -> DebugReply:
        every = sorted(asyncio.all_tasks(), key=lambda task: task.get_name())
        most = tuple(map(_view, every[:MOST_TASKS]))
        return fitting(lambda kept, cut: DebugTasks(kept, cut + len(every) - len(most)), most)

    def _log_level(self, argument: str) -> DebugLogLevel:
        if argument and argument not in LEVELS:
            raise CannotAnswer(f"no such level; one of {', '.join(LEVELS)}")
        if argument and argument != logs.level():
            old, peer = logs.level(), self._server.asking
            logs.set_level(argument)
            log.info(
                "log level changed",
                extra={
                    "event": "log_level",
                    "audit": True,
                    "uid": peer.uid if peer is not None else None,
                    "pid": peer.pid if peer is not None else None,
                    "old": old,
                    "new": argument,
                },
            )
        return DebugLogLevel(logs.level())


def _view(task: asyncio.Task[object]) -> TaskView:
    return TaskView(logs.cut(task.get_name()), tuple(map(_place, _frames(task)[-DEEPEST:])))


def _frames(task: asyncio.Task[object]) -> list[FrameType]:
    """Where a waiting task stands, outermost first: its coroutine, what that awaits, what that awaits..."""
    found = []
    waiting: object = task.get_coro()
    while waiting is not None:
        for prefix, inner in (("cr", "cr_await"), ("gi", "gi_yieldfrom"), ("ag", "ag_await")):
            if hasattr(waiting, f"{prefix}_frame"):
                if (frame := getattr(waiting, f"{prefix}_frame")) is not None:
                    found.append(frame)
                waiting = getattr(waiting, inner)
                break
        else:
            break  # a future, an iterator: no code of its own
    return found


def _place(frame: FrameType) -> str:
    return logs.cut(f"{_shown(frame.f_code.co_filename)}:{frame.f_lineno}:{frame.f_code.co_name}")


@lru_cache(MOST_TASKS)
def _shown(file: str) -> str:
    """A file as Python's path knows it: `workers/elector.py`, `asyncio/tasks.py`."""
    path = Path(file)
    bases = [ROOT, *sys.path]  # ours is not on the path where it is installed as a checkout
    nearest = max((base for base in bases if base and path.is_relative_to(base)), key=len, default=None)
    return str(path.relative_to(nearest) if nearest is not None else path)
