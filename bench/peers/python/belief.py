"""Writes down when this program believes that it leads, in the form of `devkit.record`: `start`, `on` and `off`.

Whoever reaps the program adds `exit`.  Standard library only.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from pathlib import Path

LEASE_DURATION_S = 15
RENEW_DEADLINE_S = 10
RETRY_PERIOD_S = 2


class Belief:
    """The arguments that every peer gets, and its record.  Its methods may be called from any thread."""

    def __init__(self) -> None:
        parser = argparse.ArgumentParser()
        parser.add_argument("--kubeconfig", required=True)
        parser.add_argument("--name", required=True)
        parser.add_argument("--namespace", required=True)
        parser.add_argument("--lease", required=True)
        parser.add_argument("--record", required=True, type=Path)
        told = parser.parse_args()
        self.kubeconfig: str = told.kubeconfig
        self.name: str = told.name
        self.namespace: str = told.namespace
        self.lease: str = told.lease
        self._record = told.record.open("a", buffering=1)
        self._writing = threading.Lock()
        self._leading = False
        self._note("start")

    def leads(self, now: bool) -> None:
        """Leading began or ended; said twice it counts once."""
        with self._writing:
            if self._leading != now:
                self._leading = now
                self._note("on" if now else "off")

    def _note(self, event: str) -> None:
        self._record.write(json.dumps({"t": time.monotonic_ns(), "event": event, "node": self.name}) + "\n")
