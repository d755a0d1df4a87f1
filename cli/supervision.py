"""supervisord, with what this product needs and a configuration file cannot say.

- Signals act at once.  supervisord's loop sleeps in poll() for up to a second and (PEP 475) goes on sleeping when
  a signal comes; a wake-up descriptor ends that, so a dead worker is restarted, and a SIGTERM obeyed, in
  milliseconds.  Signals that came before it could listen were held for it.
- A worker that dies again and again is tried ever more slowly, but at least every few seconds.
- If the actuator cannot be kept alive the container ends with a failure, so that the kubelet starts it anew.
- If supervisord itself stands still for a minute the kernel kills it, and with it every worker.
- What the workers write goes out line by line in LOG_FORMAT; nobody ever waits for the reader of the log.
- Each worker gets its own user where WORKER_UIDS names one, without CAP_KILL or CAP_CHOWN on our side.
- SIGHUP and SIGUSR2 do nothing: the configuration is the environment, and that does not change.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final, NoReturn

from supervisor import events, loggers
from supervisor.medusa import asyncore_25
from supervisor.options import ServerOptions
from supervisor.states import ProcessStates, SupervisorStates
from supervisor.supervisord import Supervisor

from kernel.clock import boottime_ns
from kernel.deadline import DeathTimer
from kernel.identity import acting_as, become
from policy import timing
from workers.logs import LineWriter, formatter

log = logging.getLogger("supervision")

ACTUATOR_DEATHS: Final = 6
ACTUATOR_WINDOW_S: Final = 60.0
"""This many deaths of the actuator within this many seconds: it cannot be kept alive."""

BACKOFF_FIRST_S: Final = 0.25
BACKOFF_MOST_S: Final = 5.0
"""The pause before a worker that died within its first second is started again: doubled each time up to this."""

SOON_S: Final = 5.0
"""A worker that ended by itself before that never came to work: on a busy machine a start takes more than a second."""

WATCHDOG: Final = 60 * timing.SECOND
"""supervisord's loop turns at least once a second.  Long: without it forging goes on, its end costs a restart."""

LONGEST_LINE: Final = 1 << 18
"""Bytes: a worker's lines have less, whatever strangers wrote that is told in them (`workers.logs`)."""
_STOP: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
_LEVELS: Final = {"CRIT": logging.CRITICAL, "ERRO": logging.ERROR, "WARN": logging.WARNING, "INFO": logging.INFO}


class _ToOurLog(loggers.Handler):  # type: ignore[misc]  # supervisor has no type information
    """supervisord's own messages, as ours."""

    def emit(self, record: loggers.LogRecord) -> None:
        said = record.asdict()
        log.log(_LEVELS.get(said["levelname"], logging.DEBUG), "%s", said["message"], extra={"event": "supervisord"})

    def flush(self) -> None:
        return

    def close(self) -> None:
        return


class _Options(ServerOptions):  # type: ignore[misc]
    """Its options, less what is not ours: another user, log files, its help text."""

    def set_uid_or_exit(self) -> None:
        """We are whom the container says, root or not, and never become anybody else."""

    def drop_privileges(self, user: int) -> str | None:
        """In the child, before exec: be this user, whom no passwd file need know; why not, in words."""
        try:
            become(user, user)
        except OSError as error:
            return error.strerror or "not permitted"
        return None

    def kill(self, pid: int, sig: int) -> None:
        """Signal a worker: as its own user, since we may not signal others'.  Raises OSError."""
        process = self.pidhistory.get(pid)
        uid = process.config.uid if process is not None else None
        name = process.config.name if process is not None else ""
        told = {"signal": signal.Signals(sig).name, "to": name, "pid": pid, "why": "supervisord stops it"}
        try:
            with contextlib.nullcontext() if uid is None else acting_as(uid, uid):
                os.kill(pid, sig)
        except OSError as error:
            outcome = f"refused by the kernel: {error.strerror}"
            log.error("no signal", extra={"event": "signal", "audit": True, **told, "outcome": outcome})
            raise
        log.info(
            "%s to the %s", told["signal"], name, extra={"event": "signal", "audit": True, **told, "outcome": "sent"}
        )

    def make_logger(self) -> None:
        self.logger = loggers.Logger(self.loglevel, [_ToOurLog()])
        for message in (*self.parse_criticals, *self.parse_warnings):
            self.logger.log(loggers.LevelsByName.WARN, message)

    def usage(self, msg: str) -> NoReturn:
        log.critical("supervisord cannot run: %s", msg, extra={"event": "supervisord"})
        raise SystemExit(1)


