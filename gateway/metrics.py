"""The pod's Prometheus metrics: names and labels of the contract, and our own beside them.

Counters are those of the workers, added up over their restarts: a worker that starts anew begins at zero, the total
shown here does not.  A gauge that would have to guess shows the safe value: 0 for forging and leading.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.views import WATCHED, Picture
from ipc.messages import ActuatorState, ElectorState, Fence, StartFlag, State, Worker

PREFIX: Final = "cardano_forge_manager_"


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
        if known is not None and known[0] != state.instance:
            self._finished.update(known[1])
            self.restarts[state.worker] += 1
        self._living[state.worker] = (state.instance, counters)

    def of(self, name: str) -> dict[str, int]:
        """Label (or joined labels) -> total."""
        total = Counter(self._finished)
        for _, counters in self._living.values():
            total.update(counters)
        return {label: value for (kind, label), value in sorted(total.items()) if kind == name}


def _counters(state: State) -> Counter[tuple[str, str]]:
    found: Counter[tuple[str, str]] = Counter()

    def add(name: str, values: Mapping[str, int]) -> None:
        for label, value in values.items():
            found[name, label] += value

    match state.body:
        case ElectorState() as body:
            found["changes", ""] += body.changes_total
            found["api_failures", ""] += body.failures_total
            add("api_requests", body.requests_total)
        case ActuatorState() as body:
            add("sighups", body.sighups_total)
            add("operations", body.operations_total)
            add("kills", body.kills_total)
        case _:
            pass
    return found


class PodCollector(Collector):
    """`collect()` renders the picture that `look` gives at that instant."""

    def __init__(self) -> None:
        self.picture: Picture | None = None
        self.totals = Totals()

    def collect(self) -> Iterator[Metric]:
        if self.picture is None:
            return
        yield from self._local(self.picture)
        yield from self._counters()
        yield from self._cluster(self.picture)
        yield from self._own(self.picture)

    def _local(self, picture: Picture) -> Iterator[Metric]:
        config = picture.config
        labels = ["pod", "network", "pool_id", "application"]
        values = [config.pod_name, config.cardano_network, config.pool_label, config.application_type]
        forging = GaugeMetricFamily(
            "cardano_forging_enabled", "Whether pod is actively forging (0 or 1), as its node confirmed", labels=labels
        )
        forging.add_metric(values, int(picture.forging))
        yield forging
        leader = GaugeMetricFamily("cardano_leader_status", "Whether pod is elected leader (0 or 1)", labels=labels)
        leader.add_metric(values, int(picture.leading))
        yield leader

    def _counters(self) -> Iterator[Metric]:
        totals = self.totals
        changes = CounterMetricFamily("cardano_leadership_changes_total", "Total leadership transitions of this pod")
        changes.add_metric([], totals.of("changes").get("", 0))
        yield changes
        sighups = CounterMetricFamily(
            "cardano_sighup_signals_total", "SIGHUP signals sent to cardano-node", labels=["reason"]
        )
        for reason, count in totals.of("sighups").items():
            sighups.add_metric([reason], count)
        yield sighups
        operations = CounterMetricFamily(
            "cardano_credential_operations_total", "Credential file operations", labels=["operation", "file"]
        )
        for label, count in totals.of("operations").items():
            operations.add_metric(label.split("/", 1), count)
        yield operations

    def _cluster(self, picture: Picture) -> Iterator[Metric]:
        config = picture.config
        labels = ["cluster", "region", "network", "pool_id"]
        values = [config.cluster, config.cluster_region, config.cardano_network, config.pool_label]
        granted = picture.leading and picture.arbiter is not None and picture.arbiter.grant is not None
        enabled = GaugeMetricFamily(
            "cardano_cluster_forge_enabled",
            "Whether cluster is enabled for forging: 1 on the pod that leads it, 0 on its standbys, so that the sum "
            "over all pods of a pool is the number of clusters that forge",
            labels=labels,
        )
        enabled.add_metric(values, int(granted))
        yield enabled
        priority = GaugeMetricFamily(
            "cardano_cluster_forge_priority", "Effective priority of cluster (1 is highest)", labels=labels
        )
        priority.add_metric(values, config.cluster_priority)
        yield priority
        success = GaugeMetricFamily(
            "cardano_cluster_health_check_success",
            "Health check success status; 1 when no endpoint is configured",
            labels=["cluster"],
        )
        success.add_metric([config.cluster], 1)
        yield success
        failures = GaugeMetricFamily(
            "cardano_cluster_health_check_consecutive_failures",
            "Consecutive health check failures; 0 when no endpoint is configured",
            labels=["cluster"],
        )
        failures.add_metric([config.cluster], 0)
        yield failures

    def _own(self, picture: Picture) -> Iterator[Metric]:
        up = GaugeMetricFamily(PREFIX + "worker_up", "Whether a worker's state is fresh", labels=["worker"])
        restarts = CounterMetricFamily(PREFIX + "worker_restarts_total", "Restarts seen", labels=["worker"])
        for worker in WATCHED:
            up.add_metric([str(worker)], int(picture.fresh(worker) is not None))
            restarts.add_metric([str(worker)], self.totals.restarts[worker])
        yield up
        yield restarts
        left = GaugeMetricFamily(
            PREFIX + "grant_seconds_left", "Seconds until a grant ends; 0 without one", labels=["issuer"]
        )
        for name, body in (("elector", picture.elector), ("arbiter", picture.arbiter)):
            left.add_metric([name], picture.seconds_left(body.grant if body is not None else None) or 0)
        yield left
        fence = GaugeMetricFamily(
            PREFIX + "fence_state", "The actuator's state, 1 for the one it is in", labels=["state"]
        )
        for state in Fence:
            fence.add_metric([str(state)], int(picture.actuator is not None and picture.actuator.fence is state))
        yield fence
        yield from self._node(picture)
        for name, text, label in (
            ("api_requests", "Requests to the API server", "verb"),
            ("kills", "Signals that ended a node which did not confirm that it stopped", "signal"),
        ):
            family = CounterMetricFamily(
                PREFIX + ("node_kills_total" if name == "kills" else name + "_total"), text, labels=[label]
            )
            for value, count in self.totals.of(name).items():
                family.add_metric([value], count)
            yield family
        failed = CounterMetricFamily(PREFIX + "api_failures_total", "Requests to the API server that failed")
        failed.add_metric([], self.totals.of("api_failures").get("", 0))
        yield failed
        build = GaugeMetricFamily(PREFIX + "build_info", "Always 1", labels=["version"])
        build.add_metric([picture.version], 1)
        yield build

    def _node(self, picture: Picture) -> Iterator[Metric]:
        actuator, prober = picture.actuator, picture.prober
        fit = GaugeMetricFamily(PREFIX + "node_fit", "Whether the node is fit to forge")
        fit.add_metric([], int(prober is not None and prober.fit))
        yield fit
        node = actuator.node if actuator is not None else None
        flag = GaugeMetricFamily(
            PREFIX + "node_started_producing",
            "1 if the node was started without --start-as-non-producing-node: dangerous, add the flag",
        )
        flag.add_metric([], int(node is not None and node.flag is StartFlag.PRODUCING))
        yield flag
        if prober is not None and prober.tip_lag_s is not None:
            lag = GaugeMetricFamily(PREFIX + "tip_lag_seconds", "Seconds the node's tip lies behind")
            lag.add_metric([], prober.tip_lag_s)
            yield lag
