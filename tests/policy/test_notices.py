"""What is told of a pod: each change once, nothing without a change, not much of what flaps, and only one's own."""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devkit.notices_doc import EXAMPLES, SENDER, event
from ipc.messages import CertificateView, Check, Fence, Finding, LockPhase, Role, Sandbox, Severity, Worker
from kernel.ledger import MOST
from policy.cloud_event import body, cloud_event
from policy.notice_kinds import KINDS, FilterError, Gravity, filter_of
from policy.notices import (
    BURST,
    CLOCK_GRACE,
    EACH,
    FILES_GRACE,
    SILENT_GRACE,
    UNFIT_GRACE,
    UNPROVEN_GRACE,
    Notice,
    Teller,
)
from policy.outbox import MOST_BODY

from notice_pictures import HEALTHY, WALL, S, World, settled

DAY = 86400.0


# --- forging ---


def test_a_pod_that_begins_to_forge_and_stops_says_so_with_why_token_and_seconds() -> None:
    world = settled()
    world.now += 10 * S
    world.arm(token=7)
    (started,) = world.look(0.5)
    assert (started.kind.name, started.old, started.new) == ("forging.started", "not forging", "forging")
    assert (started.token, started.why) == (7, "the node forges; leader: took over")
    assert started.wall_s == WALL + 1010
    world.now += 90 * S
    world.fence()
    (stopped,) = world.look()
    assert (stopped.kind.name, stopped.gravity, stopped.token) == ("forging.stopped", Gravity.WARNING, 7)
    assert stopped.seconds == 90.5
    assert stopped.why == "no grant from the elector; handover: standing down as asked"
    assert stopped.more == (("proof", "metrics"),)
    assert [notice.number for notice in world.told] == [2, 3]


def test_what_is_found_at_the_start_is_said_as_found_and_is_no_beginning() -> None:
    world = World()
    world.arm()
    (found,) = world.look()
    assert (found.kind.name, found.old, found.new, found.token) == ("pod.started", "", "forging", 7)
    assert world.look(1) == []


def test_a_node_that_was_told_and_has_not_confirmed_has_neither_begun_nor_stopped() -> None:
    world = settled()
    world.of_actuator(fence=Fence.ARMING)
    assert world.look(1) == []
    world.arm()
    assert world.names() == ["forging.started"]
    world.fence(Fence.FENCING)
    assert world.look(1) == []
    world.fence()
    assert world.names(1) == ["forging.stopped"]


def test_a_silent_actuator_ends_no_forging() -> None:
    world = settled()
    world.arm()
    world.look()
    world.silent[Worker.ACTUATOR] = world.now
    assert world.look(5) == []
    world.silent.clear()
    world.fence()
    assert world.names() == ["forging.stopped"]


def test_a_fence_that_nothing_proves_in_time_is_told_and_its_proof_too() -> None:
    world = settled()
    world.arm()
    world.look()
    world.fence(Fence.FENCING)
    assert world.look(UNPROVEN_GRACE / S - 1) == []
    assert world.names(1) == ["fence.unproven"]
    world.fence()
    assert sorted(world.names(1)) == ["fence.proven", "forging.stopped"]


def test_signals_that_end_the_node_are_one_notice() -> None:
    world = settled()
    world.of_actuator(kills_total={"SIGTERM": 1})
    assert world.look() == []
    world.of_actuator(kills_total={"SIGTERM": 1, "SIGKILL": 1})
    assert world.look(1) == []
    (killed,) = world.look(3)
    assert (killed.kind.name, killed.gravity, killed.old, killed.new) == ("node.killed", Gravity.CRITICAL, "0", "2")
    assert killed.more == (("signals", "SIGKILL: 1, SIGTERM: 1"),)


