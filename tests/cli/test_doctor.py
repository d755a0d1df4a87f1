"""`forgectl doctor` in a sidecar's surroundings that are right, and in the same with one thing broken."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from cardano.process import SocketCheck, SocketOutcome
from cli import doctor_pod, forgectl
from cli.asking import Failed
from config import load
from devkit import keys, states
from devkit.api.crd import DEFAULT_FOLDER
from devkit.api.embedded import EmbeddedApi, ThreadedApi
from devkit.pod import MemoryFolder, free_port
from devkit.proxy import FaultyProxy
from ipc.messages import (
    Notifications,
    Sandbox,
    Worker,
)
from ipc.pubsub import StatePublisher
from kernel.clock import boottime_ns
from kernel.process import filesystem_is_memory
from policy import timing
from policy.doctor.findings import Unseen

ROOT = Path(forgectl.__file__).parent.parent
PATIENCE_S = 60.0
NAMESPACE = "pools"
ACCOUNT = f"system:serviceaccount:{NAMESPACE}:cardano-forge-crds"
LEASE = "cardano-node-leader"

Json = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)

    def of(self, check: str, api: str | None = None) -> list[Json]:
        return [each for each in self.json()["findings"] if each["check"] == check and api in (None, each["api"])]

    def bad(self) -> list[tuple[str, str, str]]:
        wanted = ("error", "warning")
        return [(f["severity"], f["check"], f["reason"]) for f in self.json()["findings"] if f["severity"] in wanted]


class World:
    """A pod's surroundings: API servers, node, keys, RUN_DIR, workers that say that they are well."""

    def __init__(self, root: Path, stack: AsyncExitStack) -> None:
        self.root = root
        self.stack = stack
        self.run_dir, self.ipc, self.secrets = root / "run", root / "ipc", root / "secrets"
        self.crds: tuple[Path, ...] = (DEFAULT_FOLDER,)
        self.clock_ahead_s = 0.0
        self.delay_s = 0.0
        self.manifest = "rbac/role.yaml"
        self.forbid: Callable[[Json], None] = lambda rule: None
        """Takes something out of each rule of the Role."""
        self.apis: dict[str, ThreadedApi] = {}
        self.more_servers: tuple[str, ...] = ()
        self.node_runs = True
        self.node_keys = self.ipc
        self.node_flags: list[str] = ["--start-as-non-producing-node"]
        self.node_options = ("--shelley-kes-key", "--shelley-vrf-key", "--shelley-operational-certificate")
        self.kes_period = keys.current_kes_period("mainnet")
        self.silent: tuple[Worker, ...] = ()
        self.environment: dict[str, str] = {}
        self.pool = ""
        self.bodies = dict(BODIES)
        """What the workers say."""
        self.after: Callable[[], None] = lambda: None
        """What is done when everything runs."""

    async def start(self) -> None:
        self.run_dir.mkdir(mode=0o700)
        self.ipc.mkdir()
        made = keys.generate(self.secrets, kes_period=self.kes_period)
        made.cold.unlink()
        self.pool = made.pool_id
        if "POOL_ID" in self.environment:
            self.environment["POOL_ID"] = self.pool
        for file in ("kes.skey", "vrf.skey", "node.cert"):
            shutil.copy(self.secrets / file, self.ipc / file)
            self.ipc.joinpath(file).chmod(0o400)
        self._start_server("own")
        for name in self.more_servers:
            self._start_server(name)
        port = await self._start_node() if self.node_runs else free_port()
        for worker in Worker:
            if worker not in self.silent:
                await self._publish(worker)
        self.environment = {
            "PATH": os.defpath,
            "HOME": str(self.root),
            "PYTHONDONTWRITEBYTECODE": "1",
            "RUN_DIR": str(self.run_dir),
            "POD_NAME": "pod-0",
            "NAMESPACE": NAMESPACE,
            "KUBECONFIG": str(self.root / "own"),
            "NODE_SOCKET": str(self.ipc / "node.socket"),
            "NODE_METRICS_URL": f"http://127.0.0.1:{port}/metrics",
            **{f"SOURCE_{name}": str(self.secrets / file) for name, file in FILES.items()},
            **{f"TARGET_{name}": str(self.ipc / file) for name, file in FILES.items()},
        } | self.environment
        self.after()

    def _start_server(self, name: str) -> None:
        api = EmbeddedApi.start_thread(
            users=[ACCOUNT],
            namespaces=[NAMESPACE],
            authorize=True,
            crds=self.crds,
            clock_ahead_s=self.clock_ahead_s,
        )
        self.stack.callback(api.stop_sync)
        self.apis[name] = api
        for document in yaml.safe_load_all(self._manifest()):
            for rule in document.get("rules", ()):
                self.forbid(rule)
            group = document["apiVersion"]
            root = f"/apis/{group}" if "/" in group else f"/api/{group}"
            self.call(name, "POST", f"{root}/namespaces/{NAMESPACE}/{document['kind'].lower()}s", document)
        api.write_kubeconfig(self.root / name, ACCOUNT)
        if self.delay_s:
            proxy = FaultyProxy(api, ACCOUNT)
            self.stack.callback(proxy.close)
            proxy.slow(self.delay_s)
            self.edit_kubeconfig(name, proxy.url)

    def _manifest(self) -> str:
        return (ROOT / "deploy" / self.manifest).read_text().replace("pool1abcd1", self.pool[:10])

    @property
    def lock(self) -> str:
        return f"cardano-pool-mainnet-{self.pool[:10]}"

    def edit_kubeconfig(self, name: str, server: str) -> None:
        content = json.loads((self.root / name).read_text())
        content["clusters"][0]["cluster"]["server"] = server
        (self.root / name).write_text(json.dumps(content))

    def call(self, name: str, method: str, path: str, body: Json | None = None) -> Json:
        """By the administrator."""
        api = self.apis[name]
        request = urllib.request.Request(
            api.url + path,
            data=json.dumps(body).encode() if body is not None else None,
            method=method,
            headers={"Content-Type": "application/json", "Authorization": f"Bearer {api.token_for('admin')}"},
        )
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            found: Json = json.load(answer)
            return found

    def lease(self, api: str, name: str, holder: str, duration_s: int = 15, **annotations: str) -> None:
        marks = {f"cardano.io/{key.replace('_', '-')}": value for key, value in annotations.items()}
        body = {
            "metadata": {"name": name, "annotations": {"cardano.io/lease-seal": "aa" * 32} | marks},
            "spec": {"holderIdentity": holder, "leaseDurationSeconds": duration_s, "leaseTransitions": 4},
        }
        self.call(api, "POST", f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases", body)

    async def _start_node(self) -> int:
        """Its metrics' port."""
        command = ["run", "--socket-path", str(self.ipc / "node.socket"), "--port-file", str(self.root / "port")]
        command += ["--control", str(self.root / "control"), "--die-with", str(os.getpid()), *self.node_flags]
        for option, file in zip(self.node_options, FILES.values(), strict=False):
            command.append(f"{option}={self.node_keys / file}")
        node = subprocess.Popen(
            [sys.executable, "-m", "devkit.node", *command],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.stack.callback(lambda: (node.kill(), node.wait()))
        async with asyncio.timeout(PATIENCE_S):
            while not ((self.root / "port").exists() and (self.root / "port").read_text() and self._up()):
                assert node.poll() is None
                await asyncio.sleep(0.01)
        return int((self.root / "port").read_text())

    def _up(self) -> bool:
        return (self.ipc / "node.socket").exists()

    async def _publish(self, worker: Worker) -> None:
        (self.run_dir / worker).mkdir(mode=0o700)
        publisher = StatePublisher(worker, self.run_dir / worker / "state.sock", allowed_uids=frozenset({os.getuid()}))
        await publisher.start()
        self.stack.callback(publisher.close)
        publisher.sealed(Sandbox(closed=True, separation="single-uid"))
        publisher.publish(self.bodies[worker])

    async def doctor(self, *arguments: str, inside: bool = True, of_host: Path | None = None, **variables: str) -> Ran:
        from_file = () if of_host is None else ("--environment-file", str(of_host))
        kept = self.environment if inside else {name: self.environment[name] for name in ("PATH", "HOME")}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "cli.forgectl", *from_file, "doctor", *arguments),
            env=kept | {"PYTHONDONTWRITEBYTECODE": "1"} | variables,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        async with asyncio.timeout(PATIENCE_S):
            out, err = await process.communicate()
        assert process.returncode is not None
        assert b"Traceback" not in err, err.decode()
        return Ran(process.returncode, out.decode(), err.decode())


FILES = {"KES_KEY": "kes.skey", "VRF_KEY": "vrf.skey", "OP_CERT": "node.cert"}
ARMABLE = states.actuator(since=0, reason="no grant", startup_reason="the node is up")


def _bodies() -> dict[Worker, Any]:
    from ipc.messages import ArbiterState, GatewayState

    elector = states.elector(
        since=0,
        reason="the lease is held",
        identity="pod-0_aa",
        lease=f"{NAMESPACE}/{LEASE}",
        fencing_token=4,
        changes_total=0,
    )
    prober = states.prober(since=0, sampled_total=0, tip_lag_s=7.0)
    return {
        Worker.ACTUATOR: ARMABLE,
        Worker.ELECTOR: elector,
        Worker.PROBER: prober,
        Worker.ARBITER: ArbiterState(grant=None, reason="", cluster_management=False),
        Worker.GATEWAY: GatewayState(port=8000, requests_total={}),
    }


BODIES = _bodies()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        folder = MemoryFolder()
        stack.callback(folder.close)
        yield World(folder.path, stack)


# --- what is right ---


async def test_surroundings_that_are_right_have_no_error_and_no_warning(world: World) -> None:
    if not filesystem_is_memory(world.root):
        pytest.skip("no folder in memory here")
    await world.start()
    ran = await world.doctor("--json")
    assert ran.bad() == []
    assert ran.code == 0
    (rights,) = ran.of("rights")
    assert "all 8" in rights["reason"]
    skipped = [each["check"] for each in ran.json()["findings"] if each["severity"] == "not-looked-at"]
    assert skipped == []


async def test_a_variable_that_is_almost_ours_is_warned_of_by_its_name_alone(world: World) -> None:
    await world.start()
    ran = await world.doctor("--json", CLUSTER_PRIORTY="canary")
    assert ran.code == 0
    assert ran.bad() == [("warning", "settings", "CLUSTER_PRIORTY is no variable of ours, and is not read")]
    assert ran.of("settings")[0]["remedy"] == "did you mean CLUSTER_PRIORITY?"
    assert "canary" not in ran.out
    wrong = await world.doctor("--json", POOLID="canary", ENABLE_CLUSTER_MANAGEMENT="true")
    assert wrong.code == 2
    assert ("warning", "settings", "POOLID is no variable of ours, and is not read") in wrong.bad()


async def test_nothing_is_changed_by_looking(world: World) -> None:
    await world.start()
    world.lease("own", LEASE, "pod-1_6dea1705")
    path = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"
    before = world.call("own", "GET", path), sorted(world.root.rglob("*"))
    reviews = world.apis["own"].counts().get(ACCOUNT, {})
    assert (await world.doctor()).code == 0
    assert (world.call("own", "GET", path), sorted(world.root.rglob("*"))) == before
    asked = {verb: n - reviews.get(verb, 0) for verb, n in world.apis["own"].counts()[ACCOUNT].items()}
    assert set(asked) <= {"list", "create", "get"}
    assert asked["create"] == 8, "each right is asked for once, and nothing else is created"


async def test_several_clusters_that_agree_have_no_error(world: World) -> None:
    managed(world, "own,{a},{b}")
    await world.start()
    ids = ",".join(sorted(uid(world, name) for name in ("own", "a", "b")))
    for name in ("own", "a", "b"):
        world.lease(name, world.lock, "mainnet-pool1abcd1-us-east-1/pod-1_6dea1705", lock_members="3", lock_apis=ids)
    ran = await world.doctor("--json")
    assert [each for each in ran.bad() if each[0] == "error"] == []
    assert ran.of("member-set")[0]["reason"] == "the lock's holder counts the same 3"
    assert len(ran.of("rights")) == 3


# --- what is broken ---


def uid(world: World, api: str) -> str:
    return str(world.call(api, "GET", f"/api/v1/namespaces/{NAMESPACE}")["metadata"]["uid"])


def managed(world: World, servers: str) -> None:
    """Cluster management with these servers, in braces those that are others."""
    world.manifest = "rbac/pool.yaml"
    world.more_servers = tuple(name for name in ("a", "b") if f"{{{name}}}" in servers)
    paths = {name: str(world.root / name) for name in ("a", "b")}
    world.environment |= {
        "ENABLE_CLUSTER_MANAGEMENT": "true",
        "POOL_ID": "that of the keys",
        "CLUSTER_REGION": "us-east-1",
        "COORDINATION_KUBECONFIGS": servers.format(**paths),
    }


def a_drain(world: World) -> None:
    world.bodies[Worker.ELECTOR] = dataclasses.replace(BODIES[Worker.ELECTOR], drained="new disk")


def a_refusal(world: World) -> None:
    """A namespace that is being deleted: reads are answered, and the rights are there."""
    world.bodies[Worker.ELECTOR] = dataclasses.replace(BODIES[Worker.ELECTOR], api_ok=False)


def a_stand_down(world: World) -> None:
    until = boottime_ns() + 3600 * timing.SECOND
    world.bodies[Worker.ELECTOR] = dataclasses.replace(BODIES[Worker.ELECTOR], standing_down_until=until)


def a_pause(world: World) -> None:
    world.bodies[Worker.ELECTOR] = dataclasses.replace(BODIES[Worker.ELECTOR], paused="until resumed: new switches")


def the_cold_key_in_the_secret(world: World) -> None:
    def after() -> None:
        cold = {"type": "StakePoolSigningKey_ed25519", "description": "", "cborHex": "5820" + "11" * 32}
        (world.secrets / "cold.skey").write_text(json.dumps(cold))

    world.after = after


def another_network(world: World) -> None:
    world.environment |= {"CARDANO_NETWORK": "preprod", "NETWORK_MAGIC": "1"}


def no_update_of_leases(world: World) -> None:
    def forbid(rule: Json) -> None:
        if "leases" in rule["resources"] and "update" in rule["verbs"]:
            rule["verbs"].remove("update")

    world.forbid = forbid


def no_definitions(world: World) -> None:
    world.crds = ()


def an_older_definition(world: World) -> None:
    definition = yaml.safe_load((DEFAULT_FOLDER / "cardanoleaders.yaml").read_text())
    schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    del schema["properties"]["status"]["properties"]["forgingEnabled"]
    older = world.root / "older.yaml"
    older.write_text(yaml.safe_dump(definition))
    world.crds = (older,)


def no_node(world: World) -> None:
    world.node_runs = False


def another_user(world: World) -> None:
    users = {
        name: os.getuid() + 4001 + n for n, name in enumerate(("actuator", "arbiter", "elector", "gateway", "prober"))
    }
    world.environment["WORKER_UIDS"] = ",".join(f"{name}={number}" for name, number in users.items())


def a_producing_node(world: World) -> None:
    world.node_flags = []


def only_a_relay(world: World) -> None:
    """Another node of the host's, which names no socket."""
    world.node_runs = False
    relay = subprocess.Popen(["cardano-node", "60"], executable=shutil.which("sleep"))
    world.stack.callback(relay.wait)
    world.stack.callback(relay.kill)


def metrics_of_another(world: World) -> None:
    """As of a relay on the same host that has the port which is the default."""
    port = free_port()
    options = ["run", "--socket-path", str(world.root / "relay.socket"), "--port", str(port)]
    command = [sys.executable, "-m", "devkit.node", *options, "--die-with", str(os.getpid())]
    relay = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    world.stack.callback(relay.wait)
    world.stack.callback(relay.kill)
    while not (world.root / "relay.socket").exists():
        time.sleep(0.01)  # until the test's timeout
    world.environment["NODE_METRICS_URL"] = f"http://127.0.0.1:{port}/metrics"


def a_relay(world: World) -> None:
    world.node_options = ()


def other_paths(world: World) -> None:
    world.node_keys = world.secrets


def an_expired_certificate(world: World) -> None:
    world.kes_period -= 70


def no_key(world: World) -> None:
    world.after = (world.secrets / "vrf.skey").unlink


def metrics_at_another_port(world: World) -> None:
    world.environment["NODE_METRICS_URL"] = f"http://127.0.0.1:{free_port()}/metrics"


def a_kubeconfig_that_is_none(world: World) -> None:
    world.after = lambda: (world.root / "own").write_text("{")  # type: ignore[assignment,return-value]


def a_kubeconfig_with_a_program(world: World) -> None:
    def change() -> None:
        content = json.loads((world.root / "own").read_text())
        content["users"][0]["user"] = {"exec": {"command": "aws", "apiVersion": "client.authentication.k8s.io/v1"}}
        (world.root / "own").write_text(json.dumps(content))

    world.after = change


def a_server_that_is_away(world: World) -> None:
    world.after = lambda: world.edit_kubeconfig("own", f"http://127.0.0.1:{free_port()}")


def a_token_that_is_refused(world: World) -> None:
    def change() -> None:
        content = json.loads((world.root / "own").read_text())
        content["users"][0]["user"] = {"token": "guessed"}
        (world.root / "own").write_text(json.dumps(content))

    world.after = change


def a_slow_server(world: World) -> None:
    world.delay_s = 1.3


def a_server_too_slow(world: World) -> None:
    world.delay_s = 1.7
    world.environment |= {"LEASE_DURATION": "6", "SLEEP_INTERVAL": "1"}


def a_clock_that_is_ahead(world: World) -> None:
    world.clock_ahead_s = 600.0


def a_run_dir_open_to_others(world: World) -> None:
    world.after = lambda: world.run_dir.chmod(0o755)


def a_permissive_sandbox(world: World) -> None:
    world.environment["SANDBOX"] = "permissive"


def two_servers(world: World) -> None:
    managed(world, "own,{a}")


def one_server_twice(world: World) -> None:
    managed(world, "own,{a},{b}")
    world.more_servers = ("a",)

    def same() -> None:
        shutil.copy(world.root / "a", world.root / "b")

    world.after = same


def another_set(world: World) -> None:
    managed(world, "own,{a},{b}")
    holder = "mainnet-pool1abcd1-us-east-1/pod-1_6dea1705"
    world.after = lambda: world.lease("a", world.lock, holder, lock_members="5", lock_apis="x,y,z")


def another_duration(world: World) -> None:
    world.after = lambda: world.lease("own", LEASE, "pod-1_6dea1705", duration_s=60)


def a_stranger_holds_the_lease(world: World) -> None:
    world.after = lambda: world.lease("own", LEASE, "some-operator")


def another_pool_holds_the_lease(world: World) -> None:
    world.after = lambda: world.lease("own", LEASE, "another-0_6dea1705")
    world.environment["ELECTION_LABEL"] = LEASE


def no_namespace(world: World) -> None:
    managed(world, "{a}")
    world.environment["COORDINATION_NAMESPACE"] = "nowhere"
    # A Role is in its namespace: whoever has none there may still be told that there is none.
    world.after = lambda: _look_everywhere(world, "a")


def _look_everywhere(world: World, api: str) -> None:
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    rules = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]
    world.call(api, "POST", f"{rbac}/clusterroles", {"metadata": {"name": "all"}, "rules": rules})
    subjects = [{"kind": "User", "name": ACCOUNT}]
    binding = {"metadata": {"name": "all"}, "roleRef": {"kind": "ClusterRole", "name": "all"}, "subjects": subjects}
    world.call(api, "POST", f"{rbac}/clusterrolebindings", binding)


