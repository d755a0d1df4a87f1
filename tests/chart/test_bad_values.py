"""What an operator gets wrong is refused before anything is applied, by a message that names the field."""

from __future__ import annotations

from typing import Any

import pytest

from cardano.slots import NETWORKS
from devkit.chart_doc import CHART, CHART_CRDS, values
from devkit.helm import chart
from policy import timing

from rendered import Json, Rendered, text

pytestmark = pytest.mark.chart

POOL = {"id": "pool1abcd1234567890"}
DEFAULTS = {value.path: value.default for value in values(CHART)}
GROUPS = {path.rpartition(".")[0] for path in DEFAULTS} - {""}
RELAYS = [{"ipBlock": {"cidr": "203.0.113.1/32"}}]


def _refusal(settings: Json, *arguments: str) -> str:
    with pytest.raises(chart.Refused) as refused:
        Rendered("", settings, *arguments)
    return str(refused.value)


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"modus": "uids"}, "'modus' not allowed"),
        ({"node": {"argz": []}}, "'/node': additional properties 'argz'"),
        ({"clusters": {"coordination": {"server": []}}}, "'/clusters/coordination': additional properties 'server'"),
        ({"mode": "together"}, "'/mode': value must be one of 'single-uid', 'uids', 'containers'"),
        ({"sidecar": "beside"}, "'/sidecar'"),
        ({"replicas": -1}, "'/replicas': minimum: got -1, want 0"),
        ({"replicas": "two"}, "'/replicas': got string, want integer"),
        ({"image": {"digest": "sha256:abc"}}, "'/image/digest'"),
        ({"network": {"name": "testnet"}}, "'/network/name'"),
        ({"network": {"magic": 4294967296}}, "'/network/magic'"),
        ({"network": {"shelleyGenesis": "/elsewhere/g.json"}}, "'/network/shelleyGenesis'"),
        ({"pool": {"id": "MYPOOL"}}, "'/pool/id'"),
        ({"pool": {"idHex": "abcd"}}, "'/pool/idHex'"),
        ({"credentials": {"secretName": ""}}, "'/credentials/secretName'"),
        ({"credentials": {"kes": "5820..."}}, "'/credentials': additional properties 'kes'"),
        ({"credentials": {"mode": "plain"}}, "'/credentials/mode'"),
        ({"election": {"leaseDuration": 5}}, "'/election/leaseDuration': minimum: got 5, want 6"),
        ({"election": {"interval": 0.1}}, "'/election/interval'"),
        ({"clusters": {"priority": 0}}, "'/clusters/priority': minimum: got 0, want 1"),
        ({"clusters": {"healthCheck": {"endpoint": "ftp://x"}}}, "'/clusters/healthCheck/endpoint'"),
        ({"clusters": {"healthCheck": {"endpoint": "https://u:p@x/"}}}, "'/clusters/healthCheck/endpoint'"),
        ({"gateway": {"port": 0}}, "'/gateway/port'"),
        ({"gateway": {"protect": "some"}}, "'/gateway/protect'"),
        ({"notify": {"secret": "whsec_x"}}, "'/notify': additional properties 'secret'"),
        ({"log": {"level": "debug"}}, "'/log/level'"),
        ({"uids": {"actuator": 0}}, "'/uids/actuator': minimum: got 0, want 1"),
        ({"paths": {"nodeSocket": "ipc/node.socket"}}, "'/paths/nodeSocket'"),
        ({"paths": {"kesKey": "/kes.skey"}}, "'/paths/kesKey'"),
        ({"node": {"nonProducingOption": "--producing"}}, "'/node/nonProducingOption'"),
        ({"node": {"metricsUrl": "https://x/"}}, "'/node/metricsUrl'"),
        ({"node": {"persistence": {"size": "much"}}}, "'/node/persistence/size'"),
        ({"node": {"persistence": {"accessModes": ["ReadWriteMany"]}}}, "'/node/persistence/accessModes/0'"),
        ({"topologySpread": {"zone": "Maybe"}}, "'/topologySpread/zone'"),
        ({"networkPolicy": {"enabled": True}}, "'/networkPolicy/relays': minItems: got 0, want 1"),
        ({"networkPolicy": {"enabled": True, "relays": [{}]}}, "'/networkPolicy/relays/0'"),
        ({"monitoring": {"scrape": "both"}}, "'/monitoring/scrape'"),
        ({"extraEnv": [{"value": "x"}]}, "'/extraEnv/0': missing property 'name'"),
        ({"extraEnv": [{"name": "POOL_ID ", "value": "x"}]}, "'/extraEnv/0/name'"),
        ({"extraEnv": [{"name": "A", "value": True}]}, "'/extraEnv/0/value': got boolean, want string"),
        ({"node": {"env": [{"name": "A", "value": 1}]}}, "'/node/env/0/value': got number, want string"),
        ({"image": {"repository": "cardano/forge-manager:3.0.0"}}, "'/image/repository'"),
        ({"image": {"repository": "registry.example/Pool/forge-manager"}}, "'/image/repository'"),
        ({"node": {"image": {"repository": "registry.example:5000/node:10.7.1"}}}, "'/node/image/repository'"),
    ],
)
def test_a_schema_refuses_it(settings: Json, field: str) -> None:
    assert field in _refusal(settings)


