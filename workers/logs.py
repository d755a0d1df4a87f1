"""Logging of every process: one JSON object a line, or a line for people (LOG_FORMAT).

Each record names its kind of event (`event`, one of `workers.events`); further fields come through `extra`.  Only
fields that a caller passes are written: no object is rendered that the caller did not choose, so nothing secret can
slip in.

Writing never waits.  A log that nobody reads, or a disk that is full, costs lines (and says how many), never the
turn of a loop on which a node's fence may depend.

LOG_LEVEL decides what is written, but for the audit trail (`"audit": true`), which always is.  `Recent` keeps the last
records of INFO and above whatever LOG_LEVEL says: they are the decisions that a debug socket tells.
"""

from __future__ import annotations

import json
import logging
import os
import re
import select
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from typing import Final

from ipc.messages import Decision
from kernel.clock import boottime_ns

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_CONTROLS: Final = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))} | {10: "\\n", 9: " "}
_INDENT: Final = "    "
"""Before each line of a trace: what an exception says cannot be taken for a line of the log."""

LONGEST_TEXT: Final = 2000
LONGEST_TRACE: Final = 16_000
"""Characters of a text in a line, and of a trace: what strangers wrote (a Lease's holder) makes no line that tears."""

_PRIORITIES: Final = {b"DEBUG": 7, b"INFO": 6, b"WARNING": 4, b"ERROR": 3, b"CRITICAL": 2}
"""sd-daemon(3), as syslog(3) numbers them."""
_LEVEL: Final = re.compile(rb'\{"time": "[^"]*", "level": "([A-Z]+)"|[0-9:.]+ ([A-Z]+) ')
"""At the beginning of a line, before anything that a stranger wrote."""

BACKLOG: Final = 1 << 20
"""Bytes that wait for a slow reader."""
KEPT: Final = 64
TEXT: Final = 300
FIELDS: Final = 16
"""Of kept records: how many, bytes of each text, fields of each."""
GOODBYE_S: Final = 0.2
"""How long an ending process waits for its last lines to be taken."""


def _extras(record: logging.LogRecord) -> dict[str, object]:
    return {k: v for k, v in vars(record).items() if k not in _STANDARD}


def _shortened(value: object) -> object:
    """The same, each text in it no longer than LONGEST_TEXT."""
    if isinstance(value, str):
        return value if len(value) <= LONGEST_TEXT else value[:LONGEST_TEXT] + "..."
    if isinstance(value, (list, tuple)):
        return [_shortened(each) for each in value]
    return value


def _trace(text: str) -> str:
    """Its end says what happened."""
    return text if len(text) <= LONGEST_TRACE else "..." + text[-LONGEST_TRACE:]


def _timestamp(record: logging.LogRecord) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"


class JsonFormatter(logging.Formatter):
    """`{"time", "level", "worker", "event", "message", ...}` on one line; what would speak to a terminal is escaped."""

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
            "message": _shortened(record.getMessage()),
            **{name: _shortened(value) for name, value in extras.items()},
        }
        if record.exc_info:
            fields["trace"] = _trace(self.formatException(record.exc_info))
        line = json.dumps(fields, default=lambda value: _shortened(str(value)), ensure_ascii=False)
        return line if line.isprintable() else "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in line)


class ConsoleFormatter(logging.Formatter):
    """`12:00:01.123 INFO elector   lease acquired  token=3`; no text from elsewhere can begin a line of its own."""

    def __init__(self, worker: str) -> None:
        super().__init__()
        self._worker = worker

    def format(self, record: logging.LogRecord) -> str:
        extras = _extras(record)
        extras.pop("event", None)
        if extras.get("why") == record.getMessage():
            del extras["why"]
        tail = "".join(f"  {k}={_shortened(v)}" for k, v in extras.items())
        message = _shortened(record.getMessage())
        line = f"{_timestamp(record)[11:-1]} {record.levelname:<7} {self._worker:<8} {message}{tail}"
        trace = _trace(self.formatException(record.exc_info)).split("\n") if record.exc_info else []
        return "\n".join([_harmless(line), *(_INDENT + _harmless(each) for each in trace)])


