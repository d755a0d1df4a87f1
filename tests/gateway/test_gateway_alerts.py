"""The alerting rules speak of series that there are, and those of the contract are word for word its own."""

from __future__ import annotations

import dataclasses
import math
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from gateway_pictures import NOW, S, picture
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from promtool import needs_promtool, promtool

from cli import forgectl
from config import Config, load
from gateway import catalogue
from gateway.chronicle import Chronicle
from gateway.metrics import PodCollector
from gateway.totals import Totals
from ipc.messages import Fence
from policy import notice_kinds, timing
from policy.election import Circumstances, Do, Election
from policy.lease import LeaseRecord

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "alerts" / "rules.yaml"
CASES = Path(__file__).with_name("alert_cases.yaml")
OF_DAYS = Path(__file__).with_name("alert_cases_of_days.yaml")
BOOKS = ROOT / "docs" / "runbooks"
CONTRACT = {
    "MultipleLocalForgers": ("sum(cardano_forging_enabled) > 1", "30s", "critical"),
    "MultipleClusterForgers": ("sum(cardano_cluster_forge_enabled) > 1", "30s", "critical"),
    "NoActiveForger": ("sum(cardano_cluster_forge_enabled) == 0", "60s", "warning"),
    "ClusterHealthDegraded": ("cardano_cluster_health_check_consecutive_failures > 1", "2m", "warning"),
}


