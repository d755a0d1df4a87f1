"""forgectl inspect, log-level and trace, as an operator meets them; and what they make of what a worker says."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import socket
import typing
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli import asking, debugging, tracing
from cli.asking import Failed
from config import Config, load
from ipc.debug import CannotAnswer, DebugServer, Handler
from ipc.frames import frame
from ipc.messages import (
    BODIES,
    ActuatorState,
    ArbiterState,
    ClusterView,
    DebugCounters,
    DebugDecisions,
    DebugLogLevel,
    DebugReply,
    DebugSubscriptions,
    DebugTasks,
    DebugWhat,
    Decision,
    ElectorState,
    GatewayState,
    Grant,
    HealthReport,
    LockMember,
    NodeSample,
    NodeView,
    PoolState,
    ProberState,
    Sandbox,
    State,
    SubscriberView,
    SubscriptionView,
    TaskView,
    Worker,
)
from ipc.pubsub import StatePublisher, listen
from kernel.clock import boottime_ns
from policy import timing

from processes import PATIENCE_S, Ran, begin, ended

US = frozenset({os.getuid()})
UIDS = "actuator=10001,prober=10002,elector=10003,arbiter=10004,gateway=10005"
EVIL = "\x1b]0;owned\x07\nforging yes"
SAFE = r"\x1b]0;owned\x07\nforging yes"


Run = Callable[..., Awaitable[Ran]]


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    for worker in Worker:
        (tmp_path / worker).mkdir()
    return tmp_path


def configured(run_dir: Path, **more: str) -> Config:
    return load({"RUN_DIR": str(run_dir), "POD_NAME": "pod-0", **more})


async def start(run_dir: Path, *arguments: str, **variables: str) -> asyncio.subprocess.Process:
    given_ = {"RUN_DIR": str(run_dir), "POD_NAME": "pod-0", "PATH": os.defpath, "PYTHONDONTWRITEBYTECODE": "1"}
    return await begin(given_ | variables, *arguments)


@pytest.fixture
def run(run_dir: Path) -> Run:
    async def forgectl_with(*arguments: str, **variables: str) -> Ran:
        return await ended(await start(run_dir, *arguments, **variables))

    return forgectl_with


Serve = Callable[..., DebugServer]


@pytest.fixture
async def serve(run_dir: Path) -> AsyncIterator[Serve]:
    """A worker's debug socket with these answers."""
    servers: list[DebugServer] = []

    def begin(worker: Worker, what: DebugWhat, answer: DebugReply | Handler, parent: int | None = None) -> DebugServer:
        made = DebugServer(listen(run_dir / worker / "debug.sock"), parent=parent)
        made.answer(what, answer if callable(answer) else lambda _: answer)
        made.start()
        servers.append(made)
        return made

    yield begin
    for made in servers:
        made.close()
    await asyncio.sleep(0)


def arbiter(reason: str, **more: object) -> ArbiterState:
    return dataclasses.replace(ArbiterState(None, reason, cluster_management=False), **more)


Publish = Callable[..., Awaitable[StatePublisher]]


@pytest.fixture
async def publish(run_dir: Path) -> AsyncIterator[Publish]:
    publishers: list[StatePublisher] = []

    async def begin(worker: Worker, body: object) -> StatePublisher:
        made = StatePublisher(worker, run_dir / worker / "state.sock", allowed_uids=US)
        await made.start()
        made.publish(body)  # type: ignore[arg-type]
        publishers.append(made)
        return made

    yield begin
    for made in publishers:
        made.close()
    await asyncio.sleep(0)


# --- inspect ---

DECIDED = DebugDecisions(
    (
        Decision(1, "INFO", "role_changed", "took the lease", {"token": "4"}),
        Decision(2, "WARNING", "seen", "held by " + EVIL, {"holder": EVIL}),
    ),
    cut=3,
)


