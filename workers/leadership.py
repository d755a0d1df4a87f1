"""The pool's leadership schedule as an operator supplied it: read when it changed, held against the wall clock.

A file, or a folder of which every file is read (a ConfigMap with one for each epoch).  What cannot be read is said and
delays nothing.
"""

from __future__ import annotations

import logging
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cardano.leadership_schedule import MOST_BYTES, ScheduleError, parse_schedule
from cardano.slots import Network, slot_at, slot_length_s, slot_phase
from policy import timing
from policy.quiet import next_assigned, quiet_from

log = logging.getLogger("prober")

FARTHEST_S: Final = 366 * 86400.0
"""A node knows the slots of two epochs, which are ten days on mainnet; other networks have longer ones."""
MOST_FILES: Final = 16
"""Of a folder; the current epoch and the next are two."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What the schedule says of the next minutes.  Instants in ns of CLOCK_BOOTTIME."""

    quiet_at: int = 0
    """From then on no slot is assigned for a while; 0: it is quiet, or nothing is known."""
    leads_at: int = 0
    """The next assigned slot begins; 0: none is known."""
    problem: str = ""
    """Why nothing is known, though a schedule was named."""


class LeadershipSchedule:
    """Follows one path."""

    def __init__(self, path: Path | None, calendar: Network | None, gap_s: float) -> None:
        """`gap_s`: seconds without an assigned slot that count as quiet."""
        self._path = path
        self._calendar = calendar
        self._gap_s = gap_s
        self._print: tuple[object, ...] = ()
        self._slots: tuple[int, ...] = ()
        self._wrong = ""
        self._said = ""

    def outlook(self, now: int, wall_s: float) -> Outlook:
        """`now`: ns of CLOCK_BOOTTIME, at the same instant as `wall_s` (Unix seconds)."""
        if self._path is None:
            return Outlook()
        found = self._outlook(self._path, now, wall_s)
        if found.problem != self._said:
            self._said = found.problem
            if found.problem:
                log.warning(found.problem, extra={"event": "leadership_schedule", "why": found.problem})
            else:
                log.info("the leadership schedule is read", extra={"event": "leadership_schedule"})
        return found

    def _outlook(self, path: Path, now: int, wall_s: float) -> Outlook:
        slot, phase = slot_at(self._calendar, wall_s), slot_phase(self._calendar, wall_s)
        if slot is None or phase is None:
            return Outlook(problem="LEADERSHIP_SCHEDULE: no calendar of this network is known: set SHELLEY_GENESIS")
        self._read_again(path)
        if self._wrong:
            return Outlook(problem=self._wrong)
        length_s = slot_length_s(self._calendar)
        following = next_assigned(self._slots, slot)
        if following is None:
            return Outlook(
                problem=f"LEADERSHIP_SCHEDULE {path}: has no slot to come: supply that of the epoch that runs"
            )
        quiet_s = quiet_from(self._slots, slot, phase, length_s, self._gap_s)
        begins_s = max((following - slot) * length_s - phase, 0.0)
        if begins_s > FARTHEST_S:
            return Outlook(
                problem=f"LEADERSHIP_SCHEDULE {path}: its next slot, {following}, is {begins_s / 86400:.0f} days away; "
                "no schedule reaches that far: supply slots of this network, and of the epoch that runs"
            )
        return Outlook(
            quiet_at=now + int(min(quiet_s, FARTHEST_S) * timing.SECOND) if quiet_s else 0,
            leads_at=now + int(begins_s * timing.SECOND),
        )

    def _read_again(self, path: Path) -> None:
        """If something changed."""
        seen: tuple[object, ...] = ()
        try:
            files = _files(path)
            seen = tuple((str(file), *_facts(file)) for file in files)
            if seen == self._print:
                return
            slots = {slot for file in files for slot in _parsed(file)}
        except OSError as error:
            named = error.filename or path
            self._become((), f"LEADERSHIP_SCHEDULE {named}: cannot be read: {error.strerror}", ())
        except ScheduleError as error:
            self._become(seen, f"LEADERSHIP_SCHEDULE {error}", ())
        else:
            self._become(seen, "", tuple(sorted(slots)))

    def _become(self, seen: tuple[object, ...], wrong: str, slots: tuple[int, ...]) -> None:
        self._print, self._wrong, self._slots = seen, wrong, slots


def _files(path: Path) -> list[Path]:
    """Raises OSError, ScheduleError."""
    if not path.is_dir():
        return [path]
    found = sorted(file for file in path.iterdir() if not file.name.startswith(".") and file.is_file())
    if not found or len(found) > MOST_FILES:
        raise ScheduleError(f"{path}: has {len(found)} files; one for each epoch is right, at most {MOST_FILES}")
    return found


def _facts(file: Path) -> tuple[int, ...]:
    """Raises OSError; ScheduleError for what could make its reader wait."""
    info = file.stat()
    if not stat.S_ISREG(info.st_mode):
        raise ScheduleError(f"{file}: is not a file")
    return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns


def _parsed(file: Path) -> tuple[int, ...]:
    """Raises OSError, ScheduleError that names the file."""
    with file.open(encoding="utf-8", errors="replace") as opened:
        text = opened.read(MOST_BYTES + 1)
    try:
        return parse_schedule(text)
    except ScheduleError as error:
        raise ScheduleError(f"{file}: {error}") from None
