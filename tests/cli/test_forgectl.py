"""forgectl as an operator meets it: a process with arguments, an environment, two outputs and an exit code."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from cli import forgectl
from devkit import states
from ipc.frames import FrameReader, frame
from ipc.messages import (
    PROTOCOL,
    ArbiterState,
    ClusterView,
    ElectorState,
    Fence,
    GatewayState,
    Grant,
    LockMember,
    LockPhase,
    PoolState,
    Role,
    StandDown,
    StandDownReply,
    Worker,
    decode,
    encode,
)
from ipc.pubsub import StatePublisher
from kernel.clock import boottime_ns
from policy import timing

from processes import PATIENCE_S, Ran, begin, ended

US = frozenset({os.getuid()})


Run = Callable[..., Awaitable[Ran]]


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    for worker in Worker:
        (tmp_path / worker).mkdir()
    return tmp_path


def environment(run_dir: Path) -> dict[str, str]:
    return {"RUN_DIR": str(run_dir), "POD_NAME": "pod-0", "PATH": os.defpath, "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.fixture
def run(run_dir: Path) -> Run:
    async def forgectl_with(*arguments: str, **variables: str) -> Ran:
        return await ended(await begin(environment(run_dir) | variables, *arguments))

    return forgectl_with


def elector_state(holder: str = "pod-0_aa") -> ElectorState:
    return states.elector(
        since=0, reason="the lease is held", identity="pod-0_aa", holder=holder, fencing_token=4, changes_total=0
    )


@pytest.fixture
async def publish(run_dir: Path) -> AsyncIterator[Callable[..., Awaitable[StatePublisher]]]:
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


# --- status ---


async def test_status_shows_what_answers_and_names_what_is_silent(run: Run, publish: Callable[..., object]) -> None:
    await publish(Worker.ELECTOR, elector_state())
    await publish(Worker.GATEWAY, GatewayState(8123, {}))
    ran = await run("status")
    rows = dict(re.split(r"\s{2,}", line, maxsplit=1) for line in ran.out.splitlines())
    assert (ran.code, ran.err) == (0, "")
    assert rows["forging"] == "unknown: the actuator is silent"
    assert rows["role"].startswith("standby for ")
    assert rows["lease"] == "default/cardano-node-leader held by pod-0_aa"
    assert rows["fence"] == "unknown: the actuator is silent"
    assert rows["worker/elector"].startswith(f"alive, pid {os.getpid()}")
    assert rows["worker/actuator"] == "silent"
    assert rows["worker/gateway"] == "alive, port 8123"


@pytest.mark.parametrize(
    ("fence", "forging"), [(Fence.FENCED, "no"), (Fence.FENCING, "not proven either way: fencing")]
)
async def test_status_says_no_only_of_a_node_that_is_proven_not_to_forge(
    run: Run, publish: Callable[..., object], fence: Fence, forging: str
) -> None:
    await publish(Worker.ACTUATOR, states.actuator(fence=fence))
    lines = (await run("status")).out.splitlines()
    assert next(line for line in lines if line.startswith("forging")).split(maxsplit=1)[1] == forging


async def test_status_as_json_is_json_and_nothing_else(run: Run, publish: Callable[..., object]) -> None:
    await publish(Worker.ELECTOR, elector_state())
    shown = json.loads((await run("status", "--json")).out)
    assert shown["leader"]["role"] == "standby"
    assert shown["workers"]["actuator"]["alive"] is False
    assert shown["version"]


async def test_status_is_a_fault_only_when_nothing_answers(run: Run, run_dir: Path) -> None:
    ran = await run("status")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == f"forgectl: no worker answers below {run_dir}; is the sidecar running here?\n"


async def test_a_hung_worker_is_named_after_seconds_and_the_others_are_shown(
    run: Run, run_dir: Path, publish: Callable[..., object]
) -> None:
    await publish(Worker.ELECTOR, elector_state())
    with socket.socket(socket.AF_UNIX) as hung:
        hung.bind(str(run_dir / "actuator" / "state.sock"))
        hung.listen()
        ran = await run("status")
    assert ran.code == 0
    assert "worker/actuator  silent" in ran.out
    assert "worker/elector   alive" in ran.out


async def test_nothing_in_a_lease_can_speak_to_the_operators_terminal(run: Run, publish: Callable[..., object]) -> None:
    await publish(Worker.ELECTOR, elector_state("evil\x1b]0;owned\x07\nforging yes"))
    ran = await run("status")
    assert "\x1b" not in ran.out
    assert "\x07" not in ran.out
    assert r"held by evil\x1b]0;owned\x07\nforging yes" in ran.out


async def test_status_in_a_managed_pod_shows_the_pool_below_the_pods_own_state(
    run: Run, publish: Callable[..., object]
) -> None:
    pool = PoolState(
        lock="default/cardano-pool-preprod-pool1abcd1",
        phase=LockPhase.IDLE,
        holder="preprod-pool1abcd1-us-1",
        sibling="",
        fencing_token=9,
        members=(
            LockMember("own", True, True, "preprod-pool1abcd1-us-1", 0),
            LockMember("b\x1b[2J", False, True, "", 0, "the API server cannot be reached"),
        ),
        majority=2,
        cluster="preprod-pool1abcd1-eu-1",
        wanted="preprod-pool1abcd1-us-1",
        why="us-1 comes first",
        state="Priority-based",
        priority=107,
        conflict=False,
        clusters=(
            ClusterView("preprod-pool1abcd1-us-1", "us-1", "Enabled", 20, True, "", "pod-9", 1),
            ClusterView("preprod-pool1abcd1-eu-1", "eu-1", "Disabled", 107, False, "Disabled\x07", "pod-0", 0),
        ),
    )
    await publish(Worker.ELECTOR, elector_state())
    await publish(Worker.ARBITER, ArbiterState(None, "why", cluster_management=True, pool=pool))
    ran = await run("status")
    assert ran.code == 0
    assert not set(ran.out) & set("\x1b\x07")
    own, table = ran.out.split("\n\n")
    rows = dict(re.split(r"\s{2,}", line, maxsplit=1) for line in own.splitlines())
    assert rows["cluster"] == "preprod-pool1abcd1-eu-1: Priority-based, priority 107: us-1 comes first"
    assert rows["pool lock"] == (
        "default/cardano-pool-preprod-pool1abcd1 held by preprod-pool1abcd1-us-1, token 9; idle here"
    )
    assert rows["member/own"] == "held by preprod-pool1abcd1-us-1"
    assert rows[r"member/b\x1b[2J"] == "does not answer: the API server cannot be reached"
    lines = [re.split(r"\s{2,}", line) for line in table.splitlines()]
    assert lines[0] == ["CLUSTER", "REGION", "STATE", "PRIORITY", "LEADER", "LOCK", "HEARD", "WHY NOT"]
    assert lines[1][:6] == ["preprod-pool1abcd1-us-1", "us-1", "Enabled", "20", "pod-9", "holds it"]
    assert lines[2] == ["preprod-pool1abcd1-eu-1", "eu-1", "Disabled", "107", "pod-0", "-", "ours", r"Disabled\x07"]
    assert json.loads((await run("status", "--json")).out)["pool"]["holder"] == "preprod-pool1abcd1-us-1"


async def test_run_dir_can_be_given_as_an_option(run: Run, run_dir: Path, publish: Callable[..., object]) -> None:
    await publish(Worker.ELECTOR, elector_state())
    ran = await run("--run-dir", str(run_dir), "status", RUN_DIR="/nowhere")
    assert ran.code == 0


# --- inspect ---


async def test_inspect_shows_a_workers_state_as_it_is(run: Run, publish: Callable[..., object]) -> None:
    body = ArbiterState(None, "why", cluster_management=False)
    await publish(Worker.ARBITER, body)
    ran = await run("inspect", "arbiter", "--json")
    shown = json.loads(ran.out)
    assert (ran.code, ran.out.count("\n")) == (0, 1)
    assert shown["worker"] == "arbiter"
    assert shown["body"] == dataclasses.asdict(body)
    assert json.loads((await run("inspect", "arbiter")).out) == shown


async def following(run_dir: Path, worker: Worker) -> asyncio.subprocess.Process:
    return await begin(environment(run_dir), "inspect", worker, "--follow")


async def test_inspect_follow_shows_each_change_and_ends_with_the_worker(
    run_dir: Path, publish: Callable[..., object]
) -> None:
    publisher = await publish(Worker.ARBITER, ArbiterState(None, "one", cluster_management=False))
    process = await following(run_dir, Worker.ARBITER)
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE_S):
        assert json.loads(await process.stdout.readline())["body"]["reason"] == "one"
        publisher.publish(ArbiterState(None, "two", cluster_management=False))
        while json.loads(await process.stdout.readline())["body"]["reason"] != "two":
            pass
        publisher.close()
        _, err = await process.communicate()
    assert process.returncode == 1
    assert err == b"forgectl: the arbiter ended the connection\n"


async def test_a_worker_of_another_version_is_said_so(run: Run, run_dir: Path) -> None:
    async def gibberish(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(frame(b"\x93\x63\xa5State\x80"))
        await reader.read()
        writer.close()

    server = await asyncio.start_unix_server(gibberish, run_dir / "prober" / "state.sock")
    ran = await run("inspect", "prober")
    server.close()
    assert ran.code == 1
    assert ran.err == f"forgectl: the prober speaks another language: protocol {PROTOCOL} expected\n"


# --- stand-down ---


class Elector:
    """The command socket, answering as told."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self.heard: list[StandDown] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        (payload,) = FrameReader().feed(await reader.read(4096))
        self.heard.append(decode(payload, StandDown))
        writer.write(self._answer)
        writer.close()

    async def start(self, run_dir: Path) -> asyncio.Server:
        return await asyncio.start_unix_server(self.serve, run_dir / "elector" / "command.sock")