class _WakeUp:
    """The reading end of the wake-up pipe, in the shape of one of supervisord's dispatchers."""

    closed = False

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def handle_read_event(self) -> None:
        try:
            os.read(self._fd, 4096)
        except BlockingIOError:
            return

    def handle_write_event(self) -> None:
        raise AssertionError("never writable")

    def handle_error(self) -> None:
        raise AssertionError("the wake-up pipe failed")


class _Drain:
    """Our standard output while lines wait for its reader."""

    closed = False

    def __init__(self, writer: LineWriter) -> None:
        self._writer = writer

    def readable(self) -> bool:
        return False

    def writable(self) -> bool:
        return self._writer.polled

    def handle_read_event(self) -> None:
        raise AssertionError("never readable")

    def handle_write_event(self) -> None:
        self._writer.flush()

    def handle_error(self) -> None:
        raise AssertionError("standard output failed")


class _Relay:
    """What the workers write, put out in whole lines, so that no two run into each other."""

    def __init__(self, writer: LineWriter, form: str) -> None:
        self._writer = writer
        self._form = form
        self._rest: dict[str, bytes] = {}

    def take(self, worker: str, data: bytes) -> None:
        *lines, rest = (self._rest.pop(worker, b"") + data).split(b"\n")
        for line in lines:
            self._put(worker, line)
        if len(rest) < LONGEST_LINE:
            self._rest[worker] = rest
        else:
            self._put(worker, rest)

    def end(self, worker: str) -> None:
        """It died; what it did not finish is a line too."""
        if rest := self._rest.pop(worker, b""):
            self._put(worker, rest)

    def _put(self, worker: str, line: bytes) -> None:
        """Python's own last words (a traceback, an import error) are no JSON; they become some."""
        if self._form == "json" and not (line.startswith(b'{"time"') and line.endswith(b"}")):
            said = {"levelno": logging.ERROR, "levelname": "ERROR", "event": "output"}
            text = line.decode("utf-8", "backslashreplace")
            line = formatter(worker, "json").format(logging.makeLogRecord({**said, "msg": text})).encode()
        self._writer.write(line)


