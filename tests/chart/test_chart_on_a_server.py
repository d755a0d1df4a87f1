"""A real kube-apiserver takes what the charts render, by Pod Security too; helm installs, upgrades and removes it."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from devkit.chart_doc import CHART, CHART_CRDS
from devkit.helm import chart
from devkit.helm.build import build

from rendered import EVERYTHING, EXAMPLES, WITH_PODS, Json, Rendered, Run, text, warm_up

pytestmark = pytest.mark.chart

LEVEL = dict.fromkeys(WITH_PODS, "restricted") | {"uids": "baseline"}
"""Of Pod Security, in which an example's pods are let in."""
Insist = Callable[[str], None]
"""Has the namespace let pods in at that level."""
DEFINITIONS = {"cardanoleaders.cardano.io", "cardanoforgeclusters.cardano.io"}


@pytest.fixture
def namespace(kubectl: Run) -> Insist:
    """The namespace of the renderings; give it the level that it enforces."""

    def insist(level: str) -> None:
        labels = {f"pod-security.kubernetes.io/{what}": level for what in ("enforce", "warn")}
        document = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": chart.NAMESPACE, "labels": labels}}
        kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(document))

    insist("restricted")
    return insist


def _pod(example: str) -> str:
    """One, as the StatefulSet's controller would make it."""
    spec = Rendered(example).pod
    claim = {"name": "data", "persistentVolumeClaim": {"claimName": "data-cardano-producer-0"}}
    metadata = {"name": "cardano-producer-0", "namespace": chart.NAMESPACE}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    return json.dumps(pod | {"spec": spec | {"volumes": [*spec["volumes"], claim]}})


def _dry_run(kubectl: Run, manifests: str, *, fails: bool = False) -> tuple[str, str]:
    done = kubectl(
        *("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-"), stdin=manifests, fails=fails
    )
    return done.stdout, done.stderr


def _may_update(kubectl: Run, account: str = "cardano-forge-crds") -> bool:
    """Whether pods of this account may renew the Lease of the defaults."""
    who = f"system:serviceaccount:{chart.NAMESPACE}:{account}"
    listed = kubectl(*_in(), "auth", "can-i", "--list", "--as", who).stdout
    return any("[cardano-node-leader]" in line and "update" in line for line in listed.splitlines())


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_object_of_an_example_is_taken_without_a_warning(kubectl: Run, namespace: Insist, example: str) -> None:
    namespace(LEVEL.get(example, "restricted"))
    taken, warnings = _dry_run(kubectl, text(example))
    assert len(taken.splitlines()) == len(Rendered(example).objects)
    assert warnings == ""


def _kept(wanted: object, live: object) -> bool:
    """Whether a server has what was asked for, in the same words; it may have more."""
    if isinstance(wanted, dict):
        return isinstance(live, dict) and all(key in live and _kept(wanted[key], live[key]) for key in wanted)
    if isinstance(wanted, list):
        return isinstance(live, list) and len(wanted) == len(live) and all(map(_kept, wanted, live))
    return wanted == live


@pytest.mark.parametrize("example", ["one-cluster", "three-regions", "monitoring", "containers"])
def test_what_was_applied_is_no_difference_when_it_is_rendered_again(
    kubectl: Run, namespace: Insist, example: str
) -> None:
    """Argo CD and Flux would apply it for ever: a quantity in other words, a default that comes back, an empty list."""
    manifests = text(example)

    def live() -> list[Json]:
        return [
            json.loads(kubectl(*_in(), "get", each["kind"], each["metadata"]["name"], "-o", "json").stdout)
            for each in Rendered(example).objects
        ]

    kubectl("apply", "--server-side", "-f", "-", stdin=manifests)
    first = live()
    kubectl("apply", "--server-side", "-f", "-", stdin=manifests)
    assert live() == first
    for wanted, there in zip(Rendered(example).objects, first, strict=True):
        assert _kept(wanted, there), wanted["kind"]
    kubectl("delete", "--cascade=background", "-f", "-", stdin=manifests)


