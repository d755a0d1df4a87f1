"""Peers are pinned, told apart, and given what they need."""

from __future__ import annotations

import re
import sys
import threading
from typing import Any

import pytest

from bench.peers import group as group_module
from bench.peers.group import Group
from bench.peers.kinds import KINDS, REQUIREMENTS, Kind
from devkit.api import EmbeddedApi

WRITES = """
import json, sys, time
told = dict(zip(sys.argv[1::2], sys.argv[2::2]))
with open(told["--record"], "a") as record:
    record.write(json.dumps({"t": time.monotonic_ns(), "event": "on", "node": told["--name"]}) + "\\n")
import urllib.request
server = json.load(open(told["--kubeconfig"]))["clusters"][0]["cluster"]["server"]
urllib.request.urlopen(server + "/apis").read()
sys.exit(1) if "{how}" == "ends" else time.sleep(3600)
"""


def peer(how: str, *, prepared: list[str]) -> Kind:
    """A peer that leads at once and asks once; then it stays, or ends."""
    command = [sys.executable, "-c", WRITES.replace("{how}", how)]
    return Kind("simple", "1", "", lambda: command, lambda admin, namespace: prepared.append(namespace))


@pytest.fixture
def api() -> Any:
    server = EmbeddedApi.threaded()
    with server:
        yield server


def until(what: Any) -> None:
    """The test's own time limit ends what never comes true."""
    tick = threading.Event()
    while not what():
        tick.wait(0.02)


def test_every_package_of_the_python_peers_is_pinned() -> None:
    lines = [line for line in REQUIREMENTS.read_text().splitlines() if not line.startswith("#")]
    assert lines
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==\S+", line) for line in lines)


def test_peers_have_names_that_leases_can_have_and_versions() -> None:
    assert len({kind.name for kind in KINDS}) == len(KINDS)
    assert all(re.fullmatch(r"[a-z0-9-]+", kind.name) for kind in KINDS)
    assert all(re.fullmatch(r"v?\d+\.\d+\.\d+", kind.version) for kind in KINDS)


def test_an_instance_is_up_once_it_has_asked_and_led_until_it_was_reaped(api: Any) -> None:
    prepared: list[str] = []
    group = Group(peer("stays", prepared=prepared), api)
    try:
        assert prepared == ["simple-0"]
        one = group.add()
        until(one.up)
        (open_interval,) = one.intervals(2**62)
        assert open_interval.end == 2**62
        one.end(9)
        until(lambda: one.intervals(2**62)[0].end < 2**62)
        assert not one.up()
        assert one.restarts == 0
        one.revive()
        until(one.up)
    finally:
        group.close()


def test_an_instance_that_ends_by_itself_is_started_again(api: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_module, "RESTART_S", 0.0)
    group = Group(peer("ends", prepared=[]), api)
    try:
        one = group.add()
        until(lambda: one.restarts >= 2)
        assert [event["event"] for event in one.events()][:4] == ["on", "exit", "on", "exit"]
    finally:
        group.close()
