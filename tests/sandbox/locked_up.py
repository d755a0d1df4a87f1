"""Runs a function in a process of its own, which may lock itself up for good."""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import Any

PATIENCE_S = int(os.environ.get("FORGE_PATIENCE_S", "60"))
"""Until such a process is given up.  An emulated machine that gets what others leave of a processor needs more."""


class KilledError(Exception):
    """The process was killed."""

    def __init__(self, by: int) -> None:
        super().__init__(signal.Signals(by).name)
        self.by = signal.Signals(by)


def alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """What `function` returns (as JSON carries it) in a forked process with one thread.

    Raises KilledError where the process was killed, AssertionError with its traceback where it raised.
    """
    read, write = os.pipe()
    sys.stdout.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other tests' threads: this child uses none of them
        pid = os.fork()
    if pid == 0:
        signal.alarm(PATIENCE_S)
        os.close(read)
        _tell(write, function, arguments)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        said = pipe.read()
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        raise KilledError(os.WTERMSIG(status))
    answer = json.loads(said)
    assert "raised" not in answer, answer["raised"]
    return answer["returned"]


def _tell(write: int, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        answer = {"returned": function(*arguments)}
    except BaseException:  # noqa: BLE001  # the process boundary: told to the test
        answer = {"raised": traceback.format_exc()}
    data = json.dumps(answer).encode()
    while data:
        data = data[os.write(write, data) :]
    os._exit(0)
