"""The slots in which a pool is to make a block, from what the usual tools write.  Pure: text in, slot numbers out.

Whatever the text is, there are slot numbers or a ScheduleError: never a schedule that is read in part, unless it is a
table that was cut between two rows or above the first.  Known by their shape:

- `cardano-cli query leadership-schedule`, JSON `[{"slotNumber": ..., "slotTime": ...}, ...]` and its table of text; a
  slot whose time the node could not tell has an error in the time's place, and is a slot all the same (cardano-cli
  Cardano/CLI/EraBased/Query/Run.hs, leadershipScheduleToJson and leadershipScheduleToText);
- `cncli leaderlog`, `{"status": "ok", ..., "assignedSlots": [{"slot": ..., ...}, ...]}`, and its failure
  `{"status": "error", "errorMessage": ...}` (cncli src/nodeclient/leaderlog/mod.rs, LeaderLog and LeaderLogError);
- a JSON list of numbers, or of objects that have `slot`: rows of the guild tools' SQLite table `blocklog`
  (guild-operators scripts/cnode-helper-scripts/cncli.sh), as `sqlite3 -json` writes them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Final, NoReturn

MOST_BYTES: Final = 1024 * 1024
"""A longer text is no pool's schedule of an epoch.  Counted in characters: each of a schedule's is one byte."""

MOST_SLOTS: Final = 100_000
"""More than four times the blocks of a whole epoch of mainnet (432000 slots, one in twenty with a block)."""

SLOTS_END: Final = 2**53
"""Slot numbers are smaller: a JSON number above it may not be the one that was meant."""

_FIELDS: Final = ("slotNumber", "slot")
_HEADER: Final = ["SlotNo", "UTC", "Time"]
_RULE: Final = re.compile(r"-+")
_ROW: Final = re.compile(
    r"([0-9]{1,16})\s+"
    # A time that is not whole is that of a row that was cut short.
    r"(?:[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)? UTC|[^0-9\s].*)"
)
_ANEW: Final = "write it anew with `cardano-cli query leadership-schedule` or `cncli leaderlog`"


class ScheduleError(ValueError):
    """No schedule.  The text says what is wrong and what to do, fit to follow a file's name; never what is in it."""


def parse_schedule(text: str) -> tuple[int, ...]:
    """Absolute slot numbers, ascending, each once; () for a schedule without a slot.

    A text with nothing in it is none: it is what a command that failed leaves behind.  Raises ScheduleError, and
    nothing else whatever the text.
    """
    if len(text) > MOST_BYTES:
        raise ScheduleError(f"is longer than {MOST_BYTES} bytes, and no schedule is: {_ANEW}")
    text = text.removeprefix("\ufeff").strip()
    if not text:
        raise ScheduleError(f"is empty, so the command that was to fill it failed: {_ANEW}")
    slots = _of_json(text) if text[0] in "[{" else _of_table(text)
    return tuple(sorted(set(slots)))


def _of_json(text: str) -> list[int]:
    try:
        parsed = json.loads(text, parse_constant=_no_number, object_pairs_hook=_fields_once)
    except (ValueError, RecursionError):  # ValueError: a number of thousands of digits, too
        raise ScheduleError(f"is cut short or no JSON, or has a field twice: {_ANEW}") from None
    match parsed:
        case list(entries):
            pass
        case {"status": "error"}:
            raise ScheduleError(
                'has "status": "error" in place of a schedule: cncli failed and says why in "errorMessage"; '
                "mend that and run `cncli leaderlog` again"
            )
        case {"status": "ok", "assignedSlots": list(entries)}:
            pass
        case _:
            raise ScheduleError(f'is JSON, but neither a list nor has it "status": "ok" and "assignedSlots": {_ANEW}')
    _bounded(entries)
    return [_slot(entry, number) for number, entry in enumerate(entries, 1)]


def _slot(entry: object, number: int) -> int:
    if isinstance(entry, dict):
        named = [entry[name] for name in _FIELDS if name in entry]
        if len(named) != 1:
            raise ScheduleError(f'has no "slotNumber" and no "slot", or both, in entry {number}: {_ANEW}')
        entry = named[0]
    if type(entry) is not int or not 0 <= entry < SLOTS_END:
        raise ScheduleError(f"has no slot number (a whole number from 0 to below 2^53) in entry {number}: {_ANEW}")
    return entry


def _of_table(text: str) -> list[int]:
    lines = [stripped for line in text.splitlines() if (stripped := line.strip())]
    if lines[0].split() != _HEADER:
        raise ScheduleError(f"is neither JSON nor a table that begins with SlotNo and UTC Time: {_ANEW}")
    if len(lines) < 2 or not _RULE.fullmatch(lines[1]):
        raise ScheduleError(f"is a table without a line of dashes below its header: it is cut short; {_ANEW}")
    rows = lines[2:]
    _bounded(rows)
    slots = []
    for number, row in enumerate(rows, 1):
        found = _ROW.fullmatch(row)
        if found is None or (slot := int(found[1])) >= SLOTS_END:
            raise ScheduleError(f"has no slot number below 2^53 and time in row {number}, or the row is cut: {_ANEW}")
        slots.append(slot)
    return slots


def _bounded(entries: Sequence[object]) -> None:
    if len(entries) > MOST_SLOTS:
        raise ScheduleError(f"has more than {MOST_SLOTS} slots, and no pool has in an epoch: {_ANEW}")


def _no_number(name: str) -> NoReturn:
    raise ValueError(name)


def _fields_once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a field twice")
    return fields