def test_cluster_management_wants_a_pool_a_region_and_the_servers_said_aloud() -> None:
    """An empty list would be `own` in every region: a lock for each, and a forger for each."""
    told = _refusal({"clusters": {"enabled": True}})
    for field in ("'/pool/id'", "'/clusters/region'", "'/clusters/coordination/servers': minItems"):
        assert field in told
    twice = {"enabled": True, "region": "a", "coordination": {"servers": ["own", "own"]}}
    assert "'/clusters/coordination/servers'" in _refusal({"pool": POOL, "clusters": twice})
    unnamed = {"enabled": True, "region": "unknown", "coordination": {"servers": ["own"]}}
    assert "'/clusters/region'" in _refusal({"pool": POOL, "clusters": unnamed})


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"uids": {"prober": 10001}}, "uids.prober: is the user of another worker"),
        (
            {"paths": {"opCert": "/elsewhere/node.cert"}},
            "paths.opCert: must lie in the folder of paths.nodeSocket, /ipc",
        ),
        ({"pool": {"idHex": "ab" * 28}}, "pool.idHex: needs pool.id"),
        ({"notify": {"url": "https://x/", "urlSecret": {"name": "n"}}}, "notify.url: set it or notify.urlSecret"),
        ({"gateway": {"protect": "all"}}, "gateway.protect: all protects nothing without gateway.token"),
        ({"clusters": {"coordination": {"accounts": ["b"]}}}, "clusters.coordination.accounts: need pool.id"),
        (
            {"pool": POOL, "clusters": {"region": "a", "coordination": {"accounts": ["a"]}}},
            "clusters.coordination.accounts: a is this region itself",
        ),
        ({"extraVolumes": [{"name": "keys", "emptyDir": {}}]}, "extraVolumes: keys is a volume of the chart's own"),
        ({"extraEnv": [{"name": "POOL_ID", "value": "x"}]}, "extraEnv: POOL_ID"),
        ({"extraEnv": [{"name": "WORKER_UIDS", "value": "x"}]}, "extraEnv: WORKER_UIDS"),
        ({"extraEnv": [{"name": "RUN_DIR", "value": "/x"}]}, "extraEnv: RUN_DIR is set by the chart"),
        (
            {"extraEnv": [{"name": "KUBECONFIG", "value": "/x/y"}]},
            "extraEnv: KUBECONFIG would have the pods elect on another",
        ),
        (
            {"extraEnv": [{"name": "NOTIFY_URL", "value": "https://x"}]},
            "extraEnv: NOTIFY_URL has a value of the chart's own",
        ),
        ({"election": {"leaseDuration": 6}}, "election.interval: must be at most 1.72 with a leaseDuration of 6"),
        ({"election": {"interval": 7}}, "election.interval: must be at most 6.175 with a leaseDuration of 15"),
        ({"network": {"name": "preprod", "magic": 764824073}}, "network.magic: preprod has 1"),
        ({"network": {"name": "custom"}}, "network.magic: is not known of custom"),
        ({"fullnameOverride": "2nd-pool"}, "objects would be named 2nd-pool, as no Service may be"),
        ({"extraEnv": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]}, "extraEnv: A is there twice"),
        ({"node": {"args": ["--non-producing-node"]}}, "node.args: must begin with run"),
        ({"node": {"args": ["run", "--port=1"]}}, "node.args: must have --start-as-non-producing-node"),
    ],
)
def test_what_does_not_go_together_is_refused(settings: Json, field: str) -> None:
    assert field in _refusal(settings)