def _harmless(text: str) -> str:
    """Without what moves a cursor, ends a line or turns the direction of writing."""
    text = text.translate(_CONTROLS)
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def formatter(worker: str, form: str) -> logging.Formatter:
    """The formatter of LOG_FORMAT."""
    return JsonFormatter(worker) if form == "json" else ConsoleFormatter(worker)


def take_terminal(fd: int) -> None:
    """Where `fd` is a terminal: write to it by an open file of our own, which never waits.

    poll(2) calls a terminal writable while a single byte is free, and a longer write then waits for whoever shows it: a
    stalled `kubectl attach` or ssh.  The flags of the open file that we were given are not ours to set; opened anew
    they are.  Where it cannot be opened (another user's, another container's) it stays as it is.
    """
    if not os.isatty(fd):
        return
    try:
        ours = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return
    os.dup2(ours, fd)
    os.close(ours)


def for_journal(line: bytes) -> bytes:
    """With its severity as systemd's journal reads it (`journalctl -p warning`) and takes off again: sd-daemon(3)."""
    found = _LEVEL.match(line)
    mark = b"<%d>" % _PRIORITIES.get(found[1] or found[2], 6) if found is not None else b"<6>"
    return mark + line.replace(b"\n", b"\n" + mark)


def is_journal(fd: int, environment: Mapping[str, str]) -> bool:
    """Whether the journal reads what is written there: JOURNAL_STREAM, systemd.exec(5)."""
    try:
        info = os.fstat(fd)
    except OSError:
        return False
    return environment.get("JOURNAL_STREAM") == f"{info.st_dev}:{info.st_ino}"


class LineWriter:
    """Writes whole lines to a descriptor without ever waiting and without changing the descriptor's flags.

    A descriptor may be shared with strangers (a terminal, `2>&1 | less`), so O_NONBLOCK is not ours to set.  It need
    not be: poll(2) reports a pipe writable only when a page is free, and we alone write to it, at most a page a time.
    Of terminals that is not true: see `take_terminal`.
    """

    def __init__(
        self,
        fd: int,
        note: Callable[[int], str],
        *,
        backlog: int = BACKLOG,
        form: Callable[[bytes], bytes] = bytes,
    ) -> None:
        """note: makes the line that tells how many lines were dropped; form: what each is written as."""
        self.fd = fd
        self._form = form
        self._note = note
        self._most = backlog
        self._queue = bytearray()
        self._dropped = 0
        self._noted = 0
        self._mid_line = self._torn = self._refused = False
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)

    @property
    def pending(self) -> bool:
        """Whether lines wait for the reader."""
        return bool(self._queue)

    @property
    def polled(self) -> bool:
        """Whether poll(2) tells when the reader takes more: not of one that refuses what poll said it would take."""
        return bool(self._queue) and not self._refused

    def write(self, line: bytes) -> None:
        """Queue a line (without its end) and hand over what the reader takes; drop it when the queue is full."""
        self.flush()
        if self._dropped and not self._queue:
            told = self._note(self._dropped).encode("utf-8", "backslashreplace")
            self._queue += self._form(told) + b"\n"
            self._noted, self._dropped = self._dropped, 0
        if len(self._queue) + len(line) >= self._most:
            self._dropped += 1
            return
        self._queue += self._form(line) + b"\n"
        self.flush()

    def flush(self) -> None:
        """Hand over what is taken without waiting."""
        if self._queue and self._torn:
            self._queue[:0] = b"\n"
            self._torn = False
        while self._queue and self._poll.poll(0):
            piece = bytes(self._queue[: select.PIPE_BUF])
            try:
                done = os.write(self.fd, piece)
            except BlockingIOError:
                self._refused = True
                return
            except OSError:  # EPIPE: the reader has gone; ENOSPC, EIO: the disk; EBADF: closed.  We go on without.
                self._lose()
                return
            self._refused = False
            self._mid_line = piece[done - 1 : done] != b"\n"
            del self._queue[:done]
        if not self._queue:
            self._noted = 0

    def _lose(self) -> None:
        """What could not be written will never be; a line that was cut is ended before the next."""
        self._dropped += self._queue.count(b"\n") + max(self._noted - 1, 0)
        self._noted = 0
        self._torn = self._torn or self._mid_line
        self._mid_line = False
        self._queue.clear()

    def finish(self, patience_s: float = GOODBYE_S) -> None:
        """Give the reader this long (s) to take the rest."""
        until = time.monotonic() + patience_s
        self.flush()
        while self._queue and (left := until - time.monotonic()) > 0:
            self._poll.poll(left * 1000)
            self.flush()


