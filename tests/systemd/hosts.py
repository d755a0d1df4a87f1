"""Two hosts of a pool without Kubernetes: each a systemd of its own with the units of deploy/systemd, one API server.

A host is set up as docs/bare-metal.md says: user, keys, kubeconfig with a token in a file, environment, units.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import yaml

from devkit import keys, record
from devkit.api.embedded import EmbeddedApi, ThreadedApi
from devkit.api.server_protocol import ADMIN
from devkit.pod import LEASE, MemoryFolder, free_port
from devkit.pods import SERVICE_ACCOUNT, prepare
from devkit.realapi.client import AdminClient
from devkit.systemd import PYTHON, SOURCE, Host

ROOT = Path(__file__).resolve().parents[2]
UNITS = ROOT / "deploy" / "systemd"
NAMESPACE = "cardano"
USER, UID = "cardano", 10001
SIDECAR, NODE = "forge-manager.service", "cardano-node.service"
RECORD = "/var/lib/cardano/record"
PATIENCE_S = 120.0

_NODE_UNIT = """
[Unit]
Description=A node for tests, where an operator has his own
[Service]
StateDirectory=cardano
ExecStart={python}/bin/python3 -S -E {source}/devkit/node.py run --name {name} --record {record} \\
    --port {port} --socket-path /run/cardano/node.socket --shelley-kes-key /run/cardano/kes.skey \\
    --shelley-vrf-key /run/cardano/vrf.skey --shelley-operational-certificate /run/cardano/node.cert \\
    --start-as-non-producing-node
"""


def node_unit(name: str, port: int) -> str:
    return _NODE_UNIT.format(name=name, record=RECORD, port=port, python=PYTHON, source=SOURCE)


class BareHost:
    """One machine of an operator's: the sidecar's unit and the node's."""

    def __init__(self, name: str, layer: Path, drop_ins: dict[str, str], *, pod_name: str, **variables: str) -> None:
        self.name = name
        self.host = Host(name, layer)
        self.record = record.Follower(self.host.path(RECORD))
        self.node_port, self.metrics_port = free_port(), free_port()
        self._install()
        self.configure(
            POD_NAME=pod_name,
            METRICS_PORT=str(self.metrics_port),
            NODE_METRICS_URL=f"http://127.0.0.1:{self.node_port}/metrics",
            LOG_FORMAT="console",
            **variables,
        )
        for number, (unit, text) in enumerate(drop_ins.items()):
            self.drop_in(unit, f"test-{number}", text)
        self.host.systemctl("daemon-reload")

    def _install(self) -> None:
        folder = self.host.path("/etc/systemd/system")
        shutil.copy(UNITS / SIDECAR, folder / SIDECAR)
        (folder / f"{NODE}.d").mkdir()
        shutil.copy(UNITS / "cardano-node.conf", folder / f"{NODE}.d" / "forge-manager.conf")
        (folder / NODE).write_text(node_unit(self.name, self.node_port))

    def configure(self, **variables: str) -> None:
        """The shipped environment, with these of our own."""
        shipped = (UNITS / "environment").read_text()
        lines = [line for line in shipped.splitlines() if line.partition("=")[0] not in variables]
        lines += [f"{name}={value}" for name, value in variables.items()]
        self.host.path("/etc/forge-manager/environment").write_text("\n".join(lines) + "\n")

    def drop_in(self, unit: str, name: str, text: str) -> None:
        folder = self.host.path(f"/etc/systemd/system/{unit}.d")
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.conf").write_text(f"[Service]\n{text}\n")

    def start(self) -> None:
        """As at boot: both units at once."""
        self.host.systemctl("start", "--no-block", SIDECAR, NODE)

    def forgectl(self, *words: str, user: str = USER) -> tuple[int, str]:
        """As an operator at this machine."""
        settings = dict(
            line.split("=", 1)
            for line in self.host.path("/etc/forge-manager/environment").read_text().splitlines()
            if line and not line.startswith("#")
        )
        command = ("/opt/forge-manager/bin/forgectl", *words)
        done = self.host.run(*command, user=user, environment=settings, check=False)
        return done.returncode, done.stdout + done.stderr

    def status(self) -> dict[str, Any]:
        code, said = self.forgectl("status", "--json")
        found: dict[str, Any] = json.loads(said) if code == 0 else {}
        return found

    def ready(self) -> bool:
        return bool(self.status().get("ready", {}).get("ready"))

    def intervals(self, now: int) -> list[record.Interval]:
        return self.record.intervals(now)

    def forges(self) -> bool:
        return self.record.forges_at(time.monotonic_ns() - 1)

    def went_off(self, since: int) -> bool:
        """Whether its node says that it stopped forging after `since` (CLOCK_MONOTONIC, ns)."""
        return any(event["event"] == "off" and event["t"] > since for event in self.record.events())

    def main_pid(self, unit: str) -> int:
        return int(self.host.show(unit, "MainPID"))

    def describe(self) -> str:
        units = self.host.systemctl("status", "--lines=0", SIDECAR, NODE, check=False)
        return "\n".join(
            [f"=== {self.name}", units, *(self.host.log(u)[-6000:] for u in ("forge-manager", "cardano-node"))]
        )


