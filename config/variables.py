"""Every variable the product reads, once: its name, type, default, meaning and what would be right.

`load` promises: either a `Config` in which every value is usable, or a `ConfigError` that lists *all*
mistakes, each with the variable's name, the value found and the remedy.  No variable holds a key: credentials are
named by path, and what stands in place of such a path is not shown.  Of an address that may have a secret in it no more
than the origin is.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from cardano.genesis import GenesisError, read_genesis
from cardano.pool_id import bech32_of
from cardano.slots import NETWORKS, Network
from policy import timing

_LONGEST_LABEL: Final = 63
"""Of a label's value, in Kubernetes."""
MOST_COORDINATORS: Final = 9
ALL_NOTICES: Final = "all"
NOT_SHOWN: Final = "(not shown)"
"""In place of a value that is confidential, or that somebody may have put where its path belongs."""
_LONGEST_SHOWN: Final = 300
"""Characters of what may still be a path, or a list of some: a kubeconfig has more."""
_DNS_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_DNS_SUBDOMAIN: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


@dataclass(frozen=True)
class Mistake:
    """One wrong variable: what was found and what would be right."""

    name: str
    value: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.name}={self.value!r}: {self.remedy}"


class ConfigError(ValueError):
    """At least one variable is wrong; `mistakes` lists every one."""

    def __init__(self, mistakes: tuple[Mistake, ...]) -> None:
        super().__init__("\n".join(str(m) for m in mistakes))
        self.mistakes = mistakes


class _WrongValueError(ValueError):
    """The remedy for one value, without its name."""


def _text(value: str) -> str:
    if any(not c.isprintable() for c in value):
        raise _WrongValueError("must not contain control characters")
    return value


def _dns_label(value: str) -> str:
    if len(value) > 63 or not _DNS_LABEL.fullmatch(value):
        raise _WrongValueError("must be a DNS label: lower case letters, digits and '-', at most 63 characters")
    return value


def _dns_subdomain(value: str) -> str:
    if len(value) > 253 or not _DNS_SUBDOMAIN.fullmatch(value):
        raise _WrongValueError("must be a Kubernetes name: lower case letters, digits, '-' and '.', at most 253")
    return value


def _optional(parse: Callable[[str], str]) -> Callable[[str], str]:
    return lambda value: parse(value) if value else ""