def a_wrong_setting(world: World) -> None:
    world.environment["LEASE_DURATION"] = "soon"


def a_path_too_long(world: World) -> None:
    world.environment["NODE_SOCKET"] = "/ipc/" + "x" * 110


def a_silent_worker(world: World) -> None:
    world.silent = (Worker.PROBER,)


def a_receiver_that_refuses_notices(world: World) -> None:
    told = Notifications(0, 4, 0, 1, "hook.example: answered 500")
    world.bodies[Worker.PROBER] = dataclasses.replace(BODIES[Worker.PROBER], notifications=told)


def no_token_for_the_gateway(world: World) -> None:
    world.environment["GATEWAY_TOKEN_FILE"] = "/nowhere/token"


def no_folder_for_the_targets(world: World) -> None:
    world.environment |= {f"TARGET_{name}": f"/nowhere/{file}" for name, file in FILES.items()}


BROKEN: list[tuple[Callable[[World], None], str, str, int, str]] = [
    (no_update_of_leases, "rights", "error", 1, "cat deploy/rbac/role.yaml | kubectl"),
    (no_definitions, "crd-leader", "error", 1, "apply -f deploy/crds"),
    (an_older_definition, "crd-leader", "error", 1, "apply -f deploy/crds"),
    (only_a_relay, "node-process", "error", 1, "see that the node runs"),
    (metrics_of_another, "node-metrics", "error", 1, "which no other node on this host may have"),
    (no_node, "node-process", "error", 1, "shareProcessNamespace: true"),
    (another_user, "node-user", "error", 1, "give both the same user (runAsUser, or User= of both units)"),
    (a_producing_node, "node-start", "error", 1, "--start-as-non-producing-node"),
    (a_relay, "node-arguments", "error", 1, "--shelley-kes-key="),
    (other_paths, "node-files", "error", 1, "mount one volume at one path in both containers"),
    (an_expired_certificate, "kes-period", "error", 1, "cardano-cli node issue-op-cert"),
    (no_key, "vrf-key", "error", 1, "put the VRF signing key there"),
    (metrics_at_another_port, "node-metrics", "error", 1, "set NODE_METRICS_URL"),
    (a_kubeconfig_that_is_none, "kubeconfig", "error", 2, "kubectl --kubeconfig"),
    (a_kubeconfig_with_a_program, "kubeconfig", "error", 2, "kubectl --kubeconfig"),
    (a_server_that_is_away, "api", "error", 3, "get --raw /readyz"),
    (a_token_that_is_refused, "kubeconfig", "error", 2, "kubectl --kubeconfig"),
    (a_slow_server, "api-latency", "warning", 0, "a longer LEASE_DURATION"),
    (a_server_too_slow, "api-latency", "error", 1, "a longer LEASE_DURATION"),
    (a_clock_that_is_ahead, "api-clock", "warning", 0, "time service"),
    (a_run_dir_open_to_others, "run-dir", "warning", 0, "chmod go-rw"),
    (a_permissive_sandbox, "sandbox-setting", "warning", 0, "set SANDBOX=enforce"),
    (two_servers, "majority", "warning", 0, "an odd number"),
    (one_server_twice, "same-server", "error", 1, "different servers"),
    (another_set, "member-set", "error", 1, "docs/clusters.md"),
    (another_duration, "lease", "error", 1, "the same LEASE_DURATION"),
    (a_stranger_holds_the_lease, "lease", "warning", 0, "docs/upgrading.md"),
    (another_pool_holds_the_lease, "lease", "warning", 0, "a POOL_ID for each pool"),
    (no_namespace, "api", "error", 1, "create namespace nowhere"),
    (a_wrong_setting, "settings", "error", 2, "must be a whole number"),
    (a_path_too_long, "socket-paths", "error", 1, "a shorter path"),
    (a_silent_worker, "workers", "error", 1, "kubectl logs"),
    (a_refusal, "workers", "error", 1, "forgectl inspect elector --decisions"),
    (a_receiver_that_refuses_notices, "notices", "warning", 0, "docs/notifications.md"),
    (no_token_for_the_gateway, "gateway-files", "error", 1, "GatewayFileUnusable.md"),
    (a_drain, "kept-out", "warning", 0, "forgectl come-back"),
    (a_stand_down, "kept-out", "warning", 0, "forgectl come-back"),
    (a_pause, "kept-out", "warning", 0, f"forgectl resume --lease {LEASE}"),
    (the_cold_key_in_the_secret, "cold-key", "warning", 0, "take it off this machine"),
    (another_network, "node-tip", "error", 1, "set CARDANO_NETWORK"),
    (no_folder_for_the_targets, "targets", "error", 1, "mount the volume that the node shares"),
]


