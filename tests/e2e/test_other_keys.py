"""A node that was given other paths than the targets: one file under two names is fine, keys of its own are not."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from devkit.api.embedded import EmbeddedApi, ThreadedApi
from devkit.pod import MemoryFolder, Pod
from devkit.pods import Cluster

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

FILES = {"TARGET_KES_KEY": "kes.skey", "TARGET_VRF_KEY": "vrf.skey", "TARGET_OP_CERT": "node.cert"}
REFUSED = "the node did not read what the sidecar installs: the node was given --shelley-kes-key"


class Elsewhere:
    """One pod whose targets are in another folder than that of the node's options."""

    def __init__(self, cluster: Cluster, targets: Path) -> None:
        self.cluster, self.targets = cluster, targets
        (self.pod,) = cluster.pods
        self.pod.restart_sidecar_after = 1.0

    def lead_there(self) -> None:
        """What the node was given leads to the targets, as it does where a volume is mounted at two paths."""
        for name in FILES.values():
            (self.pod.ipc / name).symlink_to(self.targets / name)

    def has_keys_of_its_own(self) -> None:
        """As from a mount of the secret, or as the older manager left them in a volume that stays."""
        for name in FILES.values():
            (self.pod.ipc / name).unlink(missing_ok=True)
            shutil.copy(self.pod.secrets / name, self.pod.ipc / name)
            (self.pod.ipc / name).chmod(0o600)

    def refusals(self, pod: Pod) -> str:
        return " ".join(pod.status().get("ready", {}).get("reasons", ()))


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    folder, api = MemoryFolder(), ThreadedApi(EmbeddedApi(users=[], tls=True))
    api.start_sync()
    try:
        environment = {variable: str(folder.path / name) for variable, name in FILES.items()}
        with Cluster(api, 1, environment=environment) as cluster:
            yield Elsewhere(cluster, folder.path)
    finally:
        api.stop_sync()
        folder.close()


def test_a_node_that_starts_with_keys_of_its_own_is_never_armed(elsewhere: Elsewhere) -> None:
    cluster, pod = elsewhere.cluster, elsewhere.pod
    elsewhere.has_keys_of_its_own()
    cluster.wait_for(lambda: REFUSED in elsewhere.refusals(pod), 60, "it is noticed")
    assert not pod.intervals(10**18)
    assert pod.status()["fence"]["state"] == "fenced"


def test_a_node_that_is_found_to_forge_with_keys_of_its_own_is_ended_and_not_armed_again(elsewhere: Elsewhere) -> None:
    cluster, pod = elsewhere.cluster, elsewhere.pod
    elsewhere.lead_there()
    cluster.wait_healthy(90)
    assert REFUSED not in elsewhere.refusals(pod), "one file under two names"
    before = pod.node_pid
    elsewhere.has_keys_of_its_own()
    pod.kill_sidecar()  # the next life of it does not see the node start
    cluster.wait_for(lambda: pod.node_pid not in (0, before), 90, "the node was ended")
    cluster.wait_for(lambda: REFUSED in elsewhere.refusals(pod) and not cluster.forgers(), 60, "it is not armed again")
