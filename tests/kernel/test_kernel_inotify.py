"""Events of a folder, and the strict reading of the kernel's buffer."""

from __future__ import annotations

import asyncio
import os
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel import inotify
from kernel.inotify import Event, Inotify, parse_events

names = st.text(st.characters(exclude_characters="\0/", codec="utf-8"), max_size=40)
events = st.builds(Event, st.integers(-1, 2**31 - 1), st.integers(0, 2**32 - 1), names)


def as_the_kernel_writes(event: Event) -> bytes:
    """inotify(7): the name is ended and padded by NULs to a multiple of the structure's size; none has length 0."""
    name = os.fsencode(event.name)
    padded = name.ljust((len(name) // 16 + 1) * 16, b"\0") if name else b""
    return struct.pack("iIII", event.watch, event.mask, 0, len(padded)) + padded


@given(st.lists(events))
def test_what_the_kernel_wrote_is_what_is_read(written: list[Event]) -> None:
    assert parse_events(b"".join(map(as_the_kernel_writes, written))) == written


@given(events, st.data())
def test_a_buffer_cut_anywhere_is_refused(event: Event, data: st.DataObject) -> None:
    whole = as_the_kernel_writes(event)
    cut = data.draw(st.integers(1, len(whole) - 1))
    with pytest.raises(ValueError, match="truncated"):
        parse_events(whole[:cut])


@given(st.binary(max_size=200))
def test_any_bytes_give_events_or_a_refusal(data: bytes) -> None:
    try:
        assert all(isinstance(event, Event) for event in parse_events(data))
    except ValueError as error:
        assert str(error).startswith("inotify: ")


def test_a_name_without_its_end_is_refused() -> None:
    with pytest.raises(ValueError, match="without its end"):
        parse_events(struct.pack("iIII", 1, 2, 0, 4) + b"abcd")


def test_lost_events_are_said_to_be_lost() -> None:
    (event,) = parse_events(struct.pack("iIII", -1, inotify.IN_Q_OVERFLOW, 0, 0))
    assert event.overflowed
    assert event.watch == -1
    assert not Event(1, inotify.IN_CREATE, "x").overflowed


def test_a_queue_that_runs_over_tells_so(tmp_path: Path) -> None:
    room = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text(encoding="ascii"))
    if room > 100_000:
        pytest.skip("the queue is too long to fill")
    watcher = Inotify()
    watcher.watch(tmp_path, inotify.IN_CREATE | inotify.IN_DELETE)
    path = tmp_path / "x"
    for _ in range(room // 2 + 1):
        path.touch()
        path.unlink()
    seen = []
    while some := watcher.read():
        seen += some
    assert seen[-1].overflowed
    watcher.close()


def test_reading_without_events_answers_none_and_does_not_wait(tmp_path: Path) -> None:
    watcher = Inotify()
    watcher.watch(tmp_path, inotify.IN_CREATE)
    assert watcher.read() == []
    watcher.close()


def test_each_entry_that_comes_and_goes_is_told_by_name_and_watch(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    watcher = Inotify()
    mask = inotify.IN_CREATE | inotify.IN_DELETE
    a, b = watcher.watch(tmp_path / "a", mask), watcher.watch(tmp_path / "b", mask)
    (tmp_path / "a" / "ключ").touch()
    (tmp_path / "b" / "other").symlink_to("nowhere")
    (tmp_path / "a" / "ключ").unlink()
    assert watcher.read() == [
        Event(a, inotify.IN_CREATE, "ключ"),
        Event(b, inotify.IN_CREATE, "other"),
        Event(a, inotify.IN_DELETE, "ключ"),
    ]
    watcher.close()


def test_a_reader_who_closes_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"k")
    watcher = Inotify()
    watch = watcher.watch(tmp_path, inotify.IN_CLOSE_NOWRITE)
    (tmp_path / "key").read_bytes()
    assert Event(watch, inotify.IN_CLOSE_NOWRITE, "key") in watcher.read()
    watcher.close()


def test_after_unwatch_only_its_end_is_told(tmp_path: Path) -> None:
    watcher = Inotify()
    watch = watcher.watch(tmp_path, inotify.IN_CREATE)
    watcher.unwatch(watch)
    (tmp_path / "x").touch()
    assert watcher.read() == [Event(watch, inotify.IN_IGNORED, "")]
    with pytest.raises(OSError, match="inotify_rm_watch"):
        watcher.unwatch(watch)
    watcher.close()


def test_a_path_that_is_not_there_is_an_error_that_names_the_call(tmp_path: Path) -> None:
    watcher = Inotify()
    with pytest.raises(FileNotFoundError, match="inotify_add_watch"):
        watcher.watch(tmp_path / "nothing", inotify.IN_CREATE)
    watcher.close()


async def test_an_event_loop_is_woken(tmp_path: Path) -> None:
    watcher, woken = Inotify(), asyncio.Event()
    watcher.watch(tmp_path, inotify.IN_CREATE)
    loop = asyncio.get_running_loop()
    loop.add_reader(watcher.fileno(), woken.set)
    (tmp_path / "x").touch()
    async with asyncio.timeout(30):
        await woken.wait()
    loop.remove_reader(watcher.fileno())
    watcher.close()
