"""Real child processes for the kernel tests: what one does when told, and a node that looks when it is signalled.

`Child` runs Python statements in a process of its own, in which the kernel room is imported; `Node` opens a path at
each SIGHUP and says what it found.  Both end with the test: at the close of their `with`, or when the test's process
ends.  Nothing here waits for time to pass: `looks()` asks with SIGUSR1, which the kernel delivers after a SIGHUP
that came before it.
"""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

REPOSITORY = Path(__file__).resolve().parents[2]
NOBODY = 65534


class Refused(Exception):  # noqa: N818
    """What a statement raised in the child: (type, errno, text)."""


class Child:
    """A process that runs statements; `user` = (uid, gid) needs root."""

    def __init__(
        self, user: tuple[int, int] | None = None, *, dumpable: bool = True, fds: tuple[int, ...] = ()
    ) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-u", __file__, repr((user, dumpable, os.getpid()))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            pass_fds=fds,
        )
        self.pid = self._process.pid
        self._answer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    def do(self, statement: str) -> Any:
        """Run a statement there; the value if it is an expression of plain values.  Raises Refused."""
        self.begin(statement)
        return self._answer()

    def begin(self, statement: str) -> None:
        """Start a statement there and do not wait for its end."""
        assert self._process.stdin is not None
        self._process.stdin.write(repr(statement) + "\n")
        self._process.stdin.flush()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise EOFError(f"the child ended, status {self._process.wait()}")
        what, value = ast.literal_eval(line)
        if what == "raised":
            raise Refused(*value)
        return value

    def wait_until_stopped(self) -> None:
        """Wait until it stands still, or has ended."""
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def kill(self) -> int:
        """SIGKILL, and wait until its end is complete; the wait status as Popen tells it."""
        self._process.kill()
        return self._process.wait()

    def wait(self) -> int:
        """Wait for an end that something else brings about."""
        return self._process.wait()


class Node(Child):
    """Opens `path` at each SIGHUP, as a cardano-node does, and remembers what it found.

    ESRCH, what /proc answers to a look that falls into the reaping of its process, is told as ENOENT: for a node both
    are "does not exist" (bench/fence.py).
    """

    def __init__(self, path: Path, user: tuple[int, int] | None = None) -> None:
        super().__init__(user)
        self.begin(f"be_node({str(path)!r})")
        self._answer()

    def looks(self) -> list[str]:
        """What each look since the last call found: the content, or the errno's name.  Earlier SIGHUPs are in it."""
        os.kill(self.pid, signal.SIGUSR1)
        return list(self._answer())


def _answer_with(what: str, value: object) -> None:
    sys.stdout.write(repr((what, value)) + "\n")


def _be_node(path: str) -> None:
    import errno

    _answer_with("done", None)
    found: list[str] = []
    while True:
        if signal.sigwait({signal.SIGHUP, signal.SIGUSR1}) == signal.SIGHUP:
            try:
                found.append(Path(path).read_bytes().decode())
            except OSError as error:
                found.append(errno.errorcode[error.errno or 0].replace("ESRCH", "ENOENT"))
        else:
            _answer_with("done", found)
            found = []


def _main() -> None:
    import resource
    import time

    from kernel import clock, cwdstage, deadline, deathpipe, flock, inotify, plainstage, process, wallclock

    names: dict[str, Any] = {"signal": signal, "os": os, "Path": Path, "time": time, "be_node": _be_node}
    names |= {"clock": clock, "deadline": deadline, "deathpipe": deathpipe, "flock": flock, "inotify": inotify}
    names |= {"process": process, "wallclock": wallclock, "resource": resource, "plainstage": plainstage}
    names |= {"Stage": cwdstage.Stage, "subprocess": subprocess, "sys": sys}
    user, dumpable, parent = ast.literal_eval(sys.argv[1])
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP, signal.SIGUSR1})
    if user is not None:
        os.setgroups([])
        os.setgid(user[1])
        os.setuid(user[0])
    process.set_dumpable(dumpable)
    process.die_with_parent(signal.SIGKILL, parent)
    _answer_with("done", None)
    for line in sys.stdin:
        statement = ast.literal_eval(line)
        try:
            try:
                value = eval(compile(statement, "<told>", "eval"), names)
            except SyntaxError:
                exec(compile(statement, "<told>", "exec"), names)
                value = None
            _answer_with("done", value if isinstance(value, str | int | float | list | tuple | bool) else None)
        except Exception as error:  # noqa: BLE001  # the process boundary: told to whoever gave the statement
            _answer_with("raised", (type(error).__name__, getattr(error, "errno", None), str(error)))


if __name__ == "__main__":
    _main()
