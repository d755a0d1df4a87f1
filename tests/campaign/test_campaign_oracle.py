"""A page, a metric or an object that lies is seen; what is only as old as it may be is none."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devkit.record import NS, Interval

from campaign_arenas import says
from campaign_oracle import (
    STALE_S,
    Critic,
    Lasting,
    Look,
    Turn,
    Word,
    lie,
    look,
    own_words,
    sheet,
    together,
    total,
    turned,
)

PAGE = """# HELP cardano_forging_enabled Whether
# TYPE cardano_forging_enabled gauge
cardano_forging_enabled{pod="pod-0",network="mainnet"} 1.0
cardano_cluster_forge_enabled{cluster="unknown"} 1.0
cardano_leader_status{pod="pod-0"} 1.0
cardano_forge_manager_ready{pod="pod-0"} 1.0
cardano_forge_manager_node_fit 1.0
cardano_forge_manager_node_started_producing 0.0
cardano_forge_manager_privilege_violations{worker="prober"} 0.0
cardano_forge_manager_worker_up{worker="prober"} 1.0
cardano_forge_manager_worker_up{worker="elector"} 1.0
cardano_credential_findings{severity="error",check="match"} 0.0
cardano_credential_findings{severity="warning",check="age"} 1.0
cardano_opcert_counter{pod="pod-0"} 3.0
"""
STATUS = {"forging": True, "fence": {"state": "armed"}, "paused": "", "health": {"alive": True}} | {
    "leader": {"holder": "pod-0_x", "token": 7}
}


def standby(pod: str) -> Word:
    page = PAGE
    for name in ("cardano_forging_enabled", "cardano_cluster_forge_enabled", "cardano_leader_status"):
        page = "\n".join(line.replace(" 1.0", " 0.0") if line.startswith(name) else line for line in page.split("\n"))
    return Word(pod, False, STATUS | {"forging": False, "fence": {"state": "fenced"}}, sheet(page))


def forger(**status: Any) -> Word:
    return Word("pod-0", True, STATUS | status, sheet(PAGE))


def seen(at_s: float, pod: str = "a", **says_: bool) -> Look:
    return Look(
        pod, round(at_s * NS), round(at_s * NS), **{"forging": False, "leading": False, "enabled": False} | says_
    )


def test_a_page_is_read_with_its_labels_and_what_is_no_sample_is_passed_over() -> None:
    page = sheet(PAGE + "torn{a=\n\n# a comment\n" + 'two{a="b c"} 2\n')
    assert total(page, "two") == 2
    assert total(page, "cardano_credential_findings") == 1
    assert total(page, "cardano_credential_findings", 'severity="error"') == 0
    assert total(page, "torn") is None
    assert look("pod-0", 1, 2, page) == Look("pod-0", 1, 2, True, True, True)


def test_who_says_that_its_node_forges_may_be_as_late_with_it_as_a_state_is_valid_and_no_later() -> None:
    forged = [Interval(0, 10 * NS)]
    assert lie(seen(9, forging=True), forged, STALE_S) == ""
    assert lie(seen(10 + STALE_S - 0.1, forging=True), forged, STALE_S) == ""
    assert "by its own record" in lie(seen(10 + STALE_S + 0.1, forging=True), forged, STALE_S)
    assert "by its own record" in lie(seen(10, forging=True), [], STALE_S)
    assert "by its own record" in lie(seen(10, forging=True), [Interval(11 * NS, 12 * NS)], STALE_S)
    assert lie(seen(99), forged, STALE_S) == ""


@given(st.lists(st.booleans(), max_size=30))
def test_what_lasts_too_long_is_said_once_each_time(so: list[bool]) -> None:
    lasting, run, expected = Lasting(3), 0, []
    for each in so:
        run = run + 1 if each else 0
        expected.append(run == 5)  # looks at 0, 1, 2, 3 and, the first that is later than 3 s, 4
    assert [lasting.too_long(at * NS, so=each) for at, each in enumerate(so)] == expected


@pytest.mark.parametrize("metric", ["leading", "enabled"])
def test_two_pods_that_both_claim_the_right_are_told_when_they_do_for_longer_than_a_state_is_valid(metric: str) -> None:
    critic = Critic([["a", "b"]], 0)
    found = [
        critic.judge([seen(at, "a", **{metric: True}), seen(at, "b", **{metric: True})], {"a": [], "b": []})
        for at in range(0, 12, 2)
    ]
    assert [bool(each) for each in found] == [False, False, False, False, True, False]
    assert found[4][0].endswith("a, b")


def test_leaders_of_two_leases_are_none_of_one() -> None:
    critic = Critic([["a"], ["b"]], 0)
    for at in range(0, 30, 2):
        assert critic.judge([seen(at, "a", leading=True), seen(at, "b", leading=True)], {"a": [], "b": []}) == []


def test_a_pool_that_says_what_is_so_is_not_contradicted() -> None:
    words = [forger(), standby("pod-1"), standby("pod-2")]
    assert [each for said in words for each in own_words(said, 3)] == []
    assert together(words, of="leader", one_lease=True) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('cardano_forging_enabled{pod="pod-0",network="mainnet"} 1.0', "cardano_forging_enabled 0.0"),
        ('cardano_cluster_forge_enabled{cluster="unknown"} 1.0', ""),
        ('cardano_leader_status{pod="pod-0"} 1.0', "cardano_leader_status 0.0"),
        ('cardano_forge_manager_ready{pod="pod-0"} 1.0', "cardano_forge_manager_ready 0.0"),
        ('violations{worker="prober"} 0.0', 'violations{worker="prober"} 1.0'),
        ('worker_up{worker="elector"} 1.0', 'worker_up{worker="elector"} 0.0'),
        ('check="match"} 0.0', 'check="match"} 1.0'),
        ('cardano_opcert_counter{pod="pod-0"} 3.0', "cardano_opcert_counter 2.0"),
    ],
)
def test_each_metric_that_is_not_as_it_should_be_at_rest_is_told(old: str, new: str) -> None:
    assert old in PAGE
    (told,) = own_words(Word("pod-0", True, STATUS, sheet(PAGE.replace(old, new))), 3)
    assert told.startswith("pod-0: ")


@pytest.mark.parametrize(
    "status",
    [{"forging": False}, {"fence": {"state": "fencing"}}, {"fence": None}, {"paused": "until noon"}, {"health": {}}],
)
def test_a_status_that_is_not_so_at_rest_is_told(status: dict[str, Any]) -> None:
    assert len(own_words(forger(**status), 3)) == 1


def test_pods_that_do_not_name_one_holder_by_one_token_are_told() -> None:
    said = {"holder": "pod-1_y", "token": 7}, {"holder": "pod-0_x", "token": 8}, {}
    for leader, wrong in zip(said, (1, 1, 2), strict=True):
        other = Word("pod-1", True, STATUS | {"leader": leader}, sheet(PAGE))
        assert len(together([forger(), other], of="leader", one_lease=False)) == wrong


def test_two_leaders_of_one_lease_at_rest_are_told_and_none_is_too() -> None:
    other = Word("pod-1", True, STATUS, sheet(PAGE))
    assert len(together([forger(), other], of="leader", one_lease=True)) == 1
    assert len(together([standby("pod-1")], of="leader", one_lease=True)) == 1


def test_a_fencing_token_never_falls_and_each_forger_has_its_own() -> None:
    assert turned(None, Turn("a", 3)) == []
    assert turned(Turn("a", 3), Turn("a", 3)) == []
    assert turned(Turn("a", 3), Turn("b", 4)) == []
    assert turned(Turn("a", 3), Turn("a", 2)) == ["the fencing token fell from 3 to 2"]
    assert turned(Turn("a", 3), Turn("b", 3)) == ["b forges by the fencing token 3 of a"]


def test_an_edit_was_undone_when_the_spec_has_all_that_undoes_it() -> None:
    wanted = {"priority": 1, "override": {"enabled": False, "forceState": None}, "healthCheck": {"enabled": True}}
    spec = {"priority": 1, "healthCheck": {"enabled": True, "interval": "1s"}, "region": "r"}
    assert says(spec, wanted)
    assert says(spec | {"override": {"enabled": False, "forceState": "Enabled"}}, wanted)
    assert not says(spec | {"override": {"enabled": True, "forceState": "Enabled"}}, wanted)
    assert not says(spec | {"priority": 2}, wanted)
    assert not says({"priority": 1}, wanted)
