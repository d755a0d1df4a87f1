"""What people see of a state holds no header's value and of an endpoint no more than scheme, host and port."""

from __future__ import annotations

import ast
import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli import tracing
from ipc.messages import (
    ArbiterState,
    GatewayState,
    HealthCheck,
    HealthReport,
    ProberState,
    State,
    Worker,
    encode,
)
from ipc.shown import HIDDEN, decode_shown_state, host_of, masked, origin

ROOT = Path(__file__).resolve().parents[2]
SECRET = "canary-7d1e"
ENDPOINT = f"https://user:{SECRET}@health.example:8443/{SECRET}?token={SECRET}#{SECRET}"
CHECK = HealthCheck(ENDPOINT, headers={"Authorization": f"Bearer {SECRET}", "X-Key": SECRET})
ARBITER = ArbiterState(None, "why", cluster_management=True, health_check=CHECK)
REPORT = HealthReport(ENDPOINT, True, 0, 5, 0.1, "health.example:8443: answered 200")
PROBER = ProberState(True, 1, (), None, 1, None, (), REPORT)


def state(worker: Worker, body: ArbiterState | ProberState) -> State:
    return State(worker, "instance", 1, 1, 1, 1, 2, body)


@pytest.mark.parametrize(("worker", "body"), [(Worker.ARBITER, ARBITER), (Worker.PROBER, PROBER)])
def test_no_secret_is_in_a_state_as_it_is_shown(worker: Worker, body: ArbiterState | ProberState) -> None:
    payload = encode(state(worker, body))
    assert SECRET.encode() in payload
    shown = decode_shown_state(payload, worker)
    assert SECRET not in json.dumps(dataclasses.asdict(shown))
    assert SECRET not in repr(shown)
    for before in (None, shown):
        assert SECRET not in tracing.line(before, shown, ())
        assert SECRET not in json.dumps(tracing._as_json(before, shown, ()))


def test_the_names_of_headers_and_everything_else_are_shown() -> None:
    shown = masked(state(Worker.ARBITER, ARBITER)).body
    assert isinstance(shown, ArbiterState)
    assert shown.health_check.headers == {"Authorization": HIDDEN, "X-Key": HIDDEN}
    assert shown.health_check.endpoint == "https://health.example:8443"
    assert dataclasses.replace(shown, health_check=CHECK) == ARBITER


def test_a_state_without_a_health_check_is_shown_as_it_is() -> None:
    plain = State(Worker.GATEWAY, "instance", 1, 1, 1, 1, 2, GatewayState(8000, {"/": 1}))
    assert masked(plain) is plain


def test_a_headers_value_is_not_in_the_text_of_the_message_either() -> None:
    assert SECRET not in repr(HealthCheck("http://health.example/", headers={"X": SECRET}))


def test_what_shows_states_to_people_does_not_read_them_unmasked() -> None:
    files = [*(ROOT / "cli").glob("*.py"), ROOT / "workers" / "inspection.py"]
    assert files
    for file in files:
        names = {
            alias.name
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        assert "decode_state" not in names, f"{file.name} must use ipc.shown.decode_shown_state"


@pytest.mark.parametrize(
    ("url", "shown", "host"),
    [
        ("", "", ""),
        ("http://host", "http://host", "host"),
        ("http://host/path", "http://host", "host"),
        ("https://[fd00::1]:1/x", "https://[fd00::1]:1", "fd00::1"),
        (f"{SECRET}", HIDDEN, ""),
        (f"http://[{SECRET}", HIDDEN, ""),
        (f"http://h:{SECRET}", HIDDEN, "h"),
    ],
)
def test_of_an_address_scheme_host_and_port_are_shown(url: str, shown: str, host: str) -> None:
    assert (origin(url), host_of(url)) == (shown, host)


@given(st.text(max_size=50))
def test_no_text_is_too_odd_to_be_shown(url: str) -> None:
    assert "?" not in origin(url)
    assert "@" not in origin(url)
    host_of(url)
