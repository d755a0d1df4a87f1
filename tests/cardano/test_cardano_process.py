"""The node as a process: what /proc says, who listens, who is called so, how it was started, how it is held."""

from __future__ import annotations

import os
import select
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cardano.process import (
    NodeCandidate,
    NodeGone,
    NodeProcess,
    ProcessUnreadable,
    SocketOutcome,
    check_socket,
    credential_options,
    find_by_name,
    parse_start_ticks,
    parse_status,
    read_argv,
    read_status,
    split_arguments,
    start_flag,
    start_ticks,
)
from ipc.messages import StartFlag

STATUS = """\
Name:\tcardano-node
Umask:\t0022
State:\tS (sleeping)
Tgid:\t71
Pid:\t71
PPid:\t1
Uid:\t10001\t10001\t10001\t10001
Gid:\t10002\t10003\t10004\t10005
FDSize:\t256
Groups:\t10001 20000
Threads:\t14
SigPnd:\t0000000000000000
ShdPnd:\t0000000000000000
SigBlk:\t0000000000000000
SigIgn:\t0000000000000000
SigCgt:\t0000000200006003
CapEff:\t00000000a80425fb
NoNewPrivs:\t1
Seccomp:\t2
"""

Spawn = Callable[..., subprocess.Popen[str]]

