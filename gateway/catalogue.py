"""Every metric of the pod, once: its name, kind, labels and meaning, and when it is left out.

docs/metrics.md is made from this, the collector (gateway/metrics.py) renders by it, and the alerting rules are checked
against it.  The names, labels and the first words of the help of the first two groups are the contract's.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

PREFIX: Final = "cardano_forge_manager_"


class Kind(enum.StrEnum):
    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Described:
    """One metric."""

    name: str
    """As queries have it: a counter's ends in `_total`."""
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    left_out: str = ""
    """When the pod does not show it; empty: it always does."""


@dataclass(frozen=True, slots=True)
class Group:
    """Metrics of one subject, as docs/metrics.md puts them together."""

    title: str
    members: tuple[Described, ...]


_POD: Final = ("pod", "network", "pool_id", "application")
_CLUSTER: Final = ("cluster", "region", "network", "pool_id")
_KEYS: Final = ("pod", "network", "pool_id")
_POOL: Final = ("network", "pool_id")

# --- the contract's ---

FORGING: Final = Described(
    "cardano_forging_enabled",
    Kind.GAUGE,
    "Whether pod is actively forging (0 or 1), as its node confirmed; 0 while nothing is known",
    _POD,
)
LEADING: Final = Described(
    "cardano_leader_status",
    Kind.GAUGE,
    "Whether pod is elected leader (0 or 1); 0 while nothing is known",
    _POD,
)
CHANGES: Final = Described(
    "cardano_leadership_changes_total",
    Kind.COUNTER,
    "Total leadership transitions: times this pod became or ceased to be leader",
)
SIGHUPS: Final = Described(
    "cardano_sighup_signals_total", Kind.COUNTER, "SIGHUP signals sent to cardano-node", ("reason",)
)
OPERATIONS: Final = Described(
    "cardano_credential_operations_total", Kind.COUNTER, "Credential file operations", ("operation", "file")
)
CLUSTER_ENABLED: Final = Described(
    "cardano_cluster_forge_enabled",
    Kind.GAUGE,
    "Whether cluster is enabled for forging: 1 on the one pod that leads it and has the arbiter's grant (with cluster "
    "management: of the pool-wide lock), 0 on all others, so the sum over all pods of a pool is the number of clusters "
    "that may forge: 1, or 0 during a change",
    _CLUSTER,
)
CLUSTER_PRIORITY: Final = Described(
    "cardano_cluster_forge_priority",
    Kind.GAUGE,
    "Effective priority of cluster (1 is highest): with cluster management by its CardanoForgeCluster, with what its "
    "health costs; else CLUSTER_PRIORITY",
    _CLUSTER,
    "with cluster management while the arbiter is silent",
)
HEALTH_SUCCESS: Final = Described(
    "cardano_cluster_health_check_success",
    Kind.GAUGE,
    "Health check success status (0 or 1): whether the last check succeeded; 1 while no endpoint is checked",
    ("cluster",),
    "while the prober is silent and an endpoint is to be checked",
)
HEALTH_FAILURES: Final = Described(
    "cardano_cluster_health_check_consecutive_failures",
    Kind.GAUGE,
    "Consecutive health check failures; 0 while no endpoint is checked",
    ("cluster",),
    HEALTH_SUCCESS.left_out,
)

# --- forging and taking over ---

INTENDED: Final = Described(
    "cardano_forging_intended",
    Kind.GAUGE,
    "Whether pod's node is meant to forge (0 or 1); cardano_forging_enabled follows in seconds, or the node does not "
    "do as it is told",
    _POD,
)
READY: Final = Described(
    PREFIX + "ready",
    Kind.GAUGE,
    "Whether this pod forges, or could take over at once (0 or 1), as /ready says",
    _POD,
)
PAUSED: Final = Described(
    PREFIX + "paused",
    Kind.GAUGE,
    "Whether an operator keeps the lease with the pod that has it, or the pool_lock with the cluster that has it (0 or "
    "1): forgectl pause",
    ("what", "region", *_POOL),
    "for the lease while the elector is silent; for the pool_lock without cluster management, and while the arbiter is "
    "silent",
)
RENEWAL_MARGIN: Final = Described(
    PREFIX + "renewal_margin_seconds",
    Kind.GAUGE,
    "Seconds that were left of the leader's right when it was last renewed: with little left its API server is slow",
    left_out="on a pod that does not lead, and before its first renewal",
)
USUAL_MARGIN: Final = Described(
    PREFIX + "renewal_margin_usual_seconds",
    Kind.GAUGE,
    "Seconds that are left of a leader's right at a renewal that is answered at once, by LEASE_DURATION and "
    "SLEEP_INTERVAL",
)
FENCE_STATE: Final = Described(
    PREFIX + "fence_state",
    Kind.GAUGE,
    "What the actuator knows of its node's forging: 1 for the state it is in, all 0 while it is silent",
    ("state",),
)
GRANT_LEFT: Final = Described(
    PREFIX + "grant_seconds_left", Kind.GAUGE, "Seconds until a grant ends; 0 without one", ("issuer",)
)
TAKEOVERS: Final = Described(
    PREFIX + "takeover_seconds",
    Kind.HISTOGRAM,
    "Seconds from the last sign of the forger before, as seen here (it released its right, or last renewed it), to "
    "this pod's node forging as it confirmed",
)
WITHOUT_FORGER: Final = Described(
    PREFIX + "without_forger_seconds_total",
    Kind.COUNTER,
    "Seconds in which nobody forged, as far as this pod saw: nobody had the right, or this pod had it and its node did "
    "not confirm; what it cannot see (a silent worker, an API server out of reach) does not count",
)
KILLS: Final = Described(
    PREFIX + "node_kills_total",
    Kind.COUNTER,
    "Signals that ended a node which did not confirm that it stopped forging",
    ("signal",),
)

