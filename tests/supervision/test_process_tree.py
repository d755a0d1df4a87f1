"""The tree of processes: who is started again, when the container ends, and that nothing stays behind."""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import socket
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from tree import LONG, WORKERS, Tree, alive, tree, until, visible

from workers.events import ALWAYS, EVENTS

pytestmark = pytest.mark.alone

LOADED = 2.0
"""Seconds that a loaded machine may add to a promise."""


@pytest.fixture(scope="module")
def shared(uid: int | None) -> Iterator[Tree]:
    """A tree for the tests after which it is whole again."""
    with tree(uid) as made:
        made.wait_up()
        yield made


def _again(made: Tree, worker: str, sig: signal.Signals = signal.SIGKILL) -> float:
    """End a worker that has been up for more than a second; seconds until its successor is there."""
    old = made.wait_up(worker)[worker]
    ticks = int(Path(f"/proc/{old}/stat").read_text().rpartition(")")[2].split()[19])
    hertz = os.sysconf("SC_CLK_TCK")
    until(lambda: time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / hertz > 1.5, "it counts as running")
    fd = os.pidfd_open(old)
    os.kill(old, sig)
    assert select.select([fd], [], [], LONG)[0]
    os.close(fd)
    began = time.monotonic()
    until(lambda: made.workers().get(worker, old) != old, f"{worker} is there again")
    return time.monotonic() - began


@pytest.mark.parametrize("worker", sorted(WORKERS))
def test_a_killed_worker_is_started_again_at_once_and_alone(shared: Tree, worker: str) -> None:
    before = shared.wait_up()
    took = _again(shared, worker)
    after = shared.wait_up()
    assert took < 1.0
    assert {name for name in WORKERS if before[name] != after[name]} == {worker}


def test_every_line_of_the_log_is_one_json_object_also_supervisords_own(shared: Tree) -> None:
    _again(shared, "arbiter")
    shared.wait_up()
    own = shared.records("supervisord", "manager")
    assert any("arbiter" in r["message"] and "SIGKILL" in r["message"] for r in own)
    for record in shared.records():
        assert {"time", "level", "worker", "event", "message"} <= record.keys()
        assert record.keys() <= {*ALWAYS, *EVENTS[record["event"]].fields}


def test_being_root_on_purpose_is_not_worth_a_word(shared: Tree) -> None:
    assert not [r for r in shared.records() if r["level"] == "CRITICAL" or "root" in r["message"]]


def test_sighup_and_sigusr2_do_nothing_but_say_so(shared: Tree) -> None:
    before = shared.wait_up()
    for count, sig in enumerate((signal.SIGHUP, signal.SIGUSR2, signal.SIGHUP), start=1):
        os.kill(shared.pid, sig)
        shared.wait_log("signal_ignored", count=count)
    _again(shared, "prober")  # it still does its work
    after = shared.wait_up()
    assert {**before, "prober": 0} == {**after, "prober": 0}


def test_sigpipe_ends_nobody(shared: Tree) -> None:
    before = shared.wait_up()
    for pid in (*before.values(), shared.pid):
        status = Path(f"/proc/{pid}/status").read_text()
        ignored = int(next(line for line in status.splitlines() if line.startswith("SigIgn")).split()[1], 16)
        assert ignored >> (signal.SIGPIPE - 1) & 1


def test_workers_inherit_no_descriptor_of_supervisords(shared: Tree) -> None:
    """The lock above all: a successor must not wait for, nor take over, what a worker holds."""
    for pid in visible(shared.wait_up()).values():
        targets = []
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # a connection's that has ended meanwhile
                targets.append(str(entry.readlink()))
        assert not [t for t in targets if t.endswith(("/run/lock", "/log"))]


def test_workers_hear_signals_whatever_forge_manager_inherited(uid: int | None) -> None:
    def spoil() -> None:
        for sig in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGQUIT, signal.SIGUSR2):
            signal.signal(sig, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGCHLD, signal.SIGALRM})

    with tree(uid, then=spoil) as made:
        made.wait_up()
        assert _again(made, "gateway") < 1.0
        made.wait_up()
        os.kill(made.pid, signal.SIGTERM)
        assert made.wait_end() == 0
        assert made.left_behind() == []


@pytest.mark.parametrize("signals", [("TERM",), ("INT",), ("TERM", "TERM"), ("TERM", "INT", "HUP"), ("QUIT",)])
def test_a_stop_ends_a_standbys_whole_tree_with_0(signals: tuple[str, ...]) -> None:
    with tree() as made:
        made.wait_up()
        began = time.monotonic()
        for name in signals:
            os.kill(made.pid, signal.Signals[f"SIG{name}"])
        assert made.wait_end() == 0
        took = time.monotonic() - began
        print(f"{signals}: {took:.2f} s")
        assert took < 2.0 + LOADED
        assert made.left_behind() == []
        assert not made.records("worker_fault")
        assert {r["worker"] for r in made.records("worker_stopped")} == WORKERS