def test_a_new_actuator_counts_its_kills_from_zero() -> None:
    world = settled()
    world.of_actuator(kills_total={"SIGTERM": 2})
    world.look()
    assert world.names(5) == ["node.killed"]
    world.instance = "second"
    world.of_actuator(kills_total={})
    assert world.look() == world.look(5) == []
    world.of_actuator(kills_total={"SIGTERM": 1})
    world.look()
    assert world.names(5) == ["node.killed"]


# --- conditions ---


def test_a_node_is_unfit_after_its_grace_and_fit_after_a_shorter_one() -> None:
    world = settled()
    world.of_prober(fit=False, since=world.now, reasons=("the node's metrics do not answer",))
    assert world.look(UNFIT_GRACE / S - 1) == []
    (unfit,) = world.look(1)
    assert (unfit.kind.name, unfit.why) == ("node.unfit", "the node's metrics do not answer")
    world.of_prober(fit=True, since=world.now, reasons=())
    assert world.look(9) == []
    (fit,) = world.look(1)
    assert fit.kind.name == "node.fit"
    assert fit.seconds == UNFIT_GRACE / S


def test_a_node_that_is_unfit_for_a_short_time_is_nobodys_concern() -> None:
    world = settled()
    for _ in range(5):
        world.of_prober(fit=False, since=world.now)
        assert world.look(UNFIT_GRACE / S - 1) == []
        world.of_prober(fit=True, since=world.now)
        assert world.look(100) == []


def finding(check: Check, severity: Severity = Severity.ERROR) -> Finding:
    return Finding(check, severity, f"{check} is wrong", "mend it")


def test_an_error_in_the_credentials_is_told_with_its_check_and_remedy_and_so_is_its_end() -> None:
    world = settled()
    world.of_actuator(findings=(finding(Check.MATCH), finding(Check.COUNTER, Severity.WARNING)))
    assert world.look() == []
    (error,) = world.look(FILES_GRACE / S)
    assert (error.kind.name, error.about, error.why) == ("credentials.error", "match", "match is wrong")
    assert error.more == (("remedy", "mend it"),)
    world.of_actuator(findings=())
    world.look()
    (cured,) = world.look(FILES_GRACE / S)
    assert (cured.kind.name, cured.about) == ("credentials.cured", "match")


def test_an_error_that_is_there_at_the_start_is_told_for_nobody_was() -> None:
    world = World()
    world.of_actuator(findings=(finding(Check.POOL),))
    assert world.names() == ["pod.started"]
    assert world.names(FILES_GRACE / S) == ["credentials.error"]


def certificate(days: float, now: int) -> CertificateView:
    return CertificateView("pool1x", 3, 100, int(days / 1.5), WALL + now / S + days * DAY)


def test_before_the_key_expires_each_stage_is_told_once_and_graver() -> None:
    world = settled()
    world.of_actuator(certificate=certificate(14.5, world.now))
    told = []
    for _ in range(16 * 24):
        told += [(notice.kind.name, notice.new, notice.gravity) for notice in world.look(3600)]
    assert told == [
        ("kes.expiring", "14", Gravity.INFO),
        ("kes.expiring", "7", Gravity.WARNING),
        ("kes.expiring", "2", Gravity.CRITICAL),
        ("kes.expired", "0", Gravity.CRITICAL),
    ]
    world.of_actuator(certificate=certificate(90, world.now))
    world.look()
    assert world.names(CLOCK_GRACE / S) == ["kes.renewed"]


def test_a_key_that_is_found_about_to_expire_is_told_of_at_the_stage_it_is_in() -> None:
    world = World()
    world.of_actuator(certificate=certificate(1.0, world.now))
    world.look()
    (expiring,) = world.look(CLOCK_GRACE / S)
    assert (expiring.kind.name, expiring.old, expiring.new) == ("kes.expiring", "more", "2")
    assert dict(expiring.more)["expires_at"] == "2027-01-16T08:16:40Z"