@pytest.mark.parametrize(
    ("arguments", "heard"),
    [
        (("stand-down",), StandDown(60.0, "asked by forgectl")),
        (("stand-down", "--for", "7.5", "--reason", "upgrade"), StandDown(7.5, "upgrade")),
        (("stand-down", "--for", "1h30m"), StandDown(5400.0, "asked by forgectl")),
        (("stand-down", "--now"), StandDown(60.0, "asked by forgectl", at_once=True)),
        (("drain", "--reason", "new disk"), StandDown(None, "new disk")),
        (("drain", "--now"), StandDown(None, "asked by forgectl", at_once=True)),
        (("come-back",), StandDown(0.0, "asked by forgectl", at_once=True)),
    ],
)
async def test_a_stand_down_is_asked_of_the_elector_and_its_answer_shown(
    run: Run, run_dir: Path, arguments: tuple[str, ...], heard: StandDown
) -> None:
    elector = Elector(frame(encode(StandDownReply(True, "as you wish"))))
    server = await elector.start(run_dir)
    assert await run(*arguments) == Ran(0, "as you wish\n", "")
    assert elector.heard == [heard]
    assert json.loads((await run(*arguments, "--json")).out) == {"did": "as you wish"}
    server.close()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (frame(encode(StandDownReply(False, "not now"))), "not now"),
        (
            b"",
            "the elector closed the connection without an answer: it ends, or is of another version than this "
            "forgectl; use the one beside it",
        ),
        (frame(encode(StandDown(1, ""))), "the elector speaks another language: StandDownReply expected"),
        (b"\xff\xff\xff\xff", "no answer: impossible frame length"),
    ],
    ids=["refused", "closed", "another message", "no frame"],
)
async def test_a_stand_down_that_was_not_accepted_is_a_fault(run: Run, run_dir: Path, answer: bytes, said: str) -> None:
    server = await Elector(answer).start(run_dir)
    assert await run("stand-down") == Ran(1, "", f"forgectl: {said}\n")
    server.close()