async def test_decisions_are_told_a_line_each_with_reason_and_fields(run: Run, serve: Serve) -> None:
    serve(Worker.ELECTOR, DebugWhat.DECISIONS, DECIDED)
    ran = await run("inspect", "elector", "--decisions")
    assert (ran.code, ran.err) == (0, "")
    assert ran.lines[0] == "(3 older ones do not fit into an answer)"
    assert ran.lines[1].split()[1:6] == ["INFO", "role_changed", "took", "the", "lease"]
    assert ran.lines[1].endswith("token=4")
    assert len(ran.lines) == 3


async def test_nothing_a_worker_tells_speaks_to_the_terminal(run: Run, serve: Serve) -> None:
    serve(Worker.ELECTOR, DebugWhat.DECISIONS, DECIDED)
    serve(Worker.PROBER, DebugWhat.TASKS, DebugTasks((TaskView(EVIL, (EVIL,)),), 0))
    for ran in (await run("inspect", "elector", "--decisions"), await run("inspect", "prober", "--tasks")):
        assert "\x1b" not in ran.out
        assert "\x07" not in ran.out
        assert not any(line.startswith("forging") for line in ran.lines)
        assert SAFE in ran.out


async def test_as_json_an_answer_is_one_line_and_whole(run: Run, serve: Serve) -> None:
    serve(Worker.ELECTOR, DebugWhat.DECISIONS, DECIDED)
    ran = await run("inspect", "elector", "--decisions", "--json")
    assert (ran.code, ran.out.count("\n")) == (0, 1)
    assert json.loads(ran.out) == json.loads(json.dumps(dataclasses.asdict(DECIDED)))


def test_a_worker_without_decisions_says_so() -> None:
    assert debugging.decisions(DebugDecisions((), 0)) == ["no decisions yet"]