async def test_where_the_settings_come_from_a_units_file_the_remedies_are_those_of_a_host(
    world: World, tmp_path: Path
) -> None:
    """docs/bare-metal.md: root's shell has no `kubectl logs` to look into."""
    a_silent_worker(world)
    await world.start()
    file = tmp_path / "environment"
    file.write_text("".join(f"{name}={value}\n" for name, value in world.environment.items()))
    ran = await world.doctor("--json", of_host=file)
    (found,) = (each for each in ran.of("workers") if each["severity"] == "error")
    assert found["command"] == "journalctl -u forge-manager"


@pytest.mark.parametrize(
    ("break_it", "check", "severity", "code", "mends"), BROKEN, ids=[each[0].__name__ for each in BROKEN]
)
async def test_what_is_broken_is_named_with_its_remedy(
    world: World, break_it: Callable[[World], None], check: str, severity: str, code: int, mends: str
) -> None:
    break_it(world)
    await world.start()
    ran = await world.doctor("--json")
    found = [each for each in ran.of(check) if each["severity"] == severity]
    assert found, ran.out
    assert all((each["command"] or "").count("--namespace") <= 1 for each in ran.json()["findings"])
    assert mends in f"{found[0]['remedy'] or ''} {found[0]['command'] or ''}"
    assert (ran.code, ran.json()["exit_code"]) == (code, code), ran.bad()


