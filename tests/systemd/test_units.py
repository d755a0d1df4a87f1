"""deploy/systemd on hosts whose process 1 is a real systemd: the fence between two units, and what becomes of it."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from hosts import NODE, SIDECAR, UNITS, USER, BareHost, BarePool, kubeconfig

pytestmark = [pytest.mark.systemd, pytest.mark.timeout(600)]

BARE_METAL = (UNITS.parents[1] / "docs" / "bare-metal.md").read_text()
HAND_OVER_S = 5.0
"""A release takes a fraction of it; a lease that has to run out takes 7 s and longer."""
LEASE_S = 15.0


@pytest.fixture(scope="module")
def running(installation: Path) -> Iterator[BarePool]:
    with BarePool(installation, "producer-a", "producer-b") as made:
        made.start()
        yield made


@pytest.fixture
def pool(running: BarePool) -> BarePool:
    """All well, whatever the test before did."""
    running.wait_healthy()
    return running


def the_other(pool: BarePool, host: BareHost) -> BareHost:
    (found,) = (each for each in pool.hosts if each is not host)
    return found


def as_the_node(host: BareHost, *command: str) -> subprocess.CompletedProcess[str]:
    """What the node's process could do: its user, its view of the file system."""
    pid = host.host.run("systemctl", "show", NODE, "--property=MainPID", "--value").stdout.strip()
    enter = ["nsenter", f"--target={pid}", "--mount", "--", "setpriv", f"--reuid={USER}", f"--regid={USER}"]
    return host.host.run(*enter, "--clear-groups", *command, check=False)


def test_at_boot_the_node_is_started_once_its_files_are_there_and_one_of_them_forges(pool: BarePool) -> None:
    for host in pool.hosts:
        assert host.host.show(SIDECAR, "ActiveState") == "active"
        assert host.host.show(NODE, "NRestarts") == "0"
        assert "cannot start" not in host.host.log("cardano-node")
    assert len(pool.forgers()) == 1


def test_under_the_units_hardening_every_worker_holds_what_it_declares_and_all_around_it_is_right(
    pool: BarePool,
) -> None:
    for host in pool.hosts:
        code, said = host.forgectl("audit")
        assert code == 0, said
        code, said = host.forgectl("doctor")
        assert code == 0, said
        assert "0 errors, 0 warnings" in said


def test_the_node_reaches_its_keys_through_the_fence_and_nothing_else_of_the_sidecars(pool: BarePool) -> None:
    forger = pool.wait_for_forger()
    assert as_the_node(forger, "cat", "/run/cardano/kes.skey").stdout.startswith("{")
    assert as_the_node(the_other(pool, forger), "cat", "/run/cardano/kes.skey").stderr.endswith(
        "No such file or directory\n"
    )
    for host in pool.hosts:
        for path in ("/etc/forge-manager", "/run/forge-manager"):
            assert as_the_node(host, "ls", path).stderr.endswith("Permission denied\n"), path


def test_a_stopped_unit_hands_over_in_due_form_and_its_node_lives_on(pool: BarePool) -> None:
    forger, since = pool.wait_for_forger(), time.monotonic_ns()
    node = forger.main_pid(NODE)
    forger.host.systemctl("stop", SIDECAR)
    assert pool.wait_for_forger(other_than=forger) is the_other(pool, forger)
    assert pool.gap_s(since) < HAND_OVER_S
    assert pool.overlap_s(since) == 0
    assert forger.host.show(SIDECAR, "Result") == "success"
    assert forger.main_pid(NODE) == node
    forger.host.systemctl("start", SIDECAR)
    said = as_the_node(forger, "ls", "/run/forge-manager").stderr
    assert said.endswith("Permission denied\n"), "the folder is the one that was hidden from the node at its start"