class HandingOver(Elector):
    """A pod that forges, until it is told to stand down; then `after` holds of its lease."""

    def __init__(self, publish: Callable[..., Awaitable[StatePublisher]], after: ElectorState) -> None:
        super().__init__(frame(encode(StandDownReply(True, "as you wish"))))
        self._publish, self._after = publish, after

    async def begin(self, run_dir: Path) -> asyncio.Server:
        grant = Grant("pod-0_aa", 4, boottime_ns() + 3600 * timing.SECOND, boottime_ns(), exclusive=True)
        leads = dataclasses.replace(elector_state(), role=Role.LEADER, grant=grant)
        self._elector = await self._publish(Worker.ELECTOR, leads)
        self._actuator = await self._publish(
            Worker.ACTUATOR, states.actuator(fence=Fence.ARMED, deadline=grant.deadline)
        )
        await self._publish(Worker.ARBITER, ArbiterState(grant, "", cluster_management=False))
        return await self.start(run_dir)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await super().serve(reader, writer)
        self._actuator.publish(states.actuator())
        self._elector.publish(self._after)


async def test_of_a_pod_that_forges_it_says_who_took_over(
    run: Run, run_dir: Path, publish: Callable[..., Awaitable[StatePublisher]]
) -> None:
    until = boottime_ns() + 3600 * timing.SECOND
    for words, out in (
        (("drain",), "as you wish\npod-0 does not forge any more, pod-1 has the right to\n"),
        (("drain", "--json"), json.dumps({"did": "as you wish", "handed_over_to": "pod-1"}) + "\n"),
    ):
        elector = HandingOver(publish, dataclasses.replace(elector_state("pod-1_bb"), holder_until=until))
        server = await elector.begin(run_dir)
        assert await run(*words) == Ran(0, out, "")
        server.close()


