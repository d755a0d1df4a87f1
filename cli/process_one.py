"""Imported by `forge-manager` before it does anything: as process 1 it has a child go on, and stays behind as an init.

The kernel keeps from process 1 of a pid namespace every signal from within for which it has no handler
(pid_namespaces(7)): a SIGTERM while Python is still loading, and, worst, the SIGKILL of its own timer
(`kernel.deadline`): a hung actuator that is process 1 would outlive its right to forge.  Its child is like any other.

What stays does nothing but take orphans, pass signals on, and end as the child ended: with its exit code, with 0 where
the signal that asked it to stop killed it before it could answer, else with 128 + the signal's number.
"""

import os
import signal
from typing import Final, NoReturn

_PASSED_ON: Final = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR2})
_WAITED_FOR: Final = _PASSED_ON | {signal.SIGCHLD}


def _stay(child: int) -> NoReturn:
    from kernel import identity  # only here: the child has not asked for it yet

    identity.no_new_privs()
    identity.keep_only()
    asked: set[int] = set()
    while True:
        came = signal.sigwait(_WAITED_FOR)
        if came != signal.SIGCHLD:
            asked.add(came)
            os.kill(child, came)  # not reaped yet, so nobody else's number
        while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
            _, status = os.waitpid(ended.si_pid, 0)
            if ended.si_pid != child:
                continue
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else 0 if -code in asked else 128 - code)


if os.getpid() == 1:
    signal.pthread_sigmask(signal.SIG_BLOCK, _WAITED_FOR)
    if _child := os.fork():
        _stay(_child)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _WAITED_FOR)
