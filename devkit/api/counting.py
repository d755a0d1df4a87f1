"""Counts requests per user and verb; safe to be read from another thread."""

from __future__ import annotations

import threading

from devkit.api.server_protocol import Counts


class RequestCounter:
    """See the module."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counts = {}

    def add(self, user: str, verb: str) -> None:
        """One more."""
        with self._lock:
            of_user = self._counts.setdefault(user, {})
            of_user[verb] = of_user.get(verb, 0) + 1

    def read(self) -> Counts:
        """A copy."""
        with self._lock:
            return {user: dict(verbs) for user, verbs in self._counts.items()}