async def test_a_run_dir_on_a_disk_is_named(world: World, tmp_path: Path) -> None:
    if filesystem_is_memory(tmp_path):
        pytest.skip("no folder on a disk here")
    await world.start()
    ran = await world.doctor("--json", RUN_DIR=str(tmp_path))
    (found,) = ran.of("run-dir-memory")
    assert (found["severity"], found["remedy"]) == ("warning", "make the volume an emptyDir with medium: Memory")


@pytest.mark.parametrize(("mode", "severity"), [("file", "warning"), ("ephemeral", "info")])
async def test_keys_themselves_on_a_disk_are_named_and_links_are_not(
    world: World, tmp_path: Path, mode: str, severity: str
) -> None:
    if filesystem_is_memory(tmp_path):
        pytest.skip("no folder on a disk here")
    world.environment |= {f"TARGET_{name}": str(tmp_path / file) for name, file in FILES.items()}
    await world.start()
    (found,) = (await world.doctor("--json", CREDENTIAL_MODE=mode)).of("targets-memory")
    assert found["severity"] == severity


async def test_a_server_that_hangs_is_not_waited_for_and_its_checks_are_not_called_right(world: World) -> None:
    await world.start()
    proxy = FaultyProxy(world.apis["own"], ACCOUNT)
    world.stack.callback(proxy.close)
    proxy.hang()
    world.edit_kubeconfig("own", proxy.url)
    ran = await world.doctor("--json")
    assert ran.of("api")[0]["severity"] == "error"
    for check in ("api-latency", "api-clock", "rights", "crd-leader", "lease"):
        assert [each["severity"] for each in ran.of(check)] == ["not-looked-at"]
    assert ran.code == 3


