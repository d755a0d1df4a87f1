"""The prober's notices: told beside its work and never in its way, once, also over its restarts and its faults."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from config import load
from ipc.messages import ArbiterState, Fence, Grant, Notifications, ProberState, Role, Worker
from kernel.clock import boottime_ns
from kernel.ledger import MOST, Ledger
from outgoing.reach import may_be
from policy import timing
from policy.notices import Teller
from policy.outbox import Failed, Letter, Refused, Result, Sent
from workers import notifier, prober
from workers.notifier import Memory, Notifier
from workers.prober import Prober

from surroundings import FENCED, LEADING, PATIENCE_S, Surroundings

ROOT = Path(__file__).resolve().parents[2]
URL = "http://127.0.0.1:1/hook/canary-77aa"


class Receiver:
    """Answers as it is told to; takes everything where it is told nothing."""

    def __init__(self) -> None:
        self.letters: list[Letter] = []
        """Every attempt."""
        self.arrivals: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.answers: list[Result] = []
        self.hangs = False

    def prepare(self) -> None:
        """Nothing to load."""

    async def deliver(self, letter: Letter, wall_s: float) -> Result:
        self.letters.append(letter)
        self.arrivals.put_nowait(json.loads(letter.body))
        if self.hangs:
            await asyncio.Event().wait()
        return self.answers.pop(0) if self.answers else Sent()

    async def told(self) -> str:
        """The kind of the next that arrives."""
        async with asyncio.timeout(PATIENCE_S):
            notice = await self.arrivals.get()
        return str(notice["type"]).removeprefix("io.cardano.forge.")


class Pod:
    """A prober at work, its surroundings, whom it tells."""

    def __init__(self, folder: Path, ledger: Ledger | None, **variables: str) -> None:
        paths = {"NODE_SOCKET": f"{folder}/node.socket", "RUN_DIR": f"{folder}/run", "POD_NAME": "pod-0"}
        # nobody listens there: each look ends at once
        metrics = {"NODE_METRICS_URL": "http://127.0.0.1:1/metrics", "NOTIFY_URL": URL}
        config = load(metrics | paths | variables)
        self.around = Surroundings(config)
        self.receiver = Receiver()
        self.notifier = Notifier(config, self.receiver, Memory(ledger), cast("Any", self.around))
        self.prober = Prober(cast("Any", self.around), None, self.notifier)

    def fenced(self) -> None:
        self.around.neighbours[Worker.ACTUATOR].says(dataclasses.replace(FENCED, since=boottime_ns()))

    def forging(self) -> None:
        now = boottime_ns()
        grant = Grant("pod-0_1", 7, now + 3600 * timing.SECOND, now, True)
        neighbours = self.around.neighbours
        neighbours[Worker.ARBITER].says(ArbiterState(grant, "", cluster_management=False))
        neighbours[Worker.ELECTOR].says(dataclasses.replace(LEADING, role=Role.LEADER, reason="took over"))
        armed = dataclasses.replace(FENCED, fence=Fence.ARMED, since=now, deadline=grant.deadline)
        neighbours[Worker.ACTUATOR].says(armed)

    async def counted(self, **expected: object) -> Notifications:
        """What the prober says of its notices, as soon as it has these fields."""
        body = await self.around.until(
            ProberState,
            lambda said: (
                said.notifications is not None and all(getattr(said.notifications, k) == v for k, v in expected.items())
            ),
        )
        assert body.notifications is not None
        return body.notifications


@contextlib.asynccontextmanager
async def working(folder: Path, ledger: Ledger | None = None, **variables: str) -> AsyncIterator[Pod]:
    pod = Pod(folder, ledger, **variables)
    running = asyncio.create_task(pod.prober.run())
    await pod.around.until(ProberState, lambda said: said.sampled_total >= 1)
    try:
        yield pod
    finally:
        pod.around.stopping.set()
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(running, return_exceptions=False)


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prober, "CALM_S", 0.02)
    monkeypatch.setattr(prober, "LINGER", timing.SECOND // 10)


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="pn-") as name:
        yield Path(name)


@pytest.fixture
def ledger(folder: Path) -> Iterator[Ledger]:
    made = Ledger(folder / "ledger")
    yield made
    made.close()


async def test_what_the_workers_say_is_told_and_counted(folder: Path) -> None:
    async with working(folder) as pod:
        pod.fenced()
        assert await pod.receiver.told() == "pod.started"
        pod.forging()
        assert await pod.receiver.told() == "forging.started"
        assert await pod.counted(sent_total=2, queued=0) == Notifications(2, 0, 0, 0)
    ids = [letter.id for letter in pod.receiver.letters]
    assert len({name.partition("-")[0] for name in ids}) == 1
    assert [name.partition("-")[2] for name in ids] == ["1", "2"]
    started = json.loads(pod.receiver.letters[1].body)
    assert (started["source"], started["subject"]) == ("/default/pod-0", "default/cardano-node-leader")
    assert started["data"]["token"] == 7


async def test_changes_that_come_faster_than_anybody_looks_are_all_told(folder: Path) -> None:
    async with working(folder) as pod:
        pod.fenced()
        pod.forging()
        pod.fenced()
        told = [await pod.receiver.told() for _ in range(3)]
    assert told == ["pod.started", "forging.started", "forging.stopped"]


async def test_what_is_filtered_out_is_not_sent(folder: Path) -> None:
    async with working(folder, NOTIFY_EVENTS="node,forging.stopped") as pod:
        pod.fenced()
        pod.forging()
        assert await pod.receiver.told() == "forging.started", "it ends what is asked for"
    assert len(pod.receiver.letters) == 1


async def test_one_that_failed_is_sent_again_alike_and_said_once(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("policy.outbox.FIRST_PAUSE", 1000)
    caplog.set_level(logging.INFO)
    async with working(folder) as pod:
        pod.receiver.answers = [Failed("hook: answered 503")] * 3
        pod.fenced()
        counts = await pod.counted(sent_total=1)
    assert (counts.failed_total, counts.dropped_total, counts.problem) == (3, 0, "")
    assert len(set(pod.receiver.letters)) == 1
    lines = [record.getMessage() for record in caplog.records if record.name == "notifier"]
    assert [line for line in lines if "told" not in line] == [
        "a notice was not sent: hook: answered 503",
        "notices arrive again",
    ]
    assert "canary-77aa" not in caplog.text


async def test_one_that_is_refused_is_dropped_and_what_comes_after_it_is_sent(folder: Path) -> None:
    async with working(folder) as pod:
        pod.receiver.answers = [Refused("hook: answered 400")]
        pod.fenced()
        refused = await pod.counted(dropped_total=1)
        assert (refused.problem, refused.queued) == ("hook: answered 400", 0)
        pod.forging()
        await pod.counted(sent_total=1, problem="")


async def test_notices_that_are_given_up_are_counted_and_said_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("policy.outbox.MOST", 1)
    async with working(folder) as pod:
        pod.receiver.answers = [Failed("hook: answered 503")] * 100
        pod.fenced()
        await pod.counted(failed_total=1)
        for _ in range(2):
            pod.forging()
            pod.fenced()
        counts = await pod.counted(dropped_total=4)
    assert counts.queued == 1
    assert caplog.text.count("notices are given up") == 1


# --- in nobody's way ---


async def test_looks_at_the_node_go_on_while_a_receiver_does_not_answer(folder: Path) -> None:
    async with working(folder) as pod:
        pod.receiver.hangs = True
        pod.fenced()
        await pod.receiver.told()
        before = cast("ProberState", pod.around.said[-1]).sampled_total
        await pod.around.until(ProberState, lambda said: said.sampled_total >= before + 20)
        assert len(pod.receiver.letters) == 1


async def test_a_receiver_that_hangs_holds_up_the_end_for_a_short_time_and_what_waits_is_kept(
    folder: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifier, "FLUSH_S", 0.05)
    async with working(folder, ledger) as pod:
        pod.receiver.hangs = True
        pod.fenced()
        await pod.receiver.told()
    (lost,) = pod.receiver.letters
    async with working(folder, ledger) as again:
        await again.counted(sent_total=1)
    assert again.receiver.letters == [lost], "the same notice, by the same id"


async def test_what_happened_last_is_told_before_the_end(folder: Path) -> None:
    async with working(folder) as pod:
        pod.forging()
        await pod.counted(sent_total=1)
        pod.fenced()
        pod.around.stopping.set()
    assert [await pod.receiver.told() for _ in range(2)] == ["pod.started", "forging.stopped"]


async def test_who_did_not_answer_before_is_not_waited_for_at_the_end(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifier, "FLUSH_S", 1000 * PATIENCE_S)
    async with working(folder) as pod:
        pod.receiver.answers = [Failed("hook: answered 503")] * 100
        pod.fenced()
        await pod.counted(failed_total=1)


async def test_a_fault_in_what_is_told_ends_notices_and_nothing_else(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def faulty(*_: object) -> None:
        raise ZeroDivisionError("a fault")

    monkeypatch.setattr(Teller, "look", faulty)
    async with working(folder) as pod:
        pod.fenced()
        counts = await pod.counted(dropped_total=1)
        assert "fault of its own" in counts.problem
        assert counts.queued == 1, "or the alert on what waits would end, and silence look like calm"
        before = cast("ProberState", pod.around.said[-1]).sampled_total
        await pod.around.until(ProberState, lambda said: said.sampled_total >= before + 5)
        pod.forging()
    assert "no more notices: ended by a fault" in caplog.text


# --- what a next life knows ---


async def test_a_next_life_repeats_nothing_and_tells_what_happened_meanwhile(folder: Path, ledger: Ledger) -> None:
    async with working(folder, ledger) as pod:
        pod.forging()
        assert await pod.receiver.told() == "pod.started"
    async with working(folder, ledger) as again:
        again.fenced()
        assert await again.receiver.told() == "forging.stopped"
        await again.counted(sent_total=1)
    first, second = pod.receiver.letters[0].id.split("-"), again.receiver.letters[0].id.split("-")
    assert (second[0], int(second[1])) == (first[0], int(first[1]) + 1)


@pytest.mark.parametrize(
    "record",
    [
        b"nonsense",
        b"[]",
        b"{}",
        json.dumps({"boot": "BOOT", "origin": "zz", "teller": {}, "outbox": {}}).encode(),
        b'{"boot": "BOOT", "origin": "00", "teller": ' + b"[" * 5000 + b"]" * 5000 + b"}",
    ],
)
def test_a_ledger_that_cannot_be_read_makes_a_stranger(ledger: Ledger, record: bytes) -> None:
    from kernel.clock import boot_id

    ledger.write(record.replace(b"BOOT", boot_id().encode()))
    assert len(Memory(ledger).outbox) == 0


def test_what_another_boot_knew_is_worth_nothing(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Memory(ledger)
    memory.outbox.put(Letter("a-1", 1, "{}"))
    memory.keep()
    assert len(Memory(ledger).outbox) == 1
    monkeypatch.setattr(notifier, "boot_id", lambda: "another")
    assert len(Memory(ledger).outbox) == 0
    assert Memory(ledger).origin != memory.origin


def test_of_more_than_a_ledger_holds_the_latest_are_kept(ledger: Ledger) -> None:
    full_of_letters(ledger)
    kept = [letter["id"] for letter in Memory(ledger).outbox.kept()["letters"]]
    assert kept == [f"a-{number}" for number in range(80 - len(kept), 80)]
    assert 3000 * len(kept) < MOST < 3100 * (len(kept) + 1), "no more is cut than needed"


def test_what_did_not_fit_counts_as_dropped_in_the_next_life_and_only_there(
    ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    first = full_of_letters(ledger)
    assert (len(first.outbox), first.outbox.dropped) == (80, 0), "this life may still send them"
    second = Memory(ledger)
    assert len(second.outbox) + second.outbox.dropped == 80
    assert f"{second.outbox.dropped} notices are given up" in caplog.text
    second.keep()
    assert Memory(ledger).outbox.dropped == 0


@pytest.mark.parametrize("cut", [-1, 101, "many"])
def test_a_count_that_was_not_written_here_makes_a_stranger(ledger: Ledger, cut: object) -> None:
    memory = Memory(ledger)
    memory.outbox.put(Letter("a-1", 1, "{}"))
    memory.keep()
    ledger.write(ledger.read().replace(b'"cut":0', b'"cut":' + json.dumps(cut).encode()))
    assert Memory(ledger).origin != memory.origin


def full_of_letters(ledger: Ledger) -> Memory:
    """With more of them than its ledger holds."""
    memory = Memory(ledger)
    for number in range(80):
        memory.outbox.put(Letter(f"a-{number}", number, "x" * 3000))
    memory.keep()
    return memory


# --- what is loaded ---


@pytest.mark.parametrize(("variables", "expected"), [({}, False), ({"NOTIFY_URL": URL}, True)])
def test_who_tells_nobody_anything_loads_nothing_for_it(variables: dict[str, str], expected: bool) -> None:
    assert may_be(variables, lambda config: bool(config.notify_url)) is expected
    names = ("policy.notices", "policy.notice_kinds", "outgoing.client", "workers.notifier", "aiohttp")
    look = f"import workers.prober, sys; print([name in sys.modules for name in {names}], bool(sys.modules['ssl']))"
    environment = {"PATH": os.defpath, "PYTHONPATH": str(ROOT), **variables}
    ran = subprocess.run([sys.executable, "-c", look], env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout == f"{[expected] * len(names)} {expected}\n"