async def test_of_a_pod_that_forges_a_stand_down_to_which_nobody_takes_over_is_a_fault(
    run: Run, run_dir: Path, publish: Callable[..., Awaitable[StatePublisher]]
) -> None:
    elector = HandingOver(publish, elector_state(""))
    server = await elector.begin(run_dir)
    ran = await run("stand-down")
    assert (ran.code, ran.out) == (1, "as you wish\n")
    assert "nobody has taken over within 10 s (is a standby ready?): nobody forges" in ran.err
    assert "`forgectl come-back` ends that" in ran.err
    server.close()


@pytest.mark.parametrize("word", ["--no-wait", "--hook"])
async def test_who_cannot_wait_for_a_successor_does_not(
    run: Run, run_dir: Path, publish: Callable[..., Awaitable[StatePublisher]], word: str
) -> None:
    elector = HandingOver(publish, elector_state(""))
    server = await elector.begin(run_dir)
    assert await run("stand-down", word) == Ran(0, "as you wish\n", "")
    server.close()


@pytest.mark.parametrize(
    ("before", "asked"),
    [
        (elector_state(), True),
        (dataclasses.replace(elector_state(), standing_down_until=boottime_ns() + 5 * timing.SECOND), True),
        (dataclasses.replace(elector_state(), standing_down_until=boottime_ns() + 900 * timing.SECOND), False),
        (dataclasses.replace(elector_state(), drained="new disk"), False),
        (dataclasses.replace(elector_state(), paused="until further notice: new switches"), False),
    ],
    ids=["in the election", "a shorter one", "a longer one", "drained", "paused"],
)
async def test_a_hook_undoes_nothing_that_an_operator_asked_for(
    run: Run, run_dir: Path, publish: Callable[..., Awaitable[object]], before: ElectorState, asked: bool
) -> None:
    elector = Elector(frame(encode(StandDownReply(True, "as you wish"))))
    server = await elector.start(run_dir)
    await publish(Worker.ELECTOR, before)
    ran = await run("stand-down", "--now", "--for", "10s", "--hook", "--reason", "the container ends")
    assert ran.code == 0
    assert elector.heard == ([StandDown(10.0, "the container ends", at_once=True)] if asked else [])
    assert (ran.out == "as you wish\n") is asked
    server.close()


