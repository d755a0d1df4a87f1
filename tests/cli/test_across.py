"""The verbs across clusters as an operator meets them, against one and against three coordination APIs."""

from __future__ import annotations

import asyncio
import io
import json
import re
import shlex
import signal
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest
import yaml

from cardano.pool_id import bech32_of
from cli import forgectl
from cli.history import Happened, event
from devkit.api.crd import DEFAULT_FOLDER
from devkit.api.embedded import EmbeddedApi, ThreadedApi
from kube import events
from kube.errors import ApiFailure, Failure
from kube.forge_clusters import POOL_LABEL, parse_spec
from kube.session import ApiSession
from policy.wall_time import rfc3339

LATER = "2099-01-01T00:00:00Z"
POOL = "pool1abcd1234567890"
OURS = bech32_of("ab" * 28)
LABEL = "preprod-pool1abcd1"
EU, US = f"{LABEL}-eu-1", f"{LABEL}-us-1"
FOLDER = "/apis/cardano.io/v1/namespaces/default/cardanoforgeclusters"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/default/leases"

Json = dict[str, Any]


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class World:
    """Coordination APIs, and clusters that say what a test lets them say."""

    folder: Path
    apis: list[ThreadedApi] = field(default_factory=list)

    def start(self, count: int, **options: Any) -> None:
        for number in range(count):
            self.apis.append(EmbeddedApi.start_thread(**options))
            self.apis[-1].write_kubeconfig(self.kubeconfig(number))

    def kubeconfig(self, number: int) -> Path:
        return self.folder / f"api-{number}"

    def call(self, number: int, method: str, path: str, body: Json | None = None) -> Json:
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(
            self.apis[number].url + path, data=data, method=method, headers={"Content-Type": kind}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            found: Json = json.load(answer)
            return found

    def make(self, name: str, region: str, *, label: str = LABEL, on: int | None = None, **spec: Any) -> None:
        """A cluster on every API (or on one) that is ready and has just said so."""
        for number in range(len(self.apis)) if on is None else (on,):
            body = {
                "apiVersion": "cardano.io/v1",
                "kind": "CardanoForgeCluster",
                "metadata": {"name": name, "labels": {POOL_LABEL: label}},
                "spec": {"network": {"name": "preprod"}, "region": region, **spec},
            }
            self.call(number, "POST", FOLDER, body)
            self.say(name, on=number)

    def say(self, name: str, *, on: int | None = None, age_s: float = 0, ready: bool = True, **status: Any) -> None:
        """What this cluster's leader writes into its status."""
        at = rfc3339(int(time.time() - age_s))
        body: Json = {
            "effectiveState": "Priority-based",
            "activeLeader": f"pod-of-{name[-4:]}",
            "forgingEnabled": False,
            "lastTransition": at,
            "message": "eu-1 comes first",
            "healthStatus": {"healthy": True, "lastProbeTime": at, "consecutiveFailures": 0, "message": "answered 200"},
            "conditions": [{"type": "Ready", "status": str(ready), "message": "" if ready else "the node is not fit"}],
        }
        for number in range(len(self.apis)) if on is None else (on,):
            self.call(number, "PATCH", f"{FOLDER}/{name}/status", {"status": body | status})

    def lock(
        self, number: int, holder: str, *, token: int = 4, age_s: float = 0, members: int = 0, apis: str = ""
    ) -> None:
        at = rfc3339(time.time() - age_s)
        at = at if "." in at else at.replace("Z", ".000000Z")
        body: Json = {
            "metadata": {"name": f"cardano-pool-{LABEL}"},
            "spec": {
                "holderIdentity": holder,
                "leaseDurationSeconds": 3600 if holder else 1,
                "acquireTime": at,
                "renewTime": at,
                "leaseTransitions": token,
            },
        }
        if members:
            body["metadata"]["annotations"] = {"cardano.io/lock-members": str(members), "cardano.io/lock-apis": apis}
        self.call(number, "POST", LEASES, body)

    def spec(self, name: str, number: int = 0) -> Json:
        found: Json = self.call(number, "GET", f"{FOLDER}/{name}")["spec"]
        return found

    def a_pool(self) -> None:
        """eu-1 forges and holds the lock everywhere, us-1 stands by."""
        self.make(EU, "eu-1", priority=10)
        self.make(US, "us-1", priority=20)
        self.say(EU, forgingEnabled=True, message="pod-of-eu-1 forges", fencingToken=4)
        for number in range(len(self.apis)):
            self.lock(number, f"{EU}/pod-of-eu-1_aa", members=len(self.apis))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    for api in made.apis:
        api.stop_sync()


Run = Callable[..., Ran]


@pytest.fixture
def run(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Run]:
    """forgectl on a laptop: no sidecar, and of the environment what a test gives; by default all APIs of the world."""
    for name in (
        *("KUBECONFIG", "COORDINATION_KUBECONFIGS", "COORDINATION_NAMESPACE", "NAMESPACE", "POOL_ID", "POOL_ID_HEX"),
        *("CARDANO_NETWORK", "RUN_DIR", "KUBERNETES_SERVICE_HOST", "POD_NAME"),
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    before = signal.getsignal(signal.SIGINT)

    def forgectl_with(*arguments: str, **variables: str) -> Ran:
        if not variables and world.apis and "--kubeconfig" not in arguments:
            files = ",".join(str(world.kubeconfig(number)) for number in range(len(world.apis)))
            arguments = (*arguments, "--kubeconfig", files)
        monkeypatch.setattr(sys, "argv", ["forgectl", *arguments])
        with pytest.MonkeyPatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            try:
                forgectl.main()
                code = 0
            except SystemExit as end:
                code = int(end.code or 0)
        out, err = capsys.readouterr()
        return Ran(code, out, err)

    yield forgectl_with
    signal.signal(signal.SIGINT, before)


def row(ran: Ran, name: str) -> str:
    return next(line for line in ran.out.splitlines() if re.match(rf"{re.escape(name)}\s", line))


# --- clusters ---


def test_clusters_shows_each_cluster_who_forges_and_who_holds_the_lock(world: World, run: Run) -> None:
    world.start(1)
    world.a_pool()
    ran = run("clusters")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines()[0].split() == [
        *("CLUSTER", "REGION", "STATE", "PRIORITY", "READY", "HEALTHY", "LEADER", "FORGING", "SAID", "WHY")
    ]
    assert re.search(r"eu-1 +Priority-based +10 +yes +yes +pod-of-eu-1 +yes +\d s ago +pod-of-eu-1 forges", ran.out)
    assert re.search(r"us-1 +Priority-based +20 +yes +yes +pod-of-us-1 +no ", ran.out)
    assert row(ran, "forging").split() == ["forging", EU]
    assert f"token 4: held by {EU}/pod-of-eu-1_aa, say 1 of 1 coordination APIs" in row(ran, "lock")


def test_clusters_as_json_says_the_same_and_nothing_of_the_health_checks_headers(world: World, run: Run) -> None:
    world.start(1)
    secret = {"enabled": True, "endpoint": "https://u:canary-1@h.example/canary-2", "headers": {"A": "canary-3"}}
    world.make(EU, "eu-1", priority=10, healthCheck=secret)
    world.say(EU, forgingEnabled=True)
    ran = run("clusters", "--json")
    shown = ran.json()
    (cluster,) = shown["clusters"]
    assert (ran.code, shown["pool"], shown["forging"], shown["should_forge"]) == (0, LABEL, [EU], EU)
    assert (cluster["priority"], cluster["ready"], cluster["healthy"], cluster["forging"]) == (10, True, True, True)
    assert shown["members"][0]["answers"] is True
    assert "canary" not in ran.out + run("clusters").out + run("history").out


@pytest.mark.parametrize(
    ("health", "transition_age_s", "older"),
    [
        ({"lastProbeTime": rfc3339(int(time.time()) - 3600)}, 0, True),
        ({"lastProbeTime": None}, 0, True),
        ({"lastProbeTime": rfc3339(int(time.time()) - 3600)}, 900, False),
    ],
    ids=["over a word of this version", "where this version never wrote", "left behind"],
)
def test_an_older_manager_that_forges_beside_the_lock_is_told_and_is_a_fault(
    world: World, run: Run, health: Json, transition_age_s: float, older: bool
) -> None:
    world.start(1)
    world.make(EU, "eu-1", priority=10)
    world.make(US, "us-1", priority=20)
    world.say(EU, forgingEnabled=True)
    world.lock(0, f"{EU}/pod-of-eu-1_aa", members=1)
    at = rfc3339(int(time.time() - transition_age_s))
    world.say(US, forgingEnabled=True, activeLeader="older-0", lastTransition=at, healthStatus=health)
    ran = run("clusters")
    assert (ran.code == 1) is older
    assert ("older-0 says so, as the older manager writes it, which looks at no lock" in row(ran, US)) is older
    assert ("older manager" in ran.out.partition("\npool ")[2]) is older
    assert run("clusters", "--json").json()["older_manager"] == ([US] if older else [])


def test_where_nobody_forges_clusters_says_why_of_each_and_is_a_fault(world: World, run: Run) -> None:
    world.start(1)
    world.make(EU, "eu-1", forgeState="Disabled")
    world.make(US, "us-1")
    world.say(US, ready=False)
    world.make(f"{LABEL}-ap-1", "ap-1")
    world.say(f"{LABEL}-ap-1", age_s=600, forgingEnabled=True)
    ran = run("clusters")
    assert ran.code == 1
    assert row(ran, EU).endswith("Disabled")
    assert row(ran, US).endswith("the node is not fit")
    assert re.search(r" \? +\? +pod-of-ap-1 +\? +10 min ago +silent$", row(ran, f"{LABEL}-ap-1"))
    assert row(ran, "forging").endswith("nobody says so")
    assert row(ran, "should forge").endswith("no cluster can forge")


@pytest.mark.parametrize(("away", "forges"), [(0, True), (1, True), (2, False), (3, False)])
def test_a_cluster_whose_lock_has_gone_since_it_said_so_does_not_forge_any_more(
    world: World, run: Run, away: int, forges: bool
) -> None:
    world.start(3)
    world.make(EU, "eu-1", priority=10)
    world.make(US, "us-1", priority=20)
    world.say(EU, forgingEnabled=True, message="pod-of-eu-1 forges")
    for number in range(3):
        world.lock(number, f"{EU}/pod-of-eu-1_aa", members=3, age_s=7200 if number < away else 0)
    ran = run("clusters")
    assert (ran.code == 0) is forges
    assert re.search(rf"{EU} .* pod-of-eu-1 +{'yes' if forges else '[?]'} ", ran.out)
    assert row(ran, "forging").endswith(EU if forges else f"nobody, as far as is known: {EU} has not the lock any more")
    if not forges:
        assert row(ran, EU).endswith("it has not the lock any more; it said: pod-of-eu-1 forges")
        assert run("clusters", "--json").json()["forging"] == []


def test_two_enabled_clusters_are_a_conflict_and_a_fault(world: World, run: Run) -> None:
    world.start(1)
    world.make(EU, "eu-1", forgeState="Enabled")
    world.make(US, "us-1", override={"enabled": True, "forceState": "Enabled", "reason": "drill", "expiresAt": LATER})
    world.say(EU, forgingEnabled=True)
    ran = run("clusters")
    assert ran.code == 1
    assert row(ran, "conflict").endswith(f"Enabled at once: {EU}, {US}; the best of them forges")
    assert row(ran, US).endswith(f"override until {LATER} (drill)")


def test_with_one_of_three_coordination_apis_down_clusters_shows_all_and_names_the_one(world: World, run: Run) -> None:
    world.start(3)
    world.a_pool()
    world.apis[1].kill_sync()
    ran = run("clusters")
    assert ran.code == 0
    assert "say 2 of 3 coordination APIs" in row(ran, "lock")
    assert "not asked: the API server cannot be reached" in row(ran, f"member/{world.kubeconfig(1)}")
    answers = {member["name"]: member["answers"] for member in run("clusters", "--json").json()["members"]}
    assert list(answers.values()) == [True, False, True]


def test_a_lock_that_one_of_three_tells_of_is_no_majority(world: World, run: Run) -> None:
    world.start(1)
    world.make(EU, "eu-1")
    world.lock(0, f"{EU}/pod", members=3)
    assert "say 1 of 3 coordination APIs, which is no majority" in row(run("clusters"), "lock")


@pytest.mark.parametrize(
    ("one", "other", "differ"),
    [
        ((1, "a"), (1, "b"), True),
        ((3, "a,b"), (3, "a,b,c"), False),
        ((3, "a,b,c"), (3, "b,c,d"), True),
        ((3, ""), (5, ""), True),
        ((2, ""), (2, ""), False),
    ],
)
def test_locks_of_pods_that_count_different_coordination_apis_are_a_fault(
    world: World, run: Run, one: tuple[int, str], other: tuple[int, str], *, differ: bool
) -> None:
    """Also two that are alone each, with a cluster that forges each: from a laptop both can be seen."""
    world.start(2)
    world.make(EU, "eu-1")
    world.say(EU, forgingEnabled=True)
    for number, (members, apis) in enumerate((one, other)):
        world.lock(number, f"{EU}/pod", members=members, apis=apis)
    ran = run("clusters")
    assert ("sets differ" in ran.out) is differ
    assert ran.code == int(differ)
    assert run("clusters", "--json").json()["lock"]["sets_differ"] is differ


def test_a_lock_that_ran_out_or_was_released_has_no_holder(world: World, run: Run) -> None:
    world.start(2)
    world.make(EU, "eu-1")
    world.lock(0, f"{EU}/pod", age_s=7200)
    world.lock(1, "")
    ran = run("clusters")
    assert "held by nobody, as far as is known" in row(ran, "lock")
    assert "ran out; was held by" in row(ran, f"member/{world.kubeconfig(0)}")
    assert "released, token 4" in row(ran, f"member/{world.kubeconfig(1)}")


def test_the_newest_word_of_all_coordination_apis_counts_and_the_spec_that_was_edited(world: World, run: Run) -> None:
    world.start(2)
    world.make(EU, "eu-1")
    world.say(EU, on=0, age_s=300, message="old")
    world.say(EU, on=1, forgingEnabled=True, message="new")
    world.call(1, "PATCH", f"{FOLDER}/{EU}", {"spec": {"forgeState": "Disabled"}})
    (cluster,) = run("clusters", "--json").json()["clusters"]
    assert (cluster["forging"], cluster["reason"], cluster["state"]) == (True, "new", "Disabled")


def test_where_no_coordination_api_answers_the_exit_code_says_so(world: World, run: Run) -> None:
    world.start(2)
    for api in world.apis:
        api.kill_sync()
    for verb in (("clusters",), ("history",), ("disable", EU)):
        ran = run(*verb)
        assert (ran.code, ran.out) == (3, "")
        assert ran.err.count("the API server cannot be reached") == 2


def test_without_the_crd_the_remedy_is_named(tmp_path: Path, run: Run) -> None:
    with EmbeddedApi.threaded(crds=()) as api:
        api.write_kubeconfig(tmp_path / "bare")
        ran = run("clusters", "--kubeconfig", str(tmp_path / "bare"))
    assert ran.code == 3
    assert "the CRD is not installed there" in ran.err


@pytest.mark.parametrize("verb", [("clusters",), ("history",), ("switchover", US, "--no-wait")])
def test_nothing_in_an_object_can_speak_to_the_operators_terminal(
    world: World, run: Run, verb: tuple[str, ...]
) -> None:
    world.start(1)
    evil = "evil\x1b]0;owned\x07\nforging  yes"
    world.make(EU, "eu\x1b[2J", override={"enabled": True, "forcePriority": 3, "reason": evil, "expiresAt": LATER})
    world.make(US, "us-1")
    world.say(EU, message=evil, activeLeader=evil)
    world.say(US, message=evil)
    world.lock(0, evil)
    ran = run(*verb)
    assert not set(ran.out + ran.err) & set("\x1b\x07")
    assert verb[0] == "switchover" or r"evil\x1b]0;owned\x07\nforging  yes" in ran.out


# --- where, and which pool ---


def test_inside_a_managed_pod_the_environment_says_where_and_which_pool(world: World, run: Run) -> None:
    world.start(2)
    world.a_pool()
    world.make("other", "eu-1", label="preprod-pool1zzzzz")
    written = f"{world.kubeconfig(0)}#devkit,{world.kubeconfig(1)}"
    ran = run("clusters", "--json", COORDINATION_KUBECONFIGS=written, POOL_ID=POOL, CARDANO_NETWORK="preprod")
    shown = ran.json()
    assert (ran.code, shown["pool"], [member["name"] for member in shown["members"]]) == (0, LABEL, written.split(","))


def test_a_laptops_usual_kubeconfig_and_its_contexts_namespace_are_the_default(
    world: World, run: Run, tmp_path: Path
) -> None:
    world.start(1)
    world.a_pool()
    usual = tmp_path / "home" / ".kube" / "config"
    usual.parent.mkdir(parents=True)
    usual.write_bytes(world.kubeconfig(0).read_bytes())
    assert run("clusters", HOME=str(tmp_path / "home")).code == 0
    content = json.loads(usual.read_text())
    content["contexts"][0]["context"]["namespace"] = "elsewhere"
    usual.write_text(json.dumps(content))
    assert run("clusters", HOME=str(tmp_path / "home")).code == 1
    assert run("clusters", "--namespace", "default", HOME=str(tmp_path / "home")).code == 0


def test_contexts_of_one_kubeconfig_are_coordination_apis_each(world: World, run: Run, tmp_path: Path) -> None:
    world.start(2)
    world.a_pool()
    merged: Json = {"kind": "Config", "clusters": [], "users": [{"name": "u", "user": {}}], "contexts": []}
    for number in (0, 1):
        cluster = {"name": f"c{number}", "cluster": {"server": world.apis[number].url}}
        merged["clusters"].append(cluster)
        merged["contexts"].append({"name": f"x{number}", "context": {"cluster": f"c{number}", "user": "u"}})
    (tmp_path / "both").write_text(json.dumps(merged))
    ran = run("clusters", "--json", "--context", "x0,x1", KUBECONFIG=str(tmp_path / "both"))
    assert [(member["name"], member["answers"]) for member in ran.json()["members"]] == [("x0", True), ("x1", True)]


def test_several_files_in_kubeconfig_are_one_as_for_kubectl(world: World, run: Run, tmp_path: Path) -> None:
    world.start(1)
    world.a_pool()
    content = json.loads(world.kubeconfig(0).read_text())
    (tmp_path / "one").write_text(json.dumps({"contexts": content["contexts"], "current-context": "devkit"}))
    (tmp_path / "two").write_text(json.dumps({"clusters": content["clusters"], "users": content["users"]}))
    variable = f"{tmp_path}/one:{tmp_path}/missing:{tmp_path}/two"
    assert run("clusters", KUBECONFIG=variable).code == 0


def test_a_user_whose_credentials_come_from_a_program_is_logged_in_by_it(run: Run, tmp_path: Path) -> None:
    with EmbeddedApi.threaded(users=["person"]) as api:
        answer = {"kind": "ExecCredential", "status": {"token": api.token_for("person")}}
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin" / "login").write_text(f"#!/bin/sh\necho {shlex.quote(json.dumps(answer))}\n")
        (tmp_path / "bin" / "login").chmod(0o700)
        api.write_kubeconfig(tmp_path / "config", "person")
        content = json.loads((tmp_path / "config").read_text())
        program = {"apiVersion": "client.authentication.k8s.io/v1", "command": "./bin/login"}
        content["users"][0]["user"] = {"exec": program}
        (tmp_path / "config").write_text(json.dumps(content))
        ran = run("clusters", "--kubeconfig", str(tmp_path / "config"))
        assert (ran.code, ran.err) == (1, "")  # nobody forges: it could be asked
        (tmp_path / "bin" / "login").write_text("#!/bin/sh\nexit 7\n")
        ran = run("clusters", "--kubeconfig", str(tmp_path / "config"))
        assert (ran.code, ran.out) == (2, "")
        assert "bin/login, which is to give the user's credentials, ended with exit code 7" in ran.err


def test_a_pool_is_found_by_either_form_of_its_id_and_must_be_named_where_there_are_two(world: World, run: Run) -> None:
    world.start(1)
    pool_id, as_hex = "pool1qqqqqqqqqqqqq", "0" * 56
    world.make("a", "eu-1", label="preprod-pool1qqqqq")
    world.make("b", "eu-1", label="preprod-pool1zzzzz")
    ran = run("clusters")
    assert ran.code == 2
    assert "several pools are there: preprod-pool1qqqqq, preprod-pool1zzzzz; choose one" in ran.err
    for given in (pool_id, as_hex):
        assert run("clusters", "--json", "--pool", given).json()["pool"] == "preprod-pool1qqqqq"
    assert run("clusters", "--json", "--network", "preview", "--pool", pool_id).json()["clusters"] == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("clusters",), "no kubeconfig"),
        (("clusters", "--kubeconfig", "/nowhere"), "/nowhere cannot be read"),
        (("clusters", "--kubeconfig", "a,b", "--context", "c"), "--context goes with one --kubeconfig"),
        (("clusters", "--pool", "mine"), "must be a pool id"),
        (("disable", EU, "--for", "4"), "must be a duration"),
        (("disable", EU, "--for", "0s"), "more than 0 s"),
        (("override", EU, "--priority", "3"), "--for DURATION and --reason TEXT"),
        (("override", EU, "--clear", "--priority", "3"), "--clear goes with no other"),
        (("override", EU, "--priority", "1000", "--for", "1h", "--reason", "x"), "from 1 to 999"),
        (("switchover", EU, "--reason", "two\nlines"), "one line"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(run: Run, arguments: tuple[str, ...], said: str) -> None:
    ran = run(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err


def test_a_cluster_that_is_not_there_is_answered_with_those_that_are(world: World, run: Run) -> None:
    world.start(1)
    world.a_pool()
    ran = run("disable", "eu-2")
    assert ran.code == 2
    assert f"no cluster eu-2; there are {EU} (eu-1), {US} (us-1)" in ran.err


def test_status_on_a_laptop_shows_the_clusters(world: World, run: Run) -> None:
    world.start(1)
    world.a_pool()
    assert row(run("status"), "forging").split() == ["forging", EU]


# --- an object that cannot be read ---


@pytest.fixture
def lax(tmp_path: Path) -> Json:
    """What starts a coordination API whose CRD is another version's: it takes whatever it is given for a spec."""
    crd = yaml.safe_load((DEFAULT_FOLDER / "cardanoforgeclusters.yaml").read_text())
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    schema["properties"]["spec"] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    (tmp_path / "lax.yaml").write_text(yaml.safe_dump(crd))
    return {"crds": (tmp_path / "lax.yaml",)}


SPOILT = {"healthCheck": {"interval": "soon"}}
REFUSED = {"type": "SpecAccepted", "status": "False", "reason": "Unreadable", "message": "spec.priority must be less"}


@pytest.mark.parametrize(
    "verb",
    [
        ("disable", EU),
        ("disable", EU, "--for", "1h"),
        ("enable", EU),
        ("override", EU, "--clear"),
        ("override", EU, "--priority", "1", "--for", "1h", "--reason", "drill"),
        ("switchover", EU, "--force"),
    ],
)
@pytest.mark.parametrize("judge", ["here", "its leading pod"])
def test_a_change_of_an_object_that_cannot_be_read_as_a_whole_is_a_fault_with_the_field_and_the_remedy(
    world: World, run: Run, lax: Json, verb: tuple[str, ...], judge: str
) -> None:
    world.start(1, **lax)
    world.make(EU, "eu-1", **(SPOILT if judge == "here" else {}))
    world.make(US, "us-1")
    world.say(EU, forgingEnabled=True, **({"conditions": [REFUSED]} if judge != "here" else {}))
    field = "spec.healthCheck.interval must be a duration" if judge == "here" else "spec.priority must be less"
    ran = run(*verb)
    assert ran.code == 1
    assert ran.out.startswith("not in force as a whole yet: ")
    assert f"{EU} cannot be read as a whole: {field}" in ran.err
    assert re.search(rf"mend that field: kubectl .* edit cardanoforgeclusters\.cardano\.io {EU}\n", ran.err)
    as_json = run(*verb, "--json")
    assert (as_json.code, field in as_json.json()["unread"]) == (1, True)


def test_a_change_that_mends_the_object_is_none(world: World, run: Run, lax: Json) -> None:
    """Though its leading pod, which has not seen it yet, still says that it cannot be read."""
    world.start(1, **lax)
    world.make(EU, "eu-1", override={"enabled": "perhaps"})
    world.say(EU, conditions=[REFUSED])
    ran = run("override", EU, "--clear")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(f"{EU} has no override any more")


def test_a_cluster_whose_spec_cannot_be_read_stands_in_the_table_with_the_field_and_is_a_fault(
    world: World, run: Run, lax: Json
) -> None:
    world.start(1, **lax)
    world.a_pool()
    assert run("clusters").code == 0
    world.call(0, "PATCH", f"{FOLDER}/{US}", {"spec": SPOILT})
    for verb in ("clusters", "status"):
        ran = run(verb)
        assert ran.code == 1
        assert row(ran, US).count("its spec cannot be read: spec.healthCheck.interval must be a duration") == 1
    shown = {each["name"]: each["unreadable"] for each in run("clusters", "--json").json()["clusters"]}
    assert (shown[EU], "spec.healthCheck.interval" in shown[US]) == (None, True)


def test_what_its_leading_pod_cannot_read_is_shown_though_it_can_be_read_here(world: World, run: Run) -> None:
    world.start(1)
    world.a_pool()
    ready = {"type": "Ready", "status": "True"}
    world.say(EU, forgingEnabled=True, message="pod-of-eu-1 forges", conditions=[ready, REFUSED])
    ran = run("clusters")
    assert ran.code == 1
    assert row(ran, EU).endswith("its spec cannot be read: spec.priority must be less; pod-of-eu-1 forges")


def test_of_several_copies_the_one_that_cannot_be_read_is_named_by_its_member(
    world: World, run: Run, lax: Json
) -> None:
    world.start(2, **lax)
    world.a_pool()
    world.call(1, "PATCH", f"{FOLDER}/{US}", {"spec": SPOILT})
    ran = run("clusters")
    assert ran.code == 1
    assert f"on {world.kubeconfig(1)}: spec.healthCheck.interval" in row(ran, US)
    world.say(US, conditions=[REFUSED])
    assert run("disable", US).code == 0  # the first member's copy was written, and can be read


def test_a_change_is_written_where_the_object_can_be_read(world: World, run: Run, lax: Json) -> None:
    world.start(2, **lax)
    world.a_pool()
    world.call(0, "PATCH", f"{FOLDER}/{US}", {"spec": SPOILT})
    ran = run("disable", US)
    assert f"(written on {world.kubeconfig(1)}; " in ran.out
    assert world.spec(US, 1)["forgeState"] == "Disabled"


# --- disable, enable, override ---


def test_disable_holds_until_the_cluster_is_enabled(world: World, run: Run) -> None:
    world.start(1)
    world.a_pool()
    ran = run("disable", "eu-1")
    first, second, third, last = ran.out.splitlines()
    assert ran.code == 0
    assert first.startswith(f"{EU} is Disabled until it is enabled (written on ")
    assert world.spec(EU)["forgeState"] == "Disabled"
    assert second.startswith("the same by: kubectl --kubeconfig ")
    words = shlex.split(second.removeprefix("the same by: "))
    assert words[-7:-1] == [EU, "--type", "merge", "--field-manager", "forgectl", "--patch"]
    assert json.loads(words[-1]) == {"spec": {"forgeState": "Disabled"}}
    assert (third, last) == ("before: Priority-based", f"to end it: forgectl enable {EU}")
    back = run("enable", EU)
    assert (back.code, back.out.splitlines()[2]) == (0, "before: Disabled")
    assert "to end it" not in back.out
    assert world.spec(EU)["forgeState"] == "Priority-based"


def test_disable_for_a_while_ends_by_itself_and_says_who_comes_first_then(world: World, run: Run) -> None:
    world.start(1)
    world.a_pool()
    before = time.time()
    ran = run("disable", EU, "--for", "1h30m", "--reason", "kernel upgrade")
    spec = world.spec(EU)
    assert spec["forgeState"] == "Priority-based"
    assert (spec["override"]["forceState"], spec["override"]["reason"]) == ("Disabled", "kernel upgrade")
    expires = datetime.fromisoformat(spec["override"]["expiresAt"]).timestamp()
    assert 0 <= expires - before - 5400 < 30
    assert f"{EU} comes first then (Priority-based, 10)" in ran.out


def test_disable_ends_an_override_that_would_stand_above_it(world: World, run: Run) -> None:
    world.start(1)
    world.make(EU, "eu-1", override={"enabled": True, "forceState": "Enabled", "forcePriority": 2, "expiresAt": LATER})
    ran = run("disable", EU, "--yes")
    assert "its override (Enabled) is ended" in ran.out
    assert world.spec(EU)["override"] == {"enabled": False}


class Terminal(io.StringIO):
    """A standard input at which somebody sits."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("verb", [("disable", EU), ("override", EU, "--state", "disabled", "--for=1h", "--reason=x")])
def test_on_a_terminal_the_last_cluster_that_could_forge_is_disabled_only_when_confirmed(
    world: World, run: Run, monkeypatch: pytest.MonkeyPatch, verb: tuple[str, ...]
) -> None:
    world.start(1)
    world.a_pool()
    world.say(US, ready=False)
    before = world.spec(EU)
    monkeypatch.setattr(sys, "stdin", Terminal("n\n"))
    ran = run(*verb)
    assert ran.code == 1
    assert "without it nobody forges" in ran.err
    assert "nothing was changed" in ran.err
    assert world.spec(EU) == before
    monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
    assert run(*verb).code == 0
    assert world.spec(EU) != before


def test_the_question_is_not_asked_with_yes_and_only_said_where_nobody_sits(
    world: World, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.start(1)
    world.a_pool()
    assert run("disable", US).err == ""  # eu-1 could forge
    ran = run("disable", EU)
    assert ran.code == 0
    assert "without it nobody forges" in ran.err
    run("enable", EU)
    monkeypatch.setattr(sys, "stdin", Terminal("n\n"))
    assert run("disable", EU, "--yes").code == 0


def test_enable_ends_the_override_and_with_force_says_a_conflict(world: World, run: Run) -> None:
    world.start(1)
    world.a_pool()
    run("override", EU, "--state", "Enabled", "--for", "1h", "--reason", "drill")
    ran = run("enable", "us-1", "--force")
    assert ran.code == 0
    assert f"{EU} is Enabled too: a conflict" in ran.err
    assert world.spec(US)["forgeState"] == "Enabled"
    assert run("enable", "eu-1").code == 0
    assert world.spec(EU)["override"] == {"enabled": False}
    assert run("enable", "us-1", "--json").json()["did"].startswith(f"{US} is Priority-based, without an override")


def test_an_override_replaces_the_one_before_it_whole_and_can_be_cleared(world: World, run: Run) -> None:
    world.start(1)
    world.a_pool()
    run("override", EU, "--priority", "900", "--state", "Disabled", "--for", "4h", "--reason", "first")
    read = parse_spec(world.spec(EU)).override
    assert (read.enabled, read.force_priority, read.force_state, read.reason) == (True, 900, "Disabled", "first")
    assert read.expires_at is not None
    shown = run("override", EU, "--priority", "5", "--for", "90s", "--reason", "second", "--json").json()
    override = world.spec(EU)["override"]
    assert set(override) == {"enabled", "reason", "expiresAt", "forcePriority"}
    assert (override["forcePriority"], override["reason"]) == (5, "second")
    assert (shown["cluster"], shown["written_on"]) == (EU, str(world.kubeconfig(0)))
    assert f"{EU} comes first then (Priority-based, 10)" in shown["then"]
    assert run("override", EU, "--clear").code == 0
    assert world.spec(EU)["override"] == {"enabled": False}


def test_a_write_goes_to_the_first_coordination_api_that_answers_and_says_which(world: World, run: Run) -> None:
    world.start(3)
    world.a_pool()
    world.apis[0].kill_sync()
    ran = run("disable", EU)
    assert f"(written on {world.kubeconfig(1)}; the arbiters carry it to the others)" in ran.out
    assert f"kubectl --kubeconfig {world.kubeconfig(1)} " in ran.out
    assert world.spec(EU, 1)["forgeState"] == "Disabled"
    assert world.spec(EU, 2)["forgeState"] == "Priority-based"


def test_a_change_of_a_silent_cluster_is_said_to_stay_where_it_was_written(world: World, run: Run) -> None:
    world.start(2)
    world.a_pool()
    world.say(US, age_s=900)
    assert "its arbiter is silent, so nobody carries it to the others" in run("disable", US).out


# --- switchover ---


def test_a_switchover_waits_until_the_cluster_says_that_it_forges_and_says_what_comes_after(
    world: World, run: Run
) -> None:
    world.start(1)
    world.a_pool()

    def obey() -> None:
        while world.spec(US)["override"].get("forceState") != "Enabled":
            time.sleep(0.05)
        world.say(EU)
        world.say(US, forgingEnabled=True, effectiveState="Enabled")

    arbiter = threading.Thread(target=obey)
    world.call(0, "PATCH", f"{FOLDER}/{US}", {"spec": {"override": {"enabled": False}}})
    arbiter.start()
    ran = run("switchover", "us-1", "--for", "2h", "--reason", "drill")
    arbiter.join()
    assert (ran.code, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert lines[0].startswith(f"{US} comes first until 2")
    assert lines[1].startswith("the same by: kubectl ")
    assert lines[2] == "before: Priority-based"
    assert lines[3].endswith(f"(in 2 h 0 min); {EU} comes first then (Priority-based, 10)")
    assert lines[4] == f"to end it: forgectl override {US} --clear"
    assert re.fullmatch(rf"{US} forges, after \d+\.\d s", lines[5])
    override = world.spec(US)["override"]
    assert (override["forceState"], override["reason"]) == ("Enabled", "drill")


def test_a_switchover_that_is_not_in_time_says_what_holds_it_up(world: World, run: Run) -> None:
    world.start(1)
    world.a_pool()
    ran = run("switchover", US, "--timeout", "1")
    assert ran.code == 1
    assert f"{US} does not say that it forges after 1 s: it has not taken the override over yet" in ran.err
    assert f"the lock is held by {EU}/pod-of-eu-1_aa, say 1 of 1" in ran.err
    assert f"forgectl override {US} --clear ends it" in ran.err
    shown = run("switchover", US, "--timeout", "1", "--json")
    assert (shown.code, shown.json()["forging"], shown.json()["took_s"]) == (1, False, None)


def test_what_another_operator_said_of_the_cluster_is_told_before_it_is_gone(world: World, run: Run) -> None:
    world.start(1)
    world.a_pool()
    run("override", US, "--state", "Disabled", "--for", "2h", "--reason", "disk broken")
    shown = run("enable", US, "--json").json()
    assert shown["before"].startswith("Disabled, override until ")
    assert shown["before"].endswith(" (disk broken)")
    assert shown["ended_by"] is None


def test_two_switchovers_at_once_are_a_conflict_that_the_later_one_names(world: World, run: Run) -> None:
    world.start(1)
    world.a_pool()

    def another() -> None:
        while world.spec(US).get("override", {}).get("forceState") != "Enabled":
            time.sleep(0.02)
        world.call(0, "PATCH", f"{FOLDER}/{EU}", {"spec": {"forgeState": "Enabled"}})

    operator = threading.Thread(target=another)
    operator.start()
    ran = run("switchover", US, "--timeout", "2")
    operator.join()
    assert ran.code == 1
    assert f"Enabled at once: {EU}, {US}; the best of them forges" in ran.err


def test_a_switchover_shows_its_progress_where_somebody_looks(
    world: World, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.start(1)
    world.a_pool()
    world.say(US, message="waiting\x1b[2J")
    for stream in (sys.stdout, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: True)
    ran = run("switchover", US, "--timeout", "1")
    assert rf"0 s: {US}: waiting\x1b[2J" in ran.err
    assert "\x1b[2J" not in ran.err


def test_a_switchover_can_be_left_to_itself_and_to_a_cluster_that_forges_takes_no_time(world: World, run: Run) -> None:
    world.start(1)
    world.a_pool()
    assert run("switchover", US, "--no-wait").code == 0
    run("override", US, "--clear")
    ran = run("switchover", EU)
    assert (ran.code, ran.out.splitlines()[-1]) == (0, f"{EU} forges already")
    assert f"{EU} still comes first then" in ran.out


def test_a_switchover_to_a_cluster_that_could_not_forge_is_refused_unless_forced(world: World, run: Run) -> None:
    world.start(1)
    world.a_pool()
    for prepare, why in (
        (lambda: world.say(US, ready=False), "the node is not fit"),
        (lambda: world.say(US, age_s=100), "silent"),
        (lambda: run("disable", US), "Disabled"),
    ):
        prepare()
        ran = run("switchover", US)
        assert (ran.code, ran.out) == (1, "")
        assert f"{US} could not forge: {why}; --force to do it all the same" in ran.err
    assert world.spec(US).get("override", {}).get("forceState") is None
    assert run("switchover", US, "--force", "--no-wait").code == 0
    assert world.spec(US)["override"]["forceState"] == "Enabled"


def test_a_switchover_while_another_cluster_is_enabled_is_refused_even_by_force(world: World, run: Run) -> None:
    world.start(1)
    world.a_pool()
    run("enable", EU, "--force")
    ran = run("switchover", US, "--force")
    assert ran.code == 1
    assert f"{EU} is Enabled already; end that first: forgectl enable {EU}" in ran.err


def test_an_old_word_on_a_coordination_api_that_was_away_does_not_end_the_wait(world: World, run: Run) -> None:
    world.start(2)
    world.a_pool()
    world.say(US, on=0, age_s=400, forgingEnabled=True)
    assert run("switchover", US, "--timeout", "1").code == 1


# --- history ---


def test_events_of_the_pools_clusters_stand_in_the_history_and_no_other_ones(world: World, run: Run) -> None:
    world.start(1)
    world.a_pool()

    async def emit(name: str, wall_s: float, message: str) -> None:
        about = events.Regarding("cardano.io/v1", "CardanoForgeCluster", "default", name, "")
        async with ApiSession(world.kubeconfig(0), user_agent="test") as session:
            await events.emit(
                session,
                about,
                reason="ForgingStarted",
                message=message,
                warning=False,
                pod="pod-0",
                wall_s=wall_s,
                timeout_s=30,
            )

    asyncio.run(emit(US, time.time() - 900, "second\x1b[2J"))
    asyncio.run(emit(EU, time.time() - 1000, "first"))
    asyncio.run(emit("another-pools", time.time() - 950, "third"))
    ran = run("history")
    assert (ran.code, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert re.search(rf"^\S+Z +{EU} +ForgingStarted +first$", lines[0])
    assert lines[1].endswith(r"ForgingStarted  second\x1b[2J")
    assert "third" not in ran.out


@pytest.mark.parametrize("kind", [Failure.NOT_FOUND, Failure.FORBIDDEN, Failure.INVALID])
def test_history_is_one_time_line_of_statuses_and_the_lock_where_no_events_are_told(
    world: World, run: Run, monkeypatch: pytest.MonkeyPatch, kind: Failure
) -> None:
    request = ApiSession.request

    async def without_events(self: ApiSession, verb: str, path: str, **options: Any) -> Json:
        if path.endswith("/events"):
            raise ApiFailure(kind, "the API server answered so")
        return await request(self, verb, path, **options)

    monkeypatch.setattr(ApiSession, "request", without_events)
    world.start(1)
    world.make(EU, "eu-1")
    world.say(EU, age_s=60, forgingEnabled=True, message="pod forges")
    world.lock(0, f"{EU}/pod", age_s=30, token=7)
    world.make(US, "us-1")
    ran = run("history")
    assert (ran.code, ran.err) == (0, f"forgectl: {world.kubeconfig(0)} tells no events: the API server answered so\n")
    times = [line.split()[0] for line in ran.out.splitlines()]
    assert times == sorted(times)
    assert re.search(
        rf"{EU} +Priority-based +forges: pod forges, led by pod-of-eu-1\n.*lock +taken .*token 7\n.*{US}", ran.out
    )
    assert [each["about"] for each in run("history", "--json", "--limit", "2").json()] == ["lock", US]


def test_what_several_coordination_apis_tell_alike_is_shown_once_and_the_silent_one_is_named(
    world: World, run: Run
) -> None:
    world.start(3)
    world.a_pool()
    world.apis[2].kill_sync()
    ran = run("history", "--json")
    told = ran.json()
    assert len([each for each in told if each["about"] == "lock"]) == 2  # each its own Lease
    assert len([each for each in told if each["told_by"] == "status"]) == len({json.dumps(each) for each in told}) - 2
    assert f"{world.kubeconfig(2)} was not asked" in ran.err


def test_an_event_is_told_with_the_time_it_happened_last_and_how_often() -> None:
    raw = {
        "involvedObject": {"kind": "CardanoForgeCluster", "name": EU},
        "reason": "ForgingStarted",
        "message": "pod forges",
        "firstTimestamp": "2026-01-31T18:00:00Z",
        "lastTimestamp": "2026-01-31T18:00:05Z",
        "count": 3,
    }
    at = 1769882405.0
    assert event(raw, {EU}) == Happened(at, EU, "ForgingStarted", "pod forges (x3)", "event")
    newer = raw | {"lastTimestamp": None, "firstTimestamp": None, "eventTime": "2026-01-31T18:00:05.000000Z"}
    assert event(newer | {"count": None}, {EU}) == Happened(at, EU, "ForgingStarted", "pod forges", "event")


@pytest.mark.parametrize(
    "raw",
    [
        {},
        {"involvedObject": {"name": "another-pools"}, "lastTimestamp": "2026-01-31T18:00:05Z"},
        {"involvedObject": {"name": EU}},
        {"involvedObject": {"name": EU}, "lastTimestamp": "yesterday"},
        {"involvedObject": {"name": EU}, "lastTimestamp": "2026-01-31T18:00:05"},
    ],
)
def test_an_event_of_nobody_we_know_or_of_no_time_is_left_out(raw: Json) -> None:
    assert event(raw, {EU}) is None


# --- pause and resume ---


def annotations(world: World, number: int, lease: str = f"cardano-pool-{LABEL}") -> Json:
    found: Json = world.call(number, "GET", f"{LEASES}/{lease}")["metadata"].get("annotations", {})
    return found


def test_a_pause_is_written_on_the_lock_of_every_coordination_api_and_nothing_else_is(world: World, run: Run) -> None:
    world.start(3)
    world.a_pool()
    before = world.call(0, "GET", f"{LEASES}/cardano-pool-{LABEL}")["spec"]
    ran = run("pause", "--for", "2h", "--reason", "new switches")
    assert (ran.code, ran.err) == (0, "")
    assert re.match(r"the pool-wide lock is paused until \S+Z: new switches. It stays with cluster \S+eu-1; ", ran.out)
    assert ran.out.count("the same by: kubectl ") == 3
    for number in range(3):
        assert re.fullmatch(r"\S+Z new switches", annotations(world, number)["cardano.io/paused"])
        assert annotations(world, number)["cardano.io/lock-members"] == "3"
    seen = run("clusters")
    assert re.match(r"paused +the lock stays in its cluster, until \S+Z: new switches; forgectl", row(seen, "paused"))
    assert run("clusters", "--json").json()["lock"]["paused"].endswith("Z: new switches")
    assert world.call(0, "GET", f"{LEASES}/cardano-pool-{LABEL}")["spec"] == before
    assert run("resume", "--json").json() == {
        "lease": f"cardano-pool-{LABEL}",
        "pool_wide": True,
        "paused": None,
        "before": ANY,
        "stays_with": EU,
        "written_on": [str(world.kubeconfig(number)) for number in range(3)],
        "failed": {},
    }
    assert all("cardano.io/paused" not in annotations(world, number) for number in range(3))
    assert run("clusters", "--json").json()["lock"]["paused"] is None


def test_a_pause_shows_among_the_clusters(world: World, run: Run) -> None:
    world.start(1)
    world.a_pool()
    assert run("clusters", "--json").json()["lock"]["paused"] is None
    run("pause", "--reason", "new switches")
    assert row(run("clusters"), "paused").endswith(
        "the lock stays in its cluster, until resumed: new switches; forgectl resume ends it"
    )
    assert run("clusters", "--json").json()["lock"]["paused"] == "until resumed: new switches"


def test_a_pause_that_is_not_written_everywhere_says_whether_it_counts(world: World, run: Run) -> None:
    world.start(3)
    world.a_pool()
    world.apis[2].stop_sync()
    ran = run("pause")
    assert ran.code == 1
    assert "written on 2 of 3 coordination APIs, which is a majority and counts: " in ran.err
    ran = run("pause", "--kubeconfig", str(world.kubeconfig(0)))
    assert ran.code == 1
    assert (
        "written on 1 of 3 coordination APIs, which is no majority, and counts for nothing: 2 that the lock's holder "
        "counts too were not named here" in ran.err
    )


def test_of_two_servers_the_one_that_was_paused_counts_and_the_one_that_was_resumed_does_not(
    world: World, run: Run
) -> None:
    world.start(2)
    world.a_pool()
    world.apis[1].kill_sync()
    assert "written on 1 of 2 coordination APIs, which is half of them and counts: " in run("pause").err
    assert "written on 1 of 2 coordination APIs, which is no majority, and counts for nothing: " in run("resume").err


def test_a_pause_and_its_end_say_what_was_before(world: World, run: Run) -> None:
    world.start(1)
    world.a_pool()
    assert "the pool-wide lock was not paused: whoever may take over does, as before" in run("resume").out
    assert "It was" not in run("pause", "--reason", "new switches").out
    assert (
        "is paused until resumed: mine. It was paused until resumed: new switches."
        in run("pause", "--reason", "mine").out
    )
    assert "It was" not in run("pause", "--reason", "mine").out
    assert run("pause", "--json").json()["before"] == "until resumed: mine"
    assert run("resume").out.splitlines()[0].endswith("It was paused until resumed")


@pytest.mark.parametrize("arguments", [(), ("--lease", "cardano-node-leader")])
def test_without_cluster_management_the_lease_of_the_election_is_paused(
    world: World, run: Run, arguments: tuple[str, ...]
) -> None:
    world.start(1)
    body = {"metadata": {"name": "cardano-node-leader"}, "spec": {"holderIdentity": "pod-0_aa", "leaseTransitions": 1}}
    world.call(0, "POST", LEASES, body)
    ran = run("pause", *arguments)
    assert (ran.code, ran.err) == (0, "")
    assert "the lease cardano-node-leader is paused until resumed. It stays with pod-0; " in ran.out
    assert annotations(world, 0, "cardano-node-leader") == {"cardano.io/paused": "true"}


def test_of_two_pools_one_is_to_be_named_before_anything_is_paused(world: World, run: Run) -> None:
    world.start(1)
    for pool in (LABEL, "preprod-pool1other1"):
        body = {"metadata": {"name": f"cardano-leader-{pool}"}, "spec": {"holderIdentity": "pod-0_aa"}}
        world.call(0, "POST", LEASES, body)
    ran = run("pause")
    assert ran.code == 2
    assert "several pools are there: cardano-leader-preprod-pool1abcd1, cardano-leader-preprod-pool1other1" in ran.err
    assert run("pause", "--pool", POOL, "--network", "preprod").code == 0
    assert annotations(world, 0, "cardano-leader-preprod-pool1other1") == {}


def make_lease(world: World, name: str, number: int = 0, *, namespace: str = "default") -> str:
    """Where it is."""
    folder = LEASES.replace("default", namespace)
    body = {"metadata": {"name": name}, "spec": {"holderIdentity": "pod-0_aa", "leaseTransitions": 1}}
    world.call(number, "POST", folder, body)
    return f"{folder}/{name}"


def paused(world: World, path: str, number: int = 0) -> bool:
    return "cardano.io/paused" in world.call(number, "GET", path)["metadata"].get("annotations", {})


@pytest.mark.parametrize("managed", [False, True])
@pytest.mark.parametrize("kind", ["pool", "leader"])
def test_a_pause_is_of_the_pool_and_in_the_namespace_that_the_options_name_whatever_the_environment_says(
    world: World, run: Run, monkeypatch: pytest.MonkeyPatch, managed: bool, kind: str
) -> None:
    world.start(1)
    for name, value in {"POD_NAME": "pod-0", "POOL_ID": OURS, "NAMESPACE": "default"}.items():
        monkeypatch.setenv(name, value)
    if managed:
        monkeypatch.setenv("ENABLE_CLUSTER_MANAGEMENT", "true")
        monkeypatch.setenv("CLUSTER_REGION", "eu-1")
        monkeypatch.setenv("CLUSTER_IDENTIFIER", "eu-1")
    world.call(0, "POST", "/api/v1/namespaces", {"metadata": {"name": "tenant-b"}})
    others = [make_lease(world, f"cardano-{each}-mainnet-{OURS[:10]}") for each in ("pool", "leader")]
    there = {space: make_lease(world, f"cardano-{kind}-{LABEL}", namespace=space) for space in ("default", "tenant-b")}
    ran = run("pause", "--pool", POOL, "--network", "preprod", "--namespace", "tenant-b", "--reason", "it's ours")
    assert (ran.code, ran.err) == (0, "")
    assert {space: paused(world, path) for space, path in there.items()} == {"default": False, "tenant-b": True}
    assert not any(paused(world, path) for path in others)
    line = ran.out.splitlines()[-1].removeprefix("the same by: ")
    assert shlex.split(line)[-6:] == [
        *("tenant-b", "annotate", "--overwrite", "lease", f"cardano-{kind}-{LABEL}"),
        "cardano.io/paused=true it's ours",
    ]


def test_a_pool_that_is_not_there_is_not_paused_in_the_place_of_the_environments(
    world: World, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.start(1)
    monkeypatch.setenv("POD_NAME", "pod-0")
    there = make_lease(world, "cardano-node-leader")
    ran = run("pause", "--pool", POOL, "--network", "preprod")
    assert ran.code == 1
    assert f"no Lease of {LABEL} is there" in ran.err
    assert not paused(world, there)


def test_from_a_laptop_that_only_knows_the_pool_its_lock_goes_before_the_lease_of_a_cluster(
    world: World, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.start(2)
    monkeypatch.setenv("POOL_ID", OURS)
    label = f"mainnet-{OURS[:10]}"
    lease = make_lease(world, f"cardano-leader-{label}")
    ran = run("pause")
    assert "the lease cardano-leader-" in ran.out
    assert paused(world, lease)
    assert run("resume").code == 0
    locks = [make_lease(world, f"cardano-pool-{label}", number) for number in (0, 1)]
    assert "the pool-wide lock is paused" in run("pause").out
    assert [paused(world, path, number) for number, path in enumerate(locks)] == [True, True]
    assert not paused(world, lease)
    assert run("resume").code == 0
    world.apis[1].stop_sync()
    world.call(0, "DELETE", locks[0])
    ran = run("pause")
    assert ran.code == 3
    assert f"whether the lease cardano-leader-{label} is the one could not be seen (not asked: " in ran.err
    assert not paused(world, lease)


def test_the_lease_of_one_cluster_that_is_on_several_servers_is_paused_where_one_says(world: World, run: Run) -> None:
    world.start(2)
    there = [make_lease(world, f"cardano-leader-{LABEL}", number) for number in (0, 1)]
    ran = run("pause")
    assert ran.code == 2
    assert f"the lease cardano-leader-{LABEL} is on several: " in ran.err
    assert run("pause", "--kubeconfig", str(world.kubeconfig(1))).code == 0
    assert [paused(world, path, number) for number, path in enumerate(there)] == [False, True]


def test_where_no_lease_is_there_is_nothing_to_pause_and_where_nobody_answers_that_is_said(
    world: World, run: Run
) -> None:
    world.start(1)
    ran = run("pause")
    assert ran.code == 1
    assert "no Lease of a forge manager is there; name it by --lease" in ran.err
    world.apis[0].stop_sync()
    assert run("pause").code == 3