def rules() -> dict[str, dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def test_the_alerts_of_the_contract_are_its_own() -> None:
    there = rules()
    for name, wanted in CONTRACT.items():
        rule = there[name]
        assert (rule["expr"], rule["for"], rule["labels"]["severity"]) == wanted


@pytest.mark.parametrize("name", sorted(rules()))
def test_an_alert_speaks_of_series_and_labels_that_there_are(name: str) -> None:
    rule = rules()[name]
    named = set(re.findall(r"\bcardano_\w+", rule["expr"]))
    assert named
    assert named <= catalogue.EVERY.keys()
    labels = {label for each in re.findall(r"by \(([^)]*)\)", rule["expr"]) for label in each.split(", ")}
    labels |= set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
    labels -= {"instance", "pod"} if "else" in rule["annotations"]["summary"] else {"instance"}  # the scraper's
    assert all(labels <= set(catalogue.EVERY[each].labels) for each in named)
    matched = {label for each in re.findall(r"(?:on|ignoring) \(([^)]*)\)", rule["expr"]) for label in each.split(", ")}
    assert matched <= {label for each in named for label in catalogue.EVERY[each].labels}


def test_the_three_alerts_before_a_key_expires_follow_each_other_without_a_gap() -> None:
    def speaks(name: str, days: float) -> bool:
        left = "(cardano_kes_expiry_timestamp_seconds - time()) / 86400"
        return bool(eval(rules()[name]["expr"].replace(left, str(days))))  # numbers, from our own file

    names = ("KesKeyExpiresIn14Days", "KesKeyExpiresIn7Days", "KesKeyExpiresIn2Days")
    assert [sum(speaks(name, days) for name in names) for days in (14.1, 14, 7.1, 7, 2.1, 2, 0, -5)] == [0] + [1] * 7


def half_of_what_is_usual() -> float:
    """The share below which LeaseRenewedLate speaks."""
    (share,) = re.findall(rf"< (0\.\d+) \* {catalogue.USUAL_MARGIN.name}\b", rules()["LeaseRenewedLate"]["expr"])
    return float(share)


@given(st.integers(6, 3600), st.floats(0, 1), st.integers(0, 450), st.data())
def test_with_all_timings_that_are_accepted_a_lease_that_is_renewed_in_time_is_not_renewed_late(
    lease_s: int, share: float, answer_ms: int, data: st.DataObject
) -> None:
    longest = min(timing.soft_deadline(timing.grant_deadline(0, lease_s * S)) / 2 / S, 1200)
    pause_s = math.floor((0.5 + share * (longest - 0.5)) * 1000) / 1000
    config = load({"POD_NAME": "pod-0", "LEASE_DURATION": str(lease_s), "SLEEP_INTERVAL": f"{pause_s:.3f}"})
    usual = shown_as_usual(config)
    limit = half_of_what_is_usual() * usual
    assert renewed_with(config, answer_ms * timing.MILLISECOND) >= limit
    late = data.draw(st.floats(0.51, 0.99)) * usual
    assert renewed_with(config, int(late * S)) < limit


def shown_as_usual(config: Config) -> float:
    """Seconds, as a scrape gets them."""
    shown = dataclasses.replace(picture(), config=config)
    registry = CollectorRegistry()
    registry.register(PodCollector(lambda: shown, Totals(), Chronicle()))
    seconds = registry.get_sample_value(catalogue.USUAL_MARGIN.name)
    assert seconds is not None
    return seconds


def renewed_with(config: Config, answered_after: int) -> float:
    """Seconds that a leader has left when its renewal, sent when it is due, is answered so late (ns)."""
    election = Election(
        "pod-0", lease_duration_s=config.lease_duration, sleep_interval=config.sleep_interval_ns, held=None, now=NOW
    )
    record = LeaseRecord("1", "pod-0", config.lease_duration, 1)
    election.wrote(record, sent_at=NOW, now=NOW)
    fit = Circumstances(True, 0, "", True, "", Fence.ARMED, void_before=0, node_gone=False, stopping=False)
    now = NOW
    while (step := election.next(now, fit)).act is Do.WAIT:
        now = step.until
    assert step.act is Do.RENEW
    election.wrote(dataclasses.replace(record, resource_version="2"), sent_at=now, now=now + answered_after)
    assert election.renewal_margin is not None
    return election.renewal_margin / S


@pytest.mark.parametrize(
    ("kind", "alert"),
    [
        (notice_kinds.CONFLICT_BEGAN, "ClustersConflict"),
        (notice_kinds.CREDENTIALS_ERROR, "CredentialsUnusable"),
        (notice_kinds.NODE_KILLED, "NodeWasEnded"),
        (notice_kinds.NODE_UNFIT, "PodCannotTakeOver"),
        (notice_kinds.SANDBOX_VIOLATED, "PrivilegeViolation"),
    ],
)
def test_what_a_notice_and_an_alert_both_tell_of_is_as_grave_in_both(kind: notice_kinds.Kind, alert: str) -> None:
    assert kind.gravity == rules()[alert]["labels"]["severity"]


@pytest.mark.parametrize("name", sorted(rules()))
def test_each_alert_has_a_runbook_which_says_what_it_means(name: str) -> None:
    book = rules()[name]["annotations"].get("runbook", f"docs/runbooks/{name}.md")
    text = (ROOT / book).read_text()
    assert "## What it means" in text
    assert name in text, "whoever looks for the alert's name must find it"


def test_runbooks_lead_to_what_there_is() -> None:
    for book in BOOKS.glob("*.md"):
        for link in re.findall(r"\]\(([^)#]+)\)", book.read_text()):
            assert (book.parent / link).exists(), f"{book.name}: {link}"


def written_commands(program: str) -> list[tuple[str, list[str]]]:
    """Of every runbook, its name and the words behind `program`, wherever it is in backticks or a block of its own."""
    found = []
    for book in sorted(BOOKS.glob("*.md")):
        text = book.read_text()
        blocks = re.findall(r"^```\w*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        spoken = re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL))
        lines = [
            *(" ".join(each.split()) for each in spoken),
            *(line for block in blocks for line in block.splitlines()),
        ]
        for line in lines:
            if re.search(rf"(?:^|\s){program}\s", line):
                words = shlex.split(line, comments=True)
                found.append((book.name, words[words.index(program) + 1 :]))
    return found


@pytest.mark.parametrize(("book", "words"), written_commands("forgectl"))
def test_every_forgectl_command_of_a_runbook_is_one_that_forgectl_takes(book: str, words: list[str]) -> None:
    try:
        forgectl._parser().parse_args(words)
    except SystemExit:
        pytest.fail(f"{book}: forgectl {' '.join(words)}")


@pytest.mark.parametrize("book", sorted(BOOKS.glob("*.md")), ids=lambda book: book.stem)
def test_what_only_cluster_management_can_do_is_advised_as_such(book: Path) -> None:
    """Without it `forgectl disable` finds no cluster: no remedy for two forgers, though it looks like one."""
    text = book.read_text()
    if re.search(r"forgectl (disable|enable|switchover|override) ", text):
        assert "cluster management" in text or "CardanoForgeCluster" in text


def test_no_runbook_has_a_pod_deleted_by_force_or_an_order_undone_unseen() -> None:
    """A forced deletion frees the name of a pod whose node may still run; a drain may keep two from forging."""
    books = {book.stem: " ".join(book.read_text().split()) for book in BOOKS.glob("*.md")}
    for name, text in books.items():
        assert text.count("--force") == len(re.findall(r"Never with `--force`", text)), name
        assert "kubectl delete pod" not in text or "Never with `--force`" in text, name
    undoing = r"forgectl (enable|come-back|resume)"
    advised = [line for line in books["NobodyForges"].split("|") if re.search(undoing, line)]
    assert len(advised) == 3
    assert all(re.search("reason is gone|will not come", line) for line in advised)
    assert "forgectl stand-down" not in books["PrivilegeViolation"], "it would be back in a minute"


def labels_of_pods() -> list[dict[str, str]]:
    """That deploy/ gives its pods."""
    found = []
    for file in [*(ROOT / "deploy/kustomize").rglob("*.yaml"), *(ROOT / "deploy/examples").glob("*.yaml")]:
        for each in yaml.safe_load_all(file.read_text()):
            template = ((each or {}).get("spec") or {}).get("template") if isinstance(each, dict) else None
            found += [template["metadata"]["labels"]] if isinstance(template, dict) else []
    return found


def test_every_selector_of_a_runbook_finds_pods_that_deploy_makes() -> None:
    selectors = [(book, words[words.index("-l") + 1]) for book, words in written_commands("kubectl") if "-l" in words]
    assert selectors
    for book, selector in selectors:
        key, value = selector.split("=")
        assert any(labels.get(key) == value for labels in labels_of_pods()), f"{book}: -l {selector}"


@pytest.mark.parametrize("name", sorted(rules()))
def test_each_alert_is_shown_once_to_speak_and_once_to_be_silent(name: str) -> None:
    cases = [each for test in yaml.safe_load(CASES.read_text())["tests"] for each in test["alert_rule_test"]]
    expected = [bool(each["exp_alerts"]) for each in cases if each["alertname"] == name]
    assert set(expected) == {True, False}


@needs_promtool
@pytest.mark.parametrize("how", [("check", RULES), ("test", CASES), ("test", OF_DAYS)], ids=["check", "test", "days"])
def test_promtool_finds_the_rules_right_and_each_alert_as_shown(how: tuple[str, Path]) -> None:
    done = promtool(how[0], "rules", str(how[1]))
    assert done.returncode == 0, done.stdout + done.stderr