class _Handler(logging.Handler):
    """Formats, and gives to the writer."""

    def __init__(self, writer: LineWriter) -> None:
        super().__init__()
        self._writer = writer
        self.shown = logging.INFO
        """The least severity that is written; the audit trail is, whatever this says."""
        self._audited = 0

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "audit", False):
            self._audited += 1
            record.number = self._audited
        elif record.levelno < self.shown:
            return
        try:
            text = self.format(record)
        except Exception:  # noqa: BLE001  # a process boundary: a record that cannot be shown must not end a worker
            safe = {"levelno": record.levelno, "levelname": record.levelname, "event": "log_failed"}
            text = self.format(logging.makeLogRecord({**safe, "msg": f"unprintable record: {record.msg!r:.200}"}))
        self._writer.write(text.encode("utf-8", "backslashreplace"))

    def flush(self) -> None:
        self._writer.finish()


class Recent(logging.Handler):
    """Keeps the last records that name their event, by their chosen fields, in bounded memory; counts all by level."""

    def __init__(self, keep: int = KEPT) -> None:
        super().__init__()
        self._decisions: deque[Decision] = deque(maxlen=keep)
        self.lines: Counter[str] = Counter()

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """The latest, oldest first."""
        self.acquire()  # other threads log too, and a deque must not change while it is copied
        try:
            return tuple(self._decisions)
        finally:
            self.release()

    def emit(self, record: logging.LogRecord) -> None:
        self.lines[record.levelname] += 1
        fields = _extras(record)
        event = fields.pop("event", None)
        if event is None or record.levelno < logging.INFO:
            return
        try:
            message = record.getMessage()
            told = {cut(name): cut(_text(value)) for name, value in [*fields.items()][:FIELDS]}
        except Exception:  # noqa: BLE001  # a process boundary: a record that cannot be shown must not end a worker
            message, told = f"unprintable record: {record.msg!r:.200}", {}
        self._decisions.append(Decision(boottime_ns(), record.levelname, cut(str(event)), cut(message), told))


def _text(value: object) -> str:
    """Bytes are never shown: no text that we mean to tell is one."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"{len(value)} bytes"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_text, value))
    return str(value)


def cut(text: str) -> str:
    """At most TEXT bytes of UTF-8."""
    return text[:TEXT].encode("utf-8", "replace")[:TEXT].decode("utf-8", "ignore")


def keep_recent() -> Recent:
    """Begin to keep what is logged; after `set_up`."""
    recent = Recent()
    logging.getLogger().addHandler(recent)
    return recent


def level() -> str:
    """The least severity that is written, as LOG_LEVEL names it."""
    levels = [handler.shown for handler in logging.getLogger().handlers if isinstance(handler, _Handler)]
    return logging.getLevelName(min(levels, default=logging.getLogger().level))


def set_level(name: str) -> None:
    """Write `name` (DEBUG, INFO, WARNING or ERROR) and above from now on; INFO and above are kept all the same."""
    root = logging.getLogger()
    for handler in root.handlers:
        if isinstance(handler, _Handler):
            handler.shown = logging.getLevelNamesMapping()[name]
    root.setLevel(min(logging.getLevelNamesMapping()[name], logging.INFO))


def set_up(worker: str, level: str, form: str) -> LineWriter:
    """Send all logging of this process to standard output, where supervisord collects it.  The writer, to share."""
    shown = formatter(worker, form)

    def note(lines: int) -> str:
        text = "lines of the log were dropped: nobody read them in time"
        told = {"levelno": logging.WARNING, "levelname": "WARNING", "event": "log_dropped", "lines": lines}
        return shown.format(logging.makeLogRecord({**told, "msg": text}))

    for fd in (1, 2):  # the second: for Python's last words, which must not keep a worker from dying
        take_terminal(fd)
    writer = LineWriter(1, note, form=for_journal if is_journal(1, os.environ) else bytes)
    handler = _Handler(writer)
    handler.setFormatter(shown)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    set_level(level)
    logging.captureWarnings(True)
    logging.getLogger("asyncio").setLevel("WARNING")
    return writer
