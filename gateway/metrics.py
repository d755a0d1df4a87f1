"""The pod's Prometheus metrics, rendered from what the gateway sees: `gateway/catalogue.py` says what they mean.

Labels that are known beforehand stand at 0 from the start, so that an alert on an increase sees the first one.  A gauge
that would have to guess shows the safe value (0 for forging and leading) or is left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus
from itertools import accumulate
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway import catalogue
from gateway.catalogue import Described, Kind
from gateway.chronicle import BUCKETS_S, Chronicle
from gateway.token import Shown
from gateway.totals import UNAUTHORIZED, Totals
from gateway.views import SANDBOXED, WATCHED, Picture, ready, told_by_majority
from health.reach import wanted
from ipc.messages import CertificateView, Check, Fence, PoolState, Severity, StartFlag
from policy import timing

HUP_REASONS: Final = ("enable", "disable", "rotate", "repeat", "startup", "rogue")
FILES: Final = ("kes.skey", "vrf.skey", "node.cert")
OPERATIONS: Final = tuple(f"{operation}/{file}" for operation in ("install", "remove", "repair") for file in FILES)
SIGNALS: Final = ("SIGTERM", "SIGKILL")
OUTCOMES: Final = ("sent", "failed", "dropped")

Samples = Iterable[tuple[Sequence[str], float]]
"""Values of the labels, in the order of their description, and the sample's."""


class PodCollector(Collector):
    """`collect()` renders the picture that `look` gives at that instant."""

    def __init__(self, look: Callable[[], Picture], totals: Totals, chronicle: Chronicle) -> None:
        self._look = look
        self._totals = totals
        self._chronicle = chronicle

    def describe(self) -> Sequence[Metric]:
        """Nothing beforehand: registering must not look."""
        return ()

    def collect(self) -> Iterator[Metric]:
        picture = self._look()
        yield from _local(picture)
        yield from self._counters()
        yield from _cluster(picture)
        yield from self._taking_over(picture)
        yield from _node(picture)
        yield from _credentials(picture)
        if picture.pool is not None:
            yield from _pool(picture, picture.pool)
        yield from self._workers(picture)
        yield from _sandboxes(picture)
        yield _counter(catalogue.UNAUTHORIZED, self._totals.of(UNAUTHORIZED, (Shown.NOTHING, Shown.WRONG)))
        yield _metric(
            catalogue.FILE_UNUSABLE, [((name,), bool(problem)) for name, problem in picture.own_files.items()]
        )
        yield _metric(catalogue.BUILD, [((picture.version,), 1)])

    def _counters(self) -> Iterator[Metric]:
        totals = self._totals
        yield _counter(catalogue.CHANGES, totals.of("changes", [""]))
        yield _counter(catalogue.SIGHUPS, totals.of("sighups", HUP_REASONS))
        yield _counter(catalogue.OPERATIONS, totals.of("operations", OPERATIONS))
        yield _counter(catalogue.KILLS, totals.of("kills", SIGNALS))
        yield _counter(catalogue.NOTICES, totals.of("notices", OUTCOMES))
        yield _counter(catalogue.API_REQUESTS, totals.of("api_requests"))
        yield _counter(catalogue.API_FAILURES, totals.of("api_failures", [""]))

    def _taking_over(self, picture: Picture) -> Iterator[Metric]:
        chronicle, actuator = self._chronicle, picture.actuator
        bounds = [*(str(bound) for bound in BUCKETS_S), "+Inf"]
        histogram = HistogramMetricFamily(catalogue.TAKEOVERS.name, catalogue.TAKEOVERS.help)
        histogram.add_metric(
            [],
            list(zip(bounds, accumulate(chronicle.takeovers), strict=True)),
            chronicle.takeover_ns / timing.SECOND,
        )
        yield histogram
        yield _metric(catalogue.WITHOUT_FORGER, [((), chronicle.without_forger / timing.SECOND)])
        grants = {"elector": picture.elector, "arbiter": picture.arbiter}
        left = ((name, picture.seconds_left(body.grant if body is not None else None)) for name, body in grants.items())
        yield _metric(catalogue.GRANT_LEFT, [((name,), seconds or 0) for name, seconds in left])
        if picture.elector is not None and picture.elector.renewal_margin is not None:
            yield _metric(catalogue.RENEWAL_MARGIN, [((), picture.elector.renewal_margin / timing.SECOND)])
        config = picture.config
        usual = timing.usual_margin(config.lease_duration_ns, config.sleep_interval_ns)
        yield _metric(catalogue.USUAL_MARGIN, [((), usual / timing.SECOND)])
        fences = (((str(state),), actuator is not None and actuator.fence is state) for state in Fence)
        yield _metric(catalogue.FENCE_STATE, fences)

    def _workers(self, picture: Picture) -> Iterator[Metric]:
        up = (((str(worker),), picture.fresh(worker) is not None) for worker in WATCHED)
        yield _metric(catalogue.WORKER_UP, up)
        yield _counter(catalogue.WORKER_RESTARTS, {str(worker): self._totals.restarts[worker] for worker in SANDBOXED})
        cpu = self._totals.of("cpu_ms", [str(worker) for worker in SANDBOXED])
        yield _metric(catalogue.WORKER_CPU, [((worker,), ms / 1000) for worker, ms in cpu.items()])
        costs = {str(worker): picture.cost(worker) for worker in SANDBOXED}
        known = {worker: cost for worker, cost in costs.items() if cost is not None and cost.measured_at}
        memory = (((worker,), cost.memory_bytes) for worker, cost in known.items() if cost.memory_bytes)
        yield _metric(catalogue.WORKER_MEMORY, memory)
        files = (((worker,), cost.open_files) for worker, cost in known.items() if cost.open_files)
        yield _metric(catalogue.WORKER_FILES, files)


