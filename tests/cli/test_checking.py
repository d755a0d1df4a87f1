"""`forgectl check` on folders of keys as operators have them, good and bad ones."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli import forgectl
from devkit import keys
from devkit.keys import KeySet

from processes import Ran


class Checked(Ran):
    @property
    def shown(self) -> dict[str, Any]:
        parsed: dict[str, Any] = json.loads(self.out)
        return parsed

    def errors(self) -> list[str]:
        return [each["check"] for each in self.shown["findings"] if each["severity"] == "error"]


Check = Callable[..., Checked]


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Check:
    for name in ("CARDANO_NETWORK", "POOL_ID", "POOL_ID_HEX"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: object) -> Checked:
        monkeypatch.setattr(sys, "argv", ["forgectl", "check", *map(str, arguments)])
        code = 0
        try:
            forgectl.main()
        except SystemExit as end:
            code = int(end.code or 0)
        shown = capsys.readouterr()
        return Checked(code, shown.out, shown.err)

    return run


@pytest.fixture
def made(tmp_path: Path) -> KeySet:
    """As in a secret: without what belongs into the safe."""
    found = keys.generate(tmp_path / "keys", kes_period=keys.current_kes_period("mainnet"), counter=4)
    found.cold.unlink()
    return found


def test_a_good_folder_is_fit_and_says_until_when(check: Check, made: KeySet) -> None:
    ran = check(made.folder, "--network", "mainnet", "--pool", made.pool_id)
    assert (ran.code, ran.err) == (0, "")
    assert "a node can forge with these on mainnet until " in ran.out
    assert made.pool_id in ran.out


def test_the_json_has_what_the_table_has(check: Check, made: KeySet) -> None:
    shown = check(made.folder, "--json").shown
    assert shown["fit"] is True
    assert shown["certificate"]["pool_id_hex"] == made.pool_id_hex
    assert (shown["certificate"]["counter"], shown["certificate"]["periods_left"]) == (4, 62)
    assert shown["files"]["kes"] == str(made.kes)
    assert [finding["severity"] for finding in shown["findings"]] == ["info"]


def test_the_pools_id_is_taken_in_either_form(check: Check, made: KeySet) -> None:
    assert check(made.folder, "--pool", made.pool_id_hex.upper()).code == 0
    assert check(made.folder, "--pool", "00" * 28, "--json").errors() == ["pool"]
    assert check(made.folder, "--pool", "pool1short").code == 2


def test_the_environment_says_whose_they_should_be(check: Check, made: KeySet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARDANO_NETWORK", "preprod")
    ran = check(made.folder, "--json")
    assert ran.shown["network"] == "preprod"
    assert ran.errors() == ["kes-period"]


def test_without_a_folder_the_sidecars_own_files_are_examined(
    check: Check, made: KeySet, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, path in (("KES_KEY", made.kes), ("VRF_KEY", made.vrf), ("OP_CERT", made.cert)):
        monkeypatch.setenv(f"SOURCE_{name}", str(path))
    assert check("--json").shown["files"]["vrf"] == str(made.vrf)


def test_it_judges_for_another_time_too(check: Check, made: KeySet) -> None:
    assert check(made.folder, "--at", "2020-08-01", "--json").errors() == ["kes-period"]
    assert check(made.folder, "--at", "2090-01-01T00:00:00+02:00", "--json").errors() == ["kes-period"]
    assert check(made.folder, "--at", "tomorrow").code == 2


def test_a_genesis_file_gives_a_network_of_ones_own_its_kes_periods(check: Check, tmp_path: Path) -> None:
    genesis = tmp_path / "shelley-genesis.json"
    genesis.write_text(
        json.dumps(
            {
                "systemStart": "2026-01-01T00:00:00Z",
                "slotLength": 1,
                "slotsPerKESPeriod": 86400,
                "maxKESEvolutions": 60,
                "epochLength": 500,
                "networkMagic": 42,
            }
        )
    )
    made = keys.generate(tmp_path / "keys", kes_period=10)
    ran = check(made.folder, "--genesis", genesis, "--at", "2026-01-11T12:00Z", "--json")
    assert (ran.code, ran.shown["network"], ran.shown["certificate"]["periods_left"]) == (0, "custom", 60)
    assert check(made.folder, "--genesis", genesis, "--at", "2026-03-12T00:00Z", "--json").errors() == ["kes-period"]
    genesis.write_text("{}")
    ran = check(made.folder, "--genesis", genesis)
    assert (ran.code, "systemStart" in ran.err) == (2, True)


def test_a_kes_key_that_is_with_an_agent_is_not_missed(
    check: Check, made: KeySet, monkeypatch: pytest.MonkeyPatch
) -> None:
    made.kes.unlink()
    assert check(made.folder, "--json").errors() == ["kes-key"]
    ran = check(made.folder, "--kes-agent", "--json")
    assert (ran.code, ran.shown["files"]["kes"], ran.shown["kes_verification_key"]) == (0, None, None)
    assert "kes-agent" in {each["check"] for each in ran.shown["findings"]}
    monkeypatch.setenv("CREDENTIAL_MODE", "kes-agent")
    for name, path in (("VRF_KEY", made.vrf), ("OP_CERT", made.cert)):
        monkeypatch.setenv(f"SOURCE_{name}", str(path))
    assert check("--json").code == 0


def test_the_counter_on_chain_is_held_against_the_certificate(check: Check, made: KeySet) -> None:
    assert check(made.folder, "--counter", 3).code == check(made.folder, "--counter", 4).code == 0
    assert check(made.folder, "--counter", 5, "--json").errors() == ["counter"]
    assert check(made.folder, "--counter", 2, "--json").errors() == ["counter"]
    assert check(made.folder, "--counter", -1).code == 2


# --- which files ---


def test_files_are_found_by_what_they_are(check: Check, made: KeySet) -> None:
    for path, name in ((made.kes, "hot.json"), (made.vrf, "my vrf"), (made.cert, "certificate")):
        path.rename(made.folder / name)
    (made.folder / "notes.txt").write_text("remember the milk")
    (made.folder / "folder").mkdir()
    ran = check(made.folder, "--json")
    assert ran.code == 0
    assert ran.shown["files"]["kes"] == str(made.folder / "hot.json")


def test_two_of_a_kind_must_be_told_apart(check: Check, made: KeySet) -> None:
    made.kes.rename(made.folder / "kes-new.skey")
    old = keys.generate(made.folder.parent / "old").kes.rename(made.folder / "kes-old.skey")
    ran = check(made.folder, "--json")
    assert ran.errors() == ["kes-key"]
    assert "kes-new.skey, kes-old.skey" in ran.out
    assert "--kes-key" in ran.out
    assert check(made.folder, "--kes-key", made.folder / "kes-new.skey").code == 0
    assert check(made.folder, "--kes-key", old, "--json").errors() == ["match"]


def test_a_cold_key_beside_the_hot_ones_is_warned_of(check: Check, made: KeySet) -> None:
    keys.generate(made.folder.parent / "other").cold.rename(made.folder / "cold.skey")
    ran = check(made.folder)
    assert ran.code == 0
    assert "cold-key" in ran.out
    assert "take it off this machine" in ran.out


def test_keys_that_others_can_read_are_warned_of(check: Check, made: KeySet) -> None:
    made.vrf.chmod(0o440)
    ran = check(made.folder)
    assert ran.code == 0
    assert f"chmod 0400 {made.vrf}" in ran.out


def test_a_mount_as_kubernetes_makes_it_is_read(check: Check, made: KeySet, tmp_path: Path) -> None:
    mount = tmp_path / "mount"
    mount.mkdir()
    made.folder.rename(mount / "..2026_11_26")
    (mount / "..data").symlink_to("..2026_11_26")
    for name in ("kes.skey", "vrf.skey", "node.cert"):
        (mount / name).symlink_to(f"..data/{name}")
    assert check(mount).code == 0


@pytest.mark.parametrize("folder", ["nowhere", "file", "crowded"])
def test_what_is_no_folder_of_keys_is_a_matter_of_usage(check: Check, tmp_path: Path, folder: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "crowded").mkdir()
    for number in range(501):
        (tmp_path / "crowded" / str(number)).touch()
    ran = check(tmp_path / folder)
    assert ran.code == 2
    assert str(tmp_path / folder) in ran.err


# --- bad files ---


def _replace(path: Path, content: bytes) -> None:
    path.unlink()
    path.write_bytes(content)


def _hex(path: Path) -> str:
    text: str = json.loads(path.read_bytes())["cborHex"]
    return text


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def _loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _socket(path: Path) -> None:
    path.unlink()
    os.mknod(path, 0o140600)


SPOILT: dict[str, Callable[[Path], None]] = {
    "missing": Path.unlink,
    "empty": lambda path: _replace(path, b""),
    "cut short": lambda path: _replace(path, path.read_bytes()[:-60]),
    "cut to a half": lambda path: _replace(path, path.read_bytes()[: path.stat().st_size // 2]),
    "binary": lambda path: _replace(path, bytes(range(256)) * 3),
    "text": lambda path: _replace(path, b"remember the milk\n"),
    "huge": lambda path: _replace(path, path.read_bytes() + b" " * 70_000),
    "zeros": lambda path: _replace(path, bytes(path.stat().st_size)),
    "another type": lambda path: _replace(path, path.read_bytes().replace(b'"type": "', b'"type": "X')),
    "raw hex": lambda path: _replace(path, _hex(path).encode()),
    "raw CBOR": lambda path: _replace(path, bytes.fromhex(_hex(path))),
    "a byte less": lambda path: _replace(path, path.read_bytes().replace(_hex(path)[-2:].encode() + b'"', b'"')),
    "a byte more": lambda path: _replace(path, path.read_bytes().replace(_hex(path)[-2:].encode() + b'"', b'0000"')),
    "twice": lambda path: _replace(path, path.read_bytes() * 2),
    "a FIFO": _fifo,
    "a loop": _loop,
    "a folder": _folder,
    "a socket": _socket,
    "a link to nowhere": lambda path: (path.unlink(), path.symlink_to("nowhere"))[0],
}  # fmt: skip


@pytest.mark.timeout(20)
@pytest.mark.parametrize("part", ["kes", "vrf", "cert"])
@pytest.mark.parametrize("how", SPOILT)
def test_a_spoilt_file_is_an_error_that_names_it_and_shows_nothing_of_it(
    check: Check, made: KeySet, how: str, part: str
) -> None:
    path: Path = getattr(made, part)
    secrets = [_hex(made.kes), _hex(made.vrf)]
    SPOILT[how](path)
    checks = {"kes": "kes-key", "vrf": "vrf-key", "cert": "certificate"}
    ran = check(made.folder, "--json")
    assert ran.code == 1
    assert ran.errors() == [checks[part]]
    (finding,) = (each for each in ran.shown["findings"] if each["check"] == checks[part])
    assert finding["remedy"]
    assert path.name in finding["reason"] or "the folder has nothing" in finding["reason"]
    shown = ran.out + ran.err + check(made.folder).out
    for secret in secrets:
        assert not any(secret[at : at + 12] in shown for at in range(6, 70, 2))


def test_the_files_of_two_rotations_do_not_match(check: Check, made: KeySet, tmp_path: Path) -> None:
    other = keys.generate(tmp_path / "other", kes_period=made.kes_period)
    other.kes.replace(made.kes)
    assert check(made.folder, "--json").errors() == ["match"]


def test_a_terabyte_beside_the_keys_is_not_read(check: Check, made: KeySet) -> None:
    with (made.folder / "database").open("wb") as file:
        file.truncate(2**40)
    assert check(made.folder).code == 0
