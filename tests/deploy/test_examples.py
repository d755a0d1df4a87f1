"""The manifests in deploy/examples say what the program needs: read as an API server would read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from config import Config, load
from ipc.messages import Worker
from kube import endpoint
from sandbox import places
from sandbox.places import SERVICE_ACCOUNT
from sandbox.privileges import Place

EXAMPLES = Path(__file__).parents[2] / "deploy" / "examples"
NAMES = ["single-uid", "uids", "containers", "several-clusters"]
POOL = ["several-clusters"]
"""With POOL_ID: deploy/rbac/pool.yaml is theirs, role.yaml the others'."""
ONE_FOR_EACH = {"containers"}


def _documents(name: str) -> list[dict[str, Any]]:
    return [d for d in yaml.safe_load_all((EXAMPLES / f"{name}.yaml").read_text()) if d]


def _pod(name: str) -> dict[str, Any]:
    (spec,) = [d["spec"]["template"]["spec"] for d in _documents(name) if d["kind"] == "StatefulSet"]
    found: dict[str, Any] = spec
    return found


def _settings(name: str, container: dict[str, Any]) -> Config:
    """The configuration that a container of ours gets."""
    maps = {d["metadata"]["name"]: d["data"] for d in _documents(name) if d["kind"] == "ConfigMap"}
    found: dict[str, str] = {}
    for source in container.get("envFrom", ()):
        found |= maps[source["configMapRef"]["name"]]
    (workload,) = [d for d in _documents(name) if d["kind"] == "StatefulSet"]
    labels = workload["spec"]["template"]["metadata"]["labels"]
    told = {f"metadata.labels['{label}']": value for label, value in labels.items()}
    for item in container["env"]:
        elsewhere = f"some-{item['name'].lower().replace('_', '-')}"
        path = item.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath")
        found[item["name"]] = item.get("value", told.get(path, elsewhere))
    return load(found)


def _ours(name: str) -> dict[str, dict[str, Any]]:
    return {container["name"]: container for container in _pod(name)["initContainers"]}


def _node(name: str) -> dict[str, Any]:
    (node,) = _pod(name)["containers"]
    found: dict[str, Any] = node
    return found


def _mounts(container: dict[str, Any]) -> dict[str, str]:
    return {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}


def _uid(name: str, container: dict[str, Any]) -> tuple[int, int]:
    context = _pod(name)["securityContext"] | container["securityContext"]
    return context["runAsUser"], context["runAsGroup"]


@pytest.mark.parametrize("name", NAMES)
def test_every_container_of_ours_has_a_complete_configuration_and_no_way_to_more_rights(name: str) -> None:
    for container in _ours(name).values():
        config = _settings(name, container)
        assert _mounts(container)[str(config.run_dir)] == "run"
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["readOnlyRootFilesystem"] is True
        assert security["capabilities"]["drop"] == ["ALL"]
        assert security["capabilities"].get("add", []) == (["SETUID", "SETGID"] if name == "uids" else [])


@pytest.mark.parametrize("name", NAMES)
def test_the_node_is_told_to_wait_for_us_and_looks_where_we_put_the_keys(name: str) -> None:
    config = _settings(name, next(iter(_ours(name).values())))
    arguments = _node(name)["args"]
    assert "--start-as-non-producing-node" in arguments
    for option, path in (
        ("--socket-path", config.node_socket),
        ("--shelley-kes-key", config.target_kes_key),
        ("--shelley-vrf-key", config.target_vrf_key),
        ("--shelley-operational-certificate", config.target_op_cert),
    ):
        assert f"{option}={path}" in arguments
        assert _mounts(_node(name))[str(path.parent)] == "ipc"
    assert _pod(name)["shareProcessNamespace"] is True
    (probed,) = [c for c in _ours(name).values() if "startupProbe" in c]
    assert probed["startupProbe"]["httpGet"]["path"] == "/startup-status"
    assert {p["name"]: p["containerPort"] for p in probed["ports"]} == {"metrics": config.metrics_port}
    assert list(_ours(name))[-1] == probed["name"], "the node starts after the last of ours has started"


@pytest.mark.parametrize("name", NAMES)
def test_a_rolling_update_waits_until_each_pod_could_take_over_and_a_start_for_nobody(name: str) -> None:
    (probe,) = [c["readinessProbe"] for c in _ours(name).values() if "readinessProbe" in c]
    assert probe["httpGet"] == {"path": "/ready", "port": "metrics"}
    (policy,) = [d["spec"]["podManagementPolicy"] for d in _documents(name) if d["kind"] == "StatefulSet"]
    assert policy == "Parallel"


@pytest.mark.parametrize("name", NAMES)
def test_the_selector_names_the_lease_so_that_no_rolling_update_leads_to_another(name: str) -> None:
    (spec,) = [d["spec"] for d in _documents(name) if d["kind"] == "StatefulSet"]
    labels, selector = spec["template"]["metadata"]["labels"], spec["selector"]["matchLabels"]
    config = _settings(name, next(iter(_ours(name).values())))
    assert labels == selector == {"app": "cardano-producer", "cardano.io/election": config.lease_name}
    for container in _ours(name).values():
        assert _settings(name, container).election_label == config.lease_name, "by which a pod of another is refused"


