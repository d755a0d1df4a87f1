"""A node's process, socket, metrics and end."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from simulated import SimulatedNode, wait_until

from cardano.metrics import parse_metrics
from cardano.process import NodeCandidate, SocketOutcome, check_socket, find_by_name, read_argv, read_status, start_flag
from cardano.slots import NETWORKS, slot_at
from devkit import record
from ipc.messages import StartFlag

StartNode = Callable[..., SimulatedNode]
STANDBY = "--start-as-non-producing-node"


# --- the process ---


def test_it_is_found_by_the_name_of_the_real_one(start: StartNode) -> None:
    node = start(STANDBY)
    node.wait_for("up")
    assert find_by_name("cardano-node", node.socket_path) == [NodeCandidate(node.pid, True)]
    assert Path(f"/proc/{node.pid}/comm").read_text() == "cardano-node\n"


def test_its_start_flag_is_read_like_the_real_ones(start: StartNode) -> None:
    nodes = [start(STANDBY, name="a"), start(name="b"), start(name="c", keys=None)]
    for node in nodes:
        node.wait_for("up")
    assert [start_flag(read_argv(node.pid)) for node in nodes] == [
        StartFlag.NON_PRODUCING,
        StartFlag.PRODUCING,
        StartFlag.NO_CREDENTIALS,
    ]


def test_its_handler_is_seen_from_outside(start: StartNode) -> None:
    node = start(STANDBY)
    node.wait_for("handler")
    assert read_status(node.pid).sighup_caught


def test_it_takes_the_real_ones_other_options(start: StartNode) -> None:
    node = start("--config", "c.json", "--topology", "t", "--database-path", "d", "--host-addr", "0.0.0.0")
    node.wait_for("on")


def test_it_does_not_outlive_who_started_it(start: StartNode) -> None:
    """--die-with names a parent that is not its parent: it ends at once."""
    node = start("--die-with", "1")
    assert node.ends_with() == 1


# --- the socket ---


def test_its_socket_shows_its_pid_and_hangs_up_on_callers(start: StartNode) -> None:
    node = start(STANDBY)
    node.wait_for("up")
    found = check_socket(node.socket_path)
    assert (found.ok, found.pid) == (True, node.pid)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(60)
        sock.connect(str(node.socket_path))
        assert sock.recv(1) == b""


def test_a_killed_node_leaves_its_socket_behind_and_the_next_replaces_it(start: StartNode) -> None:
    first = start(STANDBY)
    first.wait_for("up")
    first.close()
    assert check_socket(first.socket_path).outcome is SocketOutcome.STALE
    second = start(STANDBY)
    second.wait_for("up")
    assert check_socket(second.socket_path).pid == second.pid


def test_a_node_that_ends_in_order_removes_its_socket(start: StartNode) -> None:
    node = start()
    node.wait_for("on")
    node.process.terminate()
    assert node.ends_with() == 0
    assert not node.socket_path.exists()


def test_the_socket_can_be_taken_away_and_given_back(start: StartNode) -> None:
    node = start(STANDBY)
    node.wait_for("up")
    assert node.tell("socket off") == "ok"
    assert check_socket(node.socket_path).outcome is SocketOutcome.MISSING
    assert node.tell("socket on") == "ok"
    assert check_socket(node.socket_path).pid == node.pid


# --- forging, and the end of it ---


def test_on_sigterm_forging_ends_first_and_the_process_later(start: StartNode) -> None:
    node = start("--stop-ms", "300")
    node.wait_for("on")
    node.process.terminate()
    assert node.ends_with() == 0
    ended = time.monotonic_ns()
    times = {e["event"]: e["t"] for e in node.events()}
    assert times["off"] <= times["stop"] <= ended - 300_000_000


def test_a_reload_in_flight_does_not_forge_after_sigterm(start: StartNode) -> None:
    node = start(STANDBY, "--stop-ms", "3600000")
    node.wait_for("up")
    assert node.tell("hold on") == "ok"
    node.hup()
    wait_until(lambda: "block forging enabled" in node.log.read_text(), "its reading")
    node.process.terminate()
    node.wait_for("stop")
    assert node.tell("release") == "ok"
    assert not node.forging()
    assert node.count("reload") == node.count("on") == 0


def test_it_exits_with_the_code_it_is_told(start: StartNode) -> None:
    node = start(STANDBY)
    node.wait_for("up")
    assert node.tell("exit 3") == "ok"
    assert node.ends_with() == 3


def test_a_killed_forger_forged_until_it_was_reaped(start: StartNode) -> None:
    node = start()
    node.wait_for("on")
    os.kill(node.pid, signal.SIGKILL)
    node.ends_with()
    reaped = time.monotonic_ns()
    with node.record_path.open("a") as file:
        file.write(json.dumps({"t": reaped, "event": "exit", "node": "a"}) + "\n")
    (forged,) = record.intervals(node.events(), reaped + 10**12)
    assert forged.end == reaped


def test_it_checks_the_current_slot_at_once_and_then_each_slot_at_its_beginning(start: StartNode) -> None:
    node = start()
    node.wait_for("slot", 3)
    checks = [e["t"] for e in node.events() if e["event"] == "slot"]
    (on,) = [e["t"] for e in node.events() if e["event"] == "on"]
    assert checks[0] - on < 500_000_000
    offset = time.time_ns() - time.monotonic_ns()
    seconds = [(t + offset) // 10**9 for t in checks]
    assert len(set(seconds[1:])) == len(seconds[1:])


def test_enabling_it_again_checks_the_same_slot_again(start: StartNode) -> None:
    """A new forging thread looks at the current slot, whether an old one did or not: hence time between two nodes."""
    node = start()
    node.wait_for("on")
    for _ in range(5):
        node.hup_and_wait("enabled")
    wait_until(lambda: node.events()[-1]["event"] != "reload", "what follows the last one")
    names = [e["event"] for e in node.events()]
    assert [names[i + 1] for i, name in enumerate(names) if name == "reload"] == ["slot"] * 5


# --- metrics ---


@pytest.mark.parametrize("style", ["classic", "new", "nosuffix"])
def test_its_metrics_are_read_whatever_their_names(start: StartNode, style: str) -> None:
    node = start("--metric-style", style)
    node.wait_for("on")
    assert wait_until(lambda: (m := node.metrics()).about_to_lead and m, "a check").adopted is None
    assert node.tell("adopt") == "ok"
    found = node.metrics()
    assert found.adopted == 1
    missing = [name for name in found.__slots__ if getattr(found, name) is None]
    assert missing == []
    assert found.forging_enabled == 1


def test_the_tip_follows_the_wall_clock_closely(start: StartNode) -> None:
    node = start(STANDBY)
    node.wait_for("up")
    slot, now = node.metrics().slot, slot_at(NETWORKS["mainnet"], time.time())
    assert slot is not None
    assert now is not None
    assert 0 <= now - slot < 60


def test_a_stalled_tip_stands_still_and_goes_on(start: StartNode) -> None:
    node = start(STANDBY, "--network", "custom")
    node.wait_for("up")
    assert node.tell("tip-stall on") == "ok"
    still = node.metrics().slot
    assert still is not None
    began = int(time.time())
    wait_until(lambda: time.time() >= began + 2, "two slots")
    assert node.metrics().slot == still
    assert node.tell("tip-stall off") == "ok"
    assert (node.metrics().slot or 0) > still


def test_a_tip_can_lie_behind(start: StartNode) -> None:
    node = start(STANDBY)
    node.wait_for("up")
    assert node.tell("tip-behind 600") == "ok"
    slot, now = node.metrics().slot, slot_at(NETWORKS["mainnet"], time.time())
    assert slot is not None
    assert now is not None
    assert now - slot >= 600


def test_the_count_of_checks_stands_still_once_forging_is_off(start: StartNode, keys: Path) -> None:
    node = start()
    node.wait_for("slot", 2)
    for file in keys.iterdir():
        file.unlink()
    node.hup_and_wait("disabled")
    node.wait_for("off")
    count = node.metrics().about_to_lead
    began = int(time.time())
    wait_until(lambda: time.time() >= began + 2, "two slots")
    assert node.metrics().about_to_lead == count


def test_kes_gauges_follow_the_certificate_and_outlive_forging(start: StartNode, keys: Path) -> None:
    node = start(STANDBY)
    node.wait_for("up")
    assert node.metrics().kes_remaining is None
    node.hup_and_wait("enabled")
    node.wait_for("slot")
    found = node.metrics()
    assert found.kes_start is not None
    assert found.kes_expiry == found.kes_start + 62
    for file in keys.iterdir():
        file.unlink()
    node.hup_and_wait("disabled")
    node.wait_for("off")
    assert node.metrics().kes_expiry == found.kes_expiry


def test_a_standbys_gauge_may_be_wrong_from_the_start(start: StartNode) -> None:
    honest, wrong = start(STANDBY, name="a"), start(STANDBY, "--gauge-starts-at-1", name="b")
    for node in (honest, wrong):
        node.wait_for("up")
    assert (honest.metrics().forging_enabled, wrong.metrics().forging_enabled) == (0, 1)
    assert not wrong.forging()


def test_metrics_may_hang_and_fail_and_come_back(start: StartNode) -> None:
    node = start(STANDBY, "--metrics-hang")
    node.wait_for("up")
    with pytest.raises(TimeoutError):
        urllib.request.urlopen(node.url, timeout=0.5)
    assert node.tell("metrics off") == "ok"
    with pytest.raises((urllib.error.URLError, ConnectionError)):
        urllib.request.urlopen(node.url, timeout=60)
    assert node.tell("metrics on") == "ok"
    assert parse_metrics(node.text()).forging_enabled == 0


def test_what_is_no_command_is_answered_so(start: StartNode) -> None:
    node = start(STANDBY)
    node.wait_for("up")
    for command in ("", "deaf", "deaf maybe", "reload-ms x", "exit -1", "metrics no", "socket", "nonsense"):
        assert node.tell(command) == "unknown command"
