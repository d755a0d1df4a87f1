"""The kernel timer that ends this process, and the clock it counts on."""

from __future__ import annotations

import errno
import itertools
import signal
import time
from pathlib import Path

import pytest
from kernel_actors import Child, Refused

from kernel import clock
from kernel.clock import bent_by, boottime_ns, delay_s

HOUR = 3600 * 1_000_000_000


def test_a_process_dies_by_sigkill_at_its_deadline() -> None:
    with Child() as child:
        child.do("timer = deadline.DeathTimer()")
        deadline = boottime_ns() + 200_000_000
        child.do(f"timer.arm({deadline})")
        assert child.wait() == -signal.SIGKILL
        assert boottime_ns() >= deadline


def test_a_stopped_process_dies_at_its_deadline_too() -> None:
    with Child() as child:
        child.do("timer = deadline.DeathTimer()")
        child.begin("timer.arm(clock.boottime_ns() + 500_000_000); os.kill(os.getpid(), signal.SIGSTOP)")
        child.wait_until_stopped()
        assert child.wait() == -signal.SIGKILL


def test_a_process_that_blocks_every_signal_dies_at_its_deadline_too() -> None:
    with Child() as child:
        child.do("signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())")
        child.do("timer = deadline.DeathTimer()")
        child.begin("timer.arm(clock.boottime_ns() + 1)")
        assert child.wait() == -signal.SIGKILL


@pytest.mark.parametrize("passed", ["clock.boottime_ns() - 1", "1", "0", "-5"])
def test_a_deadline_that_has_passed_kills_at_once(passed: str) -> None:
    with Child() as child:
        child.do("timer = deadline.DeathTimer()")
        child.begin(f"timer.arm({passed})")
        assert child.wait() == -signal.SIGKILL


def test_a_renewed_deadline_replaces_the_earlier_one() -> None:
    with Child() as child:
        child.do("timer = deadline.DeathTimer()")
        child.do(f"timer.arm(clock.boottime_ns() + {HOUR})")
        child.do(f"timer.arm(clock.boottime_ns() + {2 * HOUR})")
        assert HOUR < child.do("timer.remaining_ns()") <= 2 * HOUR


def test_a_disarmed_timer_has_no_deadline() -> None:
    with Child() as child:
        child.do("timer = deadline.DeathTimer()")
        child.do("timer.disarm()")
        child.do(f"timer.arm(clock.boottime_ns() + {HOUR})")
        child.do("timer.disarm()")
        assert child.do("timer.remaining_ns()") == 0
        child.do("timer.disarm()")
        assert child.do("timer.remaining_ns()") == 0


def test_closing_takes_the_deadline_away_and_a_second_close_does_nothing() -> None:
    with Child() as child:
        timers = "Path('/proc/self/timers').read_text().count('signal: 9/')"
        child.do("timer = deadline.DeathTimer()")
        child.do(f"timer.arm(clock.boottime_ns() + {HOUR})")
        assert child.do(timers) == 1
        child.do("timer.close()")
        assert child.do(timers) == 0
        child.do("timer.close()")


def test_a_closed_timer_refuses_to_touch_the_one_that_got_its_number() -> None:
    with Child() as child:
        child.do("first = deadline.DeathTimer()")
        child.do("first.close()")
        child.do("second = deadline.DeathTimer()")
        for call in ("first.arm(1)", "first.disarm()", "first.remaining_ns()"):
            with pytest.raises(Refused, match="closed"):
                child.do(call)


def test_a_forked_child_does_not_inherit_the_deadline() -> None:
    with Child() as child:
        child.do("timer = deadline.DeathTimer()")
        child.do(f"timer.arm(clock.boottime_ns() + {HOUR})")
        child.do(
            "if (pid := os.fork()) == 0:\n"
            "    try: timer.remaining_ns()\n"
            "    except OSError as error: os._exit(error.errno)\n"
            "    os._exit(0)"
        )
        assert child.do("os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])") == errno.EINVAL


def test_the_delay_to_an_instant_is_in_seconds_and_never_negative() -> None:
    assert 3599 < delay_s(boottime_ns() + HOUR) <= 3600
    assert delay_s(boottime_ns() - HOUR) == 0.0
    assert delay_s(0) == 0.0


def test_boottime_is_the_kernels_uptime() -> None:
    before = boottime_ns()
    uptime = float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])
    assert before / 1e9 - 0.02 <= uptime <= boottime_ns() / 1e9  # uptime is cut to hundredths


@pytest.mark.parametrize(("share", "said"), [(0, 0.0), (83_000, 0.083), (-20_000, -0.02)])
def test_how_much_a_time_service_bends_the_clock_is_told_by_the_oscillator(
    monkeypatch: pytest.MonkeyPatch, share: int, said: float
) -> None:
    """share: millionths."""
    raw = itertools.count(10**15, 500_000)

    def now(which: int) -> int:
        found = next(raw)
        return found + found * share // 1_000_000 if which == time.CLOCK_BOOTTIME else found

    monkeypatch.setattr(clock.time, "clock_gettime_ns", now)
    assert bent_by(0) == pytest.approx(said, abs=1e-4)


def test_this_machines_clock_is_bent_by_less_than_a_time_service_can() -> None:
    assert abs(bent_by(0.5)) < 0.2