# --- the node ---

FIT: Final = Described(PREFIX + "node_fit", Kind.GAUGE, "Whether the node is fit to forge (0 or 1)")
STARTED_PRODUCING: Final = Described(
    PREFIX + "node_started_producing",
    Kind.GAUGE,
    "1 if the node was started without --start-as-non-producing-node: dangerous, add the flag",
    left_out="while the actuator is silent",
)
NEXT_SLOT: Final = Described(
    PREFIX + "next_slot_seconds",
    Kind.GAUGE,
    "Seconds until the pool's next slot, by LEADERSHIP_SCHEDULE; 0: it runs",
    left_out="without a leadership schedule, and after its last slot",
)
TIP_LAG: Final = Described(
    PREFIX + "tip_lag_seconds",
    Kind.GAUGE,
    "Seconds the node's tip lies behind the wall clock's slot",
    left_out="while the tip is not known, or the network's calendar is not",
)

# --- keys ---

FINDINGS: Final = Described(
    "cardano_credential_findings",
    Kind.GAUGE,
    "What is wrong with the KES key, the VRF key and the operational certificate in the secret: an error keeps this "
    "pod from contending",
    (*_KEYS, "severity", "check"),
    "while the actuator is silent",
)
_WITHOUT_CERTIFICATE: Final = "while the actuator is silent, or there is no certificate that can be read"
OPCERT_COUNTER: Final = Described(
    "cardano_opcert_counter",
    Kind.GAUGE,
    "The operational certificate's counter",
    _KEYS,
    _WITHOUT_CERTIFICATE,
)
PERIODS_LEFT: Final = Described(
    "cardano_kes_periods_remaining",
    Kind.GAUGE,
    "KES periods for which the certificate is good, the running one counted; 0 and less: expired",
    _KEYS,
    f"{_WITHOUT_CERTIFICATE}; and where the network's calendar is not known",
)
EXPIRES_AT: Final = Described(
    "cardano_kes_expiry_timestamp_seconds",
    Kind.GAUGE,
    "When the certificate ceases to be good, in Unix time: rotate before",
    _KEYS,
    PERIODS_LEFT.left_out,
)

# --- the pool-wide lock ---

_UNMANAGED: Final = "without cluster management, and while the arbiter is silent"
LOCK_MEMBERS: Final = Described(
    PREFIX + "pool_lock_members",
    Kind.GAUGE,
    "Coordination APIs: held: that confirmed this pod's right from the pool-wide lock, and it stands; reachable: that "
    "answer; total: all",
    ("state", *_POOL),
    _UNMANAGED,
)
LOCK_HOLDER: Final = Described(
    PREFIX + "pool_lock_holder",
    Kind.GAUGE,
    "1 for the region whose cluster holds the pool-wide lock, as a majority of the coordination APIs says",
    (*_POOL, "region"),
    f"{_UNMANAGED}; and while nobody holds it, or this pod cannot tell",
)
LOCK_TOKEN: Final = Described(
    PREFIX + "pool_lock_token",
    Kind.GAUGE,
    "Fencing token of the pool-wide lock: rises with each new holder",
    left_out=_UNMANAGED,
)
CONFLICT: Final = Described(
    PREFIX + "pool_conflict",
    Kind.GAUGE,
    "Whether this cluster and another one are Enabled at once (0 or 1)",
    _POOL,
    _UNMANAGED,
)
CLUSTERS_ABLE: Final = Described(
    PREFIX + "pool_clusters_able",
    Kind.GAUGE,
    "Clusters of the pool that forge or could, as this pod sees them: neither Disabled nor silent, and led by a pod "
    "that is ready",
    _POOL,
    _UNMANAGED,
)
HEALTH_SECONDS: Final = Described(
    PREFIX + "health_check_response_seconds",
    Kind.GAUGE,
    "Seconds until the health endpoint's last answer was there",
    left_out="without an answer, and while no endpoint is checked",
)

# --- notifications ---