class ForgeSupervisor(Supervisor):  # type: ignore[misc]
    """One run of supervisord.  `failed` says whether it ended because the actuator could not be kept alive."""

    def __init__(self, options: ServerOptions, writer: LineWriter, form: str) -> None:
        super().__init__(options)
        self.failed = False
        self._writer = writer
        self._relay = _Relay(writer, form)
        self._deaths: list[float] = []
        self._soon: Counter[str] = Counter()
        """How often in a row a worker ended so."""
        self._timer = DeathTimer()
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def runforever(self) -> None:
        """As supervisord's, with our additions in place."""
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGALRM, self.options.signal_receiver.receive)  # the end of a pause
        events.subscribe(events.ProcessStateFatalEvent, self._on_fatal)
        events.subscribe(events.ProcessStateExitedEvent, self._on_exit)
        events.subscribe(events.ProcessStateBackoffEvent, self._on_backoff)
        events.subscribe(events.ProcessStateStoppedEvent, self._on_stopped)
        events.subscribe(events.ProcessLogStdoutEvent, self._on_output)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        self.handle_signal()  # a SIGTERM that was held: start nothing
        super().runforever()

    def get_process_map(self) -> dict[int, Any]:
        self._writer.flush()  # also finds out that the reader has gone, which poll() would report without end
        ours = {self._wake_read: _WakeUp(self._wake_read), self._writer.fd: _Drain(self._writer)}
        return {**super().get_process_map(), **ours}

    def handle_signal(self) -> None:
        """All signals that came: supervisord would take one a turn."""
        while sig := self.options.get_signal():
            if sig in _STOP and self.options.mood == SupervisorStates.RUNNING:
                log.info("stopping", extra={"event": "stop_requested", "signal": signal.Signals(sig).name})
                self.options.mood = SupervisorStates.SHUTDOWN
            elif sig in (signal.SIGHUP, signal.SIGUSR2):
                why = "%s ignored: the configuration is the environment; to restart, end the container"
                log.warning(why, signal.Signals(sig).name, extra={"event": "signal_ignored"})

    def reap(self, once: bool = False, recursionguard: int = 0) -> None:
        """As supervisord's; after a death the loop turns once more at once instead of sleeping on it."""
        known = len(self.options.pidhistory)
        super().reap(once=once, recursionguard=recursionguard)
        if len(self.options.pidhistory) < known:
            with contextlib.suppress(BlockingIOError):  # full: it will wake up anyway
                os.write(self._wake_write, b"\0")

    def tick(self, now: float | None = None) -> None:
        super().tick(now)
        self._timer.arm(boottime_ns() + WATCHDOG)

    # --- what happens to the workers ---

    def _on_output(self, event: events.ProcessLogStdoutEvent) -> None:
        self._relay.take(event.process.config.name, event.data)

    def _on_stopped(self, event: events.ProcessStateEvent) -> None:
        self._relay.end(event.process.config.name)

    def _on_fatal(self, event: events.ProcessStateEvent) -> None:
        if event.process.config.name == "actuator":
            self._give_up("it did not stay up after being started")

    def _on_backoff(self, event: events.ProcessStateEvent) -> None:
        """It died (or could not be started) within its first second."""
        process = event.process
        self._pause(process, process.backoff)
        process.backoff = min(process.backoff, ACTUATOR_DEATHS)  # a clock that is set back costs this many seconds
        self._on_death(event)

    def _pause(self, process: Any, times: int) -> None:
        """Before it is started again, after so many deaths in a row."""
        pause = min(BACKOFF_FIRST_S * 2 ** (times - 1), BACKOFF_MOST_S)
        process.delay = time.time() + pause
        left = signal.getitimer(signal.ITIMER_REAL)[0]
        signal.setitimer(signal.ITIMER_REAL, min(left or pause, pause) + 0.005)

    def _on_exit(self, event: events.ProcessStateEvent) -> None:
        """It died later than that: started again at once, unless it ended by itself again and again."""
        process, name = event.process, event.process.config.name
        by_itself = process.exitstatus >= 0  # not by a signal
        if by_itself and process.laststop - process.laststart < SOON_S:
            self._soon[name] += 1
        else:
            del self._soon[name]
        if self._soon[name] > 1:
            process.state, process.backoff = ProcessStates.BACKOFF, 1
            self._pause(process, self._soon[name] - 1)
        self._on_death(event)

    def _on_death(self, event: events.ProcessStateEvent) -> None:
        name = event.process.config.name
        self._relay.end(name)
        if name != "actuator" or self.options.mood != SupervisorStates.RUNNING:
            return
        now = time.monotonic()
        self._deaths = [t for t in self._deaths if now - t < ACTUATOR_WINDOW_S] + [now]
        if len(self._deaths) >= ACTUATOR_DEATHS:
            self._give_up(f"it died {len(self._deaths)} times within {ACTUATOR_WINDOW_S:.0f} s")

    def _give_up(self, why: str) -> None:
        if self.failed or self.options.mood != SupervisorStates.RUNNING:
            return
        log.critical(
            "the actuator cannot be kept alive: %s; ending the container",
            why,
            extra={"event": "actuator_lost", "why": why},
        )
        self.failed = True
        self.options.mood = SupervisorStates.SHUTDOWN


def run(conf: str, writer: LineWriter, form: str, uids: Mapping[str, int]) -> int:
    """Be supervisord with this configuration file, in the foreground.  The exit code: 0 stopped, 1 failed.

    writer, form: where the workers' lines go, and LOG_FORMAT.  uids: of the workers; empty: all are we.
    """
    options = _Options()
    options.realize(["-n", "-c", conf], doc=__doc__)
    for group in options.process_group_configs:
        for process in group.process_configs:
            process.uid = uids.get(process.name)
    options.first = True
    options.test = False
    supervisor = ForgeSupervisor(options, writer, form)
    try:
        with contextlib.suppress(asyncore_25.ExitNow):  # the way its loop ends
            supervisor.main()
    except Exception:  # the process boundary: say it in our form; the kernel ends the workers with us
        log.critical("ended by a fault", exc_info=True, extra={"event": "supervisord_fault"})
        return 1
    finally:
        writer.finish()
    if supervisor.failed:
        return 1
    log.info("stopped", extra={"event": "stopped"})
    writer.finish()
    return 0