@pytest.mark.parametrize("lease", [6, 15, 37, 60, 3600])
def test_renewals_are_as_rare_as_the_program_allows(lease: int) -> None:
    def fits(interval: float) -> bool:
        return timing.renewal_fits(lease * timing.SECOND, int(interval * timing.SECOND))

    longest = next(each / 100 for each in range(120000, 50, -1) if fits(each / 100))
    settings = {"leaseDuration": lease, "interval": longest}
    assert Rendered("", {"election": settings}).config.sleep_interval == longest
    if longest < 1200:
        assert "election.interval" in _refusal({"election": {**settings, "interval": longest + 0.01}})


@pytest.mark.parametrize("name", ["mainnet", "preprod", "preview"])
def test_the_magic_number_of_a_public_network_may_be_said(name: str) -> None:
    assert Rendered("", {"network": {"name": name, "magic": NETWORKS[name].magic}}).config.cardano_network == name


@pytest.mark.parametrize("repository", ["cardano/x", "localhost:5000/x", "Registry.Example:5000/pool/x", "x_y/z.w-v"])
def test_an_images_name_may_have_a_registrys_port(repository: str) -> None:
    found = Rendered("", {"image": {"repository": repository, "tag": "1"}})
    assert found.ours["forge-manager"]["image"] == f"{repository}:1"


def test_a_native_sidecar_is_refused_by_a_kubernetes_that_would_take_it_for_an_init_container() -> None:
    """Such a one would wait for the sidecar to end before it starts the node."""
    assert "sidecar: native needs Kubernetes 1.29, this is v1.28" in _refusal({}, "--kube-version", "1.28.0")
    assert Rendered("", {"sidecar": "plain"}, "--kube-version", "1.25.0").node
    assert Rendered("", {}, "--kube-version", "1.29.0-eks-1a2b3c").node
    assert "requires kubeVersion: >=1.25.0-0" in _refusal({"sidecar": "plain"}, "--kube-version", "1.24.0")


@pytest.mark.parametrize("path", sorted(GROUPS | {value.path for value in values(CHART)}))
def test_a_value_that_is_left_blank_is_refused_where_the_default_says_something(path: str) -> None:
    """Helm takes a blank, as `replicas:` with its number commented out, for the wish to have no such value at all."""
    settings: Any = None
    for name in reversed(path.split(".")):
        settings = {name: settings}
    if path in GROUPS or DEFAULTS[path] not in (None, "", [], {}):
        assert f"missing property '{path.rpartition('.')[2]}'" in _refusal(settings)
    else:
        assert text("", settings) == text()


@pytest.mark.parametrize("blank", ["pool.id", "clusters.region", "clusters.coordination.servers", "clusters.enabled"])
def test_cluster_management_is_refused_where_what_it_needs_is_left_blank(blank: str) -> None:
    """Without servers each region would have a lock of its own; without `enabled` a values file below says nothing."""
    settings: Json = {
        "pool": dict(POOL),
        "clusters": {"enabled": True, "region": "a", "coordination": {"servers": ["own", "b", "c"]}},
    }
    *above, name = blank.split(".")
    inner = settings
    for each in above:
        inner = inner[each]
    inner[name] = None
    assert f"missing property '{name}'" in _refusal(settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"network": {"name": "custom", "magic": 42}},
        {"network": {"name": "custom"}, "extraEnv": [{"name": "NETWORK_MAGIC", "value": "42"}]},
    ],
)
def test_the_magic_number_of_a_custom_network_may_be_said_in_either_way(settings: dict[str, Any]) -> None:
    assert Rendered("", settings).config.network_magic == 42


def test_a_network_policy_is_refused_where_its_relays_are_left_blank() -> None:
    assert "missing property 'relays'" in _refusal({"networkPolicy": {"enabled": True, "relays": None}})


def test_the_other_charts_values_are_looked_at_too() -> None:
    with pytest.raises(chart.Refused, match="'/keep': got string, want boolean"):
        chart.render(CHART_CRDS, settings={"keep": "yes"})
    with pytest.raises(chart.Refused, match="missing property 'keep'"):  # or everything would go with the release
        chart.render(CHART_CRDS, settings={"keep": None})
