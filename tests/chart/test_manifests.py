"""What the chart makes of each example, and of what an operator may set."""

from __future__ import annotations

import itertools
import json
import subprocess
import tarfile
from hashlib import sha256
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli import forgectl
from devkit.chart_doc import CHART, CHART_CRDS
from devkit.helm import chart
from devkit.helm.build import build
from ipc.messages import Worker
from policy import timing

from rendered import EVERYTHING, EXAMPLES, PARSERS, WITH_PODS, Json, Rendered, mounts, text, variables

pytestmark = pytest.mark.chart

MODES = ("single-uid", "uids", "containers")
OWN_VOLUMES = {
    "keys": {"actuator"},
    "api-token": {"elector", "arbiter"},
    "coordination": {"arbiter"},
    "gateway-token": {"gateway"},
    "gateway-tls": {"gateway"},
    "notify-key": {"prober"},
    "schedule": {"prober"},
    "kes-agent": {"actuator"},
    "ipc": {"actuator", "prober"},
    "run": set(Worker),
}
"""Volume -> whose containers it is mounted in, where each worker has one."""


@pytest.fixture(params=WITH_PODS)
def example(request: pytest.FixtureRequest) -> Rendered:
    return Rendered(request.param)


# --- every example ---


def test_the_programs_configuration_is_complete_and_without_contradiction(example: Rendered) -> None:
    config = example.config
    assert config.namespace == chart.NAMESPACE
    assert set(config.worker_uids) in (set(), set(Worker))


def test_no_container_has_a_way_to_more_rights(example: Rendered) -> None:
    for name, container in example.everybody.items():
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"]["drop"] == ["ALL"]
        ours = name in example.ours
        allowed = ["SETUID", "SETGID"] if ours and example.config.worker_uids and name == "forge-manager" else []
        assert security["capabilities"].get("add", []) == allowed
        assert not ours or security["readOnlyRootFilesystem"] is True
    assert example.pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & example.pod.keys()


def test_the_fence_has_what_it_needs(example: Rendered) -> None:
    """One process namespace; the actuator's user and group are the node's; both see one folder of links."""
    assert example.pod["shareProcessNamespace"] is True
    node = example.node["securityContext"]
    actuator = example.ours.get("actuator", next(iter(example.ours.values())))
    context = example.pod["securityContext"] | actuator["securityContext"]
    uid = example.config.worker_uids.get(Worker.ACTUATOR, context["runAsUser"])
    assert (node["runAsUser"], node["runAsGroup"]) == (uid, uid)
    folder = str(example.config.node_socket.parent)
    assert mounts(example.node)[folder] == mounts(actuator)[folder] == "ipc"
    volumes = {volume["name"]: volume for volume in example.pod["volumes"]}
    for name in ("run", "ipc"):  # links in the one; with credentials.mode file the keys themselves
        assert volumes[name]["emptyDir"]["medium"] == "Memory"
        assert volumes[name]["emptyDir"]["sizeLimit"]
    assert mounts(actuator)[str(example.config.run_dir)] == "run"


def test_the_node_starts_without_forging_and_looks_where_we_put_the_keys(example: Rendered) -> None:
    arguments, config = example.node["args"], example.config
    assert {"--start-as-non-producing-node", "--non-producing-node"} & set(arguments)
    options = {"kes.skey": "--shelley-kes-key", "vrf.skey": "--shelley-vrf-key"}
    options |= {"node.cert": "--shelley-operational-certificate", "kes-agent.socket": "--shelley-kes-agent-socket"}
    for name, (_, path) in config.targets.items():
        assert f"{options[name]}={path}" in arguments
    assert f"--socket-path={config.node_socket}" in arguments


def test_a_node_is_started_past_its_images_entry_point(example: Rendered) -> None:
    """The official image's starts the node by a script of its own, which keeps the options of the keys from it."""
    assert example.node["command"] == ["cardano-node"]
    assert example.node["args"][0] == "run"
    assert example.node["image"] == "ghcr.io/intersectmbo/cardano-node:10.7.1"


