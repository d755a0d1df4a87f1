"""Watches: a stream of changes from a resourceVersion on, one JSON object a line.

Without a resourceVersion (or with "0") a watch begins with what exists, as ADDED.  A version from before the history
ends the stream with an ERROR event of code 410, as on the real server.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Any, Final

from devkit.api import errors
from devkit.api.kinds import ResourceType
from devkit.api.selectors import Selector
from devkit.api.store import Change, GoneError, Store

Json = dict[str, Any]

_BEFORE_END_S: Final = 2.0
"""A last bookmark is sent so long before a watch times out."""
_INITIAL_END: Final = "k8s.io/initial-events-end"


@dataclass(frozen=True, slots=True)
class WatchRequest:
    """What the query of a watch says."""

    resource: ResourceType
    namespace: str | None
    """None: all."""
    selector: Selector | None
    revision: int | None
    """None: from now on, after what exists."""
    bookmarks: bool
    send_initial: bool
    """sendInitialEvents: what exists, then a bookmark that says so."""
    timeout_s: float


def default_timeout_s() -> float:
    """As the real server ends a watch whose client names no timeout: after half an hour to an hour."""
    return random.uniform(1800, 3600)


class Watching:
    """Gives the lines of one watch."""

    def __init__(
        self,
        store: Store,
        request: WatchRequest,
        render: Callable[[Json], Json],
        stopping: Callable[[], bool],
        bookmark_interval_s: float,
    ) -> None:
        self._store = store
        self._request = request
        self._render = render
        self._stopping = stopping
        self._interval = bookmark_interval_s
        self._position = store.revision if request.revision is None else request.revision

    async def lines(self) -> AsyncGenerator[bytes, None]:
        """Until the timeout, the server's end or an error that was sent."""
        request, loop = self._request, asyncio.get_running_loop()
        end = loop.time() + request.timeout_s
        bookmark_at = min(loop.time() + self._interval, max(end - _BEFORE_END_S, loop.time()))
        with self._store.watcher() as woken:
            for line in self._initial():
                yield line
            while not self._stopping():
                woken.clear()
                try:
                    changes = self._store.since(request.resource.key, self._position)
                except GoneError as gone:
                    yield self._line("ERROR", errors.expired(str(gone)).status())
                    return
                for change in changes:
                    self._position = change.revision
                    line_or_none = self._told(change)
                    if line_or_none is not None:
                        yield line_or_none
                now = loop.time()
                if now >= end:
                    return
                if now >= bookmark_at:
                    bookmark_at = now + self._interval if now + self._interval < end - _BEFORE_END_S else end
                    if request.bookmarks:
                        yield self._bookmark({})
                if not woken.is_set():
                    await _wait(woken, max(min(end, bookmark_at) - loop.time(), 0))

    def _initial(self) -> list[bytes]:
        request = self._request
        if request.revision is not None and not request.send_initial:
            return []
        self._position = self._store.revision
        bodies = self._store.items(request.resource.key, request.namespace)
        found = [
            self._line("ADDED", self._render(body))
            for body in bodies
            if request.selector is None or request.selector(body)
        ]
        if request.send_initial and request.bookmarks:
            found.append(self._bookmark({_INITIAL_END: "true"}))
        return found

    def _told(self, change: Change) -> bytes | None:
        """The change as this watch sees it: what enters or leaves its selector is added or deleted."""
        request = self._request
        if request.namespace is not None and change.key.namespace != request.namespace:
            return None
        if request.selector is None:
            return self._line(change.type, self._render(change.object))
        before = change.previous is not None and request.selector(change.previous)
        after = change.type != "DELETED" and request.selector(change.object)
        if not before and not after:
            return None
        if before and not after:
            gone = change.object
            if change.type != "DELETED":
                # The last state that was selected, with the version at which it left.
                assert change.previous is not None
                meta = {**change.previous["metadata"], "resourceVersion": str(change.revision)}
                gone = {**change.previous, "metadata": meta}
            return self._line("DELETED", self._render(gone))
        return self._line("MODIFIED" if before else "ADDED", self._render(change.object))

    def _bookmark(self, annotations: Json) -> bytes:
        meta: Json = {"resourceVersion": str(max(self._position, self._store.revision)), "creationTimestamp": None}
        if annotations:
            meta["annotations"] = annotations
        resource = self._request.resource
        return self._line("BOOKMARK", {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": meta})

    @staticmethod
    def _line(kind: str, body: Json) -> bytes:
        return json.dumps({"type": kind, "object": body}, separators=(",", ":")).encode() + b"\n"


async def _wait(woken: asyncio.Event, timeout_s: float) -> None:
    """Until woken or the time is up, whichever comes first."""
    try:
        async with asyncio.timeout(timeout_s):
            await woken.wait()
    except TimeoutError:
        pass
