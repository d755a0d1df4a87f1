"""The log: one object a line, never a wait, and a count of what was lost."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import pty
import select
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.supervision import LONGEST_LINE
from workers.logs import (
    ConsoleFormatter,
    JsonFormatter,
    LineWriter,
    for_journal,
    formatter,
    is_journal,
    take_terminal,
)

PAGE = 4096


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe2(os.O_CLOEXEC)
    fcntl.fcntl(writer, 1031, PAGE)  # F_SETPIPE_SZ
    fds = {reader, writer}
    yield reader, writer
    for fd in fds:
        try:
            os.close(fd)
        except OSError:
            continue


def _note(lines: int) -> str:
    return f"lost {lines}"


def _read_all(reader: int, writer: LineWriter | None = None) -> bytes:
    got = b""
    while True:
        if writer is not None:
            writer.flush()
        if not select.select([reader], [], [], 0)[0]:
            return got
        got += os.read(reader, 100_000)


def _blocking(fd: int) -> bool:
    return os.get_blocking(fd)


def test_lines_wait_for_a_slow_reader_in_their_order_and_nobody_waits_for_it(pipe: tuple[int, int]) -> None:
    reader, fd = pipe
    writer = LineWriter(fd, _note)
    wanted = [f"{n} {'x' * 1000}".encode() for n in range(100)]
    for line in wanted:
        writer.write(line)  # a write that waited would never return
    assert writer.pending
    assert _blocking(fd)  # the descriptor is as it was
    assert _read_all(reader, writer).splitlines() == wanted
    assert not writer.pending


def test_what_does_not_fit_is_dropped_and_counted_once_there_is_room(pipe: tuple[int, int]) -> None:
    reader, fd = pipe
    writer = LineWriter(fd, _note, backlog=10_000)
    for n in range(100):
        writer.write(f"{n} {'x' * 1000}".encode())
    got = _read_all(reader, writer).splitlines()
    writer.write(b"after")
    *_, note, after = got + _read_all(reader, writer).splitlines()
    assert after == b"after"
    assert note == f"lost {100 - len(got)}".encode()


def test_a_reader_that_has_gone_leaves_nothing_pending_even_if_the_pipe_was_full(pipe: tuple[int, int]) -> None:
    """Pending lines on a pipe in error would make supervisord's poll() return without end."""
    reader, fd = pipe
    writer = LineWriter(fd, _note)
    for _ in range(20):
        writer.write(b"x" * 1000)
    os.close(reader)
    writer.flush()
    assert not writer.pending
    writer.write(b"nobody hears it")
    assert not writer.pending


def test_a_full_disk_costs_lines_not_the_process_and_the_next_line_is_whole() -> None:
    with tempfile.NamedTemporaryFile() as file, Path("/dev/full").open("wb") as full:
        kept = os.dup(file.fileno())
        writer = LineWriter(kept, _note)
        writer.write(b"before")
        os.dup2(full.fileno(), kept)
        for _ in range(3):
            writer.write(b"lost")
        os.dup2(file.fileno(), kept)
        writer.write(b"after")
        os.close(kept)
        assert Path(file.name).read_bytes().split(b"\n") == [b"before", b"lost 3", b"after", b""]


def test_a_line_larger_than_the_backlog_is_dropped_not_cut(pipe: tuple[int, int]) -> None:
    reader, fd = pipe
    writer = LineWriter(fd, _note, backlog=2000)
    writer.write(b"x" * 3000)
    writer.write(b"y")
    assert _read_all(reader, writer) == b"lost 1\ny\n"


def test_an_ending_process_waits_for_a_reader_but_not_long(pipe: tuple[int, int]) -> None:
    _, fd = pipe
    writer = LineWriter(fd, _note)
    for _ in range(20):
        writer.write(b"x" * 1000)
    writer.finish(0.01)
    assert writer.pending


def test_somebody_elses_nonblocking_descriptor_is_no_trouble(pipe: tuple[int, int]) -> None:
    reader, fd = pipe
    os.set_blocking(fd, False)
    writer = LineWriter(fd, _note)
    for n in range(50):
        writer.write(f"{n} {'x' * 1000}".encode())
    assert len(_read_all(reader, writer).splitlines()) == 50


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """Its far end, and ours."""
    master, slave = pty.openpty()
    yield master, slave
    os.close(slave)
    os.close(master)