# --- elsewhere ---


async def test_from_a_laptop_the_pods_own_parts_are_said_to_be_unseen(world: World) -> None:
    await world.start()
    ran = await world.doctor("--json", "--kubeconfig", str(world.root / "own"), "-n", NAMESPACE, inside=False)
    assert ran.code == 0
    for each in ran.json()["findings"]:
        if each["subject"] in ("pod", "kernel", "node", "credentials"):
            assert each["severity"] == "not-looked-at"
    assert ran.of("api")[0]["severity"] == "info"
    assert "need not be the pods'" in ran.of("rights")[0]["reason"]


async def test_rights_that_a_person_has_not_say_nothing_of_the_pods(world: World) -> None:
    no_update_of_leases(world)
    await world.start()
    ran = await world.doctor("--json", "--kubeconfig", str(world.root / "own"), "-n", NAMESPACE, inside=False)
    assert ([each["severity"] for each in ran.of("rights")], ran.code) == (["warning"], 0)


async def test_several_servers_of_a_named_pool_are_held_against_each_other(world: World) -> None:
    managed(world, "own,{a},{b}")
    await world.start()
    files = ",".join(str(world.root / name) for name in ("own", "a"))
    ran = await world.doctor("--json", "--kubeconfig", files, "--pool", world.pool, "-n", NAMESPACE, inside=False)
    assert [each["severity"] for each in ran.of("majority")] == ["warning"]
    assert ran.of("pool-lock")[0]["reason"].startswith(f"there is no Lease {world.lock} yet")


