"""The pod's Prometheus metrics: names and labels of the contract, and our own beside them.

Counters are those of the workers, added up over their restarts: a worker that starts anew begins at zero, the total
shown here does not.  Labels that are known beforehand stand at 0 from the start, so that an alert on an increase sees
the first one.  A gauge that would have to guess shows the safe value (0 for forging and leading) or is left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.views import SANDBOXED, WATCHED, Picture
from health.reach import wanted
from ipc.messages import (
    ActuatorState,
    ArbiterState,
    Check,
    ElectorState,
    Fence,
    PoolState,
    Severity,
    StartFlag,
    State,
    Worker,
)

PREFIX: Final = "cardano_forge_manager_"

HUP_REASONS: Final = ("enable", "disable", "rotate", "repeat", "startup", "rogue")
FILES: Final = ("kes.skey", "vrf.skey", "node.cert")
OPERATIONS: Final = tuple(f"{operation}/{file}" for operation in ("install", "remove", "repair") for file in FILES)
SIGNALS: Final = ("SIGTERM", "SIGKILL")
MOST_COUNTERS: Final = 256
"""Of one worker, and of all that ended: ten times what honest ones count.  One gone bad fills no memory with labels."""


class Totals:
    """Counters that survive the restart of the worker they come from."""

    def __init__(self) -> None:
        self._finished: Counter[tuple[str, str]] = Counter()
        self._living: dict[Worker, tuple[str, Counter[tuple[str, str]]]] = {}
        self.restarts: Counter[Worker] = Counter()

    def take(self, state: State) -> None:
        """Note a state's counters; a new instance begins where the old one ended."""
        counters = _counters(state)
        known = self._living.get(state.worker)
        if known is not None and known[0] == state.instance:
            counters = _bounded(known[1] | counters)  # the greater of each: no total ever goes down
        elif known is not None:
            self._finished = _bounded(self._finished + known[1])
            self.restarts[state.worker] += 1
        self._living[state.worker] = (state.instance, counters)

    def of(self, name: str, known: Sequence[str] = ()) -> dict[str, int]:
        """Label (or labels joined by '/') -> total; those in `known` even if nothing was counted yet."""
        total = Counter(self._finished)
        for _, counters in self._living.values():
            total.update(counters)
        found = dict.fromkeys(known, 0)
        return found | {label: value for (kind, label), value in sorted(total.items()) if kind == name}


def _counters(state: State) -> Counter[tuple[str, str]]:
    found: Counter[tuple[str, str]] = Counter()

    def add(name: str, values: Mapping[str, int]) -> None:
        for label, value in values.items():
            found[name, label] += max(value, 0)

    match state.body:
        case ElectorState() as body:
            add("changes", {"": body.changes_total})
            add("api_failures", {"": body.failures_total})
            add("api_requests", body.requests_total)
        case ArbiterState() as body:
            add("api_failures", {"": body.failures_total})
            add("api_requests", body.requests_total)
        case ActuatorState() as body:
            add("sighups", body.sighups_total)
            add("operations", body.operations_total)
            add("kills", body.kills_total)
        case _:
            pass
    return found


def _bounded(counters: Counter[tuple[str, str]]) -> Counter[tuple[str, str]]:
    """Those that were counted first."""
    return Counter(dict(islice(counters.items(), MOST_COUNTERS)))


