"""The alerting rules speak of series that there are, and those of the contract are word for word its own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from promtool import needs_promtool, promtool

from cli import forgectl
from gateway import catalogue

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "alerts" / "rules.yaml"
CASES = Path(__file__).with_name("alert_cases.yaml")
FORGECTL = forgectl._parser().format_help()
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
    labels.discard("instance")  # the scraper's
    assert all(labels <= set(catalogue.EVERY[each].labels) for each in named)


def test_the_three_alerts_before_a_key_expires_follow_each_other_without_a_gap() -> None:
    def speaks(name: str, days: float) -> bool:
        left = "(cardano_kes_expiry_timestamp_seconds - time()) / 86400"
        return bool(eval(rules()[name]["expr"].replace(left, str(days))))  # numbers, from our own file

    names = ("KesKeyExpiresIn14Days", "KesKeyExpiresIn7Days", "KesKeyExpiresIn2Days")
    assert [sum(speaks(name, days) for name in names) for days in (14.1, 14, 7.1, 7, 2.1, 2, 0, -5)] == [0] + [1] * 7


@pytest.mark.parametrize("name", sorted(rules()))
def test_each_alert_has_a_runbook_which_says_what_it_means(name: str) -> None:
    book = rules()[name]["annotations"].get("runbook", f"docs/runbooks/{name}.md")
    text = (ROOT / book).read_text()
    assert "## What it means" in text
    assert name in text, "whoever looks for the alert's name must find it"


def test_runbooks_lead_to_what_there_is() -> None:
    for book in (ROOT / "docs" / "runbooks").glob("*.md"):
        for link in re.findall(r"\]\(([^)#]+)\)", book.read_text()):
            assert (book.parent / link).exists(), f"{book.name}: {link}"
        for command in re.findall(r"`forgectl ([a-z-]+)", book.read_text()):
            assert command in FORGECTL, f"{book.name}: forgectl {command}"


@pytest.mark.parametrize("name", sorted(rules()))
def test_each_alert_is_shown_once_to_speak_and_once_to_be_silent(name: str) -> None:
    cases = [each for test in yaml.safe_load(CASES.read_text())["tests"] for each in test["alert_rule_test"]]
    expected = [bool(each["exp_alerts"]) for each in cases if each["alertname"] == name]
    assert set(expected) == {True, False}


@needs_promtool
@pytest.mark.parametrize("how", [("check", RULES), ("test", CASES)], ids=["check", "test"])
def test_promtool_finds_the_rules_right_and_each_alert_as_shown(how: tuple[str, Path]) -> None:
    done = promtool(how[0], "rules", str(how[1]))
    assert done.returncode == 0, done.stdout + done.stderr