NOTICES: Final = Described(
    PREFIX + "notifications_total",
    Kind.COUNTER,
    "Notices for NOTIFY_URL: sent: that the receiver took; dropped: that nobody will get (refused, too old, too many); "
    "failed: attempts to send one that came to nothing, most of which are repeated",
    ("outcome",),
)
NOTICES_QUEUED: Final = Described(
    PREFIX + "notifications_queued",
    Kind.GAUGE,
    "Notices that wait to be sent; 1 after a fault that ended them, until the prober is restarted",
    left_out="without NOTIFY_URL, and while the prober is silent",
)

# --- Kubernetes ---

API_REQUESTS: Final = Described(
    PREFIX + "api_requests_total",
    Kind.COUNTER,
    "Requests to Kubernetes API servers, the elector's and the arbiter's",
    ("verb",),
)
API_FAILURES: Final = Described(
    PREFIX + "api_failures_total", Kind.COUNTER, "Requests to Kubernetes API servers that failed"
)

# --- the sidecar itself ---

WORKER_UP: Final = Described(
    PREFIX + "worker_up", Kind.GAUGE, "Whether a worker's published state is still valid", ("worker",)
)
WORKER_RESTARTS: Final = Described(
    PREFIX + "worker_restarts_total", Kind.COUNTER, "Restarts of a worker seen by the gateway", ("worker",)
)
_UNMEASURED: Final = "before a worker has measured itself (five seconds after its start), and while it is silent"
WORKER_CPU: Final = Described(
    PREFIX + "worker_cpu_seconds_total",
    Kind.COUNTER,
    "CPU time that a worker used, by its own account, each half minute",
    ("worker",),
)
WORKER_MEMORY: Final = Described(
    PREFIX + "worker_memory_bytes",
    Kind.GAUGE,
    "A worker's share of memory (PSS: what it shares with others is divided by their number), by its own account, each "
    "half minute",
    ("worker",),
    f"{_UNMEASURED}; and where the kernel does not tell",
)
WORKER_FILES: Final = Described(
    PREFIX + "worker_open_files",
    Kind.GAUGE,
    "Descriptors that a worker holds open, by its own account, each half minute",
    ("worker",),
    _UNMEASURED,
)
SANDBOX_CLOSED: Final = Described(
    PREFIX + "sandbox_closed",
    Kind.GAUGE,
    "Whether a worker's sandbox is closed as declared (0 or 1; 0 only with SANDBOX=permissive)",
    ("worker",),
    "while the worker is silent",
)
VIOLATIONS: Final = Described(
    PREFIX + "privilege_violations",
    Kind.GAUGE,
    "What a worker could do at its last self-audit that it does not declare",
    ("worker",),
    "before the worker's first self-audit, and while it is silent",
)
UNAUTHORIZED: Final = Described(
    PREFIX + "unauthorized_total",
    Kind.COUNTER,
    "Requests that needed the token of GATEWAY_TOKEN_FILE and showed none, or showed a wrong one (a browser asks once "
    "without, before it asks its user)",
    ("shown",),
)
FILE_UNUSABLE: Final = Described(
    PREFIX + "gateway_file_unusable",
    Kind.GAUGE,
    "Whether what the gateway's token or certificate file holds cannot be used (0 or 1): the one before stays in use",
    ("file",),
    "for what is not set",
)
BUILD: Final = Described(PREFIX + "build_info", Kind.GAUGE, "Always 1", ("version",))

GROUPS: Final = (
    Group("This pod", (FORGING, INTENDED, LEADING, CHANGES, SIGHUPS, OPERATIONS)),
    Group("Its cluster", (CLUSTER_ENABLED, CLUSTER_PRIORITY, HEALTH_SUCCESS, HEALTH_FAILURES, HEALTH_SECONDS)),
    Group(
        "Taking over",
        (READY, PAUSED, TAKEOVERS, WITHOUT_FORGER, GRANT_LEFT, RENEWAL_MARGIN, USUAL_MARGIN, FENCE_STATE, KILLS),
    ),
    Group("The node", (FIT, STARTED_PRODUCING, TIP_LAG, NEXT_SLOT)),
    Group("Keys", (FINDINGS, OPCERT_COUNTER, PERIODS_LEFT, EXPIRES_AT)),
    Group("The pool-wide lock", (LOCK_HOLDER, LOCK_MEMBERS, LOCK_TOKEN, CLUSTERS_ABLE, CONFLICT)),
    Group("Notifications", (NOTICES, NOTICES_QUEUED)),
    Group("Kubernetes", (API_REQUESTS, API_FAILURES)),
    Group(
        "The sidecar itself",
        (
            WORKER_UP,
            WORKER_RESTARTS,
            WORKER_CPU,
            WORKER_MEMORY,
            WORKER_FILES,
            SANDBOX_CLOSED,
            VIOLATIONS,
            UNAUTHORIZED,
            FILE_UNUSABLE,
            BUILD,
        ),
    ),
)
EVERY: Final = {each.name: each for group in GROUPS for each in group.members}
"""By name."""