async def test_options_that_make_no_sense_are_usage(world: World) -> None:
    await world.start()
    ran = await world.doctor("--kubeconfig", "a,a", inside=False)
    assert (ran.code, ran.out) == (2, "")
    assert "given twice" in ran.err


@pytest.mark.parametrize(("us", "is_a_fault"), [(0, False), (10001, True)])
async def test_a_node_socket_that_keeps_out_us_and_not_the_actuator_is_no_fault(
    monkeypatch: pytest.MonkeyPatch, us: int, is_a_fault: bool
) -> None:
    """By `kubectl exec` into a pod of `uids` one is root, without the capability that opens everything to it."""
    denied = SocketCheck(False, "/ipc/node.socket: permission denied", 0, SocketOutcome.FORBIDDEN)
    monkeypatch.setattr(doctor_pod, "check_socket", lambda _: denied)
    monkeypatch.setattr(os, "getuid", lambda: us)
    others = ",".join(f"{worker}={10002 + n}" for n, worker in enumerate(set(Worker) - {Worker.ACTUATOR}))
    environment = {"POD_NAME": "pod-0", "NODE_METRICS_URL": f"http://127.0.0.1:{free_port()}/metrics"}
    config = load(environment | {"WORKER_UIDS": f"actuator=10001,{others}"})
    facts = await doctor_pod.node(config, dict.fromkeys(Worker, Failed("silent")))
    assert isinstance(facts.socket_problem, Unseen) is not is_a_fault
    assert "permission denied" in str(facts.socket_problem)