async def test_a_hook_asks_for_nothing_where_it_cannot_see_what_was_asked_before(run: Run, run_dir: Path) -> None:
    elector = Elector(frame(encode(StandDownReply(True, "as you wish"))))
    server = await elector.start(run_dir)
    assert (await run("stand-down", "--hook")).code == 1
    assert elector.heard == []
    server.close()


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "soon"])
async def test_a_stand_down_for_no_time_at_all_is_a_usage_error(run: Run, seconds: str) -> None:
    ran = await run("stand-down", f"--for={seconds}")
    assert ran.code == 2
    assert "--for" in ran.err


@pytest.mark.parametrize("reason", ["x" * 501, "two\nlines", "\x1b[2J"])
async def test_a_reason_is_one_short_line(run: Run, reason: str) -> None:
    assert (await run("stand-down", "--reason", reason)).code == 2


async def test_without_a_sidecar_a_stand_down_names_the_socket_it_missed(run: Run, run_dir: Path) -> None:
    ran = await run("stand-down")
    assert ran.code == 1
    assert str(run_dir / "elector" / "command.sock") in ran.err
    assert ran.err.count("\n") == 1


# --- config, usage ---


async def test_config_shows_every_variable_with_the_value_in_effect_and_where_it_came_from(run: Run) -> None:
    rows = {
        row["name"]: (row["value"], row["source"])
        for row in json.loads((await run("config", "--json", POOL_ID="pool1abcd1234567890", LEASE_DURATION="20")).out)
    }
    assert rows["LEASE_DURATION"] == ("20", "environment")
    assert rows["SLEEP_INTERVAL"][1] == "default"
    assert rows["LEASE_NAME"] == ("cardano-leader-mainnet-pool1abcd1", "default")
    assert rows["KUBECONFIG"] == ("", "default")
    assert rows["DISABLE_SOCKET_CHECK"] == ("false", "default")
    table = (await run("config")).out
    assert re.search(r"^LEASE_DURATION +15  \(default\)$", table, re.MULTILINE)
    assert re.search(r"^POD_NAME +pod-0$", table, re.MULTILINE)


async def test_config_shows_of_a_webhook_no_more_than_its_origin(run: Run) -> None:
    shown = await run("config", NOTIFY_URL="https://hook.example:8443/services/canary?canary")
    assert re.search(r"^NOTIFY_URL +https://hook\.example:8443$", shown.out, re.MULTILINE)
    assert "canary" not in shown.out


async def test_config_as_markdown_is_the_table_of_the_readme(run: Run) -> None:
    readme = (Path(forgectl.__file__).parent.parent / "README.md").read_text()
    assert (await run("config", "--markdown")).out.strip() in readme


async def test_config_shows_the_coordination_apis_as_they_were_written(run: Run) -> None:
    assert re.search(r"^COORDINATION_KUBECONFIGS +own  \(default\)$", (await run("config")).out, re.MULTILINE)
    written = "own,/etc/forge/b#two,/etc/forge/c"
    table = (await run("config", COORDINATION_KUBECONFIGS=written)).out
    assert re.search(rf"^COORDINATION_KUBECONFIGS +{re.escape(written)}$", table, re.MULTILINE)