def _local(picture: Picture) -> Iterator[Metric]:
    config = picture.config
    pod = (config.pod_name, config.cardano_network, config.pool_label, config.application_type)
    yield _metric(catalogue.FORGING, [(pod, picture.forging)])
    yield _metric(catalogue.INTENDED, [(pod, picture.intended)])
    yield _metric(catalogue.LEADING, [(pod, picture.leading)])
    yield _metric(catalogue.READY, [(pod, ready(picture).status == HTTPStatus.OK)])
    whose = config.cluster_region, config.cardano_network, config.pool_label
    told = {"lease": picture.elector, "pool_lock": picture.pool}
    paused = (((what, *whose), bool(body.paused)) for what, body in told.items() if body is not None)
    yield _metric(catalogue.PAUSED, paused)


def _cluster(picture: Picture) -> Iterator[Metric]:
    config, pool = picture.config, picture.pool
    cluster = (config.cluster, config.cluster_region, config.cardano_network, config.pool_label)
    yield _metric(catalogue.CLUSTER_ENABLED, [(cluster, picture.enabled)])
    if pool is not None:
        yield _metric(catalogue.CLUSTER_PRIORITY, [(cluster, pool.priority)])
    elif not config.enable_cluster_management:
        yield _metric(catalogue.CLUSTER_PRIORITY, [(cluster, config.cluster_priority)])
    yield from _health(picture)


def _health(picture: Picture) -> Iterator[Metric]:
    """A silent prober says nothing of the endpoint, where there may be one."""
    prober = picture.prober
    report = prober.health if prober is not None else None
    known = prober is not None or not wanted(picture.config)
    failures = report.consecutive_failures if report is not None else 0
    cluster = (picture.config.cluster,)
    yield _metric(catalogue.HEALTH_SUCCESS, [(cluster, failures == 0)] if known else ())
    yield _metric(catalogue.HEALTH_FAILURES, [(cluster, failures)] if known else ())
    if report is not None and report.response_s is not None:
        yield _metric(catalogue.HEALTH_SECONDS, [((), report.response_s)])