def test_a_worker_that_falls_silent_and_comes_back_is_told_by_its_name() -> None:
    world = settled()
    world.silent[Worker.ELECTOR] = world.now
    assert world.look(SILENT_GRACE / S - 1) == []
    (silent,) = world.look(1)
    assert (silent.kind.name, silent.about) == ("worker.silent", "elector")
    world.silent.clear()
    assert world.names() == ["worker.back"]


def test_who_falls_silent_while_the_pod_stops_does_as_it_is_told() -> None:
    world = settled()
    world.stopping = True
    world.silent = dict.fromkeys(Worker, world.now)
    assert world.look(SILENT_GRACE / S + 1) == []


def test_what_a_self_audit_finds_beyond_the_declaration_is_told_the_probers_own_too() -> None:
    world = settled()
    for worker in (Worker.ARBITER, Worker.PROBER):
        world.sandboxes[worker] = Sandbox(closed=True, audited_at=2, violations=("read kes.skey: done",))
    found = world.look()
    assert [(each.kind.name, each.about) for each in found] == [
        ("sandbox.violated", "arbiter"),
        ("sandbox.violated", "prober"),
    ]
    assert found[0].why == "read kes.skey: done"


# --- the cluster ---


def test_changes_of_the_cluster_are_told_by_the_pod_that_leads_it_and_by_no_other() -> None:
    for role, expected in ((Role.LEADER, True), (Role.HANDOVER, True), (Role.STANDBY, False), (Role.OBSERVER, False)):
        world = settled()
        world.lead(role)
        world.of_pool()
        world.of_prober(health=HEALTHY)
        assert world.look() == []
        world.of_pool(state="Disabled", priority=102, conflict=True, override="Disabled (maintenance)")
        world.of_prober(health=dataclasses.replace(HEALTHY, healthy=False))
        kinds = ["cluster.conflict-began", "cluster.override-began", "cluster.priority-changed"]
        kinds += ["cluster.state-changed", "cluster.unhealthy"]
        assert sorted(world.names()) == (kinds if expected else [])
        world.lead()
        assert world.look(1) == [], "who begins to lead does not tell what another one told"


def test_the_pool_wide_lock_is_each_pods_own() -> None:
    world = settled()
    world.of_pool()
    assert world.look() == []
    world.of_pool(phase=LockPhase.ACQUIRING)
    assert world.look() == []
    world.of_pool(phase=LockPhase.HELD, fencing_token=9)
    (taken,) = world.look()
    assert (taken.kind.name, taken.token) == ("lock.taken", 9)
    world.of_pool(phase=LockPhase.DRAINING)
    assert world.look() == []
    world.of_pool(phase=LockPhase.IDLE)
    assert world.names() == ["lock.left"]


def test_a_lock_that_means_nothing_is_told_also_by_who_finds_it_so() -> None:
    world = settled()
    world.of_pool(objection="pod-9 counts other members")
    (disputed,) = world.look()
    assert (disputed.kind.name, disputed.why) == ("lock.disputed", "pod-9 counts other members")


# --- flapping, restarts ---


def test_what_flaps_is_held_back_and_counted_and_the_last_change_is_told_in_the_end() -> None:
    world = settled()
    for _ in range(50):
        world.arm()
        world.look(1)
        world.fence()
        world.look(1)
    assert len(world.told) == BURST + 1
    world.look(2 * EACH / S)
    last = world.told[-1]
    assert (last.kind.name, last.new) == ("forging.stopped", "not forging")
    assert len(world.told) + sum(notice.held_back for notice in world.told) == 100
    assert last.held_back > 0


def again(teller: Teller) -> Teller:
    """Its next life."""
    return Teller.resumed(json.loads(json.dumps(teller.kept())))


def test_a_restart_repeats_nothing_and_numbers_go_on() -> None:
    world = settled()
    world.arm()
    (started,) = world.look()
    world.teller = again(world.teller)
    assert world.look() == world.look(5) == []
    world.fence()
    (stopped,) = world.look()
    assert stopped.number == started.number + 1
    assert (stopped.token, stopped.seconds) == (7, 5.0)