@pytest.mark.parametrize("size", [50, 300, 1000])  # what ends where the terminal's room ends differs by them
def test_a_terminal_that_nobody_reads_stops_nobody(terminal: tuple[int, int], size: int) -> None:
    _, given = terminal
    fd = os.dup(given)
    take_terminal(fd)
    assert _blocking(given)  # the open file that we were given is as it was
    writer = LineWriter(fd, _note)

    def write() -> None:
        for _ in range(100_000 // size):
            writer.write(b"x" * size)

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    assert writer.pending
    os.close(fd)


def test_what_refuses_although_poll_called_it_writable_is_not_polled_without_end(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, fd = pipe
    writer = LineWriter(fd, _note)

    def refuse(*_: object) -> int:
        raise BlockingIOError

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", refuse)
        writer.write(b"later")
        assert writer.pending
        assert not writer.polled
    writer.flush()
    assert not writer.pending


def test_what_is_no_terminal_is_left_as_it_is(pipe: tuple[int, int]) -> None:
    _, fd = pipe
    take_terminal(fd)
    assert _blocking(fd)


_TEXT = st.text(st.characters(codec=None), max_size=50)


@given(
    _TEXT, st.dictionaries(st.from_regex(r"x[a-z]{1,8}", fullmatch=True), st.one_of(_TEXT, st.integers(), st.none()))
)
def test_whatever_is_logged_is_one_json_object_on_one_line(text: str, extra: dict[str, object]) -> None:
    record = logging.makeLogRecord({"msg": text, "levelname": "INFO", "event": "e", **extra})
    line = JsonFormatter("w").format(record).encode("utf-8", "backslashreplace")
    assert b"\n" not in line
    found = json.loads(line)
    assert found["event"] == "e"
    assert found["worker"] == "w"


@given(_TEXT)
def test_no_text_can_begin_a_line_of_its_own_or_move_the_cursor_in_a_log_for_people(text: str) -> None:
    line = ConsoleFormatter("w").format(logging.makeLogRecord({"msg": text, "levelname": "INFO", "holder": text}))
    assert line.isprintable()


@given(_TEXT)
def test_no_text_moves_the_cursor_of_who_reads_the_objects_and_each_is_told_as_it_was(text: str) -> None:
    line = JsonFormatter("w").format(logging.makeLogRecord({"msg": text, "levelname": "INFO", "holder": text}))
    assert line.isprintable()
    assert json.loads(line)["holder"] == text


@pytest.mark.parametrize("char", ["\x9b", "\x7f", "\x85", "\u2028", "\u202e", "\u2066", "\U000e0041"])
def test_what_turns_the_direction_or_ends_a_line_for_some_readers_is_escaped_in_both_forms(char: str) -> None:
    record = logging.makeLogRecord({"msg": f"held by {char}pod", "levelname": "INFO"})
    assert formatter("w", "json").format(record).isprintable()
    assert json.loads(formatter("w", "json").format(record))["message"] == f"held by {char}pod"
    assert ascii(char)[1:-1] in formatter("w", "text").format(record)


@pytest.mark.parametrize("char", ["x", "\x9b", "\U000e0041"])
@pytest.mark.parametrize("form", ["json", "text"])
def test_what_a_stranger_wrote_makes_no_line_that_the_supervisor_would_tear(form: str, char: str) -> None:
    long = char * 1_000_000
    told = {"old": long, "new": long, "why": long, "holder": long, "files": [long]}
    line = formatter("w", form).format(logging.makeLogRecord({"msg": long, "levelname": "INFO", **told}))
    assert 2000 < len(line.encode()) < LONGEST_LINE
    if form == "json":
        assert json.loads(line)["holder"] == char * 2000 + "..."


def failed(text: str) -> logging.LogRecord:
    """A record with the trace of an exception that says this."""
    try:
        raise ValueError(text)
    except ValueError as error:
        info = (type(error), error, error.__traceback__)
    return logging.makeLogRecord({"msg": "m", "levelname": "ERROR", "exc_info": info})


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize(
    ("level", "priority"), [("DEBUG", 7), ("INFO", 6), ("WARNING", 4), ("ERROR", 3), ("CRITICAL", 2)]
)
@given(text=st.text())
def test_the_journal_is_told_the_severity_whatever_the_text_says(
    form: str, level: str, priority: int, text: str
) -> None:
    try:
        raise ValueError(text)
    except ValueError:
        trace = sys.exc_info()
    said = {"levelno": logging.getLevelNamesMapping()[level], "levelname": level, "event": "x", "msg": text}
    line = formatter("actuator", form).format(logging.makeLogRecord({**said, "exc_info": trace}))
    marked = for_journal(line.encode("utf-8", "backslashreplace"))
    assert {each[:3] for each in marked.split(b"\n")} == {b"<%d>" % priority}
    assert marked.replace(b"<%d>" % priority, b"") == line.encode("utf-8", "backslashreplace").replace(
        b"<%d>" % priority, b""
    )


def test_only_what_the_journal_reads_is_marked(pipe: tuple[int, int]) -> None:
    info = os.fstat(pipe[1])
    assert is_journal(pipe[1], {"JOURNAL_STREAM": f"{info.st_dev}:{info.st_ino}"})
    assert not is_journal(pipe[1], {"JOURNAL_STREAM": f"{info.st_dev}:{info.st_ino + 1}"})
    assert not is_journal(pipe[1], {})


def test_a_trace_is_in_the_object() -> None:
    assert "ValueError: why" in json.loads(formatter("w", "json").format(failed("why")))["trace"]


def test_of_a_long_trace_the_end_is_told() -> None:
    trace = json.loads(formatter("w", "json").format(failed("x" * 100_000 + " why")))["trace"]
    assert len(trace) < 20_000
    assert trace.endswith("x why")


def test_a_trace_for_people_is_whole_and_below_its_line() -> None:
    first, *trace = formatter("w", "text").format(failed("why")).splitlines()
    assert first.endswith("w        m")
    assert trace[0] == "    Traceback (most recent call last):"
    assert trace[-1] == "    ValueError: why"


def test_what_an_exception_says_forges_no_line_and_reaches_no_terminal() -> None:
    forged = "12:00:00.000 INFO    elector  lease acquired"
    _, *trace = formatter("w", "text").format(failed(f"no\n{forged}\r{forged}\x1b[2J\x9b1A")).split("\n")
    assert trace[-1] == f"    {forged}\\x0d{forged}\\x1b[2J\\x9b1A"


@given(_TEXT)
def test_no_exception_can_begin_a_line_of_its_own_or_move_the_cursor_in_a_log_for_people(text: str) -> None:
    _, *trace = ConsoleFormatter("w").format(failed(text)).split("\n")
    assert all(line.startswith("    ") for line in trace)
    assert all(line.isprintable() for line in trace)