@pytest.mark.parametrize("name", NAMES)
def test_the_service_that_the_workload_names_is_there_and_leads_to_its_ports(name: str) -> None:
    (service,) = [d for d in _documents(name) if d["kind"] == "Service"]
    (workload,) = [d for d in _documents(name) if d["kind"] == "StatefulSet"]
    assert service["metadata"]["name"] == workload["spec"]["serviceName"]
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"].items() <= workload["spec"]["template"]["metadata"]["labels"].items()
    served = {p["name"]: p["containerPort"] for c in (*_ours(name).values(), _node(name)) for p in c.get("ports", ())}
    assert {p["name"]: p["targetPort"] for p in service["spec"]["ports"]} == served
    assert f"--port={served['node']}" in _node(name)["args"]


@pytest.mark.parametrize("name", NAMES)
def test_a_node_is_started_past_its_images_entry_point(name: str) -> None:
    """The official image's starts the node by a script of its own, which keeps the options of the keys from it."""
    assert (_node(name)["command"], _node(name)["args"][0]) == (["cardano-node"], "run")


@pytest.mark.parametrize("name", NAMES)
def test_the_sidecar_hands_over_when_the_end_begins_and_the_node_has_minutes_for_its_database(name: str) -> None:
    containers = {**_ours(name), "cardano-node": _node(name)}
    hooks = {who: c["lifecycle"]["preStop"]["exec"]["command"] for who, c in containers.items() if "lifecycle" in c}
    assert hooks.pop("cardano-node") == ["sleep", "6"]
    ((who, command),) = hooks.items()
    assert who == ("elector" if name in ONE_FOR_EACH else "forge-manager")
    assert command[:6] == ["forgectl", "stand-down", "--now", "--for", "10s", "--hook"]
    assert _pod(name)["terminationGracePeriodSeconds"] == 300


@pytest.mark.parametrize("name", NAMES)
def test_a_sidecar_that_hangs_is_not_given_the_nodes_minutes(name: str) -> None:
    supervised = (EXAMPLES.parents[1] / "supervisor.conf").read_text()
    longest = sum(int(line.partition("=")[2]) for line in supervised.splitlines() if line.startswith("stopwaitsecs"))
    probes = [c[p] for c in _ours(name).values() for p in ("startupProbe", "livenessProbe") if p in c]
    assert probes
    assert all(longest < probe["terminationGracePeriodSeconds"] < 60 for probe in probes)


@pytest.mark.parametrize("name", NAMES)
def test_the_actuators_user_is_the_nodes(name: str) -> None:
    ours = _ours(name)
    config = _settings(name, next(iter(ours.values())))
    actuator = config.worker_uids.get(Worker.ACTUATOR)
    expected = (actuator, actuator) if actuator is not None else _uid(name, ours["forge-manager"])
    assert _uid(name, _node(name)) == expected


@pytest.mark.parametrize("name", NAMES)
def test_keys_stay_in_memory_and_out_of_the_nodes_container(name: str) -> None:
    volumes = {volume["name"]: volume for volume in _pod(name)["volumes"]}
    assert volumes["run"]["emptyDir"]["medium"] == volumes["ipc"]["emptyDir"]["medium"] == "Memory"
    assert set(_mounts(_node(name)).values()) == {"ipc", "config", "data"}
    assert _pod(name)["automountServiceAccountToken"] is False


def test_with_a_container_for_each_every_worker_has_one_and_the_uid_it_says() -> None:
    ours = _ours("containers")
    assert set(ours) == set(Worker)
    for worker, container in ours.items():
        assert container["command"] == ["forge-manager", "--worker", worker]
        uid = _settings("containers", container).worker_uids[Worker(worker)]
        assert _uid("containers", container) == (uid, uid)


def test_with_a_container_for_each_only_the_actuator_sees_the_keys_and_only_who_asks_the_api_the_token() -> None:
    for worker, container in _ours("containers").items():
        mounts = _mounts(container)
        assert ("keys" in mounts.values()) is (worker == Worker.ACTUATOR)
        assert (mounts.get(str(SERVICE_ACCOUNT)) == "api-token") is (worker in (Worker.ELECTOR, Worker.ARBITER))


@pytest.mark.parametrize("name", NAMES)
def test_the_service_account_is_the_one_of_the_role(name: str) -> None:
    role = EXAMPLES.parent / "rbac" / ("pool.yaml" if name in POOL else "role.yaml")
    (account,) = [d["metadata"]["name"] for d in _all(role) if d["kind"] == "ServiceAccount"]
    assert _pod(name)["serviceAccountName"] == account


# --- several clusters ---

SEVERAL = "several-clusters"
REGIONS = ("us-east-1", "us-west-2", "eu-west-1")