@pytest.mark.parametrize("mode", ["single-uid", "containers"])
def test_everything_that_can_be_set_is_taken(kubectl: Run, namespace: Insist, mode: str) -> None:
    settings: Json = copy.deepcopy(EVERYTHING) | {
        "mode": mode,
        "monitoring": {"scrape": "serviceMonitor", "rules": {"enabled": True}, "dashboard": {"enabled": True}},
        "networkPolicy": {"enabled": True, "relays": [{"ipBlock": {"cidr": "203.0.113.1/32"}}]},
        "imagePullSecrets": [{"name": "registry"}],
        "commonLabels": {"team": "pool"},
        "podAnnotations": {"a": "b"},
        "nodeSelector": {"a": "b"},
        "tolerations": [{"key": "pool", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "priorityClassName": "",
        "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy.example:3128"}],
        "extraVolumes": [{"name": "more", "emptyDir": {}}],
        "extraVolumeMounts": [{"name": "more", "mountPath": "/more"}],
    }
    settings["clusters"]["coordination"] |= {"namespace": chart.NAMESPACE}
    settings["node"] |= {
        "extraArgs": ["+RTS", "-N4"],
        "env": [{"name": "A", "value": "b"}],
        "command": ["cardano-node"],
    }
    settings["node"] |= {"livenessProbe": {"tcpSocket": {"port": "node"}}}
    _, warnings = _dry_run(kubectl, text("", settings))
    assert warnings == ""


@pytest.mark.parametrize("example", WITH_PODS)
def test_a_pod_of_an_example_is_let_in_at_its_level(kubectl: Run, namespace: Insist, example: str) -> None:
    namespace(LEVEL[example])
    assert _dry_run(kubectl, _pod(example)) == ("pod/cardano-producer-0 serverside-applied (server dry run)\n", "")


def test_a_user_for_each_worker_in_one_container_is_not_let_in_as_restricted(kubectl: Run, namespace: Insist) -> None:
    namespace("restricted")
    _, refusal = _dry_run(kubectl, _pod("uids"), fails=True)
    assert "violates PodSecurity" in refusal
    assert "unrestricted capabilities" in refusal


def test_a_field_that_kubernetes_does_not_know_would_be_seen(kubectl: Run, namespace: Insist) -> None:
    spoilt = text("monitoring").replace("honorLabels:", "honourLabels:").replace("publishNotReady", "publishUnready")
    _, refusal = _dry_run(kubectl, spoilt, fails=True)
    assert "honourLabels" in refusal
    assert "publishUnreadyAddresses" in refusal


@pytest.mark.parametrize("example", EXAMPLES)
def test_lint_finds_nothing(helm: Run, example: str) -> None:
    assert "0 chart(s) failed" in helm("lint", "--strict", CHART, "--values", EXAMPLES[example]).stdout


def test_lint_finds_nothing_in_the_other_chart(helm: Run) -> None:
    assert "0 chart(s) failed" in helm("lint", "--strict", CHART_CRDS).stdout


# --- installed ---


def _in(namespace: str = chart.NAMESPACE) -> tuple[str, ...]:
    return ("--namespace", namespace)


def test_the_definitions_are_those_of_deploy_and_outlive_the_release_with_what_is_in_them(
    kubectl: Run, helm: Run, namespace: Insist
) -> None:
    helm("install", "cardano-forge-crds", CHART_CRDS, *_in())
    for file in (CHART.parent / "crds").iterdir():
        wanted = yaml.safe_load(file.read_text())
        (rendered,) = [
            each for each in chart.render(CHART_CRDS) if each["metadata"]["name"] == wanted["metadata"]["name"]
        ]
        assert rendered["spec"] == wanted["spec"]
        kubectl("wait", "--for=condition=Established", f"crd/{wanted['metadata']['name']}", "--timeout=60s")
    leader = {"apiVersion": "cardano.io/v1", "kind": "CardanoLeader", "metadata": {"name": "l"}, "spec": {}}
    kubectl(*_in(), "create", "-f", "-", stdin=json.dumps(leader))
    helm("upgrade", "cardano-forge-crds", CHART_CRDS, *_in(), "--set", "labels.team=pool")
    told = helm("uninstall", "cardano-forge-crds", *_in()).stdout
    assert set(re.findall(r"[a-z.]+\.cardano\.io", told)) >= DEFINITIONS
    assert kubectl(*_in(), "get", "cardanoleader", "l", "-o", "name").stdout == "cardanoleader.cardano.io/l\n"
    # The next release takes them over again, and one that does not keep them takes them along.
    helm("install", "cardano-forge-crds", CHART_CRDS, *_in(), "--set", "keep=false")
    warm_up(kubectl)
    helm("uninstall", "cardano-forge-crds", *_in())
    kubectl("wait", "--for=delete", *(f"crd/{name}" for name in sorted(DEFINITIONS)), "--timeout=60s")


