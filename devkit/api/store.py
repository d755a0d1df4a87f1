"""The objects, their one revision counter, and a bounded history to watch from.

The store belongs to one event loop.  What it holds is never changed in place: a change puts a new object.  With a
database file the objects and the counter outlive the process; the history does not, as in a restarted API server.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

Json = dict[str, Any]
ResourceKey = tuple[str, str]
"""(group, plural)."""


class Key(NamedTuple):
    """Where an object lives."""

    group: str
    plural: str
    namespace: str
    """Empty for what has none."""
    name: str

    @property
    def resource(self) -> ResourceKey:
        """The resource it belongs to."""
        return (self.group, self.plural)


ChangeType = Literal["ADDED", "MODIFIED", "DELETED"]


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of the history."""

    revision: int
    type: ChangeType
    key: Key
    object: Json
    """The new state; of a deletion the last state with the deletion's revision."""
    previous: Json | None


class GoneError(Exception):
    """The history no longer reaches back so far."""

    def __init__(self, wanted: int, oldest: int) -> None:
        super().__init__(f"too old resource version: {wanted} ({oldest})")


class Store:
    """See the module."""

    def __init__(self, database: Path | None = None, history: int = 1000) -> None:
        self._objects: dict[ResourceKey, dict[tuple[str, str], Json]] = {}
        self._history: dict[ResourceKey, deque[Change]] = {}
        self._floors: dict[ResourceKey, int] = {}
        self._length: Final = history
        self._watchers: set[asyncio.Event] = set()
        self._database = _Database(database) if database is not None else None
        self.revision = 0
        if self._database is not None:
            self.revision, stored = self._database.load()
            for key, body in stored:
                self._objects.setdefault(key.resource, {})[key.namespace, key.name] = body
        self._start = self.revision

    def close(self) -> None:
        """Closes the database."""
        if self._database is not None:
            self._database.close()

    def forget_history(self) -> None:
        """What came before now cannot be watched any more."""
        self._history.clear()
        self._floors.clear()
        self._start = self.revision

    def get(self, key: Key) -> Json | None:
        """The object, not to be changed."""
        return self._objects.get(key.resource, {}).get((key.namespace, key.name))

    def items(self, resource: ResourceKey, namespace: str | None) -> list[Json]:
        """All of a resource, of one namespace or (None) of all, by namespace and name; not to be changed."""
        held = self._objects.get(resource, {})
        return [held[at] for at in sorted(held) if namespace is None or at[0] == namespace]

    def put(self, key: Key, body: Json) -> Json:
        """Stores a new state and gives it its resourceVersion (the given object is taken over)."""
        held = self._objects.setdefault(key.resource, {})
        previous = held.get((key.namespace, key.name))
        self.revision += 1
        body["metadata"]["resourceVersion"] = str(self.revision)
        held[key.namespace, key.name] = body
        if self._database is not None:
            self._database.put(self.revision, key, body)
        self._record(Change(self.revision, "ADDED" if previous is None else "MODIFIED", key, body, previous))
        return body

    def delete(self, key: Key) -> Json:
        """Removes an object; returns its last state with the revision of its end.  KeyError when there is none."""
        previous = self._objects[key.resource].pop((key.namespace, key.name))
        self.revision += 1
        last = {**previous, "metadata": {**previous["metadata"], "resourceVersion": str(self.revision)}}
        if self._database is not None:
            self._database.delete(self.revision, key)
        self._record(Change(self.revision, "DELETED", key, last, previous))
        return last

    def since(self, resource: ResourceKey, revision: int) -> list[Change]:
        """Every change after that revision, oldest first.  Raises GoneError."""
        floor = self._floors.get(resource, self._start)
        if revision < floor:
            raise GoneError(revision, floor)
        history = self._history.get(resource)
        if not history or history[-1].revision <= revision:
            return []
        found = list(history)
        return found[bisect_right(found, revision, key=lambda change: change.revision) :]

    @contextmanager
    def watcher(self) -> Iterator[asyncio.Event]:
        """An event that is set at every change; whoever waits clears it."""
        woken = asyncio.Event()
        self._watchers.add(woken)
        try:
            yield woken
        finally:
            self._watchers.discard(woken)

    def wake_watchers(self) -> None:
        """Makes every watch look around (the server ends)."""
        for woken in self._watchers:
            woken.set()

    def _record(self, change: Change) -> None:
        resource = change.key.resource
        history = self._history.setdefault(resource, deque())
        history.append(change)
        if len(history) > self._length:
            self._floors[resource] = history.popleft().revision
        self.wake_watchers()


class _Database:
    """The file behind a store: one row an object."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode=WAL")
        # Every commit survives the end of the process; only a power cut may cost the last ones.
        self._connection.execute("PRAGMA synchronous=NORMAL")
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS objects (grp TEXT, plural TEXT, namespace TEXT, name TEXT, body TEXT,"
            " PRIMARY KEY (grp, plural, namespace, name)) WITHOUT ROWID"
        )
        self._connection.execute("CREATE TABLE IF NOT EXISTS revision (id INTEGER PRIMARY KEY, value INTEGER)")
        self._connection.execute("INSERT OR IGNORE INTO revision VALUES (1, 0)")

    def load(self) -> tuple[int, list[tuple[Key, Json]]]:
        (revision,) = self._connection.execute("SELECT value FROM revision").fetchone()
        rows = self._connection.execute("SELECT grp, plural, namespace, name, body FROM objects").fetchall()
        return revision, [(Key(*row[:4]), json.loads(row[4])) for row in rows]

    def put(self, revision: int, key: Key, body: Json) -> None:
        with self._transaction(revision):
            self._connection.execute("INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?)", (*key, json.dumps(body)))

    def delete(self, revision: int, key: Key) -> None:
        with self._transaction(revision):
            self._connection.execute(
                "DELETE FROM objects WHERE grp = ? AND plural = ? AND namespace = ? AND name = ?", key
            )

    @contextmanager
    def _transaction(self, revision: int) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("UPDATE revision SET value = ?", (revision,))
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def close(self) -> None:
        self._connection.close()