# --- what people see ---


async def test_people_see_a_table_by_subject_with_the_remedy_below_and_no_colour_in_a_pipe(world: World) -> None:
    a_permissive_sandbox(world)
    no_node(world)
    await world.start()
    ran = await world.doctor()
    lines = ran.out.splitlines()
    subjects = [line for line in lines if line and not line.startswith(" ")]
    assert subjects[:-1] == ["configuration", "pod", "kernel", "node", "credentials", "kubernetes", "coordination"]
    at = next(n for n, line in enumerate(lines) if " node-process " in line)
    assert lines[at].split()[:2] == ["error", "node-process"]
    assert "shareProcessNamespace" in lines[at + 1]
    assert any(line.startswith("  not looked at  node-user, node-arguments") for line in lines)
    assert subjects[-1].startswith("2 errors, 2 warnings, ")
    assert "\033" not in ran.out
    assert ran.err == "", "progress is for terminals"


@pytest.mark.parametrize(
    ("groups", "state", "frozen"),
    [
        ("0::/\n", False, False),
        ("6:freezer:/\n0::/\n", False, False),  # the root group
        ("6:freezer:/\n0::/\n", True, True),  # / of a cgroup namespace
        ("3:cpu,freezer:/docker/1:2\n", False, True),
        (None, False, False),
    ],
)
def test_a_container_that_can_be_frozen_past_its_right_is_noticed(
    tmp_path: Path, groups: str | None, *, state: bool, frozen: bool
) -> None:
    if groups is not None:
        (tmp_path / "cgroup").write_text(groups)
    if state:
        (tmp_path / "freezer.state").touch()
    assert bool(doctor_pod._freezer(tmp_path / "cgroup", tmp_path)) is frozen