OLDER = """
{{- range $path, $_ := .Files.Glob "crds-of-deploy/*.yaml" }}
{{- $keep := dict "metadata" (dict "annotations" (dict "helm.sh/resource-policy" "keep")) }}
{{ $.Files.Get $path | fromYaml | merge $keep | toYaml }}
---
{{- end }}
apiVersion: v1
kind: ServiceAccount
metadata: {name: older, namespace: {{ .Release.Namespace }}, labels: {app.kubernetes.io/instance: {{ .Release.Name }}}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: older, labels: {app.kubernetes.io/instance: {{ .Release.Name }}}}
rules: [{apiGroups: [coordination.k8s.io], resources: [leases], verbs: [get, update]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: older, labels: {app.kubernetes.io/instance: {{ .Release.Name }}}}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: older}
subjects: [{kind: ServiceAccount, name: older, namespace: {{ .Release.Namespace }}}]
"""
"""What the older chart of the custom resources makes beside them (mochipool/helm-charts, cardano-forge-crds 0.2.1)."""


def test_the_older_charts_account_goes_with_its_release_unless_it_is_kept_as_the_page_says(
    kubectl: Run, helm: Run, tmp_path: Path
) -> None:
    """By it the older pods reach their Lease: cut off from that, their node forges on."""
    page = (CHART.parents[1] / "docs" / "upgrading.md").read_text("utf-8")
    older, system = tmp_path / "older", _in("cardano-system")
    (older / "templates").mkdir(parents=True)
    (older / "Chart.yaml").write_text("{apiVersion: v2, name: cardano-forge-crds, version: 0.2.1}")
    (older / "templates" / "all.yaml").write_text(OLDER)
    shutil.copytree(CHART.parent / "crds", older / "crds-of-deploy")
    kubectl(
        "apply",
        "--server-side",
        "-f",
        "-",
        stdin='{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "cardano-system"}}',
    )
    there = ("get", "serviceaccount/older", "clusterrole/older", "clusterrolebinding/older")

    def reach_the_lease() -> bool:
        found = kubectl(*system, *there, "--ignore-not-found", "-o", "name").stdout.split()
        assert len(found) in (0, 3)
        return bool(found)

    helm("install", "cardano-forge-crds", older, *system)
    (command,) = re.findall(r"`(kubectl apply --server-side --force-conflicts -f deploy/crds/)`", page)
    kubectl(*command.removesuffix(" deploy/crds/").split()[1:], CHART.parent / "crds")
    assert reach_the_lease(), "the page's way"
    helm("upgrade", "cardano-forge-crds", CHART_CRDS, *system)
    assert not reach_the_lease()
    helm("rollback", "cardano-forge-crds", *system)
    assert reach_the_lease()
    for line in re.findall(r"^ +kubectl (.*annotate .*helm.sh/resource-policy=keep)$", page, re.MULTILINE):
        kubectl(*line.split())
    helm("upgrade", "cardano-forge-crds", CHART_CRDS, *system)
    assert reach_the_lease(), "kept"
    kubectl(*system, "delete", *there[1:])
    helm("uninstall", "cardano-forge-crds", *system)
    warm_up(kubectl)
    kubectl("delete", "crd", *sorted(DEFINITIONS), "--timeout=60s")


def test_a_release_is_installed_upgraded_and_leaves_nothing_but_the_chain(
    kubectl: Run, helm: Run, namespace: Insist
) -> None:
    pool = yaml.safe_load(EXAMPLES["three-regions"].read_text())["pool"]["id"]
    helm("install", chart.RELEASE, CHART, *_in(), "--set", f"pool.id={pool}")
    changed = helm("upgrade", chart.RELEASE, CHART, *_in(), "--values", EXAMPLES["three-regions"]).stdout
    assert "REVISION: 2" in changed
    kinds = "statefulset,service,serviceaccount,role,rolebinding,secret,poddisruptionbudget"
    selector = ("-l", f"app.kubernetes.io/instance={chart.RELEASE}")
    there = kubectl(*_in(), "get", kinds, *selector, "-o", "name").stdout.split()
    assert len(there) == len(Rendered("three-regions").objects)
    helm("uninstall", chart.RELEASE, *_in())
    assert kubectl(*_in(), "get", kinds, *selector, "-o", "name").stdout == ""


