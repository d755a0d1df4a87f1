"""supervisord, with the two things that this product needs and a configuration file cannot say.

- Signals act at once.  supervisord's loop sleeps in poll() for up to a second and (PEP 475) goes on sleeping when
  a signal comes; a wake-up descriptor ends that, so a dead worker is restarted, and a SIGTERM obeyed, in
  milliseconds.
- If the actuator cannot be kept alive the container ends with a failure, so that the kubelet starts it anew.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import time
from typing import Any, Final

from supervisor import events
from supervisor.medusa import asyncore_25
from supervisor.options import ServerOptions
from supervisor.states import SupervisorStates
from supervisor.supervisord import Supervisor

log = logging.getLogger("supervision")

ACTUATOR_DEATHS: Final = 6
ACTUATOR_WINDOW_S: Final = 60.0
"""This many deaths of the actuator within this many seconds: it cannot be kept alive."""


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


class ForgeSupervisor(Supervisor):  # type: ignore[misc]  # supervisor has no type information
    """One run of supervisord.  `failed` says whether it ended because the actuator could not be kept alive."""

    def __init__(self, options: ServerOptions) -> None:
        super().__init__(options)
        self.failed = False
        self._deaths: list[float] = []
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def runforever(self) -> None:
        """As supervisord's, with our two additions in place."""
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        events.subscribe(events.ProcessStateFatalEvent, self._on_fatal)
        events.subscribe(events.ProcessStateExitedEvent, self._on_exit)
        super().runforever()

    def get_process_map(self) -> dict[int, Any]:
        return {**super().get_process_map(), self._wake_read: _WakeUp(self._wake_read)}

    def reap(self, once: bool = False, recursionguard: int = 0) -> None:
        """As supervisord's; after a death the loop turns once more at once instead of sleeping on it."""
        known = len(self.options.pidhistory)
        super().reap(once=once, recursionguard=recursionguard)
        if len(self.options.pidhistory) < known:
            os.write(self._wake_write, b"\0")

    def _on_fatal(self, event: events.ProcessStateEvent) -> None:
        if event.process.config.name == "actuator":
            self._give_up("it did not stay up after being started")

    def _on_exit(self, event: events.ProcessStateExitedEvent) -> None:
        if event.process.config.name != "actuator" or self.options.mood != SupervisorStates.RUNNING:
            return
        now = time.monotonic()
        self._deaths = [t for t in self._deaths if now - t < ACTUATOR_WINDOW_S] + [now]
        if len(self._deaths) >= ACTUATOR_DEATHS:
            self._give_up(f"it died {len(self._deaths)} times within {ACTUATOR_WINDOW_S:.0f} s")

    def _give_up(self, why: str) -> None:
        log.critical(
            "the actuator cannot be kept alive: %s; ending the container",
            why,
            extra={"event": "actuator_lost"},
        )
        self.failed = True
        self.options.mood = SupervisorStates.SHUTDOWN


def run(conf: str) -> int:
    """Be supervisord with this configuration file, in the foreground.  The exit code: 0 stopped, 1 failed."""
    first = True
    while True:
        options = ServerOptions()
        options.realize(["-n", "-c", conf], doc=__doc__)
        options.first = first
        options.test = False
        supervisor = ForgeSupervisor(options)
        with contextlib.suppress(asyncore_25.ExitNow):  # the way its loop ends
            supervisor.main()
        options.close_httpservers()
        options.close_logger()
        first = False
        if supervisor.failed:
            return 1
        if options.mood < SupervisorStates.RESTARTING:
            return 0
        sys.stdout.flush()
