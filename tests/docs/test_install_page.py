"""docs/install.md, word for word, on a real API server: what a reader types does what the page says."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from devkit import keys
from devkit.pod import MemoryFolder
from devkit.pods import SERVICE_ACCOUNT, Cluster
from devkit.realapi.server import RealApi

from blocks import ROOT, Block, Shell, marked

pytestmark = [pytest.mark.k8s, pytest.mark.timeout(600)]

PAGE = "install.md"
NAMESPACE = "cardano-mainnet"
REGIONS = ("us-east-1", "us-west-2", "eu-west-1")
BEFORE_THE_PODS, AFTER_THEM = slice(0, 5), slice(5, None)

_KUBECTL = """#!{python} -IS
# kubectl whose `exec` runs the command beside the sidecar of that pod, since nothing here is a kubelet.
import json, os, sys
words = sys.argv[1:]
if "exec" in words:
    pod, command = words[words.index("exec") + 1], words[words.index("--") + 1 :]
    os.execve("{bin}/" + command[0], command, json.load(open("{pods}"))[pod])
os.execv("{kubectl}", ["kubectl", *words])
"""


class Reader:
    """Somebody with an empty API server, keys, a checkout, and the page."""

    def __init__(self, folder: Path, api: RealApi) -> None:
        self.api = api
        home = folder / "reader"
        home.mkdir()
        for name in ("deploy", "docs", "CHANGELOG.md"):
            (home / name).symlink_to(ROOT / name)
        made = keys.generate(home / "keys", kes_period=keys.current_kes_period("mainnet"))
        (made.folder / "cold.skey").unlink()
        for name in ("config.json", "topology.json"):
            (home / name).write_text("{}")
        self.pods = home / "pods.json"
        kubectl = shutil.which("kubectl")
        assert kubectl is not None, "kubectl is needed"
        stand_in = home / "bin" / "kubectl"
        stand_in.parent.mkdir()
        scripts = Path(sys.executable).parent
        stand_in.write_text(_KUBECTL.format(python=sys.executable, bin=scripts, pods=self.pods, kubectl=kubectl))
        stand_in.chmod(0o755)
        api.write_kubeconfig(home / "kubeconfig")
        self._three_contexts(home / "kubeconfig")
        path = os.pathsep.join([str(stand_in.parent), str(scripts), os.environ["PATH"]])
        self.shell = Shell(home, {"PATH": path, "HOME": str(home), "KUBECONFIG": str(home / "kubeconfig")})

    @staticmethod
    def _three_contexts(file: Path) -> None:
        content = yaml.safe_load(file.read_text())
        (only,) = content["contexts"]
        content["contexts"] = [{"name": region, "context": only["context"]} for region in REGIONS]
        content["current-context"] = REGIONS[0]
        file.write_text(yaml.safe_dump(content))

    def does(self, block: Block) -> str:
        return self.shell.run(block)

    def has_pods(self, cluster: Cluster) -> None:
        self.pods.write_text(json.dumps({pod.name: pod.environment for pod in cluster.pods}))


@pytest.fixture
def reader() -> Iterator[Reader]:
    if os.environ.get("FORGE_TEST_K8S") != "1":
        pytest.skip("needs the real server: make test-k8s")
    folder = MemoryFolder()
    try:
        with RealApi(users=[f"system:serviceaccount:{NAMESPACE}:{SERVICE_ACCOUNT}"]) as api:
            made = Reader(folder.path, api)
            with made.shell:
                yield made
    finally:
        folder.close()


def test_a_reader_who_types_what_the_page_says_has_a_pool_that_forges_hands_over_and_is_removed(
    reader: Reader,
) -> None:
    (check,) = marked(PAGE, "keys")
    assert "a node can forge with these on mainnet until" in reader.does(check)
    for block in marked(PAGE, "api")[BEFORE_THE_PODS]:
        said = reader.does(block)
        if "can-i" in block.text:
            assert said == "yes\nno\n"
        if "jsonpath='{.data}'" in block.text:
            assert said.endswith('"kes.skey":\n"node.cert":\n"vrf.skey":\n')
    with Cluster(reader.api, 2, namespace=NAMESPACE, prefix="cardano-producer") as cluster:
        reader.has_pods(cluster)
        cluster.wait_healthy(120)
        began, drill = marked(PAGE, "pods")
        said = reader.does(began)
        assert said.count("0 errors, 0 warnings") == said.count("green: every worker") == len(cluster.pods)
        leader = cluster.leader()
        reader.does(drill)
        assert cluster.wait_for_one_forger(30, other_than=leader) is not leader
        assert cluster.overlap_s(cluster.began) == 0
        for block in marked(PAGE, "api")[AFTER_THEM]:
            reader.does(block)
        assert len(cluster.forgers()) == 1, "nothing of what comes later on the page disturbs the pool"
    for block in marked(PAGE, "end"):
        reader.does(block)


def test_the_split_of_the_pages_blocks_is_where_the_pods_begin() -> None:
    first = marked(PAGE, "api")[AFTER_THEM][0]
    assert marked(PAGE, "api")[BEFORE_THE_PODS][-1].line < marked(PAGE, "pods")[0].line < first.line
