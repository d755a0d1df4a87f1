"""Whoever reads the log, slowly, not at all or no more: the tree does its work."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tree import WORKERS, Tree, alive, folder, tree, until, visible

F_SETPIPE_SZ = 1031


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe of one page."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    fcntl.fcntl(writer, F_SETPIPE_SZ, 4096)
    held = [reader, writer]
    yield reader, writer
    for fd in held:
        try:
            os.close(fd)
        except OSError:
            continue


def _serving(made: Tree) -> bool:
    return all((made.root / "run" / worker / "state.sock").is_socket() for worker in WORKERS)


def _works_and_stops(made: Tree) -> None:
    """A dead worker comes back, a SIGTERM is obeyed."""
    old = made.workers()["prober"]
    os.kill(old, signal.SIGKILL)
    until(lambda: made.workers().get("prober", old) != old, "the prober is back")
    os.kill(made.pid, signal.SIGTERM)
    assert made.wait_end() == 0
    assert made.left_behind() == []


def test_a_reader_that_stopped_reading_stops_nobody(pipe: tuple[int, int]) -> None:
    _, writer = pipe
    while True:  # full before the first line
        os.set_blocking(writer, False)
        try:
            os.write(writer, b"x" * 4096)
        except BlockingIOError:
            break
    os.set_blocking(writer, True)
    with tree(stdout=writer, LOG_LEVEL="DEBUG") as made:
        until(lambda: _serving(made), "all serve")
        _works_and_stops(made)


def test_a_reader_that_has_gone_stops_nobody(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    with tree(stdout=writer, LOG_LEVEL="DEBUG") as made:
        os.close(reader)
        until(lambda: _serving(made), "all serve")
        _works_and_stops(made)


def test_a_slow_reader_gets_whole_lines_and_the_descriptors_flags_are_left_alone(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    got = bytearray()

    def read() -> None:
        while piece := os.read(reader, 7):
            got.extend(piece)

    with tree(stdout=writer, LOG_LEVEL="DEBUG") as made:
        assert not fcntl.fcntl(writer, fcntl.F_GETFL) & os.O_NONBLOCK
        os.close(writer)
        thread = threading.Thread(target=read)
        thread.start()
        until(lambda: _serving(made), "all serve")
        assert (
            not int(
                next(
                    line
                    for line in Path(f"/proc/{made.pid}/fdinfo/1").read_text().splitlines()
                    if line.startswith("flags")
                ).split()[1],
                8,
            )
            & os.O_NONBLOCK
        )
        _works_and_stops(made)
    thread.join(20)
    lines = got.decode().splitlines()
    assert len(lines) > len(WORKERS)
    for line in lines:
        assert json.loads(line)["event"]


def test_workers_go_on_while_supervisord_stands_still_and_nobody_takes_their_lines() -> None:
    with tree(LOG_LEVEL="DEBUG") as made:
        here = made.wait_up()
        os.kill(made.pid, signal.SIGSTOP)
        pipes = {Path(f"/proc/{pid}/fd/1").readlink() for pid in visible(here).values()}
        for entry in Path(f"/proc/{made.pid}/fd").iterdir():
            try:
                if entry.readlink() in pipes:  # fill what the workers write into
                    fd = os.open(entry, os.O_WRONLY | os.O_NONBLOCK)
                    try:
                        while True:
                            os.write(fd, b"x" * 4096)
                    except BlockingIOError:
                        os.close(fd)
            except FileNotFoundError:
                continue
        os.kill(here["actuator"], signal.SIGTERM)  # logs "stopped" on its way out
        until(lambda: not alive(here["actuator"]), "it ended, though nobody took its last line", 30)
        assert all(alive(pid) for name, pid in here.items() if name != "actuator")
        os.kill(made.pid, signal.SIGCONT)
        made.wait_log("output")  # the x of ours, as JSON
        made.wait_up()


def test_a_worker_without_its_folder_says_so_and_comes_back_with_it() -> None:
    with tree() as made:
        made.wait_up()
        run = made.root / "run"
        (run / "prober").rename(run / "moved")
        os.kill(made.workers()["prober"], signal.SIGKILL)
        fault = made.wait_log("no_socket", "prober")
        assert str(run / "prober") in fault["message"]
        (run / "moved").rename(run / "prober")
        made.wait_up()


def test_logs_for_people_are_passed_on_as_they_are() -> None:
    with tree(LOG_FORMAT="console") as made:
        until(lambda: made.log.read_text().count("started  pid=") == len(WORKERS), "all have said that they started")
        for line in made.log.read_text().splitlines():
            assert line[2] == line[5] == ":", line


def test_what_the_journal_reads_has_its_severity_the_workers_lines_too() -> None:
    root = folder()
    (root / "log").touch()
    info = (root / "log").stat()
    made = Tree(root, JOURNAL_STREAM=f"{info.st_dev}:{info.st_ino}")
    try:
        until(lambda: made.log.read_text().count('"worker_started"') == len(WORKERS), "all have said that they started")
        told = [(line[:3], json.loads(line[3:])["level"]) for line in made.log.read_text().splitlines()]
    finally:
        made.close()
        shutil.rmtree(root)
    assert set(told) <= {("<6>", "INFO"), ("<4>", "WARNING"), ("<3>", "ERROR")}