def test_a_decision_of_an_earlier_day_is_told_with_its_date(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 200_000 * timing.SECOND
    monkeypatch.setattr(asking, "boottime_ns", lambda: now)
    monkeypatch.setattr(asking.time, "time", lambda: 1_700_000_000.5)  # 2023-11-14 22:13:20.5 UTC
    assert asking.clock(now - timing.SECOND) == "22:13:19.500"
    assert asking.timestamp(now - timing.SECOND) == "2023-11-14T22:13:19.500Z"
    assert asking.timestamp(now - 86400 * timing.SECOND) == "2023-11-13T22:13:20.500Z"
    (told,) = debugging.decisions(DebugDecisions((Decision(now, "INFO", "e", "m", {}),), 0))
    assert told.startswith("2023-11-14T22:13:20.500Z  INFO")


async def test_subscriptions_are_told_both_ways(run: Run, serve: Serve) -> None:
    follows = (
        SubscriptionView(Worker.PROBER, True, 1_500_000_000, 0),
        SubscriptionView(Worker.ACTUATOR, False, -1, 7),
    )
    serve(
        Worker.ELECTOR,
        DebugWhat.SUBSCRIPTIONS,
        DebugSubscriptions(follows, (SubscriberView(41, 1000), SubscriberView(0, 0))),
    )
    ran = await run("inspect", "elector", "--subscriptions")
    rows = [line.split() for line in ran.lines]
    assert ["prober", "yes", "1.5", "s", "old", "0"] in rows
    assert ["actuator", "no", "never", "7"] in rows
    assert ["pid", "41", "1000"] in rows
    assert "a process in another pid namespace" in ran.out


async def test_counters_are_told_by_name(run: Run, serve: Serve) -> None:
    serve(Worker.GATEWAY, DebugWhat.COUNTERS, DebugCounters(1, 2, 3, 4, 5, {"INFO": 6}))
    rows = dict(line.rsplit(maxsplit=1) for line in (await run("inspect", "gateway", "--counters")).lines)
    assert {name.strip(): int(value) for name, value in rows.items()} == {
        "frames sent": 1,
        "subscribers refused": 2,
        "protocol errors": 3,
        "debug requests": 4,
        "debug refused": 5,
        "log lines, INFO": 6,
    }


async def test_a_task_is_told_with_where_it_waits_first(run: Run, serve: Serve) -> None:
    stack = ("workers/runtime.py:1:_main", "workers/elector.py:2:run", "asyncio/locks.py:3:wait")
    serve(Worker.ELECTOR, DebugWhat.TASKS, DebugTasks((TaskView("Task-1", stack),), 2))
    ran = await run("inspect", "elector", "--tasks")
    assert ran.lines[0] == "Task-1"
    assert [line.strip() for line in ran.lines[1:4]] == list(reversed(stack))
    assert ran.lines[4] == "(2 more do not fit into an answer)"


@pytest.mark.parametrize(
    "arguments",
    [
        ("inspect",),
        ("inspect", "supervisord"),
        ("inspect", "elector", "--decisions", "--tasks"),
        ("inspect", "elector", "--counters", "--follow"),
        ("log-level",),
        ("log-level", "elector", "LOUD"),
        ("trace", "--worker", "nobody"),
        ("trace", "--count", "0"),
        ("trace", "--count", "some"),
        ("trace", "--for", "-1"),
        ("trace", "--for", "nan"),
    ],
    ids=" ".join,
)
async def test_what_makes_no_sense_is_a_usage_error(run: Run, arguments: tuple[str, ...]) -> None:
    ran = await run(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert "usage: forgectl" in ran.err


# --- who does not answer, and why ---


async def test_a_refusal_is_told_in_the_workers_words(run: Run, serve: Serve) -> None:
    def no(_: str) -> DebugReply:
        raise CannotAnswer("not today " + EVIL)

    serve(Worker.PROBER, DebugWhat.TASKS, no)
    ran = await run("inspect", "prober", "--tasks")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == f"forgectl: not today {SAFE}\n"


async def test_a_sibling_worker_is_refused_and_told_who_may_ask(run: Run, serve: Serve) -> None:
    server = serve(Worker.PROBER, DebugWhat.TASKS, DebugTasks((), 0), parent=os.getpid())  # forgectl is our child
    ran = await run("inspect", "prober", "--tasks")
    assert (ran.code, ran.out) == (1, "")
    assert "the prober does not let us ask" in ran.err
    assert "no sibling worker" in ran.err
    assert (server.refused_total, server.requests_total) == (1, 0)


def test_where_each_worker_has_a_user_the_remedy_names_it(run_dir: Path) -> None:
    told = asking.refused(configured(run_dir, WORKER_UIDS=UIDS), Worker.ELECTOR)
    assert "root and uid 10003" in told


@pytest.mark.parametrize("command", [("inspect", "elector"), ("inspect", "elector", "--tasks"), ("stand-down",)])
async def test_a_server_that_is_not_the_workers_user_is_not_believed(
    run: Run, serve: Serve, publish: Publish, run_dir: Path, command: tuple[str, ...]
) -> None:
    serve(Worker.ELECTOR, DebugWhat.TASKS, DebugTasks((), 0))
    await publish(Worker.ELECTOR, None)
    command_socket = listen(run_dir / "elector" / "command.sock")
    ran = await run(*command, WORKER_UIDS=UIDS)
    command_socket.close()
    assert (ran.code, ran.out) == (1, "")
    assert f"served by uid {os.getuid()}, not 10003" in ran.err
    assert "WORKER_UIDS" in ran.err


def test_believed_is_the_workers_own_user_ours_or_for_root_the_owner_of_its_folder(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = (run_dir / "prober").stat().st_uid
    assert asking.owner(configured(run_dir, WORKER_UIDS=UIDS), Worker.PROBER) == 10002
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    assert asking.owner(configured(run_dir), Worker.PROBER) == 4711
    monkeypatch.setattr(os, "getuid", lambda: 0)
    assert asking.owner(configured(run_dir), Worker.PROBER) == owner
    with pytest.raises(Failed, match="is the sidecar running here"):
        asking.owner(configured(run_dir / "nowhere"), Worker.PROBER)


async def test_a_worker_that_hangs_is_not_waited_for(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "PATIENCE_S", 0.05)
    hung = listen(run_dir / "prober" / "debug.sock")
    with pytest.raises(Failed, match="the worker hangs"):
        await asyncio.to_thread(asking.told, configured(run_dir), Worker.PROBER, DebugWhat.TASKS, DebugTasks)
    hung.close()


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (b"\xff\xff\xff\xff", "impossible frame length"),
        (frame(b"\xc1"), "speaks another language"),
        (frame(b"\x93\x63\xabDebugTasks\x80"), "speaks another language"),
        (b"\x00\x00\x00\x09\x93", "does not let us ask"),
    ],
    ids=["no length", "no msgpack", "another protocol", "cut short"],
)
async def test_an_answer_that_is_none_is_a_fault_in_one_line(run: Run, run_dir: Path, said: bytes, told: str) -> None:
    async def gibberish(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        writer.write(said)
        writer.close()

    server = await asyncio.start_unix_server(gibberish, run_dir / "prober" / "debug.sock")
    ran = await run("inspect", "prober", "--tasks")
    server.close()
    assert (ran.code, ran.out, ran.err.count("\n")) == (1, "", 1)
    assert told in ran.err


@pytest.mark.parametrize("command", [("inspect", "prober", "--tasks"), ("log-level", "prober")])
async def test_without_a_sidecar_the_missing_socket_is_named(run: Run, run_dir: Path, command: tuple[str, ...]) -> None:
    ran = await run(*command)
    assert (ran.code, ran.out, ran.err.count("\n")) == (1, "", 1)
    assert str(run_dir / "prober" / "debug.sock") in ran.err


async def test_an_elector_that_does_not_let_us_command_it_is_said_to_be_so(run: Run, run_dir: Path) -> None:
    async def throw_out(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    server = await asyncio.start_unix_server(throw_out, run_dir / "elector" / "command.sock")
    for _ in range(3):  # its end may be seen when writing or when reading
        ran = await run("stand-down")
        assert (ran.code, ran.out) == (1, "")
        assert "root may ask" in ran.err
    server.close()


# --- log-level ---


class Level:
    """A worker's log level."""

    def __init__(self) -> None:
        self.now = "INFO"
        self.heard: list[str] = []

    def __call__(self, argument: str) -> DebugReply:
        self.heard.append(argument)
        self.now = argument or self.now
        return DebugLogLevel(self.now)


async def test_a_log_level_is_asked_without_being_changed(run: Run, serve: Serve) -> None:
    level = Level()
    serve(Worker.ELECTOR, DebugWhat.LOG_LEVEL, level)
    assert await run("log-level", "elector") == Ran(0, "elector: INFO\n", "")
    assert level.heard == [""]


@pytest.mark.parametrize("word", ["DEBUG", "debug"])
async def test_a_log_level_is_changed_and_the_former_one_told(run: Run, serve: Serve, word: str) -> None:
    level = Level()
    serve(Worker.ELECTOR, DebugWhat.LOG_LEVEL, level)
    assert await run("log-level", "elector", word) == Ran(0, "elector: DEBUG (was INFO)\n", "")
    assert level.heard == ["", "DEBUG"]
    ran = await run("log-level", "elector", "ERROR", "--json")
    assert json.loads(ran.out) == {"worker": "elector", "level": "ERROR", "before": "DEBUG"}


# --- trace ---


class Tracing:
    """A running `forgectl trace`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def line(self) -> str:
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            read = (await self._process.stdout.readline()).decode()
        assert read, "it ended"
        return read.rstrip("\n")

    async def end(self) -> Ran:
        async with asyncio.timeout(PATIENCE_S):
            out, err = await self._process.communicate()
        assert self._process.returncode is not None
        return Ran(self._process.returncode, out.decode(), err.decode())

    async def kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
            await self._process.communicate()


Follow = Callable[..., Awaitable[Tracing]]


@pytest.fixture
async def trace(run_dir: Path) -> AsyncIterator[Follow]:
    begun: list[Tracing] = []

    async def begin(*arguments: str) -> Tracing:
        begun.append(Tracing(await start(run_dir, "trace", *arguments)))
        return begun[-1]

    yield begin
    for each in begun:
        await each.kill()


async def test_what_changed_is_told_as_old_and_new(trace: Follow, publish: Publish) -> None:
    publisher = await publish(Worker.ARBITER, arbiter("one"))
    seen = await trace("--worker", "arbiter", "--count", "3")
    first = await seen.line()
    assert " arbiter  #1 pid " in first
    assert first.endswith("grant none, willing no, reason one")
    publisher.publish(arbiter("two", requests_total={"get": 1}))
    assert (await seen.line()).endswith(" arbiter  #2 reason: one -> two; requests_total.get: none -> 1")
    publisher.sealed(Sandbox(closed=True))
    assert (await seen.line()).endswith(" arbiter  #3 sandbox.closed: no -> yes")
    assert await seen.end() == Ran(0, "", "")


async def test_what_only_says_still_so_is_shown_when_asked_for(trace: Follow, publish: Publish) -> None:
    publisher = await publish(Worker.ARBITER, arbiter("one"))
    without = await trace("--worker", "arbiter")
    with_ = await trace("--worker", "arbiter", "--heartbeats")
    assert [(await each.line()).endswith("reason one") for each in (without, with_)] == [True, True]
    publisher._send()
    publisher.publish(arbiter("two"))
    assert (await without.line()).endswith("#3 reason: one -> two")
    assert (await with_.line()).endswith("#2 still so")
    assert (await with_.line()).endswith("#3 reason: one -> two")


async def test_all_workers_are_followed_or_those_that_were_named(trace: Follow, publish: Publish) -> None:
    await publish(Worker.ARBITER, arbiter("one"))
    await publish(Worker.GATEWAY, GatewayState(1, {}))
    prober = await publish(Worker.PROBER, ProberState(False, 0, (), None, 0, None, ()))
    every = await trace("--count", "3")
    some = await trace("--worker", "arbiter", "--worker", "gateway", "--worker", "arbiter", "--count", "2", "--json")
    told = (await every.end()).lines
    messages = [line.split()[1] for line in told if " #" in line]
    assert sorted(messages) == ["arbiter", "gateway", "prober"]
    assert {line.split()[1] for line in told if "(not there:" in line} <= {"elector", "actuator"}
    prober.close()
    named = [json.loads(line)["worker"] for line in (await some.end()).lines]
    assert sorted(named) == ["arbiter", "gateway"]


async def test_a_restart_is_said_and_what_changed_over_it(trace: Follow, publish: Publish) -> None:
    before = await publish(Worker.ARBITER, arbiter("before"))
    seen = await trace("--worker", "arbiter")
    await seen.line()
    before.close()
    assert (await seen.line()).endswith("arbiter     (gone: it ended the connection)")
    await publish(Worker.ARBITER, arbiter("after"))
    assert f"(restarted: pid {os.getpid()} -> {os.getpid()})" in await seen.line()
    assert (await seen.line()).endswith("#1 reason: before -> after")


async def test_a_connection_that_was_lost_and_came_back_is_no_restart(trace: Follow, publish: Publish) -> None:
    publisher = await publish(Worker.ARBITER, arbiter("one"))
    seen = await trace("--worker", "arbiter")
    await seen.line()
    for subscriber in tuple(publisher._subscribers):
        subscriber.close()
    assert "(gone: " in await seen.line()
    assert f"(back: pid {os.getpid()})" in await seen.line()
    publisher.publish(arbiter("two"))
    assert (await seen.line()).endswith("reason: one -> two")


async def test_a_worker_that_comes_later_is_found(trace: Follow, publish: Publish) -> None:
    await publish(Worker.GATEWAY, GatewayState(1, {}))
    seen = await trace("--worker", "arbiter", "--worker", "gateway")
    told = {await seen.line(), await seen.line()}
    assert any("arbiter     (not there: No such file or directory)" in line for line in told)
    await publish(Worker.ARBITER, arbiter("at last"))
    assert (await seen.line()).endswith("reason at last")


async def test_as_json_each_line_is_an_object_with_the_whole_state(trace: Follow, publish: Publish) -> None:
    publisher = await publish(Worker.ARBITER, arbiter("one"))
    seen = await trace("--worker", "arbiter", "--json", "--heartbeats")
    first = json.loads(await seen.line())
    publisher.publish(arbiter(EVIL))
    changed = json.loads(await seen.line())
    publisher._send()
    again = json.loads(await seen.line())
    publisher.close()
    gone = json.loads(await seen.line())
    assert [each["event"] for each in (first, changed, again, gone)] == ["first", "changed", "heartbeat", "gone"]
    assert (first["changes"], again["changes"]) == ([], [])
    assert changed["changes"] == [{"field": "reason", "old": "one", "new": EVIL}]
    assert changed["state"]["body"]["reason"] == EVIL
    assert changed["state"]["sequence"] == 2
    assert (changed["worker"], gone["worker"]) == ("arbiter", "arbiter")


async def test_nothing_in_a_state_speaks_to_the_terminal_or_makes_a_line_of_its_own(
    trace: Follow, publish: Publish
) -> None:
    publisher = await publish(Worker.ARBITER, arbiter(EVIL))
    seen = await trace("--worker", "arbiter", "--count", "2")
    assert SAFE in await seen.line()
    publisher.publish(arbiter("two"))
    assert f"reason: {SAFE} -> two" in await seen.line()
    assert (await seen.end()).out == ""


async def test_a_trace_ends_after_the_time_that_was_asked_for(run: Run, publish: Publish) -> None:
    await publish(Worker.ARBITER, arbiter("one"))
    ran = await run("trace", "--worker", "arbiter", "--for", "1")
    assert (ran.code, ran.err, len(ran.lines)) == (0, "", 1)


async def test_a_trace_that_hears_nobody_is_a_fault_that_says_why(run: Run, run_dir: Path) -> None:
    with socket.socket(socket.AF_UNIX) as hung:
        hung.bind(str(run_dir / "elector" / "state.sock"))
        hung.listen()
        ran = await run("trace", "--worker", "arbiter", "--worker", "elector", "--for", "0.5")
    assert ran.code == 1
    assert ran.err == "forgectl: no worker can be heard: arbiter: No such file or directory; elector: silent\n"


async def test_a_trace_believes_no_other_user(run: Run, publish: Publish) -> None:
    await publish(Worker.ARBITER, arbiter("forged"))
    ran = await run("trace", "--worker", "arbiter", "--for", "0.5", WORKER_UIDS=UIDS)
    assert ran.code == 1
    assert f"served by uid {os.getuid()}, not 10004" in ran.err
    assert "forged" not in ran.out


async def test_a_worker_that_speaks_another_language_is_said_once_and_the_others_go_on(
    trace: Follow, publish: Publish, run_dir: Path
) -> None:
    tries = asyncio.Semaphore(0)

    async def gibberish(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(frame(b"\xc1"))
        writer.close()
        tries.release()

    server = await asyncio.start_unix_server(gibberish, run_dir / "prober" / "state.sock")
    publisher = await publish(Worker.ARBITER, arbiter("one"))
    seen = await trace("--worker", "arbiter", "--worker", "prober")
    told = {await seen.line(), await seen.line()}
    async with asyncio.timeout(PATIENCE_S):
        for _ in range(3):
            await tries.acquire()
    publisher.publish(arbiter("two"))
    assert (await seen.line()).endswith("reason: one -> two")
    assert sum("(not there: it speaks another language: " in line for line in told) == 1
    server.close()


async def test_a_reader_that_has_seen_enough_ends_the_trace(run_dir: Path, publish: Publish) -> None:
    publisher = await publish(Worker.ARBITER, arbiter("one"))
    reading, writing = os.pipe()
    os.close(reading)
    words = ("--run-dir", str(run_dir), "trace", "--worker", "arbiter")
    process = await begin({"POD_NAME": "pod-0", "PATH": os.defpath}, *words, stdout=writing)
    os.close(writing)
    assert await ended(process) == Ran(0, "", "")
    publisher.close()


# --- what changed ---

NUMBERS = st.integers(0, 3)
WORDS = st.sampled_from(["", "a", "b"])
COUNTS = st.dictionaries(WORDS, NUMBERS, max_size=2)
GRANTS = st.none() | st.builds(Grant, WORDS, NUMBERS, NUMBERS, NUMBERS, st.booleans())
ARBITERS = st.builds(ArbiterState, GRANTS, WORDS, st.booleans(), requests_total=COUNTS)
SANDBOXES = st.builds(Sandbox, closed=st.booleans(), missing=st.lists(WORDS, max_size=2).map(tuple))
STATES = st.builds(
    State,
    worker=st.just(Worker.ARBITER),
    instance=WORDS,
    pid=NUMBERS,
    sequence=NUMBERS,
    started_at=NUMBERS,
    sent_at=NUMBERS,
    valid_until=NUMBERS,
    body=ARBITERS,
    sandbox=SANDBOXES,
)


def at(state: State, field: str) -> object:
    """What a dotted field stands for; None: it is not there."""
    value: object = state if field.startswith("sandbox.") else state.body
    for name in field.split("."):
        value = value.get(name) if isinstance(value, dict) else getattr(value, name)
        if value is None:
            return None
    return value


@given(STATES, STATES)
def test_every_difference_is_told_and_nothing_else(old: State, new: State) -> None:
    told = list(tracing.changes(old, new))
    assert bool(told) == ((old.body, old.sandbox) != (new.body, new.sandbox))
    assert all(each.old != each.new for each in told)
    assert all((at(old, each.field), at(new, each.field)) == (each.old, each.new) for each in told)


@given(STATES, STATES)
def test_a_message_is_one_printable_line(old: State, new: State) -> None:
    changed = tuple(tracing.changes(old, new))
    for line in (tracing.line(None, new, ()), tracing.line(old, new, changed)):
        assert asking.printable(line).isprintable()


def test_instants_are_told_as_seconds_from_when_the_state_was_sent() -> None:
    now = boottime_ns()
    assert tracing.text("grant.deadline", now + 12_340_000_000, now) == "in 12.34 s"
    assert tracing.text("since", now - 500_000_000, now) == "0.50 s ago"
    assert tracing.text("node_gone_at", 0, now) == "never"
    assert tracing.text("fencing_token", 3, now) == "3"


def _fields(kind: type) -> dict[str, object]:
    return typing.get_type_hints(kind)


SPOKEN = (
    *(ProberState, ElectorState, ArbiterState, ActuatorState, GatewayState, Grant, NodeSample, NodeView, Sandbox),
    *(HealthReport, PoolState, LockMember, ClusterView),
)


def test_every_instant_a_state_can_carry_is_known_as_one() -> None:
    named = {name for kind in SPOKEN for name, hint in _fields(kind).items() if hint is int}
    endings = ("_at", "_until", "_before", "_after")
    looks_so = {name for name in named if name.endswith(endings) or name in ("since", "deadline")}
    assert looks_so == tracing.INSTANTS


def test_the_first_state_of_every_worker_is_told_by_fields_that_it_has() -> None:
    assert {worker: set(names) <= _fields(BODIES[worker]).keys() for worker, names in tracing._FIRST.items()} == (
        dict.fromkeys(Worker, True)
    )


# --- config ---


async def test_config_shows_worker_uids_as_they_are_written(run: Run, run_dir: Path) -> None:
    rows = {row["name"]: row["value"] for row in json.loads((await run("config", "--json", WORKER_UIDS=UIDS)).out)}
    assert sorted(rows["WORKER_UIDS"].split(",")) == sorted(UIDS.split(","))
    again = configured(run_dir, WORKER_UIDS=rows["WORKER_UIDS"])
    assert again.worker_uids == configured(run_dir, WORKER_UIDS=UIDS).worker_uids
    unset = {row["name"]: row["value"] for row in json.loads((await run("config", "--json")).out)}
    assert unset["WORKER_UIDS"] == ""