async def test_config_warns_of_a_variable_that_is_almost_ours_by_its_name_alone(run: Run) -> None:
    for form in ((), ("--json",)):
        ran = await run("config", *form, CLUSTER_PRIORTY="canary")
        assert (
            ran.err
            == "forgectl: CLUSTER_PRIORTY is no variable of ours, and is not read; did you mean CLUSTER_PRIORITY?\n"
        )
        assert (ran.code, "canary" in ran.out) == (0, False)


async def test_where_the_configuration_is_wrong_what_is_missed_may_be_there_under_another_name(run: Run) -> None:
    ran = await run("status", ENABLE_CLUSTER_MANAGEMENT="true", CLUSTER_REGION="eu-1", POOLID="pool1canary")
    assert ran.code == 2
    assert ran.err.splitlines()[-1].endswith("did you mean POOL_ID?")
    assert "canary" not in ran.err


async def test_a_wrong_variable_is_named_with_its_remedy(run: Run) -> None:
    ran = await run("status", LEASE_DURATION="soon")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == "forgectl: LEASE_DURATION='soon': must be a whole number from 6 to 3600\n"


async def test_without_a_command_usage_is_shown(run: Run) -> None:
    ran = await run()
    assert ran.code == 2
    assert ran.err.startswith("usage: forgectl")


async def test_the_exit_codes_are_documented_in_the_help(run: Run) -> None:
    ran = await run("--help")
    assert ran.code == 0
    assert "exit codes: 0 done;" in ran.out.replace("\n", " ")