def test_a_release_that_no_service_can_be_named_after_is_refused_before_anything_is_made(
    kubectl: Run, helm: Run, namespace: Insist
) -> None:
    """Helm itself allows a dot; the server would refuse Service and StatefulSet when the rest is there already."""
    assert "objects would be named my.pool" in helm("install", "my.pool", CHART, *_in(), fails=True).stderr
    assert kubectl(*_in(), "get", "role,service", "-o", "name").stdout == ""
    helm("install", "my.pool", CHART, *_in(), "--set", "fullnameOverride=my-pool")
    helm("uninstall", "my.pool", *_in())


def test_a_chart_that_was_packed_with_a_commit_in_its_version_is_taken(
    kubectl: Run, helm: Run, namespace: Insist, tmp_path: Path
) -> None:
    """As Flux packs one from git (reconcileStrategy: Revision); no label may have a plus, no tag either."""
    version = "3.0.0+0123456789ab." + "long" * 12
    helm("package", CHART, "--version", version, "--app-version", "3.0.0+0123456789ab", "--destination", tmp_path)
    (packed,) = tmp_path.glob("*.tgz")
    printed = helm("template", chart.RELEASE, packed, *_in()).stdout
    assert "image: cardano/forge-manager:3.0.0_0123456789ab\n" in printed
    _, warnings = _dry_run(kubectl, printed)
    assert warnings == ""


@pytest.mark.parametrize("setting", ["pool.id=pool1abcd1234567890", "election.leaseName=another"])
def test_an_upgrade_to_another_lease_is_refused_and_takes_no_right_from_the_pods_that_run(
    kubectl: Run, helm: Run, namespace: Insist, setting: str
) -> None:
    """In a rolling update pods of two Leases would forge side by side."""

    def workload() -> str:
        return kubectl(*_in(), "get", "statefulset", chart.RELEASE, "-o", "jsonpath={.spec}").stdout

    helm("install", chart.RELEASE, CHART, *_in())
    before = workload()
    told = helm("upgrade", chart.RELEASE, CHART, *_in(), "--set", setting, fails=True).stderr
    assert "StatefulSet" in told
    assert "field is immutable" in told
    assert workload() == before
    assert _may_update(kubectl)
    helm("rollback", chart.RELEASE, *_in())
    assert workload() == before
    assert kubectl(*_in(), "get", "role", "-o", "name").stdout.count(chart.RELEASE) == 1
    # As docs/chart.md says, less the pods, which no controller makes here.
    kubectl(*_in(), "delete", "statefulset", chart.RELEASE, "--cascade=background")
    helm("upgrade", chart.RELEASE, CHART, *_in(), "--set", setting)
    assert workload() != before
    assert not _may_update(kubectl)
    helm("uninstall", chart.RELEASE, *_in())


def test_pods_that_run_keep_their_rights_by_another_account_as_the_page_says(
    kubectl: Run, helm: Run, namespace: Insist, tmp_path: Path
) -> None:
    """Helm deletes the account, and binds the new one in place of it, while all pods are still the old one's."""
    page = (CHART.parents[1] / "docs" / "chart.md").read_text("utf-8")
    (steps,) = re.findall(r"```sh\n( +LEASE=.*?)```", page, re.DOTALL)
    helm("install", chart.RELEASE, CHART, *_in())
    assert _may_update(kubectl)
    done = subprocess.run(
        ["bash", "-e", "-c", steps],
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "KUBECONFIG": str(tmp_path / "kubeconfig")},
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    helm("upgrade", chart.RELEASE, CHART, *_in(), "--set", "serviceAccount.name=another")
    assert _may_update(kubectl, "another")
    assert _may_update(kubectl)
    kubectl(*_in(), "get", "serviceaccount", "cardano-forge-crds")
    kubectl(*_in(), "delete", "rolebinding/older", "serviceaccount/cardano-forge-crds")
    assert not _may_update(kubectl)
    helm("uninstall", chart.RELEASE, *_in())


def test_an_example_with_a_pool_is_not_taken_over_one_without(kubectl: Run, namespace: Insist) -> None:
    """docs/install.md goes from one to the other: by a rolling update pods of two Leases would forge side by side."""
    examples = CHART.parent / "examples"
    kubectl(*_in(), "apply", "-f", examples / "single-uid.yaml")
    told = kubectl(*_in(), "apply", "--dry-run=server", "-f", examples / "several-clusters.yaml", fails=True).stderr
    assert "field is immutable" in told
    kubectl(*_in(), "delete", "-f", examples / "single-uid.yaml", "--cascade=background")