@pytest.mark.parametrize("after", [0.0, 0.1, 0.3, 0.6, 1.0])
def test_a_sigterm_during_the_start_ends_it_too(after: float) -> None:
    with tree() as made:
        # Whichever moment this hits, on whatever machine: it ends.  (Before Python runs, by the signal itself.)
        select.select([], [], [], after)
        os.kill(made.pid, signal.SIGTERM)
        assert made.wait_end() in (0, -signal.SIGTERM)
        assert made.left_behind() == []


def test_a_sigterm_that_came_before_supervisord_listened_starts_nobody() -> None:
    with tree() as made:
        until(lambda: (made.root / "run" / "elector" / "instance").exists(), "prepared")
        os.kill(made.pid, signal.SIGTERM)
        assert made.wait_end() in (0, -signal.SIGTERM)
        assert not made.records("worker_started")


def test_workers_die_with_supervisord_however_it_dies(uid: int | None) -> None:
    with tree(uid) as made:
        made.wait_up()
        made.process.kill()
        made.process.wait()
        until(lambda: made.left_behind() == [], "the workers died too", 5)


@pytest.mark.parametrize("worker", ["prober", "elector"])
def test_a_frozen_worker_is_killed_by_the_kernel_and_started_again(shared: Tree, worker: str) -> None:
    pid = shared.wait_up()[worker]
    os.kill(pid, signal.SIGSTOP)
    until(lambda: not alive(pid), "the watchdog killed it", 30)
    assert shared.wait_up()[worker] != pid


def test_a_gateway_without_its_port_disturbs_nobody_and_comes_back_when_the_port_is_free() -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        with tree(METRICS_PORT=str(taken.getsockname()[1])) as made:
            others = made.wait_up("actuator", "arbiter", "prober", "elector")
            made.wait_log("port_taken", count=4)
            taken.close()
            made.wait_log("listening")
            now = made.wait_up()
            assert {name: now[name] for name in others if name != "gateway"} == {
                name: pid for name, pid in others.items() if name != "gateway"
            }
            tried = [r["time"] for r in made.records("port_taken")]
            assert len(tried) <= 12, tried


def test_a_worker_that_fails_after_a_slow_start_is_tried_ever_more_slowly_too(tmp_path: Path) -> None:
    slowly = 'import sys, time; "workers.gateway" in sys.orig_argv and time.sleep(1.2)'
    (tmp_path / "sitecustomize.py").write_text(slowly)
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        with tree(METRICS_PORT=str(taken.getsockname()[1]), PYTHONPATH=str(tmp_path)) as made:
            made.wait_log("port_taken", count=5)
            tried = [datetime.fromisoformat(each["time"]) for each in made.records("port_taken")]
            assert (tried[4] - tried[3]).total_seconds() > 1.2 + 0.9  # its start, and the pause after four of them
            taken.close()
            made.wait_log("listening")


def test_an_actuator_that_cannot_start_ends_the_container_with_1(uid: int | None) -> None:
    with tree(uid) as made:
        made.wait_up()
        folder = made.root / "run" / "actuator"
        folder.rename(made.root / "run" / "moved")
        folder.write_text("in the way")  # nobody can make a folder here any more
        os.kill(made.workers()["actuator"], signal.SIGKILL)
        assert made.wait_end(60) == 1
        assert len(made.records("actuator_lost")) == 1
        assert made.left_behind() == []


def test_an_actuator_that_dies_six_times_in_a_minute_ends_the_container_with_1() -> None:
    with tree() as made:
        made.wait_up()
        for _ in range(6):
            pid = made.wait_up("actuator")["actuator"]
            os.kill(pid, signal.SIGKILL)
            until(lambda pid=pid: not alive(pid), "dead")  # type: ignore[misc]
        assert made.wait_end(60) == 1
        assert made.records("actuator_lost")
        assert made.left_behind() == []


def test_too_few_descriptors_are_said_in_one_line(nobody: int) -> None:
    def starve() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))

    with tree(nobody, then=starve) as made:
        assert made.wait_end() == 1
        begun, said = made.records()
        assert begun["event"] == "starting"
        assert "file descriptors" in said["message"]


def test_a_supervisord_that_stands_still_is_ended_by_the_kernel_one_day(shared: Tree) -> None:
    timers = Path(f"/proc/{shared.pid}/timers").read_text()
    assert f"signal: {int(signal.SIGKILL)}/" in timers
    assert "ClockID: 7" in timers  # CLOCK_BOOTTIME
