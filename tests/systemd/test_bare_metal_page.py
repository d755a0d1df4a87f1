"""docs/bare-metal.md, word for word, on an empty host: what a reader types makes a host that forges."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "docs"))
sys.path.insert(0, str(Path(__file__).parents[1] / "cli"))

from test_environment_file import ODD, ODD_VALUES

from devkit import keys, record
from devkit.api.embedded import EmbeddedApi, ThreadedApi
from devkit.pod import MemoryFolder, free_port
from devkit.pods import SERVICE_ACCOUNT
from devkit.systemd import ENVIRONMENT, Host

from blocks import ROOT, Shell, marked
from hosts import NAMESPACE, NODE, RECORD, node_unit

pytestmark = [pytest.mark.systemd, pytest.mark.timeout(600)]

PAGE = "bare-metal.md"
ACCOUNT = f"system:serviceaccount:{NAMESPACE}:{SERVICE_ACCOUNT}"


@dataclass
class Place:
    """An API server, a folder to work in that has the keys, and an empty host."""

    api: ThreadedApi
    folder: Path
    host: Host


@pytest.fixture
def place(installation: Path) -> Iterator[Place]:
    memory = MemoryFolder()
    work = memory.path / "work"
    work.mkdir()
    try:
        with (
            ThreadedApi(EmbeddedApi(users=[ACCOUNT], tls=True, authorize=True)) as api,
            Host("producer-a", installation) as host,
        ):
            made = keys.generate(memory.path / "keys", kes_period=keys.current_kes_period("mainnet"))
            for name in ("kes.skey", "vrf.skey", "node.cert"):
                shutil.copy(made.folder / name, work / name)
            yield Place(api, work, host)
    finally:
        memory.close()


def test_forgectl_reads_a_file_of_settings_as_this_systemd_does(installation: Path) -> None:
    with Host("producer-a", installation) as host:
        host.path("/etc/odd").write_bytes(ODD)
        host.path("/etc/systemd/system/odd.service").write_text(
            "[Service]\nType=oneshot\nEnvironmentFile=/etc/odd\nExecStart=/usr/bin/env -0\n"
        )
        host.systemctl("daemon-reload")
        host.systemctl("start", "odd.service")
        given = dict(line.split("=", 1) for line in host.log("odd").split("\0") if line)
    by_systemd = {"INVOCATION_ID", "SYSTEMD_EXEC_PID", "LANG", "PATH", "LD_LIBRARY_PATH", "JOURNAL_STREAM"}
    assert {name: value for name, value in given.items() if name not in by_systemd} == ODD_VALUES


def test_a_reader_who_types_what_the_page_says_has_a_host_that_forges(place: Place) -> None:
    (place.folder / "deploy").symlink_to(ROOT / "deploy")
    place.api.write_kubeconfig(place.folder / "admin")
    environment = {"PATH": os.environ["PATH"], "HOME": str(place.folder), "KUBECONFIG": str(place.folder / "admin")}
    with Shell(place.folder, environment) as shell:
        for block in marked(PAGE, "api"):
            shell.run(block)
    assert place.api.ca_file is not None  # what the block with the Secret brings, where there is a controller
    shutil.copy(place.api.ca_file, place.folder / "ca.crt")
    (place.folder / "token").write_text(place.api.token_for(ACCOUNT) or "")
    setup = place.host.path("/root/setup")
    setup.mkdir(parents=True)
    for name in ("kes.skey", "vrf.skey", "node.cert", "kubeconfig", "token", "ca.crt"):
        shutil.copy(place.folder / name, setup / name)
    port, metrics = free_port(), free_port()
    place.host.path(f"/etc/systemd/system/{NODE}").write_text(node_unit("producer-a", port))

    with Shell(place.folder, ENVIRONMENT, through=place.host.way_in("/root/setup")) as shell:
        user, files, units, function, start, verify, drill, compare = marked(PAGE, "host")
        shell.run(user)
        shell.run(files)
        with place.host.path("/etc/forge-manager/environment").open("a") as settings:  # two hosts share our network
            settings.write(f"METRICS_PORT={metrics}\nNODE_METRICS_URL=http://127.0.0.1:{port}/metrics\n")
        for block in (units, function, start):
            shell.run(block)
        said = shell.run(verify)
        assert "0 errors, 0 warnings" in said
        assert "green: every worker asked for holds what it declares" in said
        assert any(event["event"] == "on" for event in record.read(place.host.path(RECORD)))
        since = time.monotonic_ns()
        assert shell.run(compare).strip() == ""
        with pytest.raises(AssertionError, match="nobody has taken over within"):  # there is no second host here
            shell.run(drill)
        while not any(e["event"] == "off" and e["t"] > since for e in record.read(place.host.path(RECORD))):
            time.sleep(0.05)  # until the test's timeout
    assert place.host.systemctl("is-enabled", "forge-manager.service") == "enabled\n"