def test_a_node_has_minutes_to_close_its_database_and_a_sidecar_that_hangs_has_not(example: Rendered) -> None:
    assert example.pod["terminationGracePeriodSeconds"] == 300
    supervised = (CHART.parents[1] / "supervisor.conf").read_text()
    longest = sum(int(line.partition("=")[2]) for line in supervised.splitlines() if line.startswith("stopwaitsecs"))
    probes = [
        each[name] for each in example.ours.values() for name in ("startupProbe", "livenessProbe") if name in each
    ]
    assert probes
    assert all(longest < probe["terminationGracePeriodSeconds"] < 60 for probe in probes)
    assert longest == 27, "values.yaml says so"


def test_a_pod_may_not_be_given_less_time_than_its_sidecar_needs_to_end() -> None:
    """With less the node is killed while it closes its database, or before it was fenced."""
    assert Rendered("", {"terminationGracePeriodSeconds": 30}).pod["terminationGracePeriodSeconds"] == 30
    with pytest.raises(chart.Refused, match="'/terminationGracePeriodSeconds': minimum: got 29, want 30"):
        Rendered("", {"terminationGracePeriodSeconds": 29})


def test_a_native_sidecar_hands_over_when_the_pods_end_begins_and_the_node_lives_until_it_has() -> None:
    """The kubelet tells it to end after the node's end, but starts everybody's hooks at once."""
    for mode, sidecar in itertools.product(MODES, ("native", "plain")):
        rendered = Rendered("", {"mode": mode, "sidecar": sidecar})
        hooks = {
            name: each["lifecycle"]["preStop"]["exec"]["command"]
            for name, each in rendered.everybody.items()
            if "lifecycle" in each
        }
        assert hooks.pop("cardano-node") == ["sleep", "6"]
        whose = "elector" if mode == "containers" else "forge-manager"
        assert set(hooks) == ({whose} if sidecar == "native" else set())
        for command in hooks.values():
            program, *words = command
            asked = forgectl._parser().parse_args(words)
            assert (program, asked.command) == ("forgectl", forgectl._stand_down)
            assert (asked.now, asked.hook) == (True, True)
            assert asked.seconds <= 10, "it outlives the container where a probe restarts it"
    assert 6 * timing.SECOND > timing.SETTLE, "a node without metrics is proven to be off after that"


def test_the_nodes_container_has_no_secret_and_no_token(example: Rendered) -> None:
    allowed = {"ipc", "config", "data"} | ({"kes-agent"} if example.config.kes_agent else set())
    assert set(mounts(example.node).values()) == allowed
    assert example.pod["automountServiceAccountToken"] is False
    volumes = {volume["name"]: volume for volume in example.pod["volumes"]}
    assert not any("secret" in volumes.get(name, {}) for name in mounts(example.node).values())


def test_every_mounted_volume_is_there_and_every_secret_is_read_only(example: Rendered) -> None:
    there = {volume["name"]: volume for volume in example.pod["volumes"]} | {"data": {}}
    for container in example.everybody.values():
        for mount in container["volumeMounts"]:
            source = there[mount["name"]]
            if "secret" in source or "projected" in source:
                assert mount["readOnly"] is True
    used = {name for container in example.everybody.values() for name in mounts(container).values()}
    assert used == there.keys()


def test_the_probes_ask_the_gateway_where_it_listens_and_as_it_speaks(example: Rendered) -> None:
    (probed,) = [each for each in example.ours.values() if "startupProbe" in each]
    scheme = "HTTPS" if example.config.gateway_tls_cert_file else None
    asked = {
        name: probed[name]["httpGet"] for name in ("startupProbe", "readinessProbe", "livenessProbe") if name in probed
    }
    assert {get["port"] for get in asked.values()} == {"metrics"}
    assert {get.get("scheme") for get in asked.values()} == {scheme}
    assert (asked["startupProbe"]["path"], asked["readinessProbe"]["path"]) == ("/startup-status", "/ready")
    assert {port["name"]: port["containerPort"] for port in probed["ports"]} == {"metrics": example.config.metrics_port}


