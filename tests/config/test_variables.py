"""Every variable of the contract, its default, and what a mistake looks like."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config import Config, ConfigError, load
from config.spelling import misspelt
from config.variables import variables

CONTRACT = {
    "NAMESPACE": "default",
    "POD_NAME": "",
    "NODE_SOCKET": "/ipc/node.socket",
    "LEASE_NAME": "cardano-node-leader",
    "LEASE_DURATION": "15",
    "SLEEP_INTERVAL": "5",
    "METRICS_PORT": "8000",
    "SOURCE_KES_KEY": "/secrets/kes.skey",
    "TARGET_KES_KEY": "/ipc/kes.skey",
    "SOURCE_VRF_KEY": "/secrets/vrf.skey",
    "TARGET_VRF_KEY": "/ipc/vrf.skey",
    "SOURCE_OP_CERT": "/secrets/node.cert",
    "TARGET_OP_CERT": "/ipc/node.cert",
    "CARDANO_NETWORK": "mainnet",
    "NETWORK_MAGIC": "764824073",
    "POOL_ID": "",
    "POOL_ID_HEX": "",
    "POOL_NAME": "",
    "POOL_TICKER": "",
    "APPLICATION_TYPE": "block-producer",
    "ENABLE_CLUSTER_MANAGEMENT": "false",
    "CLUSTER_REGION": "unknown",
    "CLUSTER_ENVIRONMENT": "production",
    "CLUSTER_PRIORITY": "100",
    "HEALTH_CHECK_ENDPOINT": "",
    "HEALTH_CHECK_INTERVAL": "30",
    "RUN_DIR": "/run/forge-manager",
    "KUBECONFIG": "",
    "NODE_METRICS_URL": "http://127.0.0.1:12798/metrics",
    "CREDENTIAL_MODE": "ephemeral",
    "LOG_LEVEL": "INFO",
    "LOG_FORMAT": "json",
    "CRD_GROUP": "cardano.io",
    "CRD_VERSION": "v1",
    "CRD_PLURAL": "cardanoleaders",
    "CRD_NAME": "cardano-leader",
    "SOCKET_WAIT_TIMEOUT": "600",
    "DISABLE_SOCKET_CHECK": "false",
    "CARDANO_NODE_PROCESS_NAME": "cardano-node",
    "CLUSTER_IDENTIFIER": "",
}


def ok(**env: str) -> Config:
    return load(env, hostname=lambda: "pod-7")


def mistakes(**env: str) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        ok(**env)
    return {m.name: m.remedy for m in caught.value.mistakes}


def test_the_contracts_variables_have_the_contracts_defaults() -> None:
    defaults = {v.name: v.default for v in variables()}
    assert {name: defaults.get(name) for name in CONTRACT} == CONTRACT


def test_an_empty_environment_is_a_complete_configuration() -> None:
    config = ok()
    assert config.pod_name == "pod-7"
    assert config.lease_name == "cardano-node-leader"
    assert config.crd_name == "cardano-leader"


def test_an_empty_value_means_the_default() -> None:
    assert ok(LEASE_DURATION="").lease_duration == 15


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LEASE_DURATION", "fifteen"),
        ("LEASE_DURATION", "5"),
        ("LEASE_DURATION", "1e2"),
        ("LEASE_DURATION", "-15"),
        ("SLEEP_INTERVAL", "nan"),
        ("SLEEP_INTERVAL", "inf"),
        ("METRICS_PORT", "65536"),
        ("NAMESPACE", "Cardano_Mainnet"),
        ("NODE_SOCKET", "ipc/node.socket"),
        ("NODE_SOCKET", "/ipc/../node.socket"),
        ("CREDENTIAL_MODE", "memfd"),
        ("CARDANO_NETWORK", "testnet"),
        ("WORKER_UIDS", "actuator=2147483648,prober=2,elector=3,arbiter=4,gateway=5"),
        ("POOL_ID", "stake1abc"),
        ("POOL_ID_HEX", "abc"),
        ("CLUSTER_PRIORITY", "0"),
        ("CLUSTER_PRIORITY", "1000"),
        ("ENABLE_CLUSTER_MANAGEMENT", "maybe"),
        ("NODE_METRICS_URL", "ftp://127.0.0.1/"),
        ("NODE_METRICS_URL", "https://127.0.0.1:12798/metrics"),
        ("NODE_METRICS_URL", "http://127.0.0.1:port/"),
        ("HEALTH_CHECK_ENDPOINT", "http://user:word@host/"),
        ("POOL_NAME", "two\nlines"),
        ("LOG_LEVEL", "LOUD"),
        ("NOTIFY_URL", "hook.example/cardano"),
        ("NOTIFY_URL", "file:///etc/passwd"),
        ("NOTIFY_URL", "https://user:word@hook.example/"),
        ("NOTIFY_SECRET_FILE", "notify/key"),
        ("NOTIFY_EVENTS", "everything"),
        ("NOTIFY_EVENTS", "forging, ,node"),
    ],
)
def test_a_wrong_value_is_named_with_what_would_be_right(name: str, value: str) -> None:
    found = mistakes(**{name: value})
    assert list(found) == [name]
    assert "must" in found[name]


@pytest.mark.parametrize(
    "url", ["ftp://hook.example/canary", "http://h:canary/", "http://[canary/", "http://u:canary@h/"]
)
def test_a_webhook_that_cannot_be_used_is_not_shown_for_its_address_may_be_a_secret(url: str) -> None:
    with pytest.raises(ConfigError) as raised:
        ok(NOTIFY_URL=url)
    assert str(raised.value).startswith("NOTIFY_URL='(not shown)': must ")
    assert "canary" not in str(raised.value)
    assert "canary" not in repr(ok(NOTIFY_URL="https://hook.example/canary"))


@pytest.mark.parametrize("name", ["HEALTH_CHECK_ENDPOINT", "NODE_METRICS_URL"])
@pytest.mark.parametrize("user", ["user:canary", "canary", "user:can/canary@ary"])
def test_a_refused_address_is_shown_without_its_user_and_password(name: str, user: str) -> None:
    with pytest.raises(ConfigError) as raised:
        ok(**{name: f"http://{user}@health.example/path"})
    assert str(raised.value).startswith(f"{name}='http://(not shown)@health.example/path': must ")
    assert "can" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KUBECONFIG", "users:\n- user: {token: canary}\n"),
        ("KUBECONFIG", "canary" * 100),
        ("COORDINATION_KUBECONFIGS", "users:\n- user: {token: canary}\n"),
        ("COORDINATION_KUBECONFIGS", '{"users": [{"token": "canary"}, , ]}'),
    ],
)
def test_a_kubeconfig_in_place_of_its_path_is_not_shown(name: str, value: str) -> None:
    with pytest.raises(ConfigError) as raised:
        ok(**{name: value})
    assert str(raised.value).startswith(f"{name}='(not shown)': ")


def test_one_of_the_nodes_keys_is_no_key_for_notices() -> None:
    assert "a key of their own" in mistakes(NOTIFY_SECRET_FILE="/secrets/vrf.skey")["NOTIFY_SECRET_FILE"]


def test_events_are_words_with_commas_between_them_each_once() -> None:
    assert ok().notify_events == ("all",)
    assert ok(NOTIFY_EVENTS="forging, node.killed,warning,forging").notify_events == (
        "forging",
        "node.killed",
        "warning",
    )


def test_all_mistakes_are_reported_at_once() -> None:
    assert set(mistakes(LEASE_DURATION="x", METRICS_PORT="y", RUN_DIR="z")) == {
        "LEASE_DURATION",
        "METRICS_PORT",
        "RUN_DIR",
    }


def test_renewals_too_rare_for_the_lease_are_refused_with_the_right_number() -> None:
    assert "at most 6.175" in mistakes(SLEEP_INTERVAL="7")["SLEEP_INTERVAL"]
    assert ok(SLEEP_INTERVAL="6").sleep_interval == 6


def test_a_magic_number_of_another_network_is_refused() -> None:
    assert "NETWORK_MAGIC" in mistakes(CARDANO_NETWORK="preprod", NETWORK_MAGIC="764824073")
    assert "NETWORK_MAGIC" in mistakes(NETWORK_MAGIC="1")
    assert ok(CARDANO_NETWORK="preprod").network_magic == 1
    assert ok(CARDANO_NETWORK="custom", NETWORK_MAGIC="42").network_magic == 42


def test_a_custom_network_is_not_taken_for_mainnet_where_nobody_names_its_magic_number() -> None:
    assert "SHELLEY_GENESIS" in mistakes(CARDANO_NETWORK="custom")["NETWORK_MAGIC"]
    assert ok(CARDANO_NETWORK="custom", NETWORK_MAGIC="764824073").network_magic == 764824073, "a fork of it has it too"


def test_the_same_path_twice_is_refused() -> None:
    assert "TARGET_VRF_KEY" in mistakes(TARGET_VRF_KEY="/ipc/kes.skey")
    assert "TARGET_KES_KEY" in mistakes(TARGET_KES_KEY="/ipc/node.socket")
    assert "TARGET_KES_KEY" in mistakes(TARGET_KES_KEY="/run/forge-manager/kes.skey")


def test_a_run_dir_too_long_for_unix_sockets_is_refused() -> None:
    assert "107 bytes" in mistakes(RUN_DIR="/" + "x" * 90)["RUN_DIR"]


def test_what_counts_there_is_bytes_and_not_letters() -> None:
    load({"RUN_DIR": "/" + "x" * 60})
    assert "107 bytes" in mistakes(RUN_DIR="/" + "ü" * 60)["RUN_DIR"]


POOL = "pool1pu5jlj4q9w9jlxeu370a3c9myx47md5j5m2str0naunn2q3lkdy"
POOL_HEX = "0f292fcaa02b8b2f9b3c8f9fd8e0bb21abedb692a6d5058df3ef2735"
MANAGED = {"ENABLE_CLUSTER_MANAGEMENT": "true", "POOL_ID": "pool1abcd1234567890", "CLUSTER_REGION": "us-east-1"}


def test_cluster_management_needs_a_pool_and_a_region_of_its_own() -> None:
    assert "names the pool's lock" in mistakes(**MANAGED | {"POOL_ID": ""})["POOL_ID"]
    assert "DNS label" in mistakes(**MANAGED | {"CLUSTER_REGION": ""})["CLUSTER_REGION"]
    assert "DNS label" in mistakes(**MANAGED | {"CLUSTER_REGION": "US East"})["CLUSTER_REGION"]
    assert load(MANAGED).enable_cluster_management


def test_the_pools_lock_and_object_are_named_by_network_pool_and_region() -> None:
    config = load(MANAGED)
    assert config.pool_lock_name == "cardano-pool-mainnet-pool1abcd1"
    assert config.forge_cluster_name == "mainnet-pool1abcd1-us-east-1"
    assert config.coordination_namespace == config.namespace


def test_coordination_apis_are_the_own_files_contexts_or_contexts_of_files() -> None:
    given = "own, /k/one, /k/two#admin@here, arn:aws:eks:x:1:cluster/three"
    config = load(MANAGED | {"COORDINATION_KUBECONFIGS": given, "KUBECONFIG": "/k/main"})
    assert [(each.kubeconfig, each.context) for each in config.coordination_kubeconfigs] == [
        (None, ""),
        (Path("/k/one"), ""),
        (Path("/k/two"), "admin@here"),
        (None, "arn:aws:eks:x:1:cluster/three"),
    ]


def test_without_a_word_about_it_the_pods_own_api_server_coordinates() -> None:
    assert [each.name for each in load(MANAGED).coordination_kubeconfigs] == ["own"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("own,own", "twice"),
        ("own,,/k/one", "empty entry"),
        ("/k/../one", "without '..'"),
        (",".join(f"/k/{i}" for i in range(10)), "more than 9"),
        ("some-context", "KUBECONFIG, which is not set"),
    ],
)
def test_coordination_apis_that_cannot_be_meant_are_refused_with_the_remedy(given: str, said: str) -> None:
    assert said in mistakes(**MANAGED | {"COORDINATION_KUBECONFIGS": given})["COORDINATION_KUBECONFIGS"]


def test_a_pool_has_the_same_names_in_whichever_form_its_id_is_given() -> None:
    """Else two clusters of one pool that were told it differently would each have a lock of their own."""
    plain, in_hex = load({"POOL_ID": POOL}), load({"POOL_ID_HEX": POOL_HEX.upper()})
    assert in_hex.pool_id == POOL
    assert (in_hex.lease_name, in_hex.pool_lock_name) == (plain.lease_name, plain.pool_lock_name)
    assert load({"POOL_ID": POOL, "POOL_ID_HEX": POOL_HEX}).pool_id == POOL


@pytest.mark.parametrize(
    ("label", "env"),
    [
        ("cardano-node-leader", {}),
        ("e968e43a6d", {}),
        ("cardano-leader-mainnet-pool1abcd1", {"POOL_ID": "pool1abcd1234567890"}),
        ("cardano-node-leader", {"POOL_ID": "pool1abcd1234567890", "LEASE_NAME": "cardano-node-leader"}),
        ("", {"LEASE_NAME": "another"}),
    ],
)
def test_a_pod_elects_by_the_lease_that_its_statefulsets_selector_names(label: str, env: dict[str, str]) -> None:
    assert ok(ELECTION_LABEL=label, **env).lease_name


@pytest.mark.parametrize("label", ["cardano-node-leader", "e968e43a6d"])
@pytest.mark.parametrize(
    ("env", "wanted"),
    [
        ({"POOL_ID": "pool1abcd1234567890"}, "cardano.io/election: cardano-leader-mainnet-pool1abcd1 in"),
        ({"LEASE_NAME": "a" * 64}, "cardano.io/election: ffe054fe7a in"),
    ],
)
def test_a_pod_of_another_lease_than_its_statefulsets_is_refused_with_the_way_there(
    label: str, env: dict[str, str], wanted: str
) -> None:
    """An overlay that sets POOL_ID leaves the selector as it was: an old pod and this one would both forge."""
    found = mistakes(ELECTION_LABEL=label, **env)
    assert set(found) == {"ELECTION_LABEL"}
    assert wanted in found["ELECTION_LABEL"]


def test_two_forms_that_are_two_pools_are_refused() -> None:
    remedy = mistakes(POOL_ID=POOL, POOL_ID_HEX="0" * 56)["POOL_ID"]
    assert "is another pool than POOL_ID_HEX, which is pool1qqqqq" in remedy


def test_a_pool_id_names_lease_and_object_unless_they_are_named() -> None:
    pool = "pool1abcd1234567890" + "q" * 20
    pool = pool.replace("b", "c").replace("1234567890", "234567890")
    config = ok(POOL_ID=pool)
    assert config.lease_name == config.crd_name == f"cardano-leader-mainnet-{pool[:10]}"
    assert ok(POOL_ID=pool, LEASE_NAME="mine").lease_name == "mine"


@given(st.dictionaries(st.sampled_from(sorted(CONTRACT)), st.text(max_size=40), max_size=6))
def test_any_text_gives_a_configuration_or_a_named_mistake(env: dict[str, str]) -> None:
    try:
        load(env, hostname=lambda: "pod")
    except ConfigError as error:
        assert error.mistakes
        assert all(m.name in CONTRACT or m.name == "MAX_TIP_LAG" for m in error.mistakes)


# --- a network of one's own, and what could be a secret ---

GENESIS = {
    "systemStart": "2026-01-01T00:00:00Z",
    "slotLength": 0.2,
    "slotsPerKESPeriod": 1000,
    "maxKESEvolutions": 60,
    "epochLength": 500,
    "networkMagic": 42,
}


def test_the_genesis_file_gives_a_network_of_ones_own_its_calendar_and_its_magic_number(tmp_path: Path) -> None:
    path = tmp_path / "genesis.json"
    path.write_text(json.dumps(GENESIS))
    config = ok(CARDANO_NETWORK="custom", SHELLEY_GENESIS=str(path))
    assert config.calendar is not None
    assert (config.calendar.slot_length_s, config.network_magic) == (0.2, 42)
    assert ok(CARDANO_NETWORK="custom", NETWORK_MAGIC="42").calendar is None
    assert ok().calendar is not None


@pytest.mark.parametrize(
    ("env", "remedy"),
    [
        ({"CARDANO_NETWORK": "custom", "NETWORK_MAGIC": "7"}, "magic number 42, not 7"),
        ({"CARDANO_NETWORK": "mainnet"}, "magic number 42, not 764824073"),
    ],
)
def test_a_genesis_file_of_another_network_is_a_mistake(tmp_path: Path, env: dict[str, str], remedy: str) -> None:
    path = tmp_path / "genesis.json"
    path.write_text(json.dumps(GENESIS))
    with pytest.raises(ConfigError, match=remedy):
        ok(SHELLEY_GENESIS=str(path), **env)


def test_a_genesis_file_that_is_not_there_is_a_mistake_of_that_variable(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        ok(SHELLEY_GENESIS=str(tmp_path / "none"))
    assert [mistake.name for mistake in caught.value.mistakes] == ["SHELLEY_GENESIS"]


@pytest.mark.parametrize("name", ["SOURCE_KES_KEY", "TARGET_VRF_KEY", "SOURCE_KES_AGENT_SOCKET"])
def test_what_stands_in_place_of_a_credentials_path_is_not_shown(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ok(**{name: '{"cborHex": "590260c0ffee"}'})
    assert name in str(caught.value)
    assert "c0ffee" not in repr(caught.value) + str(caught.value)


@pytest.mark.parametrize(
    ("given", "name", "remedy"),
    [
        ({"GATEWAY_PROTECT": "all"}, "GATEWAY_PROTECT", "protects nothing without GATEWAY_TOKEN_FILE"),
        ({"GATEWAY_PROTECT": "none"}, "GATEWAY_PROTECT", "must be one of page, all"),
        ({"GATEWAY_TLS_CERT_FILE": "/tls/cert"}, "GATEWAY_TLS_KEY_FILE", "is needed with GATEWAY_TLS_CERT_FILE"),
        ({"GATEWAY_TLS_KEY_FILE": "/tls/key"}, "GATEWAY_TLS_CERT_FILE", "is needed with GATEWAY_TLS_KEY_FILE"),
        ({"GATEWAY_TOKEN_FILE": "/secrets/token"}, "GATEWAY_TOKEN_FILE", "one folder with SOURCE_KES_KEY"),
        ({"GATEWAY_TOKEN_FILE": "/ipc/token"}, "GATEWAY_TOKEN_FILE", "one folder with TARGET_KES_KEY"),
        (
            {"GATEWAY_TOKEN_FILE": "/api/token", "KUBECONFIG": "/api/kubeconfig"},
            "GATEWAY_TOKEN_FILE",
            "one folder with KUBECONFIG",
        ),
        ({"GATEWAY_TOKEN_FILE": "/run/forge-manager/gateway/token"}, "GATEWAY_TOKEN_FILE", "not lie inside RUN_DIR"),
    ],
)
def test_what_guards_the_gateway_is_whole_and_lies_in_a_folder_of_its_own(
    given: dict[str, str], name: str, remedy: str
) -> None:
    found = mistakes(**given)
    assert list(found) == [name]
    assert remedy in found[name]


def test_a_token_that_was_put_where_its_path_belongs_is_not_shown() -> None:
    for value in ("kept-secret-kept-secret-kept-secret", "/secrets/kept-secret"):
        with pytest.raises(ConfigError) as caught:
            ok(GATEWAY_TOKEN_FILE=value)
        assert "kept-secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("COORDINATION_KUBECONFIG", "COORDINATION_KUBECONFIGS"),
        ("POOLID", "POOL_ID"),
        ("pool_id", "POOL_ID"),
        ("CLUSTER_PRIORTY", "CLUSTER_PRIORITY"),
        ("CLUSTER_REGOIN", "CLUSTER_REGION"),
        ("HEALTHCHECK_ENDPOINT", "HEALTH_CHECK_ENDPOINT"),
    ],
)
def test_a_variable_that_is_almost_ours_is_found_with_the_one_that_was_meant(name: str, meant: str) -> None:
    (found,) = misspelt({name: "canary", "PATH": "/bin"})
    assert str(found) == f"{name} is no variable of ours, and is not read; did you mean {meant}?"


@pytest.mark.parametrize(
    "name",
    [
        *CONTRACT,
        *(
            "PATH",
            "HOME",
            "HOSTNAME",
            "POD_NAMESPACE",
            "POD_IP",
            "POD_UID",
            "NODE_NAME",
            "RELEASE_NAME",
            "KUBERNETES_PORT",
        ),
        *(
            "POOL_ID_PORT_80_TCP",
            "RUN_DIRS_SERVICE_PORT",
            "CARDANO_NODE_SOCKET_PATH",
            "LANG",
            "POOL_ID\n",
            "POOLID" * 20,
        ),
    ],
)
def test_a_variable_of_ours_or_of_somebody_elses_is_not_almost_ours(name: str) -> None:
    assert misspelt([name]) == ()