def _all(file: Path) -> list[dict[str, Any]]:
    return [d for d in yaml.safe_load_all(file.read_text()) if d]


def _rights(file: Path) -> set[tuple[str, str, str, str]]:
    """(group, resource, name or "" for any, verb) of the one Role."""
    (role,) = [d for d in _all(file) if d["kind"] == "Role"]
    return {
        (group, resource, name, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for name in rule.get("resourceNames", [""])
        for verb in rule["verbs"]
    }


def _region() -> Config:
    return _settings(SEVERAL, _ours(SEVERAL)["forge-manager"])


def test_a_region_names_three_servers_its_own_by_its_own_account_and_the_others_by_a_mounted_file() -> None:
    config = _region()
    assert config.enable_cluster_management
    assert [each.name for each in config.coordination_kubeconfigs] == [
        "own" if region == config.cluster_region else f"/coordination/{region}" for region in REGIONS
    ]
    assert _mounts(_ours(SEVERAL)["forge-manager"])["/coordination"] == "coordination"
    assert "coordination" not in _mounts(_node(SEVERAL)).values()
    (volume,) = [v for v in _pod(SEVERAL)["volumes"] if v["name"] == "coordination"]
    (secret,) = [d for d in _documents(SEVERAL) if d["kind"] == "Secret"]
    assert volume["secret"]["secretName"] == secret["metadata"]["name"]
    assert {f"/coordination/{name}" for name in secret["stringData"]} | {"own"} == {
        each.name for each in config.coordination_kubeconfigs
    }


def test_the_other_regions_are_said_to_name_the_same_servers_in_the_same_order() -> None:
    text = (EXAMPLES / f"{SEVERAL}.yaml").read_text()
    for region in REGIONS[1:]:
        servers = ",".join("own" if each == region else f"/coordination/{each}" for each in REGIONS)
        assert f"#   {region}: {servers}\n" in text


def test_only_the_arbiter_may_open_the_files_of_the_coordination_apis(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    (secret,) = [d for d in _documents(SEVERAL) if d["kind"] == "Secret"]
    for name, content in secret["stringData"].items():
        (tmp_path / name).write_text(content)
    named = ",".join(
        name.replace("/coordination", str(tmp_path)) for name in map(str, _region().coordination_kubeconfigs)
    )
    config = load(
        {
            "POOL_ID": _region().pool_id,
            "CLUSTER_REGION": "us-east-1",
            "ENABLE_CLUSTER_MANAGEMENT": "true",
            "COORDINATION_KUBECONFIGS": named,
        }
    )
    arbiters = endpoint.find_with_coordinators(config)
    assert arbiters.hosts == ("10.0.0.1", "kubernetes.us-west-2.example.com", "kubernetes.eu-west-1.example.com")
    assert arbiters.ports == (443, 6443)
    assert tmp_path in places.paths(Place.COORDINATION, Worker.ARBITER, config, arbiters)
    electors = places.paths(Place.API_CREDENTIALS, Worker.ELECTOR, config, endpoint.find(config))
    assert not any(tmp_path in (path, *path.parents) or path in tmp_path.parents for path in electors)


def test_the_names_in_the_roles_are_those_that_the_configuration_makes() -> None:
    config = _region()
    for file, leases in (
        (EXAMPLES.parent / "rbac" / "pool.yaml", {config.lease_name, config.pool_lock_name}),
        (EXAMPLES / "coordination-account.yaml", {config.pool_lock_name}),
    ):
        rights = _rights(file)
        assert {name for _, resource, name, _ in rights if resource == "leases"} - {""} == leases
        named = {name for _, resource, name, _ in rights if resource.startswith("cardanoforgeclusters")}
        assert named - {""} == {config.forge_cluster_name}


def test_an_account_from_another_region_has_nothing_of_a_clusters_own_election() -> None:
    config = _region()
    whole, less = _rights(EXAMPLES.parent / "rbac" / "pool.yaml"), _rights(EXAMPLES / "coordination-account.yaml")
    assert less < whole
    own = {right for right in whole if right[1].startswith("cardanoleaders") or right[2] == config.lease_name}
    assert whole - less == own


def test_the_account_has_the_name_that_the_kubeconfigs_say_and_a_token() -> None:
    documents = {d["kind"]: d for d in _all(EXAMPLES / "coordination-account.yaml")}
    name = documents["ServiceAccount"]["metadata"]["name"]
    assert documents["Secret"]["metadata"]["annotations"] == {"kubernetes.io/service-account.name": name}
    assert documents["RoleBinding"]["subjects"] == [{"kind": "ServiceAccount", "name": name}]
    assert documents["RoleBinding"]["roleRef"]["name"] == documents["Role"]["metadata"]["name"]
    (secret,) = [d for d in _documents(SEVERAL) if d["kind"] == "Secret"]
    for content in secret["stringData"].values():
        assert [user["name"] for user in yaml.safe_load(content)["users"]] == [name]