def test_two_pools_share_a_namespace_and_each_has_an_account_of_its_own(
    kubectl: Run, helm: Run, namespace: Insist
) -> None:
    helm("install", "one", CHART, *_in(), "--set", "pool.id=pool1abcd1234567890")
    other = ("--set", "pool.id=pool1xyz1234567890")
    told = helm("install", "two", CHART, *_in(), *other, fails=True).stderr
    assert 'ServiceAccount "cardano-forge-crds"' in told
    helm("install", "two", CHART, *_in(), *other, "--set", "serviceAccount.name=two")
    for release in ("one", "two"):
        helm("uninstall", release, *_in())


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_notes_name_what_is_needed_and_containers_that_there_are(
    helm: Run, namespace: Insist, example: str
) -> None:
    told = helm("install", chart.RELEASE, CHART, *_in(), "--dry-run=server", "--values", EXAMPLES[example]).stdout
    notes = told.partition("NOTES:")[2]
    assert "<no value>" not in notes
    if example == "coordination-only":
        assert "the account cardano-forge-us-east-1 in cardano-mainnet" in notes
        return
    rendered = Rendered(example)
    assert "get secret cardano-forging-keys" in notes
    named = set(re.findall(r"-c (\S+) --", notes))
    assert named
    assert named <= set(rendered.ours)
    assert ("get secret cardano-coordination" in notes) is (example == "three-regions")
    needed = {each["secret"]["secretName"] for each in rendered.pod["volumes"] if "secret" in each}
    for each in rendered.everybody.values():
        needed |= {
            item["valueFrom"]["secretKeyRef"]["name"] for item in each.get("env", ()) if "secretKeyRef" in str(item)
        }
    assert set(re.findall(r"get secret (\S+)", notes)) == needed
    assert ("restricted refuses mode uids" in notes) is (LEVEL[example] == "baseline")


def test_the_notes_say_as_many_pods_as_there_are_and_of_another_forger_at_the_first_installation_only(
    helm: Run, namespace: Insist
) -> None:
    def notes(*arguments: str) -> str:
        return helm(*arguments, chart.RELEASE, CHART, *_in(), "--dry-run=server").stdout.partition("NOTES:")[2]

    assert "2 pods of cardano-producer in cardano-mainnet: one forges, the others stand by" in notes("install")
    assert "One pod of cardano-producer in cardano-mainnet: no other stands by" in notes("install", "--set=replicas=1")
    none = notes("install", "--set=replicas=0")
    assert "nobody forges here" in none
    assert "kubectl" not in none
    region = ("--values", str(EXAMPLES["three-regions"]))
    assert "one pod of all regions forges" in notes("install", *region)
    assert "get leaders cardano-leader\n" in notes("install", "--set=crd.plural=leaders")
    assert "Does a node forge for this pool already?" in notes("install")
    assert "describe statefulset cardano-producer" in notes("install"), "helm says nothing of pods that are refused"
    helm("install", chart.RELEASE, CHART, *_in())
    assert "Does a node forge" not in notes("upgrade"), "it would be the release's own"
    helm("uninstall", chart.RELEASE, *_in())


@pytest.mark.parametrize(
    ("servers", "words"),
    [
        (["own"], "One API server holds"),
        (["own"], "`servers: [own]` in two regions is a\nlock, and a forger, for each."),
        (["own", "b"], "2 API servers hold"),
    ],
)
def test_the_notes_warn_of_sets_that_bear_no_outage(
    helm: Run, namespace: Insist, tmp_path: Path, servers: list[str], words: str
) -> None:
    file = tmp_path / "values.json"
    settings: Json = {"enabled": True, "region": "a", "coordination": {"servers": servers}}
    file.write_text(json.dumps({"pool": {"id": "pool1abcd1234567890"}, "clusters": settings}))
    assert words in helm("install", "r", CHART, *_in(), "--dry-run=server", "--values", file).stdout


def test_helm_is_the_release_that_go_mod_names(helm: Run) -> None:
    named = re.search(r"helm\.sh/helm/v3 (v\S+)", Path("devkit/helm/go.mod").read_text())
    assert named is not None
    assert helm("version", "--template", "{{.Version}}").stdout == named[1]
    assert str(build()).endswith("/helm")
