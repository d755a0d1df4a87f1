"""The audit trail: each operation on credentials and each signal, never content, and not before the deed is done."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from typing import Any

import pytest

from workers import logs
from workers.audit_trail import AuditTrail, Operation
from workers.events import ALWAYS, EVENTS

FILES = ("kes.skey", "vrf.skey", "node.cert")


@pytest.fixture
def trail() -> AuditTrail:
    return AuditTrail()


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [vars(record) for record in caplog.records]


@pytest.fixture(autouse=True)
def everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def test_nothing_is_written_before_all_is_done(trail: AuditTrail, caplog: pytest.LogCaptureFixture) -> None:
    trail.operation(Operation.REMOVE, FILES, "no grant from the elector")
    trail.signal("SIGHUP", 12, 3456, "disable")
    assert lines(caplog) == []
    trail.write()
    assert [line["event"] for line in lines(caplog)] == ["credential_operation", "signal"]
    trail.write()
    assert len(lines(caplog)) == 2


def test_an_operation_says_what_was_done_with_which_files_why_and_under_which_token(
    trail: AuditTrail, caplog: pytest.LogCaptureFixture
) -> None:
    trail.token = 7
    trail.operation(Operation.INSTALL, FILES, "armed", counter=3, kes_period=812)
    trail.write()
    wanted = {"audit": True, "operation": "install", "files": list(FILES), "why": "armed", "counter": 3}
    assert {**wanted, "kes_period": 812, "token": 7, "outcome": "done"}.items() <= lines(caplog)[0].items()


def test_a_signal_says_which_to_whom_why_and_whether_it_was_sent(
    trail: AuditTrail, caplog: pytest.LogCaptureFixture
) -> None:
    trail.signal("SIGHUP", 12, 3456, "enable")
    trail.signal("SIGKILL", 12, 3456, "the node did not confirm", outcome="not sent: the node has ended")
    trail.write()
    first, second = lines(caplog)
    wanted = {"audit": True, "signal": "SIGHUP", "to": "node", "pid": 12, "start_ticks": 3456, "why": "enable"}
    assert {**wanted, "outcome": "sent", "levelname": "INFO"}.items() <= first.items()
    assert (second["outcome"], second["levelname"]) == ("not sent: the node has ended", "ERROR")


def test_what_fails_again_and_again_is_counted_and_its_end_is_of_the_trail(
    trail: AuditTrail, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(100):
        trail.operation(Operation.INSTALL, FILES, "armed", outcome="failed: no space left")
        trail.write()
    trail.operation(Operation.INSTALL, FILES, "armed")
    trail.write()
    failed, ended, done = lines(caplog)
    assert (failed["outcome"], failed["audit"]) == ("failed: no space left", True)
    assert (ended["event"], ended["what"], ended["of"], ended["count"], ended["audit"]) == (
        *("ended", "credential_operation", "install", 100, True),
    )
    assert ended["message"].startswith("failures of install: ended after 100 in ")
    assert done["outcome"] == "done"


class Written:
    """What the handler of a worker writes."""

    def __init__(self, level: str) -> None:
        self._read, write = os.pipe()
        root = logging.getLogger()
        self._before = (root.handlers[:], root.level)
        self._handler = logs._Handler(logs.LineWriter(write, str))
        self._handler.setFormatter(logs.formatter("actuator", "json"))
        root.handlers[:] = [self._handler]
        logs.set_level(level)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in os.read(self._read, 65536).splitlines()]

    def end(self) -> None:
        root = logging.getLogger()
        root.handlers[:], root.level = self._before
        os.close(self._handler._writer.fd)
        os.close(self._read)


@pytest.fixture
def written() -> Iterator[Written]:
    made = Written("ERROR")
    yield made
    made.end()


def test_a_line_of_the_trail_that_is_lost_leaves_a_gap_in_their_numbers(
    written: Written, trail: AuditTrail, monkeypatch: pytest.MonkeyPatch
) -> None:
    for lost in (False, True, False):
        with monkeypatch.context() as patch:
            if lost:
                patch.setattr(written._handler._writer, "write", lambda _: None)
            trail.operation(Operation.OFFER, FILES, "bootstrap")
            trail.write()
        logging.getLogger("actuator").error("beside", extra={"event": "node_gone"})
    assert [(line["event"], line.get("number")) for line in written.lines()] == [
        ("credential_operation", 1),
        ("node_gone", None),
        ("node_gone", None),
        ("credential_operation", 3),
        ("node_gone", None),
    ]


def test_the_trail_is_written_whatever_the_log_level_is(written: Written, trail: AuditTrail) -> None:
    logging.getLogger("actuator").info("quiet", extra={"event": "node_up"})
    trail.operation(Operation.OFFER, FILES, "bootstrap")
    trail.signal("SIGHUP", 12, 3456, "enable")
    trail.earlier_life(11, FILES, "because")
    trail.write()
    found = written.lines()
    assert [line["event"] for line in found] == ["credential_operation", "signal", "earlier_life"]
    assert [line["number"] for line in found] == [1, 2, 3]
    for line in found:
        assert line["audit"] is True
        assert line.keys() <= {*ALWAYS, *EVENTS[line["event"]].fields}