class PodCollector(Collector):
    """`collect()` renders the picture that `look` gives at that instant."""

    def __init__(self, look: Callable[[], Picture], totals: Totals) -> None:
        self._look = look
        self._totals = totals

    def describe(self) -> Sequence[Metric]:
        """Nothing beforehand: registering must not look."""
        return ()

    def collect(self) -> Iterator[Metric]:
        picture = self._look()
        yield from self._local(picture)
        yield from self._counters()
        yield from self._cluster(picture)
        yield from self._workers(picture)
        yield from self._sandboxes(picture)
        yield from self._fence(picture)
        yield from self._node(picture)
        yield from self._credentials(picture)
        yield from self._api()
        build = GaugeMetricFamily(PREFIX + "build_info", "Always 1", labels=["version"])
        build.add_metric([picture.version], 1)
        yield build

    def _local(self, picture: Picture) -> Iterator[Metric]:
        config = picture.config
        labels = ["pod", "network", "pool_id", "application"]
        values = [config.pod_name, config.cardano_network, config.pool_label, config.application_type]
        forging = GaugeMetricFamily(
            "cardano_forging_enabled",
            "Whether pod is actively forging (0 or 1), as its node confirmed; 0 while nothing is known",
            labels=labels,
        )
        forging.add_metric(values, int(picture.forging))
        yield forging
        leader = GaugeMetricFamily(
            "cardano_leader_status",
            "Whether pod is elected leader (0 or 1); 0 while nothing is known",
            labels=labels,
        )
        leader.add_metric(values, int(picture.leading))
        yield leader

    def _counters(self) -> Iterator[Metric]:
        yield _counter(
            "cardano_leadership_changes_total",
            "Total leadership transitions: times this pod became or ceased to be leader",
            self._totals.of("changes", [""]),
        )
        yield _counter(
            "cardano_sighup_signals_total",
            "SIGHUP signals sent to cardano-node",
            self._totals.of("sighups", HUP_REASONS),
            "reason",
        )
        yield _counter(
            "cardano_credential_operations_total",
            "Credential file operations",
            self._totals.of("operations", OPERATIONS),
            "operation",
            "file",
        )

    def _cluster(self, picture: Picture) -> Iterator[Metric]:
        config = picture.config
        labels = ["cluster", "region", "network", "pool_id"]
        values = [config.cluster, config.cluster_region, config.cardano_network, config.pool_label]
        enabled = GaugeMetricFamily(
            "cardano_cluster_forge_enabled",
            "Whether cluster is enabled for forging: 1 on the one pod that leads it and has the arbiter's grant (with "
            "cluster management: of the pool-wide lock), 0 on all others, so the sum over all pods of a pool is the "
            "number of clusters that may forge: 1, or 0 during a change",
            labels=labels,
        )
        enabled.add_metric(values, int(picture.enabled))
        yield enabled
        priority = GaugeMetricFamily(
            "cardano_cluster_forge_priority",
            "Effective priority of cluster (1 is highest): with cluster management by its CardanoForgeCluster, with "
            "what its health costs; else CLUSTER_PRIORITY",
            labels=labels,
        )
        pool = picture.pool
        priority.add_metric(values, config.cluster_priority if pool is None else pool.priority)
        yield priority
        if pool is not None:
            yield from self._pool(pool, picture.now)
        yield from self._health(picture)

    def _pool(self, pool: PoolState, now: int) -> Iterator[Metric]:
        """Of cluster management only, and only while the arbiter is heard of."""
        members = GaugeMetricFamily(
            PREFIX + "pool_lock_members",
            "Coordination APIs: held: that confirmed this pod's right from the pool-wide lock, and it stands; "
            "reachable: that answer; total: all",
            labels=["state"],
        )
        members.add_metric(["held"], sum(now < member.ours_until for member in pool.members))
        members.add_metric(["reachable"], sum(member.api_ok for member in pool.members))
        members.add_metric(["total"], len(pool.members))
        yield members
        token = GaugeMetricFamily(
            PREFIX + "pool_lock_token", "Fencing token of the pool-wide lock: rises with each new holder"
        )
        token.add_metric([], pool.fencing_token)
        yield token
        conflict = GaugeMetricFamily(
            PREFIX + "pool_conflict", "Whether this cluster and another one are Enabled at once (0 or 1)"
        )
        conflict.add_metric([], int(pool.conflict))
        yield conflict

    def _health(self, picture: Picture) -> Iterator[Metric]:
        """A silent prober says nothing of the endpoint, where there may be one."""
        cluster, prober = picture.config.cluster, picture.prober
        report = prober.health if prober is not None else None
        success = GaugeMetricFamily(
            "cardano_cluster_health_check_success",
            "Health check success status (0 or 1): whether the last check succeeded; 1 while no endpoint is checked",
            labels=["cluster"],
        )
        failures = GaugeMetricFamily(
            "cardano_cluster_health_check_consecutive_failures",
            "Consecutive health check failures; 0 while no endpoint is checked",
            labels=["cluster"],
        )
        if prober is not None or not wanted(picture.config):
            count = report.consecutive_failures if report is not None else 0
            success.add_metric([cluster], int(count == 0))
            failures.add_metric([cluster], count)
        yield success
        yield failures
        if report is not None and report.response_s is not None:
            seconds = GaugeMetricFamily(
                PREFIX + "health_check_response_seconds", "Seconds until the health endpoint's last answer was there"
            )
            seconds.add_metric([], report.response_s)
            yield seconds

    def _workers(self, picture: Picture) -> Iterator[Metric]:
        up = GaugeMetricFamily(
            PREFIX + "worker_up", "Whether a worker's published state is still valid", labels=["worker"]
        )
        for worker in WATCHED:
            up.add_metric([str(worker)], int(picture.fresh(worker) is not None))
        yield up
        yield _counter(
            PREFIX + "worker_restarts_total",
            "Restarts of a worker seen by the gateway",
            {str(worker): self._totals.restarts[worker] for worker in WATCHED},
            "worker",
        )

    def _sandboxes(self, picture: Picture) -> Iterator[Metric]:
        """A silent worker says nothing of its sandbox, nor one that was not audited yet of violations."""
        closed = GaugeMetricFamily(
            PREFIX + "sandbox_closed",
            "Whether a worker's sandbox is closed as declared (0 or 1; 0 only with SANDBOX=permissive)",
            labels=["worker"],
        )
        violations = GaugeMetricFamily(
            PREFIX + "privilege_violations",
            "What a worker could do at its last self-audit that it does not declare",
            labels=["worker"],
        )
        for worker in SANDBOXED:
            sandbox = picture.sandbox(worker)
            if sandbox is not None:
                closed.add_metric([str(worker)], int(sandbox.closed))
                if sandbox.audited_at:
                    violations.add_metric([str(worker)], len(sandbox.violations))
        yield closed
        yield violations

    def _fence(self, picture: Picture) -> Iterator[Metric]:
        left = GaugeMetricFamily(
            PREFIX + "grant_seconds_left", "Seconds until a grant ends; 0 without one", labels=["issuer"]
        )
        for name, body in (("elector", picture.elector), ("arbiter", picture.arbiter)):
            left.add_metric([name], picture.seconds_left(body.grant if body is not None else None) or 0)
        yield left
        fence = GaugeMetricFamily(
            PREFIX + "fence_state",
            "What the actuator knows of its node's forging: 1 for the state it is in, all 0 while it is silent",
            labels=["state"],
        )
        for state in Fence:
            fence.add_metric([str(state)], int(picture.actuator is not None and picture.actuator.fence is state))
        yield fence
        yield _counter(
            PREFIX + "node_kills_total",
            "Signals that ended a node which did not confirm that it stopped forging",
            self._totals.of("kills", SIGNALS),
            "signal",
        )

    def _node(self, picture: Picture) -> Iterator[Metric]:
        actuator, prober = picture.actuator, picture.prober
        fit = GaugeMetricFamily(PREFIX + "node_fit", "Whether the node is fit to forge (0 or 1)")
        fit.add_metric([], int(prober is not None and prober.fit))
        yield fit
        if actuator is not None:
            flag = GaugeMetricFamily(
                PREFIX + "node_started_producing",
                "1 if the node was started without --start-as-non-producing-node: dangerous, add the flag",
            )
            flag.add_metric([], int(actuator.node is not None and actuator.node.flag is StartFlag.PRODUCING))
            yield flag
        if prober is not None and prober.tip_lag_s is not None:
            lag = GaugeMetricFamily(
                PREFIX + "tip_lag_seconds", "Seconds the node's tip lies behind the wall clock's slot"
            )
            lag.add_metric([], prober.tip_lag_s)
            yield lag

    def _credentials(self, picture: Picture) -> Iterator[Metric]:
        config, actuator = picture.config, picture.actuator
        if actuator is None:
            return
        labels = ["pod", "network", "pool_id"]
        values = [config.pod_name, config.cardano_network, config.pool_label]
        findings = GaugeMetricFamily(
            "cardano_credential_findings",
            "What is wrong with the KES key, the VRF key and the operational certificate in the secret: an error keeps "
            "this pod from contending",
            labels=[*labels, "severity", "check"],
        )
        found = Counter((finding.severity, finding.check) for finding in actuator.findings)
        for severity in (Severity.ERROR, Severity.WARNING):
            for check in Check:
                findings.add_metric([*values, str(severity), str(check)], found[severity, check])
        yield findings
        certificate = actuator.certificate
        if certificate is None:
            return
        for name, text, value in (
            ("cardano_opcert_counter", "The operational certificate's counter", certificate.counter),
            (
                "cardano_kes_periods_remaining",
                "KES periods for which the certificate is good, the running one counted; 0 and less: expired",
                certificate.periods_left,
            ),
            (
                "cardano_kes_expiry_timestamp_seconds",
                "When the certificate ceases to be good, in Unix time: rotate before",
                certificate.expires_at,
            ),
        ):
            if value is not None:
                gauge = GaugeMetricFamily(name, text, labels=labels)
                gauge.add_metric(values, value)
                yield gauge

    def _api(self) -> Iterator[Metric]:
        yield _counter(
            PREFIX + "api_requests_total",
            "Requests to Kubernetes API servers, the elector's and the arbiter's",
            self._totals.of("api_requests"),
            "verb",
        )
        yield _counter(
            PREFIX + "api_failures_total",
            "Requests to Kubernetes API servers that failed",
            self._totals.of("api_failures", [""]),
        )


def _counter(name: str, text: str, values: Mapping[str, int], *labels: str) -> Metric:
    """A counter with one sample a label; labels joined by '/' are taken apart."""
    family = CounterMetricFamily(name, text, labels=labels)
    for joined, value in values.items():
        parts = joined.split("/", len(labels) - 1) if labels else []
        if len(parts) == len(labels):
            family.add_metric(parts, value)
    return family