def test_what_happened_while_nobody_looked_is_told_by_the_next_life_with_its_time() -> None:
    world = settled()
    world.arm()
    world.look()
    kept = again(world.teller)
    world.now += 20 * S
    world.fence()
    world.now += 40 * S
    world.teller = kept
    (stopped,) = world.look()
    assert (stopped.kind.name, stopped.wall_s, stopped.seconds) == ("forging.stopped", WALL + 1020, 20.0)


def test_what_is_held_back_outlives_a_restart() -> None:
    world = settled()
    for _ in range(20):
        world.arm()
        world.look()
        world.fence()
        world.look()
        world.teller = again(world.teller)
    world.look(2 * EACH / S)
    assert len(world.told) + sum(notice.held_back for notice in world.told) == 40


@pytest.mark.parametrize(
    "spoil",
    [
        lambda kept: kept.pop("lines"),
        lambda kept: kept.update(made=-1),
        lambda kept: kept.update(lines=7),
        lambda kept: kept["lines"].update(nonsense=kept["lines"]["forging"]),
        lambda kept: kept["lines"]["kills"].update(value="many"),
        lambda kept: kept["lines"]["forging"].update(since="yesterday"),
        lambda kept: kept["lines"]["forging"].update(change={"kind": "forging.stopped"}),
        lambda kept: kept["lines"]["forging"].update(change=5),
    ],
)
def test_what_no_teller_wrote_is_refused(spoil: object) -> None:
    world = settled()
    kept = json.loads(json.dumps(world.teller.kept()))
    spoil(kept)  # type: ignore[operator]
    with pytest.raises((ValueError, TypeError, KeyError, AttributeError)):
        Teller.resumed(kept)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["arm", "fence", "unprove", "unfit", "fit", "kill", "error", "good", "restart", "lock"]),
        st.sampled_from([0.0, 0.3, 4.0, 70.0, 130.0]),
    ),
    max_size=60,
)


def apply(world: World, what: str) -> None:
    match what:
        case "arm":
            world.arm()
        case "fence":
            world.fence()
        case "unprove":
            world.fence(Fence.FENCING)
        case "unfit" | "fit":
            if world.prober.fit is not (what == "fit"):
                world.of_prober(fit=what == "fit", since=world.now)
        case "kill":
            count = world.actuator.kills_total.get("SIGTERM", 0)
            world.of_actuator(kills_total={"SIGTERM": count + 1})
        case "error" | "good":
            world.of_actuator(findings=(finding(Check.MATCH),) if what == "error" else ())
        case "restart":
            world.teller = again(world.teller)
        case "lock":
            held = world.arbiter.pool is not None and world.arbiter.pool.phase is LockPhase.HELD
            world.of_pool(phase=LockPhase.IDLE if held else LockPhase.HELD)


@given(STEPS)
def test_without_a_change_nothing_is_told_and_each_notice_says_what_changed(steps: list[tuple[str, float]]) -> None:
    world = settled()
    for what, after in steps:
        apply(world, what)
        world.look(after)
    world.look(3600)
    world.look(3600)
    count = len(world.told)
    for _ in range(3):
        assert world.look(3600) == []
    assert len(world.told) == count
    assert all(notice.old != notice.new for notice in world.told)
    assert [notice.number for notice in world.told] == list(range(2, count + 2))


@given(STEPS)
def test_each_time_that_the_node_begins_or_stops_forging_is_told_or_counted(steps: list[tuple[str, float]]) -> None:
    world = settled()
    forging, changes = False, 0
    for what, after in steps:
        apply(world, what)
        world.look()
        now = {Fence.ARMED: True, Fence.FENCED: False}.get(world.actuator.fence, forging)
        changes += now is not forging
        forging = now
        world.look(after)
        armed = world.actuator.fence is Fence.ARMED
        if armed and world.now >= world.actuator.deadline:
            world.arm()
    world.look(3600)
    told = [notice for notice in world.told if notice.kind.name.startswith("forging.")]
    assert len(told) + sum(notice.held_back for notice in told) == changes
    if told:
        assert told[-1].new == ("forging" if forging else "not forging")