def _node(picture: Picture) -> Iterator[Metric]:
    actuator, prober = picture.actuator, picture.prober
    yield _metric(catalogue.FIT, [((), prober is not None and prober.fit)])
    if actuator is not None:
        producing = actuator.node is not None and actuator.node.flag is StartFlag.PRODUCING
        yield _metric(catalogue.STARTED_PRODUCING, [((), producing)])
    if prober is not None and prober.leads_at:
        yield _metric(catalogue.NEXT_SLOT, [((), picture.seconds_until(prober.leads_at))])
    if prober is not None and prober.tip_lag_s is not None:
        yield _metric(catalogue.TIP_LAG, [((), prober.tip_lag_s)])
    if prober is not None and prober.notifications is not None:
        yield _metric(catalogue.NOTICES_QUEUED, [((), prober.notifications.queued)])


def _credentials(picture: Picture) -> Iterator[Metric]:
    config, actuator = picture.config, picture.actuator
    if actuator is None:
        return
    keys = (config.pod_name, config.cardano_network, config.pool_label)
    found = Counter((finding.severity, finding.check) for finding in actuator.findings)
    kinds = [(severity, check) for severity in (Severity.ERROR, Severity.WARNING) for check in Check]
    yield _metric(catalogue.FINDINGS, [((*keys, str(kind[0]), str(kind[1])), found[kind]) for kind in kinds])
    if actuator.certificate is not None:
        yield from _certificate(keys, actuator.certificate)


def _certificate(keys: tuple[str, ...], certificate: CertificateView) -> Iterator[Metric]:
    yield _metric(catalogue.OPCERT_COUNTER, [(keys, certificate.counter)])
    if certificate.periods_left is not None:
        yield _metric(catalogue.PERIODS_LEFT, [(keys, certificate.periods_left)])
    if certificate.expires_at is not None:
        yield _metric(catalogue.EXPIRES_AT, [(keys, certificate.expires_at)])


def _pool(picture: Picture, pool: PoolState) -> Iterator[Metric]:
    config = picture.config
    whose = (config.cardano_network, config.pool_label)
    region = pool.holder.removeprefix(f"{config.cardano_network}-{config.pool_label}-")
    known = region and told_by_majority(pool)
    yield _metric(catalogue.LOCK_HOLDER, [((*whose, region), 1)] if known else ())
    yield _metric(catalogue.CLUSTERS_ABLE, [(whose, sum(each.eligible for each in pool.clusters))])
    members = {
        "held": sum(picture.now < member.ours_until for member in pool.members),
        "reachable": sum(member.api_ok for member in pool.members),
        "total": len(pool.members),
    }
    yield _metric(catalogue.LOCK_MEMBERS, [((state, *whose), count) for state, count in members.items()])
    yield _metric(catalogue.LOCK_TOKEN, [((), pool.fencing_token)])
    yield _metric(catalogue.CONFLICT, [(whose, pool.conflict)])


def _sandboxes(picture: Picture) -> Iterator[Metric]:
    known = {str(worker): picture.sandbox(worker) for worker in SANDBOXED}
    there = {worker: sandbox for worker, sandbox in known.items() if sandbox is not None}
    yield _metric(catalogue.SANDBOX_CLOSED, [((worker,), each.closed) for worker, each in there.items()])
    audited = (((worker,), len(each.violations)) for worker, each in there.items() if each.audited_at)
    yield _metric(catalogue.VIOLATIONS, audited)


def _metric(described: Described, samples: Samples) -> Metric:
    kind = CounterMetricFamily if described.kind is Kind.COUNTER else GaugeMetricFamily
    family = kind(described.name, described.help, labels=described.labels)
    for labels, value in samples:
        family.add_metric(labels, float(value))
    return family


def _counter(described: Described, values: Mapping[str, int]) -> Metric:
    """One sample a label; labels joined by '/' are taken apart, and those that do not fit are left out."""
    count = len(described.labels)
    parted = ((joined.split("/", count - 1) if count else [], value) for joined, value in values.items())
    return _metric(described, [(labels, value) for labels, value in parted if len(labels) == count])