def test_a_sidecar_that_was_stopped_is_not_brought_back_by_a_node_that_starts_anew(pool: BarePool) -> None:
    """In the middle of an update, or by one who wants this host out."""
    standby = the_other(pool, pool.wait_for_forger())
    standby.host.systemctl("stop", SIDECAR)
    restarts = int(standby.host.show(NODE, "NRestarts"))
    standby.host.systemctl("kill", "--signal=KILL", NODE)
    pool.wait_for(lambda: int(standby.host.show(NODE, "NRestarts")) > restarts, "the node is started again")
    pool.wait_for(lambda: "cannot start" in standby.host.log("cardano-node"), "it finds no files")
    assert standby.host.show(SIDECAR, "ActiveState") == "inactive"
    standby.host.systemctl("start", SIDECAR)
    pool.wait_for(standby.ready, "the node came up beside the sidecar")


def test_a_node_that_is_restarted_comes_back_as_a_standby_and_the_other_forges(pool: BarePool) -> None:
    forger, since = pool.wait_for_forger(), time.monotonic_ns()
    forger.host.systemctl("restart", NODE)
    assert pool.wait_for_forger(other_than=forger) is the_other(pool, forger)
    assert pool.gap_s(since) < HAND_OVER_S
    assert pool.overlap_s(since) == 0
    pool.wait_for(forger.ready, "the restarted one is ready")
    assert pool.forgers() == [the_other(pool, forger)]


def test_when_everything_of_the_unit_is_killed_the_kernel_turns_the_node_off_and_the_unit_comes_back(
    pool: BarePool,
) -> None:
    """In its own term it goes on where it was, if systemd is fast enough; else the other host forges."""
    forger, since = pool.wait_for_forger(), time.monotonic_ns()
    node = forger.main_pid(NODE)
    forger.host.systemctl("kill", "--signal=KILL", SIDECAR)
    pool.wait_for(lambda: forger.went_off(since), "the kernel turns the node off")
    pool.wait_for_forger()
    assert pool.gap_s(since) < LEASE_S + 1
    assert pool.overlap_s(since) == 0
    pool.wait_for(lambda: forger.host.show(SIDECAR, "ActiveState") == "active", "the unit is back")
    assert forger.host.show(SIDECAR, "NRestarts") != "0"
    assert forger.main_pid(NODE) == node


def test_a_host_whose_unit_does_not_come_back_leaves_the_pool_to_the_other(pool: BarePool) -> None:
    forger, since = pool.wait_for_forger(), time.monotonic_ns()
    forger.drop_in(SIDECAR, "no-restart", "Restart=no")
    forger.host.systemctl("daemon-reload")
    try:
        forger.host.systemctl("kill", "--signal=KILL", SIDECAR)
        assert pool.wait_for_forger(other_than=forger) is the_other(pool, forger)
        assert pool.overlap_s(since) == 0
    finally:
        forger.drop_in(SIDECAR, "no-restart", "")
        forger.host.systemctl("daemon-reload")
        forger.host.systemctl("start", SIDECAR)


def test_a_unit_that_is_frozen_loses_its_right_and_its_node_the_keys(pool: BarePool) -> None:
    """As a host that starves it: no process of ours runs, and still the actuator's timer ends it."""
    forger, since = pool.wait_for_forger(), time.monotonic_ns()
    forger.host.freeze(SIDECAR, frozen=True)
    try:
        assert pool.wait_for_forger(other_than=forger) is the_other(pool, forger)
        assert pool.overlap_s(since) == 0
    finally:
        forger.host.freeze(SIDECAR, frozen=False)


def test_a_worker_that_is_killed_for_memory_is_started_again_within_the_unit(pool: BarePool) -> None:
    forger, since = pool.wait_for_forger(), time.monotonic_ns()
    main = forger.main_pid(SIDECAR)
    forger.host.run("pkill", "--signal=KILL", "--full", "workers.actuator")
    pool.wait_for(
        lambda: forger.intervals(time.monotonic_ns())[-1].begin > since or pool.forgers() == [the_other(pool, forger)],
        "somebody forges again",
    )
    assert pool.overlap_s(since) == 0
    assert forger.main_pid(SIDECAR) == main


