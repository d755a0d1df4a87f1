"""Logging of every process: one JSON object a line, or a line for people (LOG_FORMAT).

Each record names its kind of event (`event`); further fields come through `extra`.  Only fields that a caller
passes are written: no object is rendered that the caller did not choose, so nothing secret can slip in.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Final

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def _extras(record: logging.LogRecord) -> dict[str, object]:
    return {k: v for k, v in vars(record).items() if k not in _STANDARD}


def _timestamp(record: logging.LogRecord) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"


class JsonFormatter(logging.Formatter):
    """`{"time", "level", "worker", "event", "message", ...}` on one line."""

    def __init__(self, worker: str) -> None:
        super().__init__()
        self._worker = worker

    def format(self, record: logging.LogRecord) -> str:
        extras = _extras(record)
        fields: dict[str, object] = {
            "time": _timestamp(record),
            "level": record.levelname,
            "worker": self._worker,
            "event": extras.pop("event", record.name),
            "message": record.getMessage(),
            **extras,
        }
        if record.exc_info:
            fields["trace"] = self.formatException(record.exc_info)
        return json.dumps(fields, default=str, ensure_ascii=False)


class ConsoleFormatter(logging.Formatter):
    """`12:00:01.123 INFO elector   lease acquired  token=3`."""

    def __init__(self, worker: str) -> None:
        super().__init__()
        self._worker = worker

    def format(self, record: logging.LogRecord) -> str:
        extras = _extras(record)
        extras.pop("event", None)
        tail = "".join(f"  {k}={v}" for k, v in extras.items())
        line = f"{_timestamp(record)[11:-1]} {record.levelname:<7} {self._worker:<8} {record.getMessage()}{tail}"
        return line + ("\n" + self.formatException(record.exc_info) if record.exc_info else "")


def set_up(worker: str, level: str, form: str) -> None:
    """Send all logging of this process to standard output, where supervisord collects it."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter(worker) if form == "json" else ConsoleFormatter(worker))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.getLogger("asyncio").setLevel("WARNING")
