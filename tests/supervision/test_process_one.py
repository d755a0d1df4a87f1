"""As process 1 of a pid namespace, as in a container that shares none: what the kernel keeps from it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tree import FORGE_MANAGER, LONG, environment

WAIT = "signal.sigtimedwait((), 3); sys.exit(7)"
"""Nothing came."""

pytestmark = pytest.mark.skipif(os.getuid() != 0 or shutil.which("unshare") is None, reason="needs root and unshare(1)")


def as_process_1(root: Path, *command: str, **more: str) -> subprocess.CompletedProcess[str]:
    words = ["unshare", "--pid", "--fork", "--kill-child", *command]
    given = environment(root, **more)
    return subprocess.run(words, env=given, cwd="/", capture_output=True, text=True, timeout=LONG, check=False)


def python(root: Path, code: str) -> int:
    """The exit code of this code behind the import."""
    done = as_process_1(root, sys.executable, "-c", f"import os, signal, sys\n{code}")
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode


def test_its_own_death_timer_ends_it(root: Path) -> None:
    """Without an init before it the kernel ignores it: a hung actuator would outlive its right to forge."""
    timer = "from kernel.deadline import DeathTimer\ntimer = DeathTimer(); timer.arm(1)"
    assert python(root, f"{timer}; {WAIT}") == 7
    assert python(root, f"import cli.process_one\n{timer}; {WAIT}") == 128 + 9


def test_a_signal_that_asks_it_to_stop_before_it_listens_is_not_lost(root: Path) -> None:
    early = "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM]); os.kill(1, signal.SIGTERM)"
    assert python(root, f"{early}; import cli.process_one; {WAIT}") == 0


def test_it_ends_with_the_exit_code_of_what_it_is(root: Path) -> None:
    assert python(root, "import cli.process_one; sys.exit(3)") == 3
    assert as_process_1(root, FORGE_MANAGER, "--version").returncode == 0
    refused = as_process_1(root, FORGE_MANAGER, LEASE_DURATION="soon")
    assert refused.returncode == 2
    assert "LEASE_DURATION='soon'" in refused.stderr


def test_an_orphan_is_taken_and_does_not_end_it(root: Path) -> None:
    orphan = "if os.fork() == 0:\n if os.fork() == 0: os._exit(5)\n os._exit(6)\nos.wait()"
    assert python(root, f"import cli.process_one\n{orphan}\nsignal.sigtimedwait((), 0.2); sys.exit(3)") == 3


def test_what_stays_behind_has_no_capability_and_can_gain_none(root: Path) -> None:
    look = (
        "import cli.process_one, re\n"
        "def dropped():\n"
        " text = open('/proc/1/status').read()\n"
        " return re.search('NoNewPrivs:\t1', text) and re.search('CapPrm:\t0{16}', text)\n"
        "while not dropped(): os.sched_yield()\n"
        "sys.exit(3)"
    )
    mounted = 'mount -t proc none /proc && exec "$@"'
    words = ("unshare", "--mount", "--propagation", "private", "sh", "-c", mounted, "sh", sys.executable, "-c")
    assert as_process_1(root, *words, f"import os, sys\n{look}").returncode == 3
