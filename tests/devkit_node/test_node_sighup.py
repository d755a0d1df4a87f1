"""What a node does with SIGHUP and with its credential files: the facts that the fence is built on."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from simulated import SimulatedNode, wait_until

from devkit.keys import KeySet, generate

StartNode = Callable[..., SimulatedNode]
STANDBY = "--start-as-non-producing-node"
FILES = ("vrf.skey", "node.cert", "kes.skey")


def put_back(made: KeySet, keys: Path) -> None:
    for file in (made.kes, made.vrf, made.cert):
        (keys / file.name).unlink(missing_ok=True)
        shutil.copy(file, keys / file.name)


# --- the start ---


@pytest.mark.parametrize("missing", FILES)
def test_a_node_whose_key_file_is_missing_exits_with_an_error(start: StartNode, keys: Path, missing: str) -> None:
    (keys / missing).unlink()
    node = start(STANDBY)
    assert node.ends_with() == 1
    assert missing in node.log.read_text()
    assert not node.socket_path.exists()


@pytest.mark.parametrize("mode", [0o440, 0o404, 0o410])
def test_a_node_refuses_to_start_on_a_vrf_key_that_others_may_use(start: StartNode, keys: Path, mode: int) -> None:
    (keys / "vrf.skey").chmod(mode)
    node = start(STANDBY)
    assert node.ends_with() == 1
    assert "permissions" in node.log.read_text()


def test_a_node_refuses_to_start_on_a_part_of_the_key_flags(start: StartNode, keys: Path) -> None:
    node = start("--shelley-vrf-key", str(keys / "vrf.skey"), keys=None)
    assert node.ends_with() == 1
    assert "--shelley-operational-certificate must also be specified" in node.log.read_text()


def test_a_node_refuses_to_start_on_a_certificate_for_another_key(start: StartNode, keys: Path, folder: Path) -> None:
    (keys / "kes.skey").unlink()
    shutil.copy(generate(folder / "other").kes, keys / "kes.skey")
    node = start(STANDBY)
    assert node.ends_with() == 1
    assert "MismatchedKesKey" in node.log.read_text()


def test_the_files_may_go_as_soon_as_they_are_read(start: StartNode, keys: Path) -> None:
    node = start(STANDBY, "--replay-seconds", "0.05")
    node.wait_for("read")
    shutil.rmtree(keys)
    node.wait_for("up")
    assert not node.forging()


def test_a_relay_starts_without_keys_and_never_forges(start: StartNode) -> None:
    node = start(keys=None)
    node.wait_for("up")
    node.hup_and_wait("disabled")
    assert not node.forging()


# --- when a signal comes ---


def test_a_sighup_before_any_handler_kills(start: StartNode) -> None:
    node = start(STANDBY, "--early-ms", "60000")
    node.wait_for("read")
    node.hup()
    assert node.ends_with() == -signal.SIGHUP


def test_a_sighup_during_replay_changes_nothing_but_the_gauge(start: StartNode, keys: Path) -> None:
    node = start("--replay-seconds", "3600", "--gauge-starts-at-1")
    node.wait_for("handler")
    assert node.metrics().forging_enabled == 1
    shutil.rmtree(keys)
    node.hup()
    node.wait_for("hup")
    assert node.metrics().forging_enabled == 0
    assert node.tell("proceed") == "ok"
    node.wait_for("on")
    assert node.count("reload") == 0


def test_during_replay_there_is_no_socket_and_no_tip(start: StartNode) -> None:
    node = start(STANDBY, "--replay-seconds", "3600")
    node.wait_for("handler")
    assert node.metrics().slot is None
    assert not node.socket_path.exists()
    node.process.terminate()
    assert node.ends_with() == 0


def test_without_the_flag_a_node_forges_as_soon_as_it_is_up(start: StartNode) -> None:
    node = start()
    node.wait_for("slot")
    assert node.count("hup") == 0
    assert [e["event"] for e in node.events()[:6]] == ["start", "read", "handler", "up", "on", "slot"]


def test_with_the_flag_a_node_does_not_look_at_its_files_by_itself(start: StartNode) -> None:
    node = start(STANDBY)
    node.wait_for("up")
    assert not node.forging()
    node.hup_and_wait("enabled")
    node.wait_for("on")


def test_a_disabling_sighup_between_socket_and_initial_forging_is_overwritten(start: StartNode, keys: Path) -> None:
    node = start("--flag-gap-ms", "3600000")
    node.wait_for("up")
    (keys / "kes.skey").unlink()
    node.hup_and_wait("disabled")
    assert node.tell("proceed") == "ok"
    node.wait_for("on")
    node.hup_and_wait("disabled")
    node.wait_for("off")


def test_a_deaf_node_takes_the_signal_and_does_nothing(start: StartNode, keys: Path) -> None:
    node = start("--deaf")
    node.wait_for("on")
    shutil.rmtree(keys)
    node.hup()
    node.wait_for("hup")
    assert node.forging()
    assert node.tell("deaf off") == "ok"
    node.hup_and_wait("disabled")
    node.wait_for("off")


# --- what the files say ---


@pytest.mark.parametrize("missing", FILES)
def test_one_missing_file_of_three_disables(start: StartNode, keys: Path, missing: str) -> None:
    node = start()
    node.wait_for("on")
    (keys / missing).unlink()
    node.hup_and_wait("disabled")
    node.wait_for("off")
    assert node.metrics().forging_enabled == 0


def test_a_missing_folder_and_a_dangling_link_disable_too(start: StartNode, made: KeySet, keys: Path) -> None:
    node = start()
    node.wait_for("on")
    keys.rename(keys.with_name("away"))
    node.hup_and_wait("disabled")
    keys.mkdir()
    put_back(made, keys)
    node.hup_and_wait("enabled")
    (keys / "vrf.skey").unlink()
    (keys / "vrf.skey").symlink_to(keys / "nowhere")
    node.hup_and_wait("disabled")
    node.wait_for("off", 2)


def truncate(path: Path, _: Path) -> None:
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:100])


def empty(path: Path, _: Path) -> None:
    path.chmod(0o600)
    path.write_bytes(b"")


def another_type(path: Path, _: Path) -> None:
    path.chmod(0o600)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"type": "Other"}))


def a_byte_short(path: Path, _: Path) -> None:
    envelope = json.loads(path.read_text())
    path.chmod(0o600)
    path.write_text(json.dumps(envelope | {"cborHex": envelope["cborHex"][:-2]}))


def a_folder(path: Path, _: Path) -> None:
    path.unlink()
    path.mkdir()


def a_file_above(path: Path, folder: Path) -> None:
    path.unlink()
    (folder / "plain").write_text("")
    path.symlink_to(folder / "plain" / "x")


@pytest.mark.parametrize("spoil", [a_folder, a_file_above])
@pytest.mark.parametrize("name", FILES)
def test_a_path_at_which_no_file_can_be_counts_as_a_missing_file(
    start: StartNode, keys: Path, folder: Path, name: str, spoil: Callable[[Path, Path], None]
) -> None:
    """doesFileExist says "no" to both: cardano-api never gets as far as opening them."""
    node = start()
    node.wait_for("on")
    spoil(keys / name, folder)
    node.hup_and_wait("disabled")
    node.wait_for("off")
    assert not node.forging()


@pytest.mark.parametrize("spoil", [truncate, empty, another_type, a_byte_short])
@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_there_but_wrong_leaves_a_forger_forging(
    start: StartNode, keys: Path, folder: Path, name: str, spoil: Callable[[Path, Path], None]
) -> None:
    node = start()
    node.wait_for("on")
    spoil(keys / name, folder)
    node.hup_and_wait("unchanged")
    assert node.forging()
    assert "BlockForgingUpdateError" in node.log.read_text()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_leaves_a_forger_forging(start: StartNode, keys: Path) -> None:
    node = start()
    node.wait_for("on")
    (keys / "kes.skey").chmod(0)
    node.hup_and_wait("unchanged")
    assert node.forging()


def test_a_wrong_file_leaves_a_standby_standing_by(start: StartNode, keys: Path, folder: Path) -> None:
    node = start(STANDBY)
    node.wait_for("up")
    truncate(keys / "kes.skey", folder)
    node.hup_and_wait("unchanged")
    assert not node.forging()


def test_a_pair_that_does_not_match_leaves_all_as_it_was(start: StartNode, keys: Path, folder: Path) -> None:
    node = start()
    node.wait_for("on")
    (keys / "node.cert").unlink()
    shutil.copy(generate(folder / "other").cert, keys / "node.cert")
    node.hup_and_wait("unchanged")
    assert node.forging()


def test_the_first_file_that_fails_decides(start: StartNode, keys: Path, folder: Path) -> None:
    """A malformed VRF key hides that the KES key is gone: remove all three, spoil none."""
    node = start()
    node.wait_for("on")
    truncate(keys / "vrf.skey", folder)
    (keys / "kes.skey").unlink()
    node.hup_and_wait("unchanged")
    assert node.forging()


def test_wider_permissions_matter_at_the_start_only(start: StartNode, keys: Path) -> None:
    node = start(STANDBY)
    node.wait_for("up")
    (keys / "vrf.skey").chmod(0o444)
    node.hup_and_wait("enabled")


def test_new_keys_are_taken_without_a_restart(start: StartNode, keys: Path, folder: Path) -> None:
    node = start()
    node.wait_for("on")
    put_back(generate(folder / "other", counter=3), keys)
    node.hup_and_wait("enabled")
    assert node.count("off") == 0


def test_two_signals_in_flight_may_land_in_either_order(start: StartNode, made: KeySet, keys: Path) -> None:
    node = start()
    node.wait_for("on")
    shutil.rmtree(keys)
    assert node.tell("hold on") == "ok"
    node.hup()
    wait_until(lambda: "does not exist" in node.log.read_text(), "the first signal's reading")
    assert node.tell("hold off") == "ok"
    keys.mkdir()
    put_back(made, keys)
    node.hup_and_wait("enabled")
    assert node.tell("release") == "ok"
    node.wait_for("reload", 2)
    assert [e["outcome"] for e in node.events() if e["event"] == "reload"] == ["enabled", "disabled"]
    node.wait_for("off")


def test_a_reload_may_take_its_time_and_acts_on_what_it_read(start: StartNode, keys: Path) -> None:
    node = start(STANDBY)
    node.wait_for("up")
    assert node.tell("hold on") == "ok"
    node.hup()
    wait_until(lambda: "block forging enabled" in node.log.read_text(), "its reading")
    shutil.rmtree(keys)
    assert not node.forging()
    assert node.tell("release") == "ok"
    node.wait_for("on")


def test_a_reload_takes_as_long_as_it_is_told(start: StartNode) -> None:
    node = start(STANDBY, "--reload-ms", "300")
    node.wait_for("up")
    node.hup_and_wait("enabled")
    times = {e["event"]: e["t"] for e in node.events()}
    assert times["reload"] - times["hup"] >= 290_000_000


def test_the_gauge_falls_before_forging_ends(start: StartNode, keys: Path) -> None:
    """forging_enabled 0 is no proof of a stop."""
    node = start("--cancel-ms", "2000")
    node.wait_for("on")
    shutil.rmtree(keys)
    node.hup_and_wait("disabled")
    seen = json.loads(node.tell("state"))
    assert seen["gauge"] == 0
    assert seen["forging"] or node.count("off") == 1
    node.wait_for("off")
    times = {e["event"]: e["t"] for e in node.events()}
    assert times["off"] - times["reload"] > 1_500_000_000
