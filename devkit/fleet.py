"""A pool in several clusters: an API server, and some pods, for each region; each pod reaches each server by a proxy.

The regions' servers are the coordination APIs, in the order of the regions.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from devkit import keys
from devkit.api.server_protocol import ADMIN, SyncApiServer
from devkit.pod import NAMESPACE, MemoryFolder, Pod
from devkit.pods import SERVICE_ACCOUNT, PodSet, prepare
from devkit.proxy import FaultyProxy
from devkit.realapi.client import AdminClient

__all__ = ["SERVICE_ACCOUNT", "Fleet"]

_MANIFEST: Final = Path(__file__).parent.parent / "deploy" / "rbac" / "pool.yaml"
_EXAMPLE: Final = ("mainnet", "pool1abcd1", "us-east-1", SERVICE_ACCOUNT)
"""Network, pool, region and account in it."""


class Fleet(PodSet):
    """Regions with their pods.  Priorities are 1, 2, 3, ... in the order of the regions."""

    def __init__(
        self,
        apis: Mapping[str, SyncApiServer],
        *,
        pods_each: int = 2,
        members: int = 0,
        settings: Sequence[str] = (),
        namespace: str = NAMESPACE,
        network: str = "mainnet",
        account: str = SERVICE_ACCOUNT,
        prefix: str = "",
        environment: dict[str, str] | None = None,
        hold_down_s: float = 2.0,
        seed: bytes | None = None,
    ) -> None:
        """`apis`: region -> its server.  `members`: how many of them coordinate, from the first on; 0: all.

        `settings`: what COORDINATION_KUBECONFIGS names in every region alike, "own" or a region, for one who has not
        read that each region needs its own; empty: as it should be.
        `seed`: of the pool's keys, for who is going to rotate them.
        Several pools may share servers and namespace, with an account each, and a prefix for the names of the pods.
        """
        self._folder = MemoryFolder()
        self.root = self._folder.path
        self.apis = dict(apis)
        self.namespace, self.network, self.account = namespace, network, account
        made = keys.generate(self.root / "keys", kes_period=keys.current_kes_period(network), seed=seed)
        (made.folder / "cold.skey").unlink()
        self.pool_id = made.pool_id
        self.admins = {region: AdminClient(a.url, a.ca_file, a.token_for(ADMIN)) for region, a in self.apis.items()}
        users = {region: self._prepare(region) for region in self.apis}
        coordinators = list(self.apis)[: members or len(self.apis)]
        self.proxies: dict[tuple[str, str], FaultyProxy] = {}
        """(pod, region of the server) -> its path."""
        self.regions: dict[str, list[Pod]] = {}
        self.began = time.monotonic_ns()
        for number, region in enumerate(self.apis):
            self.regions[region] = []
            for index in range(pods_each):
                name = f"{prefix}{region}-{index}"
                for other in {region, *coordinators}:
                    self.proxies[name, other] = FaultyProxy(self.apis[other], users[other])
                given = {
                    "ENABLE_CLUSTER_MANAGEMENT": "true",
                    "CARDANO_NETWORK": network,
                    "POOL_ID": self.pool_id,
                    "LEASE_NAME": "",  # by the pool
                    "CLUSTER_REGION": region,
                    "CLUSTER_PRIORITY": str(number + 1),
                    "PREEMPTION_DELAY": str(hold_down_s),
                    "COORDINATION_KUBECONFIGS": ",".join(
                        "own" if each == "own" else self._kubeconfig(name, each)
                        for each in settings or ["own" if each == region else each for each in coordinators]
                    ),
                }
                self.regions[region].append(
                    Pod(
                        name,
                        self.root,
                        self.proxies[name, region],
                        made.folder,
                        namespace=namespace,
                        environment=given | (environment or {}),
                    )
                )
        self.pods = [pod for pods in self.regions.values() for pod in pods]
        self.paths = list(self.proxies.values())

    def _prepare(self, region: str) -> str:
        """The role of each region on this region's server; who the pods are there."""
        user = ADMIN
        for each in self.apis:
            ours = (self.network, self.pool_id[:10], each, self.account)
            names = dict(zip(_EXAMPLE, ours, strict=True))
            api, admin = self.apis[region], self.admins[region]
            user = prepare(api, admin, self.namespace, _MANIFEST, names=names, account=self.account)
        return user

    def _kubeconfig(self, pod: str, other: str) -> str:
        """Of a pod for a region's server."""
        folder = self.root / "coordination"
        folder.mkdir(exist_ok=True)
        path = folder / f"{pod}-{other}"
        server = {"server": self.proxies[pod, other].url}
        path.write_text(
            f"apiVersion: v1\nkind: Config\ncurrent-context: x\nclusters: [{{name: c, cluster: {server!r}}}]\n"
            "users: [{name: u, user: {}}]\n"
            f"contexts: [{{name: x, context: {{cluster: c, user: u, namespace: {self.namespace}}}}}]\n"
        )
        return str(path)

    def describe(self, since: int | None = None) -> str:
        """The pods' condition, each region's object on each server, and what the leading pods' arbiters are about."""
        lines = [super().describe(since), "=== the objects"]
        for on in self.apis:
            for region in self.apis:
                try:
                    body = self.cluster(region, on=on)
                except OSError as error:
                    lines.append(f"{region} on {on}: {error}")
                    continue
                marks = body.get("metadata", {}).get("annotations")
                lines.append(
                    f"{region} on {on}: {json.dumps(body.get('spec'))} {marks} {json.dumps(body.get('status'))}"
                )
        for pod in self.pods:
            shown = pod.status()
            if (shown.get("leader") or {}).get("role") == "leader":
                lines.append(f"=== {pod.name}: {json.dumps(shown.get('pool'))}")
                lines.append(pod.forgectl("inspect", "arbiter", "--tasks").stdout)
        return "\n".join(lines)

    # --- what an operator sees and does ---

    def object_name(self, region: str) -> str:
        return f"{self.network}-{self.pool_id[:10]}-{region}"

    def object_path(self, region: str) -> str:
        """Of a region's CardanoForgeCluster, on each server."""
        return f"/apis/cardano.io/v1/namespaces/{self.namespace}/cardanoforgeclusters/{self.object_name(region)}"

    def cluster(self, region: str, *, on: str = "") -> dict[str, Any]:
        """The CardanoForgeCluster of a region, on a server (the first, if none is named); empty: there is none."""
        answer = self.admins[on or next(iter(self.apis))].request("GET", self.object_path(region))
        return answer.body if answer.code == HTTPStatus.OK else {}

    def patch(self, region: str, body: dict[str, Any], *, on: str = "") -> None:
        """A merge patch of a region's CardanoForgeCluster, on a server (the first, if none is named).  SetupError."""
        self.admins[on or next(iter(self.apis))].merge(self.object_path(region), body)

    def forging_region(self) -> str:
        """The one whose node says that it forges; empty: none, or more than one."""
        forging = self.forgers()
        found = [region for region, pods in self.regions.items() if any(pod in pods for pod in forging)]
        return found[0] if len(forging) == 1 else ""

    def wait_for_region(self, region: str, seconds: float = 60) -> None:
        """Until exactly this region forges."""
        self.wait_for(lambda: self.forging_region() == region, seconds, f"{region} forges")

    def path(self, pod: Pod, region: str) -> FaultyProxy:
        """From a pod to a region's server."""
        return self.proxies[pod.name, region]
