"""A terminal taken for a while: the other screen, no echo, keys one by one; and given back in every case.

In every case: at the end, after an exception, when stopped (and taken again when continued), at SIGTERM, SIGHUP,
SIGQUIT and Ctrl-C.  Only SIGKILL leaves it as it is (`reset` mends that).  Only lines that changed are written, each at
its own place, with the terminal's own wrapping off: a line that is wider there than counted here moves no other.  A
terminal that takes nothing (Ctrl-S) is not waited for.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import sys
import termios
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final

ENTER: Final = "\x1b[?1049h\x1b[?7l\x1b[?25l\x1b[2J"
LEAVE: Final = "\x1b[0m\x1b[?25h\x1b[?7h\x1b[?1049l"
ENDS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
GOODBYE_MS: Final = 200
_USUAL: Final = (80, 24)
"""Of a terminal that does not know its size."""


class Terminal:
    """Standard output's; used as a context, in a running loop."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        """`on_change`: something is to be drawn anew, or it is over (`ended`)."""
        self.ended = False
        self.signal: signal.Signals | None = None
        """That ended it, and shall end the process; None: q or Ctrl-C did, or its input ended."""
        self._on_change = on_change
        self._out = sys.stdout.fileno()
        self._in = sys.stdin.fileno() if sys.stdin is not None and sys.stdin.isatty() else None
        self._saved: list[Any] | None = None
        self._drawn: list[str] | None = None
        """What stands there; None: not known."""
        self._size = _USUAL
        self._poll = select.poll()
        self._poll.register(self._out, select.POLLOUT)

    def __enter__(self) -> Terminal:
        loop = asyncio.get_running_loop()
        for sig in ENDS:
            loop.add_signal_handler(sig, self._end, sig)
        loop.add_signal_handler(signal.SIGWINCH, self._redraw)
        loop.add_signal_handler(signal.SIGTSTP, self._stop)
        loop.add_signal_handler(signal.SIGCONT, self._take)
        if self._in is not None:
            loop.add_reader(self._in, self._read)
        self._take()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        loop = asyncio.get_running_loop()
        if self._in is not None:
            loop.remove_reader(self._in)
        self._give_back()
        for sig in (*ENDS, signal.SIGWINCH, signal.SIGTSTP, signal.SIGCONT):
            loop.remove_signal_handler(sig)

    @property
    def size(self) -> tuple[int, int]:
        """Columns and rows, now."""
        try:
            columns, rows = os.get_terminal_size(self._out)
        except OSError:  # it has gone
            columns, rows = 0, 0
        return (columns or _USUAL[0], rows or _USUAL[1])

    def draw(self, lines: list[str]) -> None:
        """Make it show these, from the top."""
        size = self.size
        before = self._drawn if self._drawn is not None and size == self._size else None
        out = [] if before is not None else ["\x1b[2J"]
        old = before or []
        for row in range(max(len(lines), len(old))):
            line = lines[row] if row < len(lines) else ""
            if row >= len(old) or old[row] != line:
                out.append(f"\x1b[{row + 1};1H{line}\x1b[K")
        if self._write("".join(out), patience_ms=0):
            self._drawn, self._size = list(lines), size

    # --- taking and giving back ---

    def _take(self) -> None:
        if self._in is not None:
            with contextlib.suppress(termios.error):  # it has gone
                now = termios.tcgetattr(self._in)
                self._saved = self._saved or now
                quiet = now.copy()
                quiet[3] &= ~(termios.ECHO | termios.ICANON)
                termios.tcsetattr(self._in, termios.TCSANOW, quiet)
        self._write(ENTER, patience_ms=GOODBYE_MS)
        self._redraw()

    def _give_back(self) -> None:
        self._write(LEAVE, patience_ms=GOODBYE_MS)
        if self._saved is not None and self._in is not None:
            with contextlib.suppress(termios.error):
                termios.tcsetattr(self._in, termios.TCSANOW, self._saved)
            self._saved = None

    def _stop(self) -> None:
        """Ctrl-Z: as any program stops; where nobody could have us go on, the kernel does not stop us either."""
        loop = asyncio.get_running_loop()
        self._give_back()
        loop.remove_signal_handler(signal.SIGTSTP)
        os.kill(os.getpid(), signal.SIGTSTP)
        loop.add_signal_handler(signal.SIGTSTP, self._stop)
        self._take()

    # --- what comes from it ---

    def _end(self, sig: signal.Signals) -> None:
        self.ended = True
        self.signal = None if sig is signal.SIGINT else sig
        self._on_change()

    def _redraw(self) -> None:
        self._drawn = None
        self._on_change()

    def _read(self) -> None:
        assert self._in is not None
        try:
            keys = os.read(self._in, 1024)
        except OSError:  # EIO: it has gone
            keys = b""
        if not keys or b"q" in keys.lower():
            self.ended = True
            self._on_change()
        elif b"\x0c" in keys:  # Ctrl-L
            self._redraw()

    def _write(self, text: str, *, patience_ms: int) -> bool:
        """Whether it was taken."""
        data = text.encode(sys.stdout.encoding or "ascii", "replace")
        if not data:
            return True
        if not self._poll.poll(patience_ms):
            self._drawn = None
            return False
        try:
            while data:
                data = data[os.write(self._out, data) :]
        except OSError:  # EIO: it has gone; SIGHUP says so
            return False
        return True