@given(STEPS)
def test_no_thing_is_told_of_more_often_than_a_burst_and_then_once_a_minute(steps: list[tuple[str, float]]) -> None:
    world = settled()
    times: dict[str, list[int]] = {}
    for what, after in steps:
        apply(world, what)
        for moment in (0.0, after):
            for notice in world.look(moment):
                subject = notice.kind.name.partition(".")[0] + notice.about
                times.setdefault(subject, []).append(world.now)
    for told in times.values():
        for first in told:
            within = sum(first <= at <= first + EACH for at in told)
            assert within <= 2 * (BURST + 1), "node.killed and node.unfit are two things"


def test_the_same_pictures_give_the_same_notices() -> None:
    def story() -> list[object]:
        world = settled()
        for what in ("arm", "kill", "fence", "error", "lock", "arm"):
            apply(world, what)
            world.look(10)
        return [dataclasses.astuple(notice) for notice in world.told]

    assert story() == story()


# --- the filter ---


def passed(words: str, gravity: str | None = None) -> set[str]:
    chosen = filter_of(words.split(","))
    return {name for name, kind in KINDS.items() if chosen.passes(kind, Gravity(gravity) if gravity else kind.gravity)}


def test_all_is_everything() -> None:
    assert passed("all") == passed("info") == KINDS.keys()


def test_a_subject_or_a_type_lets_itself_pass_with_what_ends_it() -> None:
    assert passed("forging") == {"forging.started", "forging.stopped"}
    assert passed("io.cardano.forge.node.unfit,lock.taken") == {"node.unfit", "node.fit", "lock.taken"}


def test_a_least_severity_lets_the_graver_pass_and_the_end_of_what_it_let_pass() -> None:
    assert {"node.killed", "credentials.error", "credentials.cured", "kes.renewed"} <= passed("critical")
    assert not {"forging.stopped", "node.unfit", "node.fit"} & passed("critical")
    assert passed("warning,critical") == passed("warning") > passed("critical")
    assert "kes.expiring" in passed("critical", "critical")


@pytest.mark.parametrize("words", ["", "al", "forgin", "forging.", "warn", "forging,,node", "all,nothing"])
def test_a_word_that_means_nothing_is_refused_with_those_that_do(words: str) -> None:
    with pytest.raises(FilterError, match=r"is no type: must be `all`.*info, warning, critical.*forging, node"):
        filter_of(words.split(","))


def test_types_are_named_alike_and_every_end_ends_a_kind_that_there_is() -> None:
    for name, kind in KINDS.items():
        subject, _, what = name.partition(".")
        assert subject.isalpha()
        assert what.replace("-", "").isalpha()
        assert kind.type == f"io.cardano.forge.{name}"
        assert kind.ends == "" or kind.ends in KINDS
    assert Counter(kind.ends for kind in KINDS.values() if kind.ends).most_common(1)[0][1] == 1


TEXTS = st.sampled_from(["", "x" * 4096, "a@b", "\x00\u00fc"])
NUMBERS = st.sampled_from([-(2**63), -1, 0, 1, 2**63, 2**64 - 1])


@given(TEXTS, NUMBERS, NUMBERS, st.lists(st.tuples(TEXTS, NUMBERS), max_size=3), st.sampled_from(Fence))
def test_a_worker_gone_bad_can_have_nothing_told_that_is_too_long_or_not_remembered(
    text: str, since: int, token: int, kills: list[tuple[str, int]], fence: Fence
) -> None:
    world = settled()
    world.arm(token)
    world.instance = text
    world.lead()
    world.elector = dataclasses.replace(world.elector, reason=text)
    bad = Finding(Check.POOL, Severity.ERROR, text, text)
    world.of_actuator(fence=fence, since=since, deadline=2**63, reason=text, kills_total=dict(kills), findings=(bad,))
    world.of_pool(phase=LockPhase.HELD, fencing_token=token, why=text, objection=text, state=text, override=text)
    world.look()
    world.look(3600)
    world.teller = again(world.teller)
    assert world.look() == []
    for notice in world.told:
        assert len(body(notice, "0123456789abcdef-1", SENDER)) < MOST_BODY
    assert len(json.dumps(world.teller.kept())) < MOST // 2