def test_a_wrong_configuration_ends_the_unit_for_good_and_says_which_variable(pool: BarePool) -> None:
    standby = the_other(pool, pool.wait_for_forger())
    environment = standby.host.path("/etc/forge-manager/environment")
    right = environment.read_text()
    environment.write_text(right + "LEASE_DURATION=soon\n")
    try:
        standby.host.systemctl("restart", SIDECAR, check=False)
        pool.wait_for(lambda: standby.host.show(SIDECAR, "ActiveState") == "failed", "it has failed")
        assert standby.host.show(SIDECAR, "ExecMainStatus") == "2"
        assert "forge-manager: LEASE_DURATION='soon'" in standby.host.log("forge-manager")
    finally:
        environment.write_text(right)
        standby.host.systemctl("start", SIDECAR)


def test_two_hosts_of_one_name_exclude_each_other_all_the_same(installation: Path) -> None:
    with BarePool(installation, "producer-a", "producer-b", pod_name="same") as pool:
        since = time.monotonic_ns()
        pool.start()
        forger = pool.wait_healthy()
        holders = {host.status()["leader"]["holder"] for host in pool.hosts}
        assert len(holders) == 1
        assert holders.pop().startswith("same_")
        forger.host.systemctl("stop", SIDECAR)
        pool.wait_for_forger(other_than=forger)
        assert pool.overlap_s(since) == 0


def test_keys_as_credentials_of_the_unit_are_readable_to_nobody_else(installation: Path) -> None:
    folder = "/run/credentials/forge-manager.service"
    sources = {
        f"SOURCE_{name}": f"{folder}/{file}"
        for name, file in (("KES_KEY", "kes.skey"), ("VRF_KEY", "vrf.skey"), ("OP_CERT", "node.cert"))
    }
    shipped = (UNITS / "forge-manager-credentials.conf").read_text().partition("[Service]")[2]
    with BarePool(installation, "producer-a", drop_ins={SIDECAR: shipped}, **sources) as pool:
        (host,) = pool.hosts
        for file in host.host.path("/etc/forge-manager/keys").iterdir():
            file.chmod(0o400)
            host.host.run("chown", "root:root", f"/etc/forge-manager/keys/{file.name}")
        pool.start()
        pool.wait_healthy()
        code, said = host.forgectl("audit")
        assert code == 0, said
        assert as_the_node(host, "cat", f"{folder}/kes.skey").stderr.endswith(
            ("Permission denied\n", "No such file or directory\n")
        )
        host.host.systemctl("restart", SIDECAR)
        pool.wait_for_forger()
        assert as_the_node(host, "cat", f"{folder}/kes.skey").stderr.endswith(
            ("Permission denied\n", "No such file or directory\n")
        )


@pytest.mark.skipif(shutil.which("systemd-creds") is None, reason="systemd 250 or newer")
def test_keys_that_are_encrypted_to_the_host_reach_the_sidecar_and_are_nowhere_else_in_the_clear(
    installation: Path,
) -> None:
    """As the page says it: what is on the disk is of no use on another machine."""
    folder, keys = "/run/credentials/forge-manager.service", "/etc/forge-manager/keys"
    files = {"KES_KEY": "kes.skey", "VRF_KEY": "vrf.skey", "OP_CERT": "node.cert"}
    sources = {f"SOURCE_{name}": f"{folder}/{file}" for name, file in files.items()}
    lines = "\n".join(f"LoadCredentialEncrypted={file}:{keys}/{file}" for file in files.values())
    with BarePool(installation, "producer-a", drop_ins={SIDECAR: lines}, **sources) as pool:
        (host,) = pool.hosts
        host.host.run("systemd-creds", "setup")
        for file in files.values():
            clear, sealed = f"{keys}/{file}", f"{keys}/{file}.sealed"
            host.host.run("systemd-creds", "encrypt", "--with-key=host", f"--name={file}", clear, sealed)
            host.host.run("mv", sealed, clear)
        assert b"cborHex" not in host.host.path(f"{keys}/kes.skey").read_bytes()
        pool.start()
        forger, since = pool.wait_healthy(), time.monotonic_ns()
        assert forger.forgectl("doctor")[1].count("0 errors") == 1
        host.host.systemctl("restart", SIDECAR)  # the credentials' folder is made anew
        pool.wait_for(lambda: forger.went_off(since), "fenced")
        pool.wait_healthy()


