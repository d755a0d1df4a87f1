"""The fence as a whole: an actuator that dies, and a node that must find ENOENT at the SIGHUP that the kernel sends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kernel_actors import NOBODY, REPOSITORY, Child, Node, Refused

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root")
User = tuple[int, int]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every user may use (pytest's own are closed to others)."""
    with tempfile.TemporaryDirectory(prefix="fence-test-") as name:
        path = Path(name)
        path.chmod(0o777)
        yield path


def actuator(folder: Path, node: Node, user: User | None = None, *, dumpable: bool = True) -> Child:
    """A process that holds the whole fence, aimed and exposed."""
    child = Child(user, dumpable=dumpable)
    child.do(f"stage = Stage(Path({str(folder / 'keys')!r}))")
    child.do("timer = deadline.DeathTimer()")
    child.do("death = deathpipe.DeathSignal()")
    child.do(f"stage.install_links({{'kes.skey': Path({str(folder / 'kes')!r})}})")
    child.do(f"death.aim({node.pid})")
    child.do("stage.expose(stage.prepare({'kes.skey': b'key'}))")
    return child


def hup(node: Node) -> None:
    os.kill(node.pid, signal.SIGHUP)


def rounds(*options: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "bench.fence", "--json", *options], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_in_fifty_deaths_of_four_kinds_the_node_always_gets_sighup_and_finds_nothing() -> None:
    done = rounds("--rounds", "50")
    assert len(done) == 50
    assert all(r["off"] and r["found"] for r in done)
    assert {r["mode"] for r in done} == {"quiet", "busy", "stopped", "deadline"}


@pytest.mark.root
@needs_root
def test_fifty_deaths_as_an_ordinary_user_turn_the_node_off_just_as_well() -> None:
    assert len(rounds("--rounds", "50", "--user", f"{NOBODY}:{NOBODY}")) == 50


def test_a_killed_actuator_turns_the_node_off(folder: Path) -> None:
    with Node(folder / "kes") as node, actuator(folder, node) as child:
        hup(node)
        assert node.looks() == ["key"]
        child.kill()
        assert set(node.looks()) == {"ENOENT"}


@pytest.mark.parametrize("ending", ["sys.exit(0)", "os.abort()", "os._exit(0)"])
def test_any_other_end_of_the_actuator_turns_the_node_off_too(folder: Path, ending: str) -> None:
    with Node(folder / "kes") as node, actuator(folder, node) as child:
        child.do("process.no_core_dumps()")
        child.begin(ending)
        child.wait()
        assert set(node.looks()) == {"ENOENT"}


def test_a_stopped_actuator_is_killed_at_its_deadline_and_the_node_turns_off(folder: Path) -> None:
    with Node(folder / "kes") as node, actuator(folder, node) as child:
        child.begin("timer.arm(clock.boottime_ns() + 500_000_000); os.kill(os.getpid(), signal.SIGSTOP)")
        child.wait_until_stopped()
        assert child.wait() == -signal.SIGKILL
        assert set(node.looks()) == {"ENOENT"}


def test_an_actuator_killed_while_it_prepares_a_set_never_showed_any_of_it(folder: Path) -> None:
    with Node(folder / "kes") as node, actuator(folder, node) as child:
        child.do("stage.withdraw()")
        node.looks()
        fifo = folder / "fifo"
        os.mkfifo(fifo)
        child.begin(f"stage.prepare({{'kes.skey': b'new', 'vrf.skey': open({str(fifo)!r}, 'rb').read()}})")
        child.begin("pass")
        hup(node)
        assert node.looks() == ["ENOENT"]
        child.kill()
        assert set(node.looks()) == {"ENOENT"}


def test_after_disarming_the_actuators_death_signals_nobody(folder: Path) -> None:
    with Node(folder / "kes") as node, actuator(folder, node) as child:
        child.do("stage.withdraw()")
        child.do("death.disarm()")
        child.kill()
        assert node.looks() == []


def test_closing_the_pipes_signals_nobody_even_when_they_are_aimed(folder: Path) -> None:
    with Node(folder / "kes") as node, actuator(folder, node) as child:
        child.do("death.close()")
        assert node.looks() == []
        child.kill()
        assert node.looks() == []


def test_a_disarmed_pipe_can_be_aimed_again(folder: Path) -> None:
    with Node(folder / "kes") as node, actuator(folder, node) as child:
        child.do("death.disarm()")
        child.do(f"death.aim({node.pid})")
        child.kill()
        assert set(node.looks()) == {"ENOENT"}


def test_a_re_aimed_pipe_signals_only_the_new_node(folder: Path) -> None:
    with Node(folder / "kes") as old, Node(folder / "kes") as new, actuator(folder, old) as child:
        child.do(f"death.aim({new.pid})")
        assert child.do("death.aimed_at") == new.pid
        child.kill()
        assert set(new.looks()) == {"ENOENT"}
        assert old.looks() == []


def test_aiming_at_a_process_that_is_gone_is_refused_and_the_aim_stays(folder: Path) -> None:
    with Node(folder / "kes") as node, actuator(folder, node) as child:
        with Child() as gone:
            pass
        with pytest.raises(Refused, match="ProcessLookupError"):
            child.do(f"death.aim({gone.pid})")
        assert child.do("death.aimed_at") == node.pid
        child.kill()
        assert set(node.looks()) == {"ENOENT"}


