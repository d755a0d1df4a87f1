"""The units of deploy/systemd say what the program needs: read as systemd and forge-manager would read them.

What they do on a real systemd is in tests/systemd.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest

from cardano.process import OPTION_OF
from config import Config, load
from config.variables import variables

FOLDER = Path(__file__).parents[2] / "deploy" / "systemd"
BARE_METAL = (Path(__file__).parents[2] / "docs" / "bare-metal.md").read_text()


def directives(name: str) -> dict[str, list[str]]:
    """Directive -> its values in order, whatever section it is in."""
    found: dict[str, list[str]] = defaultdict(list)
    for line in (FOLDER / name).read_text().splitlines():
        if line and not line.startswith(("#", "[")):
            key, _, value = line.partition("=")
            found[key].append(value)
    return found


SIDECAR, NODE = directives("forge-manager.service"), directives("cardano-node.conf")


def environment() -> dict[str, str]:
    lines = (FOLDER / "environment").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


@pytest.fixture
def config() -> Config:
    return load(environment())


def test_every_setting_of_the_shipped_environment_is_one_of_ours_and_right(config: Config) -> None:
    assert environment().keys() <= {variable.name for variable in variables()}
    assert config.kubeconfig is not None
    assert "POD_NAME" in config.explicit, "hosts that share a name could not be told apart"


def test_what_must_be_apart_for_the_sandbox_lies_in_folders_of_its_own(config: Config) -> None:
    assert config.kubeconfig is not None
    folders = [config.source_kes_key.parent, config.kubeconfig.parent, config.target_kes_key.parent, config.run_dir]
    assert len(set(folders)) == len(folders)


def test_the_unit_makes_the_folders_that_the_settings_name_and_keeps_them_while_it_is_down(config: Config) -> None:
    made = {Path("/run") / name for name in SIDECAR["RuntimeDirectory"][0].split()}
    assert made == {config.run_dir, config.target_kes_key.parent}
    assert config.node_socket.parent in made
    assert SIDECAR["RuntimeDirectoryPreserve"] == ["yes"]


def test_node_and_sidecar_are_one_user_without_a_capability(config: Config) -> None:
    for name in ("User", "Group", "CapabilityBoundingSet", "AmbientCapabilities"):
        assert SIDECAR[name] == NODE[name] != []
    assert SIDECAR["CapabilityBoundingSet"] == [""]


@pytest.mark.parametrize(
    "directive",
    [
        "PrivateUsers",
        "ProtectProc",
        "ProcSubset",
        "DynamicUser",
        "RemoveIPC",
        "LimitCORE",
        "WatchdogSec",
        "PrivatePIDs",
    ],
)
def test_a_directive_that_would_break_the_fence_is_in_neither_unit_and_the_page_says_why(directive: str) -> None:
    assert directive not in SIDECAR
    assert directive not in NODE
    assert f"\n| `{directive}=" in BARE_METAL


def test_a_stop_is_one_signal_to_the_supervisor_with_more_time_than_its_own_longest_stop() -> None:
    """Elector 12 s, then the four others one group after the other (supervisor.conf)."""
    supervised = (FOLDER.parents[1] / "supervisor.conf").read_text()
    longest = sum(int(line.partition("=")[2]) for line in supervised.splitlines() if line.startswith("stopwaitsecs"))
    assert SIDECAR["KillMode"] == ["mixed"]
    assert int(SIDECAR["TimeoutStopSec"][0]) > longest


def test_a_fault_is_tried_again_for_ever_and_a_wrong_configuration_never() -> None:
    assert (SIDECAR["Restart"], SIDECAR["StartLimitIntervalSec"]) == (["always"], ["0"])
    assert SIDECAR["RestartPreventExitStatus"] == ["2"]


def test_the_node_is_ordered_after_the_sidecar_and_neither_bound_to_it_nor_starts_it() -> None:
    assert NODE["After"] == ["forge-manager.service"]
    assert not NODE.keys() & {"Wants", "Upholds", "Requires", "BindsTo", "PartOf", "Requisite"}
    assert SIDECAR["Before"] == ["cardano-node.service"]


def test_the_nodes_unit_hides_the_sidecars_folders_from_it_but_not_the_shared_one(config: Config) -> None:
    hidden = {Path(word.lstrip("-")) for word in NODE["InaccessiblePaths"][0].split()}
    assert {config.run_dir, config.source_kes_key.parents[1]} <= hidden
    assert config.target_kes_key.parent not in hidden


def test_the_page_gives_the_node_the_paths_of_the_settings(config: Config) -> None:
    assert f"--socket-path {config.node_socket}\n" in BARE_METAL
    for variable, path in config.targets.values():
        assert f"{OPTION_OF[variable]} {path}\n" in BARE_METAL
    assert "--start-as-non-producing-node\n" in BARE_METAL


def test_credentials_of_the_unit_are_the_three_sources(config: Config) -> None:
    loaded = dict(word.split(":") for word in directives("forge-manager-credentials.conf")["LoadCredential"])
    assert loaded == {name: str(path) for name, (_, path) in config.sources.items()}
