"""What the charts render, each rendering once, and how to look into it."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import yaml

from config import Config, load
from devkit.chart_doc import CHART
from devkit.helm import chart
from kube.rights import Right

Json = dict[str, Any]

Run = Callable[..., subprocess.CompletedProcess[str]]
"""A program: arguments in; it must succeed unless `fails=True`."""

EXAMPLES = {file.stem: file for file in sorted((CHART / "examples").glob("*.yaml"))}
WITH_PODS = sorted(set(EXAMPLES) - {"coordination-only"})
PARSERS = {f.metadata["name"]: f.metadata["parse"] for f in dataclasses.fields(Config) if "name" in f.metadata}
"""Of every variable of the program."""
EVERYTHING: Json = {
    "network": {"name": "custom", "magic": 42, "shelleyGenesis": "/config/shelley.json"},
    "pool": {
        "id": "pool1cvwpepghavqdh825nwc7kcanr6ymef9tatlj78lkfc2j7ef5a4y",
        "idHex": "c31c1c8517eb00db9d549bb1eb63b31e89bca4abeaff2f1ff64e152f",
        "name": "A pool",
        "ticker": "POOL",
        "applicationType": "block-producer",
    },
    "election": {"leaseName": "a-lease", "leaseDuration": 20, "interval": 2.5, "leaderName": "a-leader"},
    "clusters": {
        "enabled": True,
        "region": "us-east-1",
        "priority": 2,
        "environment": "staging",
        "identifier": "blue",
        "preemptionDelay": 0,
        "healthCheck": {"endpoint": "https://h.example:8443/x", "interval": 20, "timeout": 0.5, "failureThreshold": 4},
        "coordination": {"servers": ["own", "b", "c"], "namespace": "pool", "accounts": ["b", "c"]},
    },
    "gateway": {"port": 8001, "protect": "all", "token": {"secretName": "t"}, "tls": {"secretName": "c"}},
    "notify": {"urlSecret": {"name": "n"}, "secretName": "s", "events": "warning,forging"},
    "schedule": {"secretName": "sch", "gap": 45, "wait": 0},
    "log": {"level": "DEBUG", "format": "console"},
    "sandbox": "permissive",
    "mode": "containers",
    "node": {
        "metricsUrl": "http://127.0.0.1:9999/metrics",
        "processName": "dingo",
        "socketWaitTimeout": 86400,
        "maxTipLag": 300,
    },
}
"""Every value that becomes a variable of the program (of two that exclude each other, one)."""


@lru_cache
def _text(example: str, settings: str, arguments: tuple[str, ...]) -> str:
    files = (EXAMPLES[example],) if example else ()
    return chart.text(CHART, *files, settings=json.loads(settings), arguments=arguments)


def text(example: str = "", settings: Json | None = None, *arguments: str) -> str:
    """As helm prints it: an example's values, and these on top.  Raises chart.Refused."""
    return _text(example, json.dumps(settings or {}, sort_keys=True), arguments)


class Rendered:
    """The objects of one rendering."""

    def __init__(self, example: str = "", settings: Json | None = None, *arguments: str) -> None:
        printed = text(example, settings, *arguments)
        self.objects: list[Json] = [document for document in yaml.safe_load_all(printed) if document]

    def all(self, kind: str) -> list[Json]:
        return [each for each in self.objects if each["kind"] == kind]

    def one(self, kind: str) -> Json:
        (found,) = self.all(kind)
        return found

    @property
    def pod(self) -> Json:
        """The specification of a pod."""
        found: Json = self.one("StatefulSet")["spec"]["template"]["spec"]
        return found

    @property
    def everybody(self) -> dict[str, Json]:
        """All containers by name, in the order in which they are started."""
        return {each["name"]: each for each in [*self.pod.get("initContainers", ()), *self.pod["containers"]]}

    @property
    def ours(self) -> dict[str, Json]:
        """The sidecar's."""
        return {name: each for name, each in self.everybody.items() if "RUN_DIR" in variables(each)}

    @property
    def node(self) -> Json:
        return self.everybody["cardano-node"]

    @property
    def config(self) -> Config:
        """What the program makes of the variables that its containers get."""
        (found,) = {json.dumps(variables(each), sort_keys=True) for each in self.ours.values()}
        label = self.one("StatefulSet")["spec"]["template"]["metadata"]["labels"]["cardano.io/election"]
        return load(json.loads(found) | {"ELECTION_LABEL": label})


def variables(container: Json) -> dict[str, str]:
    """What it is given; for what comes from elsewhere something of its kind."""
    elsewhere = {"NAMESPACE": "cardano-mainnet", "POD_NAME": "cardano-producer-0", "NOTIFY_URL": "https://hook.example"}
    elsewhere["ELECTION_LABEL"] = "of the pod"
    return {each["name"]: each.get("value") or elsewhere[each["name"]] for each in container.get("env", ())}


def mounts(container: Json) -> dict[str, str]:
    """Path -> volume."""
    return {each["mountPath"]: each["name"] for each in container["volumeMounts"]}


def granted(role: Json) -> frozenset[Right]:
    """By a Role."""
    return frozenset(
        Right(group, resource, verb, name)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        for name in rule.get("resourceNames", [""])
    )


def warm_up(kubectl: Run) -> None:
    """Has the server make its storage for our kinds: one that makes it for their deletion tries again minutes later."""
    kubectl("get", "cardanoleaders,cardanoforgeclusters", "--all-namespaces")