class BarePool:
    """Some hosts around one API server."""

    def __init__(
        self, layer: Path, *names: str, drop_ins: dict[str, str] | None = None, pod_name: str = "", **variables: str
    ) -> None:
        """drop_ins: unit -> lines for its [Service].  pod_name: of all of them, where they are to have one name."""
        self._folder = MemoryFolder()
        user = f"system:serviceaccount:{NAMESPACE}:{SERVICE_ACCOUNT}"
        self.api = ThreadedApi(EmbeddedApi(users=[user], tls=True, authorize=True))
        self.api.start_sync()
        self.hosts: list[BareHost] = []
        try:
            admin = AdminClient(self.api.url, self.api.ca_file, self.api.token_for(ADMIN))
            prepare(self.api, admin, NAMESPACE, ROOT / "deploy" / "rbac" / "role.yaml")
            made = keys.generate(self._folder.path / "keys", kes_period=keys.current_kes_period("mainnet"))
            (made.folder / "cold.skey").unlink()
            mine = self._layer(layer, made.folder, user)
            for name in names:
                self.hosts.append(BareHost(name, mine, drop_ins or {}, pod_name=pod_name or name, **variables))
        except BaseException:
            self.close()
            raise

    def _layer(self, installation: Path, source: Path, user: str) -> Path:
        """What every host has in /etc, and the installation in /opt."""
        layer = self._folder.path / "layer"
        shutil.copytree(installation, layer, symlinks=True)
        etc = layer / "etc"
        etc.mkdir()
        for name, line in (
            ("passwd", f"{USER}:x:{UID}:{UID}::/nonexistent:/usr/sbin/nologin"),
            ("group", f"{USER}:x:{UID}:"),
        ):
            (etc / name).write_text(Path("/etc", name).read_text() + line + "\n")
        ours = etc / "forge-manager"
        shutil.copytree(source, ours / "keys")
        (ours / "api").mkdir()
        assert self.api.ca_file is not None
        shutil.copy(self.api.ca_file, ours / "api" / "ca.crt")
        (ours / "api" / "token").write_text(self.api.token_for(user) or "")
        (ours / "api" / "kubeconfig").write_text(yaml.safe_dump(kubeconfig(self.api.url)))
        for path in ours.rglob("*"):
            path.chmod(0o700 if path.is_dir() else 0o400)
            os.chown(path, UID, UID)
        return layer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for host in self.hosts:
            host.host.close()
        self.api.stop_sync()
        self._folder.close()

    # --- looking and waiting ---

    def start(self) -> None:
        for host in self.hosts:
            host.start()

    def forgers(self) -> list[BareHost]:
        return [host for host in self.hosts if host.forges()]

    def overlap_s(self, since: int) -> float:
        now = time.monotonic_ns()
        return record.overlap_s({host.name: host.intervals(now) for host in self.hosts}, since, now)

    def gap_s(self, since: int) -> float:
        now = time.monotonic_ns()
        return record.gap_s({host.name: host.intervals(now) for host in self.hosts}, since, now)

    def wait_for(self, what: Callable[[], object], why: str, seconds: float = PATIENCE_S) -> None:
        """Raises TimeoutError with what every host says."""
        end = time.monotonic() + seconds
        while not what():
            if time.monotonic() > end:
                raise TimeoutError("\n".join([f"{why}: not within {seconds:g} s", *(h.describe() for h in self.hosts)]))
            time.sleep(0.05)

    def wait_for_forger(self, *, other_than: BareHost | None = None) -> BareHost:
        def one() -> bool:
            found = self.forgers()
            return len(found) == 1 and found[0] is not other_than

        self.wait_for(one, "one node forges")
        (found,) = self.forgers()
        return found

    def wait_healthy(self) -> BareHost:
        """All ready and one forging: that one."""
        self.wait_for_forger()
        self.wait_for(lambda: all(host.ready() for host in self.hosts), "all hosts are ready")
        return self.wait_for_forger()


def kubeconfig(server: str) -> dict[str, Any]:
    """As docs/bare-metal.md has it: certificate and token in files beside it."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "pool", "cluster": {"server": server, "certificate-authority": "ca.crt"}}],
        "users": [{"name": "forge-manager", "user": {"tokenFile": "token"}}],
        "contexts": [{"name": "pool", "context": {"cluster": "pool", "user": "forge-manager"}}],
        "current-context": "pool",
    }


__all__ = ["LEASE", "NODE", "SIDECAR", "BareHost", "BarePool"]