# --- the documentation ---


def everything_that_may_happen() -> World:
    world = World()
    world.lead()
    world.of_pool()
    world.of_prober(health=HEALTHY)
    world.of_actuator(certificate=certificate(13, world.now))
    world.look()
    for _ in range(2):  # to the worse, and back
        world.arm()
        world.of_prober(fit=False, since=world.now, health=dataclasses.replace(HEALTHY, healthy=False))
        world.of_pool(state="Disabled", priority=9, override="Disabled", conflict=True, objection="x")
        world.of_pool(phase=LockPhase.HELD)
        world.of_actuator(findings=(finding(Check.POOL),), kills_total={"SIGTERM": 1})
        world.look()
        world.look(60)
        world.sandboxes[Worker.ACTUATOR] = Sandbox(closed=True, audited_at=2, violations=("x",))
        world.silent[Worker.ARBITER] = world.now
        world.fence(Fence.FENCING)
        world.look(130)
        world.of_actuator(certificate=certificate(-1, world.now), findings=())
        world.look(1)
        world.look(130)
        world.fence()
        world.silent.clear()
        world.sandboxes[Worker.ACTUATOR] = Sandbox(closed=True, audited_at=3)
        world.lead()
        world.of_prober(fit=True, since=world.now, health=HEALTHY)
        world.of_pool(state="Enabled", override="", conflict=False, objection="", phase=LockPhase.IDLE)
        world.of_actuator(certificate=certificate(90, world.now))
        world.look(1)
        world.look(130)
    return world


def test_each_kind_comes_about_and_looks_as_its_example_in_the_documentation() -> None:
    told = {notice.kind.name: notice for notice in everything_that_may_happen().told}
    assert told.keys() == KINDS.keys() == EXAMPLES.keys()
    for name, notice in told.items():
        shown, made = event(notice.kind), cloud_event(notice, "0-1", SENDER)
        assert shown.keys() == made.keys()
        assert shown["data"].keys() == made["data"].keys(), name
        assert bool(shown["data"]["about"]) is bool(notice.about), name
        if notice.kind.gravity not in notice.kind.also:
            assert shown["severity"] == str(notice.kind.gravity)
    for name in ("forging.started", "forging.stopped", "node.unfit", "credentials.error", "lock.taken", "fence.proven"):
        assert (told[name].old, told[name].new) == EXAMPLES[name][1:3]


def test_a_notice_is_a_cloud_event_of_version_one() -> None:
    for kind in KINDS.values():
        made = event(kind)
        assert (made["specversion"], made["datacontenttype"]) == ("1.0", "application/json")
        assert all(re.fullmatch("[a-z0-9]{1,20}", name) for name in made), "attribute names of CloudEvents 1.0"
        assert all(isinstance(made[name], str) and made[name] for name in made.keys() - {"data"})
        assert datetime.fromisoformat(made["time"]).tzinfo is not None


@given(st.floats(allow_nan=False), st.text())
def test_whatever_a_worker_says_becomes_json_in_ascii(wall_s: float, text: str) -> None:
    kind = KINDS["credentials.error"]
    notice = Notice(1, kind, kind.gravity, wall_s, text, text, text, text, 0, None, 0, (("remedy", text),))
    sent = body(notice, "0-1", SENDER)
    assert sent.isascii()
    assert json.loads(sent)["data"]["remedy"] == text
