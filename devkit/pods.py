"""Pods without a cluster: several of `devkit.pod` around one API server, and what their nodes' records say.

A cluster is a namespace with what an operator applies there (the role), a proxy and a pod each.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final, Self

import yaml

from devkit import keys, record
from devkit.api.server_protocol import ADMIN, ApiServer
from devkit.pod import LEASE, NAMESPACE, WORKERS, MemoryFolder, Pod
from devkit.proxy import FaultyProxy
from devkit.realapi.client import AdminClient

__all__ = ["LEASE", "NAMESPACE", "SERVICE_ACCOUNT", "WORKERS", "Cluster", "MemoryFolder", "Pod"]

SERVICE_ACCOUNT: Final = "cardano-forge-crds"
"""As deploy/rbac names it."""


class PodSet:
    """Some pods of one pool, and what their nodes' records say."""

    pods: list[Pod]
    began: int
    """CLOCK_MONOTONIC, ns."""
    paths: list[FaultyProxy]
    """From the pods to the API servers."""
    patience_s: float = 0.0
    """Beside each time that is waited or allowed for something, on a machine that is busy with other things."""
    _folder: MemoryFolder

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End everything; nothing is left, neither processes nor files."""
        for pod in self.pods:
            pod.begin_close()
        for pod in self.pods:
            pod.close()
        for path in self.paths:
            path.close()
        self._folder.close()

    # --- looking ---

    def nodes(self, now: int, since: int = -1) -> dict[str, list[record.Interval]]:
        """Name -> intervals up to now, without those that were over at `since`."""
        return {pod.name: pod.intervals(now, since) for pod in self.pods}

    def forgers(self) -> list[Pod]:
        """Pods whose nodes say in their records that they forge now."""
        at = time.monotonic_ns() - 1
        return [pod for pod in self.pods if pod.record.forges_at(at)]

    def leader(self) -> Pod:
        """The one that forges.  AssertionError: none does, or more than one."""
        forging = self.forgers()
        assert len(forging) == 1, f"forging: {[pod.name for pod in forging]}"
        return forging[0]

    def standbys(self) -> list[Pod]:
        forging = self.forgers()
        return [pod for pod in self.pods if pod not in forging]

    def overlap_s(self, since: int, until: int | None = None) -> float:
        """Seconds with two forgers from `since` to `until` (or now); CLOCK_MONOTONIC, ns."""
        end = until if until is not None else time.monotonic_ns()
        return record.overlap_s(self.nodes(end, since), since, end)

    def gap_s(self, since: int, until: int | None = None) -> float:
        """Seconds without a forger."""
        end = until if until is not None else time.monotonic_ns()
        return record.gap_s(self.nodes(end, since), since, end)

    # --- waiting ---

    def wait_for(self, what: Callable[[], bool], seconds: float, why: str) -> None:
        """Poll until true.  Raises TimeoutError with every pod's condition."""
        seconds += self.patience_s
        end = time.monotonic() + seconds
        while not what():
            for pod in self.pods:
                if pod.fault is not None:
                    raise RuntimeError(f"{pod.name}'s kubelet failed") from pod.fault
            if time.monotonic() > end:
                raise TimeoutError(f"{why}: not within {seconds:g} s\n{self.describe()}")
            time.sleep(0.02)

    def wait_for_one_forger(self, seconds: float = 60, *, other_than: Pod | None = None) -> Pod:
        """The forger, once there is exactly one (and it is not `other_than`)."""
        found: list[Pod] = []

        def one() -> bool:
            found[:] = self.forgers()
            return len(found) == 1 and found[0] is not other_than

        self.wait_for(one, seconds, "one node forges")
        return found[0]

    def wait_healthy(self, seconds: float = 60) -> None:
        """All pods up, fit, ready, and one of them forging."""
        self.wait_for_one_forger(seconds)
        self.wait_for(lambda: all(pod.healthy() for pod in self.pods), seconds, "all pods are ready")
        self.wait_for_one_forger(seconds)

    # --- telling ---

    def describe(self, since: int | None = None) -> str:
        """Each pod's condition, and what its node recorded and its sidecar logged since then (at most 120 lines)."""
        since = self.began if since is None else since
        began = time.time() - (time.monotonic_ns() - since) / record.NS
        began_text = time.strftime("%H:%M:%S", time.gmtime(began)) + f".{int(began % 1 * 1000):03d}"
        lines = [f"=== t=0 is {began_text} UTC"]
        for pod in self.pods:
            shown = pod.status()
            lines.append(f"--- {pod.name}: forging={shown.get('forging')} {json.dumps(shown.get('leader'))}")
            lines.append(f"    fence={json.dumps(shown.get('fence'))} ready={json.dumps(shown.get('ready'))}")
            lines += [f"    record {line}" for line in _since(pod.record_file, since)]
            for file in (pod.log, pod.root / "node.log"):
                if file.exists():
                    told = file.read_text(errors="replace").splitlines()
                    recent = [line for line in told if not line[:2].isdigit() or line[:12] >= began_text]
                    lines += [f"    {line}" for line in recent[-120:]]
        return "\n".join(lines)