def _integer(low: int, high: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        if not re.fullmatch(r"[0-9]{1,12}", value) or not low <= int(value) <= high:
            raise _WrongValueError(f"must be a whole number from {low} to {high}")
        return int(value)

    return parse


def _seconds(low: float, high: float) -> Callable[[str], float]:
    def parse(value: str) -> float:
        if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", value) or not low <= float(value) <= high:
            raise _WrongValueError(f"must be a number of seconds from {low:g} to {high:g}")
        return float(value)

    return parse


def _boolean(value: str) -> bool:
    match value.strip().lower():
        case "true" | "1" | "yes" | "on":
            return True
        case "false" | "0" | "no" | "off":
            return False
    raise _WrongValueError("must be true or false")


def _path(value: str) -> Path:
    _text(value)
    path = Path(value)
    if not path.is_absolute():
        raise _WrongValueError("must be an absolute path")
    if path.name in ("", ".", "..") or ".." in path.parts:
        raise _WrongValueError("must name a file or folder, without '..'")
    return path


def _optional_path(value: str) -> Path | None:
    return _path(value) if value else None


def _choice(*allowed: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        for candidate in allowed:
            if value.lower() == candidate.lower():
                return candidate
        raise _WrongValueError(f"must be one of {', '.join(allowed)}")

    return parse


def _http_url(value: str) -> str:
    _text(value)
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError as error:
        cited = "" if "@" in value else f" ({error})"  # of a password with a slash it cites the beginning
        raise _WrongValueError(f"must be an http:// or https:// address{cited}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or (port is not None and port < 1):
        raise _WrongValueError("must be an http:// or https:// address with a host")
    try:
        parts.hostname.encode("idna")  # as it is done before a resolver is asked
    except UnicodeError:
        raise _WrongValueError("must have a host of which each part has 1 to 63 characters") from None
    if parts.username or parts.password:
        raise _WrongValueError("must not carry a user name or password")
    return value


def _plain_http_url(value: str) -> str:
    if not _http_url(value).startswith("http://"):
        raise _WrongValueError("must be a plain http:// address: the prober of the node's own metrics speaks no TLS")
    return value


def _bech32_pool(value: str) -> str:
    if not re.fullmatch(r"pool1[a-z0-9]{10,100}", value):
        raise _WrongValueError("must be a bech32 pool id, beginning with pool1")
    return value


def _hex_pool(value: str) -> str:
    if not re.fullmatch(r"[0-9a-fA-F]{56}", value):
        raise _WrongValueError("must be the pool id as 56 hexadecimal digits")
    return value.lower()


@dataclass(frozen=True, slots=True)
class Coordinator:
    """One API server that holds the pool-wide lock; neither kubeconfig nor context: the pod's own."""

    name: str
    """As it was written."""
    kubeconfig: Path | None = None
    """None: KUBECONFIG, or the service account."""
    context: str = ""
    """Empty: the current one."""

    def __str__(self) -> str:
        return self.name


OWN: Final = Coordinator("own")


def _coordinators(value: str) -> tuple[Coordinator, ...]:
    _text(value)
    found: list[Coordinator] = []
    for word in (word.strip() for word in value.split(",") if value):
        if not word:
            raise _WrongValueError("has an empty entry; separate the entries by single commas")
        if word == OWN.name:
            found.append(OWN)
        elif "/" in word.partition("#")[0] and word.startswith("/"):
            path, _, context = word.partition("#")
            found.append(Coordinator(word, _path(path), context))
        else:
            found.append(Coordinator(word, None, word))
    if len({entry.name for entry in found}) < len(found):
        raise _WrongValueError("names one of them twice: a majority must be one of different API servers")
    if len(found) > MOST_COORDINATORS:
        raise _WrongValueError(f"names more than {MOST_COORDINATORS}: each renewal is a request to each of them")
    return tuple(found) or (OWN,)


def _confidential_url(value: str) -> str:
    """An address whose path may be a secret: the remedy has nothing of it."""
    try:
        return _http_url(value) if value else ""
    except _WrongValueError as error:
        raise _WrongValueError(str(error).partition(" (")[0]) from None


def _notice_words(value: str) -> tuple[str, ...]:
    words = tuple(dict.fromkeys(word.strip() for word in value.split(",")))
    if words != (ALL_NOTICES,):
        from policy.notice_kinds import FilterError, filter_of  # whoever wants no notices does not load their kinds

        try:
            filter_of(words)
        except FilterError as error:
            raise _WrongValueError(str(error)) from None
    return words


_WORKERS: Final = ("actuator", "arbiter", "elector", "gateway", "prober")
_HIGHEST_UID: Final = 2**31 - 1
"""Kubernetes takes none above; OpenShift gives each namespace a range that begins above 1000000000."""


def _worker_uids(value: str) -> tuple[tuple[str, int], ...]:
    if not value:
        return ()
    found: dict[str, int] = {}
    for word in value.split(","):
        name, _, number = word.strip().partition("=")
        fits = re.fullmatch(r"[0-9]{1,10}", number) and 0 < int(number) <= _HIGHEST_UID
        if name not in _WORKERS or name in found or not fits:
            raise _WrongValueError("must be name=uid pairs, e.g. actuator=10001,prober=10002,...; no uid may be 0")
        found[name] = int(number)
    if len(found) < len(_WORKERS) or len(set(found.values())) < len(found):
        raise _WrongValueError(f"must give each of {', '.join(_WORKERS)} a uid of its own")
    return tuple(sorted(found.items()))


def _var(
    name: str,
    default: str,
    parse: Callable[[str], Any],
    help_text: str,
    *,
    group: str = "Core configuration",
    confidential: bool = False,
) -> Any:
    """A field of `Config`: everything that is to be known about one variable.

    confidential: an address that may have a secret in it; more than its origin is shown nowhere.
    """
    known = {"name": name, "default": default, "parse": parse, "help": help_text, "group": group}
    return field(metadata=known | {"confidential": confidential}, repr=not confidential)


_CREDENTIALS = "Credential paths"
_TENANT = "Multi-tenant configuration"
_CLUSTER = "Cluster management"
_NODE = "Node"
_CRD = "CardanoLeader object"
_GATEWAY = "Gateway"
_NOTICES = "Notifications"
_PROCESS = "Process"
_SECRETS: Final = (_CREDENTIALS, _GATEWAY, _NOTICES)


@dataclass(frozen=True)
class Config:
    """The checked configuration.  Durations in seconds, as the operator wrote them."""

    namespace: str = _var("NAMESPACE", "default", _dns_label, "Kubernetes namespace")
    pod_name: str = _var(
        "POD_NAME", "", _optional(_dns_subdomain), "Pod identifier (auto-injected); empty: the host name"
    )
    node_socket: Path = _var("NODE_SOCKET", "/ipc/node.socket", _path, "Cardano node socket path")
    lease_name_given: str = _var(
        "LEASE_NAME",
        "cardano-node-leader",
        _dns_subdomain,
        "Coordination lease name; with POOL_ID set and this unset: cardano-leader-<network>-<pool id, 10>",
    )
    election_label: str = _var(
        "ELECTION_LABEL",
        "",
        _text,
        "The pod's label `cardano.io/election` (downward API), which is in its StatefulSet's selector: the Lease's "
        "name, or the first ten digits of its SHA-256. A pod that would elect by another Lease does not start; empty: "
        "not looked at",
    )
    lease_duration: int = _var("LEASE_DURATION", "15", _integer(6, timing.LONGEST_LEASE_S), "Lease duration (seconds)")
    sleep_interval: float = _var(
        "SLEEP_INTERVAL", "5", _seconds(0.5, 1200), "Main loop interval: pause between renewals (seconds)"
    )
    metrics_port: int = _var("METRICS_PORT", "8000", _integer(0, 65535), "Prometheus metrics port; 0: any free one")

    source_kes_key: Path = _var("SOURCE_KES_KEY", "/secrets/kes.skey", _path, "Source KES key path", group=_CREDENTIALS)
    target_kes_key: Path = _var("TARGET_KES_KEY", "/ipc/kes.skey", _path, "Target KES key path", group=_CREDENTIALS)
    source_vrf_key: Path = _var("SOURCE_VRF_KEY", "/secrets/vrf.skey", _path, "Source VRF key path", group=_CREDENTIALS)
    target_vrf_key: Path = _var("TARGET_VRF_KEY", "/ipc/vrf.skey", _path, "Target VRF key path", group=_CREDENTIALS)
    source_op_cert: Path = _var(
        "SOURCE_OP_CERT", "/secrets/node.cert", _path, "Source operational cert", group=_CREDENTIALS
    )
    target_op_cert: Path = _var(
        "TARGET_OP_CERT", "/ipc/node.cert", _path, "Target operational cert", group=_CREDENTIALS
    )
    credential_mode: str = _var(
        "CREDENTIAL_MODE",
        "ephemeral",
        _choice("ephemeral", "kes-agent", "file"),
        "ephemeral: the kernel takes the files away when the actuator dies; kes-agent: the same for VRF key and "
        "certificate, and a link to the socket of the agent that gives the node its KES key; file: plain files, a "
        "fallback for nodes outside the shared process namespace, which cannot promise that",
        group=_CREDENTIALS,
    )
    source_kes_agent_socket: Path = _var(
        "SOURCE_KES_AGENT_SOCKET",
        "/kes-agent/service.socket",
        _path,
        "Socket of the KES agent, with CREDENTIAL_MODE=kes-agent: at this path in the node's container too",
        group=_CREDENTIALS,
    )
    target_kes_agent_socket: Path = _var(
        "TARGET_KES_AGENT_SOCKET",
        "/ipc/kes-agent.socket",
        _path,
        "Where the node looks for it (--shelley-kes-agent-socket)",
        group=_CREDENTIALS,
    )

    cardano_network: str = _var(
        "CARDANO_NETWORK",
        "mainnet",
        _choice("mainnet", "preprod", "preview", "custom"),
        "Network name",
        group=_TENANT,
    )
    network_magic: int = _var(
        "NETWORK_MAGIC", "764824073", _integer(0, 2**32 - 1), "Network magic number", group=_TENANT
    )
    shelley_genesis: Path | None = _var(
        "SHELLEY_GENESIS",
        "",
        _optional_path,
        "The network's Shelley genesis file, as the node's configuration names it: its slots and KES periods. For a "
        "custom network; of the others they are known",
        group=_TENANT,
    )
    pool_id: str = _var("POOL_ID", "", _optional(_bech32_pool), "Pool ID (bech32)", group=_TENANT)
    pool_id_hex: str = _var("POOL_ID_HEX", "", _optional(_hex_pool), "Pool ID (hex)", group=_TENANT)
    pool_name: str = _var("POOL_NAME", "", _text, "Human-readable pool name", group=_TENANT)
    pool_ticker: str = _var("POOL_TICKER", "", _text, "Pool ticker symbol", group=_TENANT)
    application_type: str = _var("APPLICATION_TYPE", "block-producer", _text, "Application type", group=_TENANT)

    enable_cluster_management: bool = _var(
        "ENABLE_CLUSTER_MANAGEMENT", "false", _boolean, "Enable cluster-wide coordination", group=_CLUSTER
    )
    cluster_region: str = _var("CLUSTER_REGION", "unknown", _text, "Geographic region identifier", group=_CLUSTER)
    cluster_environment: str = _var(
        "CLUSTER_ENVIRONMENT", "production", _text, "Environment classification", group=_CLUSTER
    )
    cluster_priority: int = _var(
        "CLUSTER_PRIORITY", "100", _integer(1, 999), "Base priority (1=highest, 999=lowest)", group=_CLUSTER
    )
    cluster_identifier: str = _var(
        "CLUSTER_IDENTIFIER",
        "",
        _text,
        "Name of this cluster in metrics; empty: CLUSTER_REGION",
        group=_CLUSTER,
    )
    health_check_endpoint: str = _var(
        "HEALTH_CHECK_ENDPOINT", "", _optional(_http_url), "HTTP endpoint for health checks", group=_CLUSTER
    )
    health_check_interval: float = _var(
        "HEALTH_CHECK_INTERVAL", "30", _seconds(1, 3600), "Health check interval (seconds)", group=_CLUSTER
    )
    health_check_timeout: float = _var(
        "HEALTH_CHECK_TIMEOUT", "10", _seconds(0.1, 300), "Longest wait for an answer (seconds)", group=_CLUSTER
    )
    health_check_failure_threshold: int = _var(
        "HEALTH_CHECK_FAILURE_THRESHOLD",
        "3",
        _integer(1, 100),
        "Failures in a row from which on this cluster comes after every healthy one",
        group=_CLUSTER,
    )
    preemption_delay: float = _var(
        "PREEMPTION_DELAY",
        "60",
        _seconds(0, 86400),
        "Seconds a better cluster must have been fit before it takes over from one that forges; an override, Enabled "
        "and Disabled act at once",
        group=_CLUSTER,
    )
    coordination_kubeconfigs: tuple[Coordinator, ...] = _var(
        "COORDINATION_KUBECONFIGS",
        "",
        _coordinators,
        "The API servers that hold the pool-wide lock and the CardanoForgeClusters, separated by commas: `own` (the "
        "pod's own), `/path/to/kubeconfig`, `/path/to/kubeconfig#context`, or a context of KUBECONFIG. Empty: own. "
        "With several, a majority decides: three bear the loss of one, five of two",
        group=_CLUSTER,
    )
    coordination_namespace_given: str = _var(
        "COORDINATION_NAMESPACE", "", _optional(_dns_label), "Namespace there; empty: NAMESPACE", group=_CLUSTER
    )

    node_metrics_url: str = _var(
        "NODE_METRICS_URL",
        "http://127.0.0.1:12798/metrics",
        _plain_http_url,
        "The node's own Prometheus metrics: the proof that it forges or has stopped",
        group=_NODE,
    )
    cardano_node_process_name: str = _var(
        "CARDANO_NODE_PROCESS_NAME",
        "cardano-node",
        _text,
        "The node's process name: a hint until its socket exists",
        group=_NODE,
    )
    socket_wait_timeout: float = _var(
        "SOCKET_WAIT_TIMEOUT",
        "600",
        _seconds(0, 86400),
        "Seconds a starting node may take to open its socket before that is reported as a fault",
        group=_NODE,
    )
    disable_socket_check: bool = _var(
        "DISABLE_SOCKET_CHECK",
        "false",
        _boolean,
        "Judge the node by process name and metrics alone (development)",
        group=_NODE,
    )
    max_tip_lag: float = _var(
        "MAX_TIP_LAG",
        "180",
        _seconds(10, 86400),
        "Seconds the node's tip may lie behind the wall clock, or (60 at least) ahead of it, before the node is unfit",
        group=_NODE,
    )

    leadership_schedule: Path | None = _var(
        "LEADERSHIP_SCHEDULE",
        "",
        _optional_path,
        "The slots that the pool was assigned, as `cardano-cli query leadership-schedule` or `cncli leaderlog` writes "
        "them: a file, or a folder with one for each epoch. Planned hand-overs wait for a gap between them; a fence "
        "never does",
        group=_NODE,
    )
    handover_gap: float = _var(
        "HANDOVER_GAP",
        "30",
        _seconds(5, 3600),
        "Seconds without an assigned slot that a planned hand-over waits for, where LEADERSHIP_SCHEDULE is set",
        group=_NODE,
    )
    handover_wait: float = _var(
        "HANDOVER_WAIT", "600", _seconds(0, 86400), "Seconds that it waits at most (0: not at all)", group=_NODE
    )

    crd_group: str = _var("CRD_GROUP", "cardano.io", _dns_subdomain, "API group of the CRDs", group=_CRD)
    crd_version: str = _var("CRD_VERSION", "v1", _dns_label, "API version of the CRDs", group=_CRD)
    crd_plural: str = _var("CRD_PLURAL", "cardanoleaders", _dns_label, "Plural of CardanoLeader", group=_CRD)
    crd_name_given: str = _var(
        "CRD_NAME",
        "cardano-leader",
        _dns_subdomain,
        "Name of the CardanoLeader object; with POOL_ID set and this unset: as the lease",
        group=_CRD,
    )

    gateway_token_file: Path | None = _var(
        "GATEWAY_TOKEN_FILE",
        "",
        _optional_path,
        "File with the token that who wants the page, `/events` or `/status` must show: `Authorization: Bearer TOKEN`, "
        "or as the password of any user. In a folder of its own; a rotated one is taken over in seconds. Empty: "
        "whoever reaches the port may look",
        group=_GATEWAY,
    )
    gateway_protect: str = _var(
        "GATEWAY_PROTECT",
        "page",
        _choice("page", "all"),
        "page: `/metrics` and the probes need no token; all: `/metrics` does, and without it probes tell their verdict "
        "and no reasons",
        group=_GATEWAY,
    )
    gateway_tls_cert_file: Path | None = _var(
        "GATEWAY_TLS_CERT_FILE",
        "",
        _optional_path,
        "Certificate (PEM, with its chain) with which METRICS_PORT speaks TLS, and nothing else: probes and scrapers "
        "then need `scheme: HTTPS`. Read again when it is renewed",
        group=_GATEWAY,
    )
    gateway_tls_key_file: Path | None = _var(
        "GATEWAY_TLS_KEY_FILE", "", _optional_path, "Its private key (PEM, not encrypted)", group=_GATEWAY
    )

    notify_url: str = _var(
        "NOTIFY_URL",
        "",
        _confidential_url,
        "Webhook to which the pod tells what happens to it (docs/notifications.md); empty: nothing is told",
        group=_NOTICES,
        confidential=True,
    )
    notify_secret_file: Path | None = _var(
        "NOTIFY_SECRET_FILE",
        "",
        _optional_path,
        "File with the key by which notices are signed, read anew for each; empty: they are not signed",
        group=_NOTICES,
    )
    notify_events: tuple[str, ...] = _var(
        "NOTIFY_EVENTS",
        "all",
        _notice_words,
        "What is told: `all`, or words with commas between them, each a least severity (`info`, `warning`, "
        "`critical`), a subject (`forging`) or a type (`node.killed`)",
        group=_NOTICES,
    )

    run_dir: Path = _var(
        "RUN_DIR",
        "/run/forge-manager",
        _path,
        "Sockets, instance id and (while armed) the keys: memory-backed, kept over container restarts",
        group=_PROCESS,
    )
    kubeconfig: Path | None = _var(
        "KUBECONFIG", "", _optional_path, "Kubeconfig file; empty: the pod's service account", group=_PROCESS
    )
    sandbox: str = _var(
        "SANDBOX",
        "enforce",
        _choice("enforce", "permissive"),
        "enforce: a worker whose sandbox cannot be closed as declared does not start; permissive: it starts, and "
        "/status, a metric and `forgectl audit` say what is missing",
        group=_PROCESS,
    )
    worker_uids_given: tuple[tuple[str, int], ...] = _var(
        "WORKER_UIDS",
        "",
        _worker_uids,
        "A uid for each worker, which is its gid too: `actuator=10001,prober=10002,elector=10003,arbiter=10004,"
        "gateway=10005`; the actuator's must be the node's. Empty: all run as one user",
        group=_PROCESS,
    )
    log_level: str = _var(
        "LOG_LEVEL",
        "INFO",
        _choice("DEBUG", "INFO", "WARNING", "ERROR"),
        "Least severity that is logged",
        group=_PROCESS,
    )
    log_format: str = _var(
        "LOG_FORMAT",
        "json",
        _choice("json", "console"),
        "One JSON object a line, or for people",
        group=_PROCESS,
    )

    explicit: frozenset[str] = field(default=frozenset(), repr=False)
    """Names of the variables that were set by the operator."""
    genesis_calendar: Network | None = field(default=None, repr=False)
    """What SHELLEY_GENESIS says; None: it is not set."""

    @property
    def calendar(self) -> Network | None:
        """Slots and KES periods of the network; None: not known."""
        return self.genesis_calendar or NETWORKS.get(self.cardano_network)

    @property
    def pool_label(self) -> str:
        """The pool as metrics and object names show it: the first ten characters of its id."""
        return self.pool_id[:10]

    @property
    def tenant_name(self) -> str:
        return f"cardano-leader-{self.cardano_network}-{self.pool_label}"

    @property
    def lease_name(self) -> str:
        tenant = self.pool_label and "LEASE_NAME" not in self.explicit
        return self.tenant_name if tenant else self.lease_name_given

    @property
    def lease_digest(self) -> str:
        """Of the Lease's name, as short as a label needs it."""
        return hashlib.sha256(self.lease_name.encode()).hexdigest()[:10]

    @property
    def crd_name(self) -> str:
        tenant = self.pool_label and "CRD_NAME" not in self.explicit
        return self.tenant_name if tenant else self.crd_name_given

    @property
    def cluster(self) -> str:
        return self.cluster_identifier or self.cluster_region

    @property
    def forge_cluster_name(self) -> str:
        """Of this cluster's CardanoForgeCluster."""
        return f"{self.cardano_network}-{self.pool_label}-{self.cluster_region}"

    @property
    def pool_lock_name(self) -> str:
        """Of the Lease that is the pool-wide lock."""
        return f"cardano-pool-{self.cardano_network}-{self.pool_label}"

    @property
    def coordination_namespace(self) -> str:
        return self.coordination_namespace_given or self.namespace

    @property
    def preemption_delay_ns(self) -> int:
        return int(self.preemption_delay * timing.SECOND)

    @property
    def kes_agent(self) -> bool:
        """Whether the node gets its KES key from an agent."""
        return self.credential_mode == "kes-agent"

    @property
    def sources(self) -> dict[str, tuple[str, Path]]:
        """The files that are installed: name -> (variable, path)."""
        found = {
            "kes.skey": ("SOURCE_KES_KEY", self.source_kes_key),
            "vrf.skey": ("SOURCE_VRF_KEY", self.source_vrf_key),
            "node.cert": ("SOURCE_OP_CERT", self.source_op_cert),
        }
        return {name: each for name, each in found.items() if name != "kes.skey" or not self.kes_agent}

    @property
    def targets(self) -> dict[str, tuple[str, Path]]:
        """Where the node finds each of them: name -> (variable, path)."""
        found = {
            "kes.skey": ("TARGET_KES_KEY", self.target_kes_key),
            "vrf.skey": ("TARGET_VRF_KEY", self.target_vrf_key),
            "node.cert": ("TARGET_OP_CERT", self.target_op_cert),
            "kes-agent.socket": ("TARGET_KES_AGENT_SOCKET", self.target_kes_agent_socket),
        }
        other = "kes.skey" if self.kes_agent else "kes-agent.socket"
        return {name: each for name, each in found.items() if name != other}

    @property
    def gateway_files(self) -> dict[str, Path]:
        """What the gateway reads, as far as it is set: variable -> path."""
        named = {
            "GATEWAY_TOKEN_FILE": self.gateway_token_file,
            "GATEWAY_TLS_CERT_FILE": self.gateway_tls_cert_file,
            "GATEWAY_TLS_KEY_FILE": self.gateway_tls_key_file,
        }
        return {variable: path for variable, path in named.items() if path is not None}

    @property
    def handover_wait_ns(self) -> int:
        return int(self.handover_wait * timing.SECOND)

    @property
    def lease_duration_ns(self) -> int:
        return self.lease_duration * timing.SECOND

    @property
    def sleep_interval_ns(self) -> int:
        return int(self.sleep_interval * timing.SECOND)

    @property
    def worker_uids(self) -> dict[str, int]:
        """Worker -> uid (and gid); empty: all run as the user that started them."""
        return dict(self.worker_uids_given)

    def worker_dir(self, worker: str) -> Path:
        return self.run_dir / worker

    def state_socket(self, worker: str) -> Path:
        return self.worker_dir(worker) / "state.sock"

    def debug_socket(self, worker: str) -> Path:
        """Where a worker answers `forgectl inspect`."""
        return self.worker_dir(worker) / "debug.sock"

    @property
    def command_socket(self) -> Path:
        """Where the elector takes `stand-down`, the only command there is."""
        return self.worker_dir("elector") / "command.sock"

    @property
    def instance_file(self) -> Path:
        """Random, made once per pod, kept over container restarts."""
        return self.worker_dir("elector") / "instance"


@dataclass(frozen=True)
class Variable:
    """A row of the documentation: what the operator can set."""

    name: str
    default: str
    help: str
    group: str


def variables() -> tuple[Variable, ...]:
    """Every variable in the order of the table."""
    return tuple(
        Variable(f.metadata["name"], f.metadata["default"], f.metadata["help"], f.metadata["group"])
        for f in dataclasses.fields(Config)
        if "name" in f.metadata
    )


def load(env: Mapping[str, str], *, hostname: Callable[[], str] = socket.gethostname) -> Config:
    """Read and check the whole configuration.  Raises ConfigError with every mistake found."""
    values: dict[str, Any] = {}
    mistakes: list[Mistake] = []
    explicit: set[str] = set()
    for item in dataclasses.fields(Config):
        if "name" not in item.metadata:
            continue
        name, default = item.metadata["name"], item.metadata["default"]
        raw = env.get(name, "")
        if raw:
            explicit.add(name)
        else:
            raw = default
        try:
            values[item.name] = item.metadata["parse"](raw)
        except _WrongValueError as error:
            mistakes.append(Mistake(name, _shown(item.metadata, raw), str(error)))
    if "POD_NAME" not in explicit:
        values["pod_name"] = hostname()
    if not mistakes and values["shelley_genesis"] is not None:
        try:
            values["genesis_calendar"] = read_genesis(values["shelley_genesis"])  # before any sandbox closes
        except GenesisError as error:
            mistakes.append(Mistake("SHELLEY_GENESIS", str(values["shelley_genesis"]), str(error)))
    if not mistakes:
        if "NETWORK_MAGIC" not in explicit and values["cardano_network"] in NETWORKS:
            values["network_magic"] = NETWORKS[values["cardano_network"]].magic
        elif "NETWORK_MAGIC" not in explicit and "genesis_calendar" in values:
            values["network_magic"] = values["genesis_calendar"].magic
        if not values["pool_id"] and values["pool_id_hex"]:
            values["pool_id"] = bech32_of(values["pool_id_hex"])  # one pool has one name, however it is given
        config = Config(**values, explicit=frozenset(explicit))
        mistakes += _contradictions(config)
    if mistakes:
        raise ConfigError(tuple(mistakes))
    return config


def _shown(metadata: Mapping[str, Any], raw: str) -> str:
    """Of a wrong value what cannot be a secret that somebody put where it does not belong."""
    if metadata["confidential"]:
        return NOT_SHOWN
    if metadata["group"] in _SECRETS and metadata["parse"] in (_path, _optional_path):
        return NOT_SHOWN  # a key, or a token, in place of its path
    if "KUBECONFIG" in metadata["name"] and (len(raw) > _LONGEST_SHOWN or re.search(r"[\n{]", raw)):
        return NOT_SHOWN  # its content in place of its path; as pipelines have it: YAML, JSON or base64
    return re.sub(r"://.*@", f"://{NOT_SHOWN}@", raw, flags=re.DOTALL)


def _contradictions(config: Config) -> list[Mistake]:
    """Values that are right each for itself, but not together."""
    found: list[Mistake] = []
    if not timing.renewal_fits(config.lease_duration_ns, config.sleep_interval_ns):
        usable = timing.soft_deadline(timing.grant_deadline(0, config.lease_duration_ns)) / timing.SECOND
        found.append(
            Mistake(
                "SLEEP_INTERVAL",
                f"{config.sleep_interval:g}",
                f"must be at most {max(usable / 2, 0):g} with LEASE_DURATION={config.lease_duration}, "
                "so that one missed renewal does not stop forging",
            )
        )
    if config.election_label not in ("", config.lease_name, config.lease_digest):
        label = config.lease_name if len(config.lease_name) <= _LONGEST_LABEL else config.lease_digest
        remedy = (
            f"is of another Lease than {config.lease_name}: the StatefulSet's other pods elect by that one, and beside "
            "them this pod would forge too. Take the change back; or end all its pods, and make it anew with the label "
            f"cardano.io/election: {label} in its selector and its pods"
        )
        found.append(Mistake("ELECTION_LABEL", config.election_label, remedy))
    if config.pool_id_hex and config.pool_id != bech32_of(config.pool_id_hex):
        other = f"is another pool than POOL_ID_HEX, which is {bech32_of(config.pool_id_hex)}; one of them suffices"
        found.append(Mistake("POOL_ID", config.pool_id, other))
    table = NETWORKS.get(config.cardano_network)
    magic = table.magic if table is not None else config.network_magic
    if table is None and "NETWORK_MAGIC" not in config.explicit and config.genesis_calendar is None:
        remedy = (
            f"is mainnet's: with CARDANO_NETWORK={config.cardano_network} set that network's own, or name its genesis "
            "file (SHELLEY_GENESIS)"
        )
        found.append(Mistake("NETWORK_MAGIC", str(config.network_magic), remedy))
    elif config.network_magic != magic:
        remedy = f"CARDANO_NETWORK={config.cardano_network} has the magic number {magic}"
        found.append(Mistake("NETWORK_MAGIC", str(config.network_magic), remedy))
    elif config.genesis_calendar is not None and config.genesis_calendar.magic != config.network_magic:
        remedy = f"is of a network with the magic number {config.genesis_calendar.magic}, not {config.network_magic}"
        found.append(Mistake("SHELLEY_GENESIS", str(config.shelley_genesis), remedy))
    if config.enable_cluster_management:
        found += _against_cluster_management(config)
    found += _against_protection(config)
    names = (
        "source_kes_key",
        "source_vrf_key",
        "source_op_cert",
        "source_kes_agent_socket",
        "target_kes_key",
        "target_vrf_key",
        "target_op_cert",
        "target_kes_agent_socket",
    )
    if config.notify_secret_file in [path for _, path in config.sources.values()]:
        remedy = "is one of the node's keys, which leave the actuator for nobody; give notices a key of their own"
        found.append(Mistake("NOTIFY_SECRET_FILE", str(config.notify_secret_file), remedy))
    seen: dict[Path, str] = {}
    for name in names:
        path: Path = getattr(config, name)
        variable = name.upper()
        if path in seen:
            found.append(Mistake(variable, str(path), f"is the same path as {seen[path]}; each needs its own"))
        seen.setdefault(path, variable)
        if path == config.node_socket:
            found.append(Mistake(variable, str(path), "is the path of NODE_SOCKET"))
        if variable.startswith("TARGET") and config.run_dir in path.parents:
            found.append(Mistake(variable, str(path), "must not lie inside RUN_DIR"))
    longest = len(bytes(config.command_socket)) + 16
    if longest > 107:
        found.append(
            Mistake(
                "RUN_DIR",
                str(config.run_dir),
                "is too long: a Unix socket's path has at most 107 bytes (unix(7))",
            )
        )
    return found


def _against_cluster_management(config: Config) -> list[Mistake]:
    """What coordination across clusters needs."""
    found: list[Mistake] = []
    if not config.pool_label:
        remedy = "is needed with ENABLE_CLUSTER_MANAGEMENT=true: it names the pool's lock (or give POOL_ID_HEX)"
        found.append(Mistake("POOL_ID", "", remedy))
    region = config.cluster_region
    if region == "unknown" or len(region) > 63 or not _DNS_LABEL.fullmatch(region):
        remedy = (
            "must be this cluster's own name among the pool's clusters, as a DNS label (lower case letters, digits and "
            "'-'), with ENABLE_CLUSTER_MANAGEMENT=true"
        )
        found.append(Mistake("CLUSTER_REGION", region, remedy))
    contexts = [each.name for each in config.coordination_kubeconfigs if each.context and each.kubeconfig is None]
    if contexts and config.kubeconfig is None:
        remedy = f"{contexts[0]} is a context of KUBECONFIG, which is not set; write /path/to/kubeconfig#context"
        found.append(Mistake("COORDINATION_KUBECONFIGS", ",".join(contexts), remedy))
    return found


def _against_protection(config: Config) -> list[Mistake]:
    """What the gateway's token and certificate need."""
    found: list[Mistake] = []
    if config.gateway_protect != "page" and config.gateway_token_file is None:
        remedy = "protects nothing without GATEWAY_TOKEN_FILE; set both or neither"
        found.append(Mistake("GATEWAY_PROTECT", config.gateway_protect, remedy))
    halves = {"GATEWAY_TLS_CERT_FILE", "GATEWAY_TLS_KEY_FILE"}
    if len(missing := halves - config.gateway_files.keys()) == 1:
        (other,) = halves - missing
        found.append(Mistake(missing.pop(), "", f"is needed with {other}: set both or neither"))
    others = [*config.sources.values(), *config.targets.values(), ("NODE_SOCKET", config.node_socket)]
    others += [("KUBECONFIG", config.kubeconfig)] if config.kubeconfig is not None else []
    named = [each.kubeconfig for each in config.coordination_kubeconfigs if each.kubeconfig is not None]
    others += [("COORDINATION_KUBECONFIGS", path) for path in named]
    for variable, path in config.gateway_files.items():
        beside = next((other for other, there in others if there.parent == path.parent), "")
        if config.run_dir in path.parents:
            found.append(Mistake(variable, NOT_SHOWN, "must not lie inside RUN_DIR"))
        elif beside:  # neither could be left open as a folder then, and so not be read again when it is rotated
            remedy = f"must not lie in one folder with {beside}: mount it in a folder of its own"
            found.append(Mistake(variable, NOT_SHOWN, remedy))
    return found