def test_a_node_that_ends_while_it_is_aimed_at_leaves_both_pipes_on_the_former_one(folder: Path) -> None:
    with Node(folder / "kes") as old, Node(folder / "kes") as new, actuator(folder, old) as child:
        child.do("real, aims = deathpipe.fcntl.fcntl, []")
        child.do(
            "def second_aim_fails(fd, command, value=0):\n"
            f"    if (command, value) == (deathpipe.fcntl.F_SETOWN, {new.pid}):\n"
            "        aims.append(fd)\n"
            "        if len(aims) == 2: raise ProcessLookupError(3, 'No such process')\n"
            "    return real(fd, command, value)"
        )
        child.do("deathpipe.fcntl.fcntl = second_aim_fails")
        with pytest.raises(Refused, match="ProcessLookupError"):
            child.do(f"death.aim({new.pid})")
        child.kill()
        assert set(old.looks()) == {"ENOENT"}
        assert new.looks() == []


@pytest.mark.parametrize("pid", [0, -1, -4711])
def test_a_process_group_is_never_aimed_at(folder: Path, pid: int) -> None:
    with Node(folder / "kes") as node, actuator(folder, node) as child, pytest.raises(Refused, match="ValueError"):
        child.do(f"death.aim({pid})")


def test_a_new_process_with_the_dead_nodes_number_could_not_be_hit_because_the_aim_is_a_process(folder: Path) -> None:
    with Node(folder / "kes") as node, actuator(folder, node) as child:
        node.kill()
        assert child.do("death.aimed_at") == node.pid
        child.kill()  # signals a process that has ended: nothing to see, and nothing else may come of it


def test_two_pods_on_one_machine_do_not_disturb_each_other(folder: Path) -> None:
    left, right = folder / "left", folder / "right"
    for path in (left, right):
        path.mkdir()
    with (
        Node(left / "kes") as left_node,
        Node(right / "kes") as right_node,
        actuator(left, left_node) as left_child,
        actuator(right, right_node),
    ):
        left_child.kill()
        assert set(left_node.looks()) == {"ENOENT"}
        assert right_node.looks() == []
        hup(right_node)
        assert right_node.looks() == ["key"]


def test_a_program_that_the_actuator_started_does_not_keep_the_fence_open(folder: Path) -> None:
    with Node(folder / "kes") as node, actuator(folder, node) as child:
        child.do("r, w = os.pipe()")
        child.do("program = subprocess.Popen(['sleep', '3600'], stdin=r, close_fds=False)")
        pid = child.do("program.pid")
        try:
            assert not [name for name in _open_files(pid) if name in _pipes_of_the_death_signal(child)]
            child.kill()
            assert set(node.looks()) == {"ENOENT"}
        finally:
            os.kill(pid, signal.SIGKILL)


def _open_files(pid: int) -> set[str]:
    found = set()
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed while we looked: the program is still loading
            found.add(str(path.readlink()))
    return found


def _pipes_of_the_death_signal(child: Child) -> set[str]:
    names = child.do("[os.readlink(f'/proc/self/fd/{fd}') for pair in death._pairs for fd in pair]")
    assert len(names) == 4
    return set(names)


def test_in_one_pipe_the_writing_end_is_the_higher_number_in_the_other_the_lower() -> None:
    with Child() as child:
        child.do("hole = os.dup(0)")
        child.do("above = os.dup(0)")
        child.do("os.close(hole)")  # numbers with a hole below: the order must not depend on them
        child.do("death = deathpipe.DeathSignal()")
        assert child.do("[writer > reader for reader, writer in death._pairs]") == [True, False]


@pytest.mark.root
@needs_root
@pytest.mark.parametrize(
    ("actuators", "nodes", "found"),
    [
        pytest.param((NOBODY, NOBODY), (NOBODY, NOBODY), "key", id="same user and group: reads"),
        pytest.param((NOBODY, NOBODY), (NOBODY, NOBODY - 1), "EACCES", id="another group: must not read"),
        pytest.param((NOBODY, NOBODY), (NOBODY - 1, NOBODY), "EACCES", id="another user: must not read"),
    ],
)
def test_only_a_node_of_the_same_user_and_group_reads_the_keys(
    folder: Path, actuators: User, nodes: User, found: str
) -> None:
    with Node(folder / "kes", nodes) as node, actuator(folder, node, actuators):
        hup(node)
        assert node.looks() == [found]


@pytest.mark.root
@needs_root
def test_a_node_of_another_group_gets_the_signal_but_still_no_keys(folder: Path) -> None:
    user, other = (NOBODY, NOBODY), (NOBODY, NOBODY - 1)
    with Node(folder / "kes", other) as node, actuator(folder, node, user) as child:
        child.kill()
        assert (found := node.looks())
        assert set(found) <= {"EACCES", "ENOENT"}


@pytest.mark.root
@needs_root
def test_a_node_that_runs_as_root_gets_no_signal_from_an_ordinary_actuator(folder: Path) -> None:
    with Node(folder / "kes") as node, actuator(folder, node, (NOBODY, NOBODY)) as child:
        child.kill()
        assert node.looks() == []  # why the users are compared before the pod contends


@pytest.mark.root
@needs_root
def test_an_actuator_that_is_not_dumpable_shows_its_keys_to_nobody(folder: Path) -> None:
    user = (NOBODY, NOBODY)
    with Node(folder / "kes", user) as node, actuator(folder, node, user, dumpable=False) as child:
        hup(node)
        assert node.looks() == ["EACCES"]
        child.do("process.set_dumpable(True)")
        hup(node)
        assert node.looks() == ["key"]