class Cluster(PodSet):
    """Pods of one pool around one API server.

    namespace: of their own, so that several clusters can use one server.  Where the server knows the service account
    of deploy/rbac in that namespace, the pods are that account and have its role; else they are administrators.
    """

    def __init__(
        self,
        api: ApiServer,
        pods: int = 3,
        *,
        namespace: str = NAMESPACE,
        environment: dict[str, str] | None = None,
        node_flags: tuple[str, ...] = (),
        separation: str = "single-uid",
        uid: int | None = None,
        volumes_group: int | None = None,
        prefix: str = "pod",
        forge_manager: Path | None = None,
    ) -> None:
        self._folder = MemoryFolder()
        self.root = self._folder.path
        self.api = api
        self.namespace = namespace
        made = keys.generate(self.root / "keys", kes_period=keys.current_kes_period("mainnet"))
        (made.folder / "cold.skey").unlink()
        self.admin = AdminClient(api.url, api.ca_file, api.token_for(ADMIN))
        user = prepare(api, self.admin, namespace, _RBAC)
        self.proxies: list[FaultyProxy] = []
        self.paths = self.proxies
        self.kubeconfig = self.root / "kubeconfig"
        api.write_kubeconfig(self.kubeconfig)
        self.began = time.monotonic_ns()
        self.pods: list[Pod] = []
        self._next = partial(
            Pod,
            root=self.root,
            secrets_from=made.folder,
            namespace=namespace,
            environment=environment,
            node_flags=node_flags,
            separation=separation,
            uid=uid,
            volumes_group=volumes_group,
            forge_manager=forge_manager,
        )
        self._user, self._prefix = user, prefix
        self.paths.extend(FaultyProxy(api, user) for _ in range(pods))
        for proxy in self.proxies:
            self.pods.append(self._next(f"{prefix}-{len(self.pods)}", proxy=proxy))

    def add(self) -> Pod:
        """One more, started now."""
        self.proxies.append(FaultyProxy(self.api, self._user))
        self.pods.append(self._next(f"{self._prefix}-{len(self.pods)}", proxy=self.proxies[-1]))
        return self.pods[-1]


def prepare(
    api: ApiServer,
    admin: AdminClient,
    namespace: str,
    *manifests: Path,
    names: Mapping[str, str] | None = None,
    account: str = SERVICE_ACCOUNT,
) -> str:
    """What an operator applies before the first pod: namespace and roles.  Who the pods are.

    names: to be replaced in the manifests, as an operator does it who has another pool than theirs.
    """
    admin.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    user = f"system:serviceaccount:{namespace}:{account}"
    try:
        api.token_for(user)
    except KeyError:
        return ADMIN
    if admin.exists("/apis/rbac.authorization.k8s.io/v1"):
        for manifest in manifests:
            text = manifest.read_text()
            for old, new in (names or {}).items():
                text = text.replace(old, new)
            for document in yaml.safe_load_all(text):
                admin.create(document, namespace)
    return user


def _since(file: Path, since: int) -> list[str]:
    """The node's record but for its slots, in seconds from `since`."""
    events = [event for event in record.read(file) if event["event"] != "slot" and int(event["t"]) >= since]
    return [f"{(int(event['t']) - since) / record.NS:8.3f} {event['event']}" for event in events]


_RBAC: Final = Path(__file__).parent.parent / "deploy" / "rbac" / "role.yaml"