def test_systemd_finds_nothing_wrong_with_the_unit_and_little_that_it_could_still_do(pool: BarePool) -> None:
    host, unit = pool.hosts[0].host, f"/etc/systemd/system/{SIDECAR}"
    assert host.run("systemd-analyze", "verify", "--man=no", unit).stderr == ""
    host.run("systemd-analyze", "security", "--no-pager", "--offline=true", "--threshold=20", unit)  # of 100


def test_a_host_whose_network_gave_it_another_resolv_conf_can_take_over_and_the_one_that_forges_goes_on(
    installation: Path,
) -> None:
    """Both are written as DHCP clients and systemd-resolved do it: another file in place of the old one."""
    with BarePool(installation, "producer-a", "producer-b") as pool:
        port = urlsplit(pool.api.url).port
        for host in pool.hosts:
            by_name = kubeconfig(f"https://localhost:{port}")  # which is in /etc/hosts
            by_name["clusters"][0]["cluster"]["tls-server-name"] = "127.0.0.1"
            host.host.path("/etc/forge-manager/api/kubeconfig").write_text(yaml.safe_dump(by_name))
        pool.start()
        forger = pool.wait_healthy()
        since = time.monotonic_ns()
        for host in pool.hosts:
            for file in ("hosts", "resolv.conf"):
                host.host.run("sh", "-c", f"cp /etc/{file} /etc/new && mv /etc/new /etc/{file}")
            for worker in ("elector", "arbiter"):
                told = re.compile(rf"WARNING {worker} .* was replaced after our start")
                pool.wait_for(lambda on=host, by=told: by.search(on.host.log("forge-manager")), "it starts anew")
        pool.wait_healthy()
        assert pool.gap_s(since) == 0
        forger.host.systemctl("stop", SIDECAR)
        assert pool.wait_for_forger(other_than=forger) is the_other(pool, forger)
        assert pool.gap_s(since) < HAND_OVER_S
        assert pool.overlap_s(since) == 0


def test_after_a_power_cut_a_node_whose_sidecar_does_not_start_finds_no_keys_even_if_the_links_were_on_a_disk(
    installation: Path,
) -> None:
    """The worst of it: a producing node (its flag was forgotten), the sidecar's settings wrong."""
    folder = "/var/lib/keys"
    files = {"KES_KEY": "kes.skey", "VRF_KEY": "vrf.skey", "OP_CERT": "node.cert"}
    targets = {f"TARGET_{name}": f"{folder}/{file}" for name, file in files.items()}
    with BarePool(
        installation, "producer-a", drop_ins={SIDECAR: f"ReadWritePaths={folder}", NODE: ""}, **targets
    ) as pool:
        (host,) = pool.hosts
        host.host.run("install", "-d", "-m", "0700", "-o", USER, "-g", USER, folder)
        unit = host.host.path(f"/etc/systemd/system/{NODE}")
        for file in files.values():
            unit.write_text(unit.read_text().replace(f"/run/cardano/{file}", f"{folder}/{file}"))
        host.host.systemctl("daemon-reload")
        host.start()
        pool.wait_for_forger()
        for each in (SIDECAR, NODE):
            host.drop_in(each, "no-restart", "Restart=no")
        unit.write_text(unit.read_text().replace("--start-as-non-producing-node", ""))
        host.configure(**targets, LEASE_DURATION="soon")
        host.host.systemctl("daemon-reload")
        host.host.systemctl("kill", "--signal=KILL", SIDECAR, NODE)
        for each in (SIDECAR, NODE):
            pool.wait_for(lambda of=each: host.host.show(of, "ActiveState") == "failed", "all of it is gone")
        host.host.run("rm", "-r", "/run/forge-manager", "/run/cardano")
        host.host.run("install", "-d", "-m", "0700", "-o", USER, "/run/cardano")
        assert set(host.host.run("ls", folder).stdout.split()) == set(files.values())
        since = time.monotonic_ns()
        host.host.systemctl("start", NODE, check=False)
        missing = f"No such file or directory: '{folder}/vrf.skey'"
        pool.wait_for(lambda: missing in host.host.log("cardano-node"), "it finds no keys")
        assert host.host.show(SIDECAR, "ActiveState") == "failed"
        assert not any(interval.begin > since for interval in host.intervals(time.monotonic_ns()))


