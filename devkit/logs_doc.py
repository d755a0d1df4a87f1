"""The tables of docs/logs.md, from workers/events.py."""

from __future__ import annotations

from collections.abc import Mapping

from workers import events
from workers.events import Event


def always() -> str:
    return _words("field", events.ALWAYS)


def fields() -> str:
    return _words("field", events.FIELDS)


def transitions() -> str:
    return _events(events.TRANSITIONS)


def audit() -> str:
    return _events(events.AUDIT)


def conditions() -> str:
    return _events(events.CONDITIONS)


def others() -> str:
    return _events(events.OTHERS)


def _events(table: Mapping[str, Event]) -> str:
    rows = [
        f"| `{name}` | {_cell(event.meaning)} | {', '.join(f'`{field}`' for field in event.fields)} |"
        for name, event in table.items()
    ]
    return "\n".join(["| event | meaning | fields |", "|---|---|---|", *rows])


def _words(head: str, table: Mapping[str, str]) -> str:
    rows = [f"| `{name}` | {_cell(meaning)} |" for name, meaning in table.items()]
    return "\n".join([f"| {head} | meaning |", "|---|---|", *rows])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
