"""The table of the log's events and the source agree: no event without its line there, no line without its event."""

from __future__ import annotations

import ast
import logging
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from devkit.docs import ROOT
from workers.events import ALWAYS, AUDIT, EVENTS, FIELDS, TRANSITIONS

PACKAGES = ("cardano", "gateway", "health", "ipc", "kernel", "kube", "policy", "sandbox", "workers")
SOURCES = [
    *(path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py")) if path.name != "events.py"),
    *(ROOT / "cli" / name for name in ("forge_manager.py", "supervision.py")),
]
METHODS = {"debug", "info", "warning", "error", "exception", "critical", "log"}
MAKERS = {"Complaint": 1, "Told": 1, "_Noted": 2}
"""Which of its arguments is the event."""
RELAYS = {"ipc/complaints.py", "workers/audit_trail.py", "workers/logs.py", "workers/transitions.py"}
"""They write what they were made with."""
RECORD = {"event", "levelno", "levelname", "msg"}


class Source:
    """What one file can log."""

    def __init__(self, path: Path) -> None:
        self.name = str(path.relative_to(ROOT))
        tree = ast.parse(path.read_text("utf-8"))
        self.used: dict[str, set[str]] = defaultdict(set)
        """Event -> fields that are written at the place."""
        self.wrong: list[str] = []
        makers: dict[str, set[str]] = defaultdict(set)
        for node in ast.walk(tree):
            if isinstance(node, ast.Dict):
                self._take_dict(node)
            if isinstance(node, (ast.Assign, ast.AnnAssign, ast.keyword)) and isinstance(node.value, ast.Call):
                names = node.targets if isinstance(node, ast.Assign) else [node]
                for event in self._made(node.value):
                    for name in names:
                        makers[_last_name(name)].add(event)
            elif isinstance(node, ast.Call):
                list(self._made(node))
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                self._take_call(node, node.func, makers)

    def _take_dict(self, node: ast.Dict) -> None:
        keys = [key.value if isinstance(key, ast.Constant) else None for key in node.keys]
        if "event" not in keys:
            return
        value = node.values[keys.index("event")]
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            self.used[value.value] |= {str(key) for key in keys if key is not None} - RECORD
        elif self.name not in RELAYS:
            self.wrong.append(f"{self.name}:{node.lineno}: an event that is no constant")

    def _made(self, node: ast.Call) -> Iterator[str]:
        """The event of a thing that logs, and what it is always told with."""
        at = MAKERS.get(_last_name(node.func))
        if at is None:
            return
        named = {keyword.arg: keyword.value for keyword in node.keywords}
        event = node.args[at]
        if not isinstance(event, ast.Constant):
            if self.name not in RELAYS:
                self.wrong.append(f"{self.name}:{node.lineno}: an event that is no constant")
            return
        facts = named.get("facts")
        keys = (
            {str(key.value) for key in facts.keys if isinstance(key, ast.Constant)}
            if isinstance(facts, ast.Dict)
            else set()
        )
        self.used[event.value] |= keys
        yield str(event.value)
        if (reason := named.get("reason_event")) is not None:
            assert isinstance(reason, ast.Constant)
            self.used[str(reason.value)] |= set()
            yield str(reason.value)
        if isinstance(end := named.get("end"), ast.Tuple):
            first = end.elts[0]
            assert isinstance(first, ast.Constant)
            self.used[str(first.value)] |= set()

    def _take_call(self, node: ast.Call, func: ast.Attribute, makers: dict[str, set[str]]) -> None:
        named = {str(keyword.arg) for keyword in node.keywords if keyword.arg is not None}
        owner = _last_name(func.value)
        if func.attr in METHODS and owner in ("log", "_log"):
            if "extra" not in named:
                self.wrong.append(f"{self.name}:{node.lineno}: a line without an event")
        elif func.attr in ("again", "tell") and self.name not in RELAYS:
            events = makers.get(owner, set())
            fields = {field for event in events for field in EVENTS[event].fields} if events else set(FIELDS)
            if unknown := named - fields - {"message", "error"}:
                self.wrong.append(f"{self.name}:{node.lineno}: {unknown} are no fields of {events}")


def _last_name(node: ast.AST) -> str:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name) | ast.keyword(arg=str(name)):
            return name
        case ast.AnnAssign(target=target):
            return _last_name(target)
    return ""


@pytest.fixture(scope="module")
def sources() -> list[Source]:
    return [Source(path) for path in SOURCES]


def test_every_line_names_its_event(sources: list[Source]) -> None:
    assert [each for source in sources for each in source.wrong] == []


def test_nothing_logs_an_event_that_is_not_in_the_table(sources: list[Source]) -> None:
    unknown = {(source.name, event) for source in sources for event in source.used if event not in EVENTS}
    assert unknown == set()


def test_nothing_logs_a_field_that_its_event_does_not_have(sources: list[Source]) -> None:
    unknown = {
        (source.name, event, field)
        for source in sources
        for event, fields in source.used.items()
        for field in fields
        if event in EVENTS and field not in EVENTS[event].fields
    }
    assert unknown == set()


def test_no_event_is_in_the_table_that_nothing_logs(sources: list[Source]) -> None:
    used = {event for source in sources for event in source.used}
    assert EVENTS.keys() - used == {"ended"}  # `ipc.complaints.ENDED`


def test_every_field_has_its_meaning_and_none_is_explained_for_nothing() -> None:
    assert {field for event in EVENTS.values() for field in event.fields} == FIELDS.keys()


def test_no_field_has_a_name_that_a_log_record_needs_itself() -> None:
    taken = {*vars(logging.makeLogRecord({})), "message", "asctime", *ALWAYS}
    assert FIELDS.keys() & taken == set()


def test_transitions_tell_old_new_why_token_and_how_long() -> None:
    for event in TRANSITIONS.values():
        wanted = ("old", "new", "why", "token", "seconds") if "old" in event.fields else ("state", "why", "token")
        assert event.fields[: len(wanted)] == wanted


def test_the_audit_trail_can_be_found_by_one_word() -> None:
    assert all(event.fields[0] == "audit" for event in AUDIT.values())
    others = {name for name, event in EVENTS.items() if "audit" in event.fields and name not in AUDIT}
    assert others == {"ended"}