START_SCRIPT = """#!/bin/sh
[ -f /run/cardano/kes.skey ] && [ -f /run/cardano/vrf.skey ] && [ -f /run/cardano/node.cert ] || exec sleep 9999
exec {command}
"""
"""As those of guild-operators do it: with keys a producer, without them a relay that was never told of any."""


def test_a_start_script_that_makes_a_relay_where_no_keys_are_is_held_back_until_they_are_there(
    installation: Path,
) -> None:
    """docs/bare-metal.md, "Other ways to start the node"."""
    page = BARE_METAL.partition("## Other ways to start the node")[2]
    lines = [line for line in page.splitlines() if line.startswith("ExecStartPre=")]
    before = "\n".join(lines).replace("hot.skey", "kes.skey").replace("op.cert", "node.cert")
    assert before.count("-f /run/cardano/") == 3
    with BarePool(installation, "producer-a", drop_ins={NODE: before}) as pool:
        (host,) = pool.hosts
        unit = host.host.path(f"/etc/systemd/system/{NODE}")
        head, _, command = unit.read_text().partition("ExecStart=")
        script = host.host.path("/opt/start.sh")
        script.write_text(START_SCRIPT.format(command=command.replace("\\\n", " ").strip()))
        script.chmod(0o755)
        unit.write_text(f'{head}ExecStart=/bin/bash -c "exec /opt/start.sh"\n')
        host.host.systemctl("daemon-reload")
        host.host.systemctl("start", "--no-block", NODE)  # before its sidecar
        pool.wait_for(lambda: int(host.host.show(NODE, "NRestarts")) > 0, "it was not started without keys")
        host.host.systemctl("start", SIDECAR)
        pool.wait_healthy()


def test_without_a_kubeconfig_a_host_does_not_contend_and_says_what_is_missing(installation: Path) -> None:
    with BarePool(installation, "producer-a", KUBECONFIG="") as pool:
        (host,) = pool.hosts
        pool.start()
        remedy = "set KUBECONFIG outside a cluster"
        pool.wait_for(lambda: remedy in host.host.log("forge-manager"), "it says so")
        assert not host.ready()
        code, said = host.forgectl("doctor")
        assert code != 0
        assert "KUBECONFIG" in said
        assert host.intervals(time.monotonic_ns()) == []


@pytest.mark.parametrize(
    ("unit", "line", "where", "evidence"),
    [
        (SIDECAR, "PrivateUsers=yes", "cardano-node", "Permission denied: '/run/cardano/vrf.skey'"),
        (NODE, "PrivateUsers=yes", "cardano-node", "Permission denied: '/run/cardano/vrf.skey'"),
        (SIDECAR, "ProtectProc=invisible", "forge-manager", "a node that cannot be held"),
        (SIDECAR, "ProcSubset=pid", "forge-manager", "/proc/sys/kernel/random/boot_id"),
    ],
)
def test_what_hardening_guides_have_and_these_units_must_not_keeps_the_node_from_forging(
    installation: Path, unit: str, line: str, where: str, evidence: str
) -> None:
    with BarePool(installation, "producer-a", drop_ins={unit: line}) as pool:
        (host,) = pool.hosts
        pool.start()
        pool.wait_for(lambda: evidence in host.host.log(where), "it shows")
        assert not host.ready()
        assert host.intervals(time.monotonic_ns()) == []


@pytest.mark.parametrize(
    "line",
    ["ProtectProc=invisible", "ProcSubset=pid", "ProtectSystem=strict\nReadWritePaths=/run/cardano\nPrivateTmp=yes"],
)
def test_what_may_stand_in_the_nodes_own_unit(installation: Path, line: str) -> None:
    with BarePool(installation, "producer-a", drop_ins={NODE: line}) as pool:
        (host,) = pool.hosts
        pool.start()
        pool.wait_healthy()
        since = time.monotonic_ns()
        host.host.systemctl("kill", "--signal=KILL", SIDECAR)
        pool.wait_for(lambda: host.went_off(since), "the kernel turns the node off")