DIE_WITH_PARENT = (
    "import ctypes,os,sys;ctypes.CDLL(None).prctl(1,9,0,0,0);os.getppid()==int(sys.argv[1]) or os._exit(1);"
)


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    """Start Python code that prints a line when it is ready; ended with the test."""
    started: list[subprocess.Popen[str]] = []

    def start(code: str, *arguments: str, name: str = "python", ready: bool = True) -> subprocess.Popen[str]:
        command = [name, "-S", "-E", "-c", DIE_WITH_PARENT + code, str(os.getpid()), *arguments]
        process = subprocess.Popen(
            command,
            executable=os.path.realpath(sys.executable),
            env={"PYTHONHOME": f"{sys.base_prefix}:{sys.base_exec_prefix}"} | dict(os.environ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        if ready:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()


WAIT = "os.write(1,b'ready\\n');sys.stdin.read()"


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


# --- /proc ---


def test_status_tells_who_it_is_and_what_it_does_with_sighup() -> None:
    status = parse_status(STATUS)
    assert (status.pid, status.state) == (71, "S")
    assert status.uids == (10001, 10001, 10001, 10001)
    assert status.gids == (10002, 10003, 10004, 10005)
    assert status.groups == (10001, 20000)
    assert status.cap_eff == 0xA80425FB
    assert status.sighup_caught
    assert (status.sighup_ignored, status.sighup_blocked, status.sighup_pending) == (False, False, False)
    assert status.no_new_privs
    assert status.seccomp == 2


@pytest.mark.parametrize("field", ["SigPnd", "ShdPnd"])
def test_a_sighup_is_pending_for_the_thread_or_for_the_process(field: str) -> None:
    assert parse_status(STATUS.replace(f"{field}:\t0000000000000000", f"{field}:\t0000000000000001")).sighup_pending
    assert not parse_status(STATUS.replace(f"{field}:\t0000000000000000", f"{field}:\t0000000000000002")).sighup_pending


@pytest.mark.parametrize(("field", "name"), [("SigBlk", "sighup_blocked"), ("SigIgn", "sighup_ignored")])
def test_blocked_and_ignored_are_told_apart(field: str, name: str) -> None:
    status = parse_status(STATUS.replace(f"{field}:\t0000000000000000", f"{field}:\t0000000000000001"))
    assert getattr(status, name)


@pytest.mark.parametrize(("line", "nested"), [("", False), ("NSpid:\t71\n", False), ("NSpid:\t71\t1\n", True)])
def test_a_process_of_a_namespace_below_is_told_by_its_second_number(line: str, *, nested: bool) -> None:
    assert parse_status(STATUS + line).nested is nested


def test_another_signal_that_is_caught_is_not_sighup() -> None:
    assert not parse_status(STATUS.replace("0000000200006003", "0000000200006002")).sighup_caught


def test_a_process_without_groups_has_none() -> None:
    assert parse_status(STATUS.replace("10001 20000", "")).groups == ()


@pytest.mark.parametrize("field", ["Pid", "State", "Uid", "Gid", "Groups", "CapEff", "SigCgt", "SigPnd", "ShdPnd"])
def test_a_status_that_lacks_a_field_is_refused_by_name(field: str) -> None:
    lines = [line for line in STATUS.splitlines() if not line.startswith(field + ":")]
    with pytest.raises(ValueError, match=field):
        parse_status("\n".join(lines))


def test_a_status_with_another_number_of_ids_is_refused() -> None:
    with pytest.raises(ValueError, match="four"):
        parse_status(STATUS.replace("Uid:\t10001\t", "Uid:\t"))


@given(st.text())
def test_text_that_is_no_status_is_a_value_error_and_nothing_else(text: str) -> None:
    with pytest.raises(ValueError):
        parse_status(text)


def test_a_process_cannot_speak_for_a_field_by_its_name(spawn: Spawn) -> None:
    """The kernel escapes a line feed in a name, no other line separator."""
    code = "import ctypes;ctypes.CDLL(None).prctl(15,b'x\\x0bSigCgt:\\tff',0,0,0);"
    process = spawn(code + "import signal;signal.signal(1,signal.SIG_DFL);" + WAIT)
    assert not read_status(process.pid).sighup_caught


def test_of_a_real_process_the_handler_is_seen(spawn: Spawn) -> None:
    process = spawn("import signal;signal.signal(1,lambda *_:0);" + WAIT)
    status = read_status(process.pid)
    assert status.sighup_caught
    assert status.pid == process.pid
    assert status.uids == (*os.getresuid(), os.geteuid())


def test_of_a_real_process_a_blocked_sighup_is_seen_pending(spawn: Spawn) -> None:
    process = spawn("import signal;signal.pthread_sigmask(0,[1]);" + WAIT)
    assert not read_status(process.pid).sighup_pending
    process.send_signal(signal.SIGHUP)
    assert read_status(process.pid).sighup_blocked
    assert read_status(process.pid).sighup_pending


def test_the_start_is_found_behind_any_name() -> None:
    tail = " S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 98765 20 21"
    for name in ("cardano-node", "a b", "a) S 1 2 (", ") ) 1"):
        assert parse_start_ticks(f"71 ({name}){tail}\n") == 98765


@given(st.text())
def test_a_stat_that_is_none_is_a_value_error_and_nothing_else(text: str) -> None:
    try:
        parse_start_ticks(text)
    except ValueError:
        return
    assert len(text.rpartition(")")[2].split()) >= 20


def test_a_later_process_started_later(spawn: Spawn) -> None:
    first, second = spawn(WAIT), spawn(WAIT)
    assert start_ticks(os.getpid()) < start_ticks(second.pid)
    assert start_ticks(first.pid) <= start_ticks(second.pid)
    assert start_ticks(first.pid) == start_ticks(first.pid)


def test_arguments_keep_empty_ones_and_survive_being_written_over() -> None:
    assert split_arguments(b"node\0run\0\0--x\0") == ("node", "run", "", "--x")
    assert split_arguments(b"node: a title") == ("node: a title",)
    assert split_arguments(b"node\0\xff\0") == ("node", "\ufffd")
    assert split_arguments(b"") == ()


def test_arguments_of_a_real_process_are_as_given(spawn: Spawn) -> None:
    process = spawn(WAIT, "a b", "", "ü")
    assert read_argv(process.pid)[-3:] == ("a b", "", "ü")


def test_of_an_ended_process_everything_says_gone(spawn: Spawn) -> None:
    process = spawn(WAIT)
    process.kill()
    process.wait()
    for look in (read_status, start_ticks, read_argv, NodeProcess.open):
        with pytest.raises(NodeGone):
            look(process.pid)


def test_what_may_not_be_read_is_said_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> bytes:
        raise PermissionError

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(ProcessUnreadable, match="runAsUser"):
        read_status(os.getpid())


# --- the socket ---


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Short enough for a socket's address."""
    return tmp_path_factory.mktemp("s")


def test_a_listener_is_known_by_its_pid_uid_and_gid(folder: Path, spawn: Spawn) -> None:
    path = folder / "node.socket"
    process = spawn("import socket;s=socket.socket(socket.AF_UNIX);s.bind(sys.argv[2]);s.listen();" + WAIT, str(path))
    found = check_socket(path)
    assert (found.ok, found.why, found.outcome) == (True, "", SocketOutcome.ACCEPTS)
    assert (found.pid, found.uid, found.gid) == (process.pid, os.geteuid(), os.getegid())


def test_the_process_that_listens_counts_not_the_one_that_accepts(folder: Path, spawn: Spawn) -> None:
    """What the kernel proves is who called listen(2)."""
    path = folder / "node.socket"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        sock.listen()
        spawn(WAIT)
        assert check_socket(path).pid == os.getpid()


def test_a_missing_file_is_missing_and_a_plain_file_is_no_socket(folder: Path) -> None:
    assert check_socket(folder / "none").outcome is SocketOutcome.MISSING
    (folder / "plain").write_text("")
    assert check_socket(folder / "plain").outcome is SocketOutcome.NOT_A_SOCKET
    assert check_socket(folder / "plain" / "below").outcome is SocketOutcome.FAILED
    (folder / "dangling").symlink_to(folder / "none")
    assert check_socket(folder / "dangling").outcome is SocketOutcome.MISSING


def test_a_file_left_behind_is_stale(folder: Path) -> None:
    path = folder / "node.socket"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        assert check_socket(path).outcome is SocketOutcome.STALE  # bound, does not listen yet
        sock.listen()
        assert check_socket(path).ok
    found = check_socket(path)
    assert (found.ok, found.pid, found.outcome) == (False, 0, SocketOutcome.STALE)
    assert "left behind" in found.why


def test_a_full_backlog_is_an_answer_and_never_a_wait(folder: Path) -> None:
    path = folder / "node.socket"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        sock.listen(0)
        assert check_socket(path).ok  # it stays in the backlog: nobody accepts
        found = check_socket(path)
    assert (found.ok, found.outcome) == (False, SocketOutcome.FULL)
    assert "does not accept" in found.why


def test_a_socket_of_datagrams_is_not_the_nodes(folder: Path) -> None:
    path = folder / "d"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(path))
        found = check_socket(path)
    assert (found.ok, found.outcome) == (False, SocketOutcome.FAILED)
    assert found.why


def test_a_path_too_long_for_an_address_is_said_so(folder: Path) -> None:
    deep = folder / ("x" * 100)
    deep.mkdir()
    with socket.socket(socket.AF_UNIX) as sock:
        descriptor = os.open(deep, os.O_PATH)
        sock.bind(f"/proc/self/fd/{descriptor}/s")
        os.close(descriptor)
        found = check_socket(deep / "s")
    assert (found.ok, found.outcome) == (False, SocketOutcome.FAILED)
    assert "too long" in found.why


@pytest.mark.skipif(os.geteuid() == 0, reason="root may connect to everything")
def test_a_socket_that_keeps_us_out_is_forbidden(folder: Path) -> None:
    path = folder / "node.socket"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        sock.listen()
        path.chmod(0)
        assert check_socket(path).outcome is SocketOutcome.FORBIDDEN
        path.chmod(stat.S_IRWXU)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make a pid namespace")
def test_a_listener_in_a_pid_namespace_we_cannot_see_is_not_given_a_pid(folder: Path) -> None:
    path = folder / "node.socket"
    code = f"""
import os, socket, sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from pathlib import Path
from cardano.process import check_socket
print(check_socket(Path(sys.argv[1])), flush=True)
"""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        sock.listen()
        answer = subprocess.run(
            ["unshare", "--pid", "--fork", "--kill-child", sys.executable, "-c", code, str(path)],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    if answer.returncode != 0 and "unshare" in answer.stderr:
        pytest.skip("pid namespaces are not permitted here")
    assert "ok=True" in answer.stdout
    assert "pid=0" in answer.stdout
    assert repr(SocketOutcome.ACCEPTS_UNSEEN) in answer.stdout


def test_the_connection_does_not_stay(folder: Path) -> None:
    path = folder / "node.socket"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        sock.listen()
        before = open_descriptors()
        check_socket(path)
        assert open_descriptors() == before
        accepted, _ = sock.accept()
        with accepted:
            assert accepted.recv(1) == b""


# --- by name ---

NAME = f"node-{os.getpid()}"
"""No other process has it, whoever else runs these tests at the same time."""


def test_a_process_is_found_by_its_first_argument_wherever_it_lies(spawn: Spawn) -> None:
    process = spawn(WAIT, "--socket-path", "/ipc/node.socket", name=f"/opt/{NAME}")
    assert find_by_name(NAME, Path("/ipc/node.socket")) == [NodeCandidate(process.pid, True)]


def test_a_process_is_found_by_the_name_it_gave_itself(spawn: Spawn) -> None:
    process = spawn(f"import ctypes;ctypes.CDLL(None).prctl(15,b'{NAME}',0,0,0);" + WAIT)
    assert find_by_name(NAME, Path("/ipc/node.socket")) == [NodeCandidate(process.pid, False, relay=True)]


def test_of_several_nodes_the_one_that_names_our_socket_is_ours(spawn: Spawn) -> None:
    spawn(WAIT, "--socket-path", "/ipc/other.socket", name=NAME)
    spawn(WAIT, name=NAME)
    ours = spawn(WAIT, "--socket-path=/ipc/./x/../node.socket", name=NAME)
    assert find_by_name(NAME, Path("/ipc//node.socket")) == [NodeCandidate(ours.pid, True)]


def test_a_node_that_names_another_socket_is_not_ours_even_when_it_is_the_only_one(spawn: Spawn) -> None:
    spawn(WAIT, "--socket-path", "/ipc/other.socket", name=NAME)
    assert find_by_name(NAME, Path("/ipc/node.socket")) == []


def test_one_that_was_given_our_files_and_another_socket_is_told(spawn: Spawn) -> None:
    ours = Path("/ipc/kes.skey")
    options = ("--socket-path", "/ipc/other.socket", "--shelley-kes-key", str(ours))
    process = spawn(WAIT, *options, name=NAME)
    found = find_by_name(NAME, Path("/ipc/node.socket"), files=[ours])
    assert found == [NodeCandidate(process.pid, False, "/ipc/other.socket")]
    assert find_by_name(NAME, Path("/ipc/node.socket"), files=[Path("/elsewhere/kes.skey")]) == []


def test_several_that_name_no_socket_are_all_given_and_none_is_chosen(spawn: Spawn) -> None:
    pids = {spawn(WAIT, name=NAME).pid, spawn(WAIT, name=NAME).pid}
    found = find_by_name(NAME, Path("/ipc/node.socket"))
    assert {candidate.pid for candidate in found} == pids
    assert not any(candidate.names_our_socket for candidate in found)


def test_of_several_that_name_no_socket_the_one_that_was_given_keys_is_ours(spawn: Spawn) -> None:
    spawn(WAIT, name=NAME)
    ours = spawn(WAIT, *KEYS, name=NAME)
    assert find_by_name(NAME, Path("/ipc/node.socket")) == [NodeCandidate(ours.pid, False)]


def test_a_relative_socket_path_may_be_ours_if_ours_ends_like_it(spawn: Spawn, folder: Path) -> None:
    process = spawn(WAIT, "--socket-path", "../a/../n.s", name=NAME)
    assert find_by_name(NAME, folder / "n.s") == [NodeCandidate(process.pid, True)]
    assert find_by_name(NAME, folder / "other.n.s") == []


def test_a_child_of_our_supervisor_is_not_the_node_whatever_it_calls_itself(spawn: Spawn) -> None:
    spawn(WAIT, "--socket-path", "/ipc/node.socket", name=NAME)
    assert find_by_name(NAME, Path("/ipc/node.socket"))
    assert find_by_name(NAME, Path("/ipc/node.socket"), supervisor=os.getpid()) == []


def test_a_zombie_is_nobody_and_neither_are_we(spawn: Spawn) -> None:
    process = spawn(WAIT, name=NAME)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert find_by_name(NAME, Path("/ipc/node.socket")) == []
    ours = Path(read_argv(os.getpid())[0]).name
    assert os.getpid() not in {candidate.pid for candidate in find_by_name(ours, Path("/ipc/node.socket"))}


def test_another_name_is_not_found(spawn: Spawn) -> None:
    spawn(WAIT, name=NAME + "-2")
    assert find_by_name(NAME, Path("/ipc/node.socket")) == []


# --- how it was started ---

KEYS = ("--shelley-kes-key", "k", "--shelley-vrf-key", "v", "--shelley-operational-certificate", "c")


@pytest.mark.parametrize("flag", ["--start-as-non-producing-node", "--non-producing-node"])
def test_the_flag_by_either_name_is_proof(flag: str) -> None:
    assert start_flag(["cardano-node", "run", *KEYS, flag, "--config", "x"]) is StartFlag.NON_PRODUCING


def test_with_keys_and_without_the_flag_it_forges_by_itself() -> None:
    assert start_flag(["cardano-node", "run", *KEYS]) is StartFlag.PRODUCING
    assert start_flag(["cardano-node", "run", *KEYS, "--config", "x"]) is StartFlag.PRODUCING


@pytest.mark.parametrize("keys", [*zip(KEYS[::2], KEYS[1::2], strict=True), ("--bulk-credentials-file=b",)])
def test_any_credential_flag_makes_it_a_producer(keys: tuple[str, ...]) -> None:
    assert start_flag(["cardano-node", "run", *keys]) is StartFlag.PRODUCING


def test_without_credential_flags_it_is_a_relay_whatever_else_it_says() -> None:
    assert start_flag(["cardano-node", "run"]) is StartFlag.NO_CREDENTIALS
    assert start_flag(["cardano-node", "--start-as-non-producing-node"]) is StartFlag.NO_CREDENTIALS


def test_credential_options_are_read_in_both_ways_of_writing_them() -> None:
    argv = ["cardano-node", "run", "--shelley-kes-key=/ipc/k", "--shelley-vrf-key", "/ipc/v", "--config", "x"]
    assert credential_options(argv) == {"--shelley-kes-key": "/ipc/k", "--shelley-vrf-key": "/ipc/v"}
    assert credential_options(["cardano-node", "run"]) == {}


def test_arguments_that_are_not_there_say_nothing() -> None:
    assert start_flag([]) is StartFlag.UNKNOWN


def test_the_configuration_of_the_node_is_not_looked_at_since_versions_differ(spawn: Spawn, folder: Path) -> None:
    (folder / "c.json").write_text('{"StartAsNonProducingNode": true}')
    there = spawn(WAIT, *KEYS, "--config", str(folder / "c.json"))
    assert start_flag(read_argv(there.pid)) is StartFlag.PRODUCING


# --- held ---


def test_a_held_process_is_known_by_pid_and_start(spawn: Spawn) -> None:
    process = spawn(WAIT)
    held = NodeProcess.open(process.pid)
    assert (held.pid, held.start_ticks) == (process.pid, start_ticks(process.pid))
    assert held.alive()
    held.close()
    held.close()
    assert not held.alive()


def test_its_end_is_an_event_even_before_it_is_reaped(spawn: Spawn) -> None:
    process = spawn(WAIT)
    held = NodeProcess.open(process.pid)
    assert not select.select([held.fileno()], [], [], 0)[0]
    process.kill()
    assert select.select([held.fileno()], [], [], 60)[0]
    assert not held.alive()
    with pytest.raises(NodeGone):
        held.send(signal.SIGHUP)
    process.wait()
    with pytest.raises(NodeGone):
        held.send(signal.SIGHUP)
    held.close()


def test_a_signal_reaches_it(spawn: Spawn) -> None:
    process = spawn("import signal;signal.signal(1,lambda *_:os.write(1,b'hup\\n'));" + WAIT)
    held = NodeProcess.open(process.pid)
    held.send(signal.SIGHUP)
    assert process.stdout is not None
    assert process.stdout.readline() == "hup\n"
    held.close()


def test_a_number_that_is_no_pid_is_refused() -> None:
    for pid in (0, -1):
        with pytest.raises(ValueError, match="no process id"):
            NodeProcess.open(pid)


def test_a_process_that_cannot_be_held_leaves_no_descriptor_open(spawn: Spawn, monkeypatch: pytest.MonkeyPatch) -> None:
    process = spawn(WAIT)

    def refuse(_: int) -> int:
        raise ProcessUnreadable("no")

    monkeypatch.setattr("cardano.process.start_ticks", refuse)
    before = open_descriptors()
    with pytest.raises(ProcessUnreadable):
        NodeProcess.open(process.pid)
    assert open_descriptors() == before


def test_a_process_that_ends_while_it_is_looked_at_is_gone_not_mistaken(
    spawn: Spawn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pid may be another's by the time its start is read."""
    process = spawn(WAIT)

    def too_late(_: int) -> int:
        process.kill()
        process.wait()
        return 12345

    monkeypatch.setattr("cardano.process.start_ticks", too_late)
    before = open_descriptors()
    with pytest.raises(NodeGone):
        NodeProcess.open(process.pid)
    assert open_descriptors() == before


def test_more_than_a_thousand_descriptors_do_not_blind_it(spawn: Spawn) -> None:
    process = spawn(WAIT)
    held = NodeProcess.open(process.pid)
    high = os.dup2(held.fileno(), 1500) if _may_open(1500) else held.fileno()
    blind = NodeProcess(process.pid, 0, high)
    assert blind.alive()
    process.kill()
    process.wait()
    assert not blind.alive()
    held.close()
    if high == 1500:
        blind.close()


def _may_open(number: int) -> bool:
    import resource

    return resource.getrlimit(resource.RLIMIT_NOFILE)[0] > number