def test_pods_start_side_by_side_and_are_told_apart_from_other_releases(example: Rendered) -> None:
    spec = example.one("StatefulSet")["spec"]
    assert spec["podManagementPolicy"] == "Parallel"
    selector = spec["selector"]["matchLabels"]
    assert selector.items() <= spec["template"]["metadata"]["labels"].items()
    assert selector["app.kubernetes.io/instance"] == chart.RELEASE
    del selector["cardano.io/election"]
    assert example.one("PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == selector
    assert example.one("Service")["spec"]["selector"] == selector
    assert spec["serviceName"] == example.one("Service")["metadata"]["name"]


@pytest.mark.parametrize(
    ("changed", "another"),
    [
        ({"pool": {"id": "pool1abcd1234567890"}}, True),
        ({"election": {"leaseName": "a-lease"}}, True),
        ({"pool": {"id": "pool1abcd1234567890"}, "election": {"leaseName": "cardano-node-leader"}}, False),
        ({"network": {"name": "preprod"}, "replicas": 3, "mode": "containers"}, False),
    ],
    ids=["a pool", "a lease", "a pool by the same lease", "something else"],
)
def test_the_selector_and_the_pods_name_their_lease_and_so_does_the_role(changed: Json, another: bool) -> None:
    """Kubernetes changes no selector: pods of two Leases, which could both forge, are never one StatefulSet's."""

    def named(rendered: Rendered) -> tuple[str, str]:
        spec = rendered.one("StatefulSet")["spec"]
        label: str = spec["selector"]["matchLabels"]["cardano.io/election"]
        assert label == sha256(rendered.config.lease_name.encode()).hexdigest()[:10]
        assert spec["template"]["metadata"]["labels"]["cardano.io/election"] == label
        return label, rendered.one("Role")["metadata"]["name"]

    before, after = named(Rendered()), named(Rendered("", changed))
    assert (before[0] != after[0]) is (before[1] != after[1]) is another


def test_pods_that_are_not_ready_can_be_drained_where_kubernetes_knows_how() -> None:
    def policy(version: str) -> Any:
        budget = Rendered("plain-sidecar", {}, "--kube-version", version).one("PodDisruptionBudget")
        return budget["spec"].get("unhealthyPodEvictionPolicy")

    assert [policy(version) for version in ("1.26.9", "1.27.0", "1.34.1")] == [None, "AlwaysAllow", "AlwaysAllow"]


def test_ports_of_the_pods_are_named_by_number_to_whoever_may_not_look_at_native_sidecars() -> None:
    settings = {"gateway": {"port": 8001}, "node": {"port": 6000}}
    relays = {"enabled": True, "relays": [{"podSelector": {}}], "metricsFrom": [{"podSelector": {}}]}
    rendered = Rendered("", {**settings, "networkPolicy": relays})
    ports = rendered.one("Service")["spec"]["ports"]
    assert {(each["name"], each["port"], each["targetPort"]) for each in ports} == {
        ("metrics", 8001, 8001),
        ("node", 6000, 6000),
    }
    assert _opened(rendered.one("NetworkPolicy")["spec"]["ingress"]) == [([6000], True), ([8001], True)]
    assert "--port=6000" in rendered.node["args"]


def test_the_pods_are_the_account_to_which_the_role_is_bound(example: Rendered) -> None:
    (binding,) = [b for b in example.all("RoleBinding") if b["metadata"]["name"].startswith(f"{chart.RELEASE}-")]
    account = example.pod["serviceAccountName"]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": account, "namespace": chart.NAMESPACE}]
    assert account in [each["metadata"]["name"] for each in example.all("ServiceAccount")]


@pytest.mark.parametrize("name", EXAMPLES)
def test_rendering_twice_gives_the_same_bytes(name: str) -> None:
    assert text(name, None) == chart.text(CHART, EXAMPLES[name], settings={})


@pytest.mark.parametrize("name", EXAMPLES)
def test_no_object_needs_a_hook_and_no_secret_has_content(name: str) -> None:
    for each in Rendered(name).objects:
        annotations = each["metadata"].get("annotations", {})
        assert not any(key.startswith("helm.sh/hook") for key in annotations)
        if each["kind"] == "Secret":
            assert not {"data", "stringData"} & each.keys()


def test_no_template_asks_a_cluster_or_chance() -> None:
    words = ("lookup ", "rand", "uuidv4", "now", "genCA", "genSelfSignedCert", "genPrivateKey")
    for file in (CHART / "templates").iterdir():
        told = file.read_text()
        assert not [word for word in words if f"{{{{ {word}" in told or f"({word}" in told or f"| {word}" in told], file


# --- the three modes and the two kinds of sidecar ---


@pytest.mark.parametrize(("mode", "sidecar"), list(itertools.product(MODES, ("native", "plain"))))
def test_a_native_sidecar_is_started_before_the_node_and_restarted_a_plain_one_stands_beside_it(
    mode: str, sidecar: str
) -> None:
    rendered = Rendered("", {"mode": mode, "sidecar": sidecar})
    names = list(rendered.everybody)
    workers = ["actuator", "prober", "arbiter", "elector", "gateway"]
    assert names == [*(workers if mode == "containers" else ["forge-manager"]), "cardano-node"]
    among = {each["name"] for each in rendered.pod.get("initContainers", ())}
    assert among == (set(rendered.ours) if sidecar == "native" else set())
    for each in rendered.ours.values():
        assert each.get("restartPolicy") == ("Always" if sidecar == "native" else None)


def test_with_a_container_for_each_a_worker_has_its_user_and_sees_what_it_needs() -> None:
    settings = {**EVERYTHING, "network": {}, "credentials": {"mode": "kes-agent"}}
    rendered = Rendered("", settings)
    assert set(rendered.ours) == set(Worker)
    for worker, container in rendered.ours.items():
        assert container["command"] == ["forge-manager", "--worker", worker]
        uid = rendered.config.worker_uids[Worker(worker)]
        assert (container["securityContext"]["runAsUser"], container["securityContext"]["runAsGroup"]) == (uid, uid)
        assert set(mounts(container).values()) == {name for name, whose in OWN_VOLUMES.items() if worker in whose}


@pytest.mark.parametrize("mode", MODES)
def test_users_may_be_of_a_range_as_openshift_gives_each_namespace(mode: str) -> None:
    """It lets no pod in whose users are of another one (openshift.io/sa.scc.uid-range), and its ranges are high."""
    workers = ["actuator", "prober", "elector", "arbiter", "gateway"]
    uids = {worker: 2147483640 + number for number, worker in enumerate(workers)}
    rendered = Rendered("", {"mode": mode, "uids": uids, "fsGroup": 1000680000})
    assert rendered.node["securityContext"]["runAsUser"] == 2147483640
    assert rendered.config.worker_uids == ({} if mode == "single-uid" else uids)
    assert rendered.pod["securityContext"].get("fsGroup") == (None if mode == "uids" else 1000680000)


def test_a_genesis_file_is_there_for_every_worker() -> None:
    rendered = Rendered("", {"mode": "containers", "network": {"name": "custom", "shelleyGenesis": "/config/s.json"}})
    for container in rendered.ours.values():
        assert mounts(container)["/config"] == "config"
        assert variables(container)["SHELLEY_GENESIS"] == "/config/s.json"


@pytest.mark.parametrize("mode", MODES)
def test_secrets_are_for_the_volumes_group_and_for_everybody_only_where_workers_have_no_such_group(mode: str) -> None:
    rendered = Rendered("", {"mode": mode, "fsGroup": 4711})
    assert rendered.pod["securityContext"].get("fsGroup") == (None if mode == "uids" else 4711)
    (keys,) = [volume["secret"] for volume in rendered.pod["volumes"] if volume["name"] == "keys"]
    assert keys == {"secretName": "cardano-forging-keys", "defaultMode": 0o444 if mode == "uids" else 0o440}


# --- variables ---


def test_every_variable_of_the_program_can_be_set_and_none_that_it_does_not_know() -> None:
    there: set[str] = set()
    with_url = {**EVERYTHING, "notify": {"url": "https://hook.example/x"}}
    for settings in (EVERYTHING, with_url, {**EVERYTHING, "credentials": {"mode": "kes-agent"}}):
        for container in Rendered("", settings).ours.values():
            there |= variables(container).keys()
    assert there <= PARSERS.keys()
    rest = sorted(PARSERS.keys() - there - {"KUBECONFIG"})  # another server than the Role's: refused
    by_hand = Rendered("", {"extraEnv": [{"name": name, "value": "v"} for name in rest]})
    assert rest
    assert set(rest) <= variables(by_hand.ours["forge-manager"]).keys()


def test_a_value_reaches_the_program_as_it_was_written() -> None:
    found = variables(Rendered("", EVERYTHING).ours["prober"])
    assert found["NETWORK_MAGIC"] == "42"
    assert found["SLEEP_INTERVAL"] == "2.5"
    assert found["PREEMPTION_DELAY"] == found["HANDOVER_WAIT"] == "0"
    assert found["SOCKET_WAIT_TIMEOUT"] == "86400"
    assert found["COORDINATION_KUBECONFIGS"] == "own,/coordination/b,/coordination/c"
    assert (
        variables(Rendered("", {"network": {"magic": 764824073}}).ours["forge-manager"])["NETWORK_MAGIC"] == "764824073"
    )


def test_what_is_not_set_is_left_to_the_program() -> None:
    config = Rendered().config
    assert config.explicit.isdisjoint({"LEASE_NAME", "CRD_NAME", "NETWORK_MAGIC", "LEASE_DURATION", "CLUSTER_REGION"})
    assert Rendered("three-regions").config.lease_name == "cardano-leader-mainnet-pool1abcd1"


def test_a_secrets_address_is_taken_from_there() -> None:
    (found,) = [each for each in Rendered("containers").ours["prober"]["env"] if each["name"] == "NOTIFY_URL"]
    assert found["valueFrom"] == {"secretKeyRef": {"name": "cardano-notify", "key": "url"}}


# --- what goes with the pods ---


def test_without_a_workload_there_is_nothing_that_belongs_to_pods() -> None:
    kinds = {each["kind"] for each in Rendered("coordination-only").objects}
    assert kinds == {"ServiceAccount", "Secret", "Role", "RoleBinding"}
    by_hand = Rendered("monitoring", {"workload": {"create": False}})
    assert {each["kind"] for each in by_hand.objects} == {
        *("ServiceAccount", "Role", "RoleBinding", "PrometheusRule", "ConfigMap")
    }


def test_no_label_of_an_operators_changes_what_selectors_go_by() -> None:
    wrong = dict.fromkeys(("app.kubernetes.io/name", "app.kubernetes.io/instance", "app", "cardano.io/election"), "x")
    wrong |= {"team": "pool"}
    rendered = Rendered("monitoring", {"commonLabels": wrong, "podLabels": wrong, "monitoring": {"labels": wrong}})
    workload = rendered.one("StatefulSet")
    selector, labels = workload["spec"]["selector"]["matchLabels"], workload["spec"]["template"]["metadata"]["labels"]
    assert selector["app.kubernetes.io/instance"] == labels["app.kubernetes.io/instance"] == chart.RELEASE
    assert labels["app"] == chart.RELEASE
    assert selector.pop("cardano.io/election") == labels["cardano.io/election"] != "x"
    for each in rendered.objects:
        assert selector.items() <= each["metadata"]["labels"].items()
        assert each["metadata"]["labels"]["team"] == "pool"


def test_pods_are_spread_as_far_as_it_goes_and_as_strictly_as_is_wished() -> None:
    def rules(settings: Json) -> dict[str, str]:
        found = Rendered("", settings).pod.get("topologySpreadConstraints", ())
        return {each["topologyKey"]: each["whenUnsatisfiable"] for each in found}

    host, zone = "kubernetes.io/hostname", "topology.kubernetes.io/zone"
    assert rules({}) == {host: "ScheduleAnyway", zone: "ScheduleAnyway"}
    assert rules({"topologySpread": {"hostname": "DoNotSchedule", "zone": ""}}) == {host: "DoNotSchedule"}
    assert rules({"topologySpread": {"hostname": "", "zone": ""}}) == {}


def _opened(rules: list[Json]) -> list[tuple[list[Any], bool]]:
    """Ports, and whether for somebody rather than everybody."""
    return [([port["port"] for port in rule["ports"]], bool(rule.get("to") or rule.get("from"))) for rule in rules]


def test_a_network_policy_opens_relays_names_the_api_and_who_scrapes_and_nothing_else() -> None:
    policy = Rendered("monitoring").one("NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert _opened(policy["ingress"]) == [([3001], True), ([8000], True)]
    assert _opened(policy["egress"]) == [([3001], True), ([53, 53], True), ([443, 6443], True)]


def test_a_network_policy_opens_name_servers_that_are_in_no_namespace() -> None:
    """NodeLocal DNSCache is of the machine's network: no selector of pods or namespaces finds it."""
    names = Rendered("monitoring").one("NetworkPolicy")["spec"]["egress"][1]
    blocks = [ip_network(peer["ipBlock"]["cidr"]) for peer in names["to"] if "ipBlock" in peer]
    assert any(ip_address("169.254.20.10") in block for block in blocks)
    assert {(each["protocol"], each["port"]) for each in names["ports"]} == {("UDP", 53), ("TCP", 53)}


def test_a_network_policy_opens_the_ports_of_what_is_set_beside() -> None:
    relays = {"enabled": True, "relays": [{"ipBlock": {"cidr": "203.0.113.1/32"}}]}
    egress = Rendered("", {**EVERYTHING, "networkPolicy": relays}).one("NetworkPolicy")["spec"]["egress"]
    health, webhook = ([8443], False), ([443], False)
    assert _opened(egress)[2:] == [([443, 6443], False), ([443, 6443], False), health, webhook]
    plain = {"notify": {"url": "http://hook.example/x"}, "networkPolicy": relays}
    assert _opened(Rendered("", plain).one("NetworkPolicy")["spec"]["egress"])[3:] == [([80], False)]


@pytest.mark.parametrize(("scrape", "kind"), [("podMonitor", "PodMonitor"), ("serviceMonitor", "ServiceMonitor")])
def test_a_monitor_shows_the_token_and_asks_by_https_where_the_gateway_wants_it(scrape: str, kind: str) -> None:
    gateway = {"protect": "all", "token": {"secretName": "t"}, "tls": {"secretName": "c"}}
    spec = Rendered("", {"gateway": gateway, "monitoring": {"scrape": scrape}}).one(kind)["spec"]
    (asked,) = spec.get("podMetricsEndpoints") or spec["endpoints"]
    assert asked["scheme"] == "https"
    assert asked["tlsConfig"] == {"ca": {"secret": {"name": "c", "key": "ca.crt"}}, "serverName": chart.RELEASE}
    assert asked["authorization"] == {"credentials": {"name": "t", "key": "token"}}
    assert asked["honorLabels"] is True


def test_alerts_and_dashboard_are_those_of_deploy() -> None:
    rendered, deploy = Rendered("monitoring"), CHART.parent
    assert rendered.one("PrometheusRule")["spec"] == yaml.safe_load((deploy / "alerts/rules.yaml").read_text())
    shown = rendered.one("ConfigMap")["data"]["forge-manager.json"]
    assert json.loads(shown) == json.loads((deploy / "dashboards/forge-manager.json").read_text())


def test_alerts_link_to_their_runbooks_where_these_can_be_read_and_the_contracts_stay_as_they_are() -> None:
    where = {"enabled": True, "runbooks": "https://wiki.example/cardano/runbooks/"}
    spec = Rendered("", {"monitoring": {"rules": where}}).one("PrometheusRule")["spec"]
    ours = yaml.safe_load((CHART.parent / "alerts/rules.yaml").read_text())
    assert spec["groups"][0] == ours["groups"][0]
    for rule in (rule for group in spec["groups"][1:] for rule in group["rules"]):
        notes = rule["annotations"]
        assert notes.pop("runbook_url") == f"https://wiki.example/cardano/{notes['runbook'].removeprefix('docs/')}"
    assert spec == ours


def test_another_chart_may_have_this_one_as_a_dependency_that_it_turns_on_and_off(tmp_path: Path) -> None:
    """By Helm's usual word for it, which comes to the dependency as a value."""
    (tmp_path / "charts").mkdir()
    for each in (CHART, CHART_CRDS):
        (tmp_path / "charts" / each.name).symlink_to(each)
    names = ("cardano-forge-manager", "cardano-forge-crds")
    needed = [{"name": name, "version": ">=0", "condition": f"{name}.enabled"} for name in names]
    told = {"apiVersion": "v2", "name": "pool", "version": "0.1.0", "dependencies": needed}
    (tmp_path / "Chart.yaml").write_text(json.dumps(told))

    def kinds(enabled: bool) -> set[str]:
        found = chart.render(tmp_path, settings={name: {"enabled": enabled} for name in names})
        return {each["kind"] for each in found}

    assert {"StatefulSet", "CustomResourceDefinition"} <= kinds(True)
    assert kinds(False) == set()
    with pytest.raises(chart.Refused, match="enabled: is of a chart that has this one as its dependency"):
        chart.render(CHART, settings={"enabled": False})


def test_a_packed_chart_renders_the_same_and_carries_no_examples(tmp_path: Path) -> None:
    subprocess.run([build(), "package", CHART, "--destination", tmp_path], check=True, capture_output=True)
    (packed,) = tmp_path.iterdir()
    with tarfile.open(packed) as archive:
        names = archive.getnames()
    assert not [name for name in names if "/examples/" in name]
    assert chart.text(packed, EXAMPLES["monitoring"], settings={}) == text("monitoring")