async def test_a_reader_that_has_seen_enough_is_no_fault(run_dir: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        process = await begin(environment(run_dir), "config", stdout=writing)
    finally:
        os.close(writing)
    assert await ended(process) == Ran(0, "", "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "tcsh"])
async def test_completion_is_a_script_that_knows_every_command(run: Run, shell: str) -> None:
    ran = await run("completion", shell, LEASE_DURATION="not a number")
    assert (ran.code, ran.err) == (0, "")
    for command in ("status", "why", "stand-down", "switchover", "history"):
        assert command in ran.out
    if shell in ("zsh", "fish"):  # they show a word's meaning: the line of --help
        assert "what its workers decided last" in ran.out
        assert "Exit code 0 whatever the answer is" not in ran.out
    if shell == "bash":
        checked = subprocess.run(["bash", "-n"], input=ran.out, capture_output=True, text=True, check=False)
        assert (checked.returncode, checked.stderr) == (0, "")


def test_as_a_plugin_of_kubectl_it_calls_itself_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/local/bin/kubectl-forge", "status"])
    assert forgectl._parser().format_usage().startswith("usage: kubectl forge ")


# --- what programs and shells rely on ---


@pytest.mark.parametrize(
    "words",
    [
        *("status", "why", "inspect elector", "inspect elector --follow", "inspect elector --tasks", "trace"),
        *("stand-down", "drain", "come-back", "log-level elector", "clusters", "history", "pause", "resume"),
        *("switchover eu-1", "disable eu-1", "enable eu-1", "override eu-1 --clear", "alive", "await ready --for 0.1"),
    ],
)
async def test_with_json_what_failed_is_one_object_on_standard_output(run: Run, words: str) -> None:
    ran = await run(*words.split(), "--json", HOME="/nonexistent")
    *_, last = ran.out.splitlines()
    told = json.loads(last)
    assert (told["exit_code"], ran.code > 0) == (ran.code, True)
    assert ran.err == f"forgectl: {told['error']}\n"


@pytest.mark.parametrize("words", ["stand-down --for soon --json", "inspect nobody --json", "--json"])
async def test_with_json_a_usage_error_is_an_object_too(run: Run, words: str) -> None:
    ran = await run(*words.split())
    told = json.loads(ran.out)
    assert told["exit_code"] == ran.code == 2
    assert ran.err.endswith(f"error: {told['error']}\n")


@pytest.mark.skipif(Path("/run/forge-manager").exists(), reason="a sidecar's RUN_DIR is here")
@pytest.mark.parametrize(
    "words", ["why", "watch", "watch --lines", "trace", "audit", "alive", "drain", "inspect elector"]
)
def test_on_a_laptop_what_is_of_one_pod_says_at_once_where_to_run_it(run_dir: Path, words: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "cli.forgectl", *words.split()],
        env={name: value for name, value in environment(run_dir).items() if name != "RUN_DIR"},
        cwd=Path(forgectl.__file__).parent.parent,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (ran.returncode, ran.stdout, ran.stderr.count("\n")) == (1, "", 1)
    assert "run it in its container (kubectl exec POD -c forge-manager -- forgectl ...)" in ran.stderr


async def test_with_json_a_wrong_setting_is_an_object_too(run: Run) -> None:
    ran = await run("status", "--json", LEASE_DURATION="soon")
    assert json.loads(ran.out)["exit_code"] == ran.code == 2
    assert "LEASE_DURATION='soon'" in json.loads(ran.out)["error"]


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (1, 2), (0, 1, 2)])
@pytest.mark.parametrize(("words", "code"), [("config", 0), ("why", 1)])
def test_closed_descriptors_are_no_fault_and_nothing_is_said_elsewhere(
    run_dir: Path, words: str, code: int, closed: tuple[int, ...]
) -> None:
    closing = " ".join(f"{number}>&-" for number in closed)
    ran = subprocess.run(
        ["/bin/sh", "-c", f'exec "$0" -m cli.forgectl {words} {closing}', sys.executable],
        env=environment(run_dir),
        cwd=Path(forgectl.__file__).parent.parent,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert ran.returncode == code
    assert "Traceback" not in ran.stderr
    assert bool(ran.stdout) == (words == "config" and 1 not in closed)
    assert bool(ran.stderr) == (words == "why" and 2 not in closed)


async def test_it_says_its_version_whatever_the_configuration(run: Run) -> None:
    ran = await run("--version", LEASE_DURATION="not a number")
    assert (ran.code, ran.out, ran.err) == (0, f"{version('cardano-forge-manager')}\n", "")


@pytest.mark.parametrize("words", ["config", "completion bash", "--help"])
def test_an_output_that_is_full_is_a_fault_in_one_line(run_dir: Path, words: str) -> None:
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run(
            [sys.executable, "-m", "cli.forgectl", *words.split()],
            env=environment(run_dir),
            cwd=Path(forgectl.__file__).parent.parent,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
    assert (ran.returncode, ran.stderr) == (
        1,
        "forgectl: standard output cannot be written: No space left on device\n",
    )


async def test_a_reader_that_has_seen_enough_ends_what_follows_a_worker(run_dir: Path, publish: Any) -> None:
    elector = await publish(Worker.ELECTOR, elector_state())
    process = await following(run_dir, Worker.ELECTOR)
    assert process.stdout is not None
    assert process.stderr is not None
    async with asyncio.timeout(PATIENCE_S):
        await process.stdout.readline()
        process.stdout._transport.close()  # type: ignore[attr-defined]  # asyncio has no other way to close one end
        elector.publish(elector_state("pod-9_zz"))
        assert await process.wait() == 0
        assert await process.stderr.read() == b""


@pytest.mark.parametrize(
    ("program", "default"), [("/usr/local/bin/forgectl", True), ("/x/kubectl-forge", True), ("/x/y", False)]
)
def test_an_interrupt_ends_it_without_a_traceback_from_its_first_import_on(program: str, default: bool) -> None:
    code = (
        f"import signal, sys; sys.argv[0] = {program!r}; sys.modules['argparse'] = None\n"
        "try: import cli.forgectl\n"
        "except ImportError: print(signal.getsignal(signal.SIGINT) is signal.SIG_DFL)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(forgectl.__file__).parent.parent,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    assert ran.stdout == f"{default}\n"
