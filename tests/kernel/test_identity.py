"""What a process may do by its identity, and how it gives that up."""

from __future__ import annotations

import errno
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from kernel_actors import NOBODY, Child, Refused

from kernel import identity
from kernel.identity import CAP_KILL, CAP_SETGID, CAP_SETUID

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root")
BOTH = f"({CAP_SETUID}, {CAP_SETGID})"
SETTERS = 1 << CAP_SETUID | 1 << CAP_SETGID


@pytest.fixture
def child() -> Iterator[Child]:
    with Child() as made:
        made.do("from kernel import identity")
        yield made


@pytest.fixture
def everybodys() -> Iterator[Path]:
    """A folder that every user may write to."""
    with tempfile.TemporaryDirectory(prefix="identity-", dir="/tmp") as name:
        Path(name).chmod(0o777)
        yield Path(name)


def status(pid: int) -> dict[str, int]:
    """Capability sets and NoNewPrivs."""
    text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return {name: int(value, 16) for name, value in re.findall(r"^(Cap\w+|NoNewPrivs):\s+(\w+)$", text, re.MULTILINE)}


def ids(pid: int) -> dict[str, list[int]]:
    text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return {name: [int(n) for n in rest.split()] for name, rest in re.findall(r"^(Uid|Gid|Groups):(.*)$", text, re.M)}


# --- capabilities ---


def test_effective_is_what_the_kernel_shows() -> None:
    assert identity.effective() == status(os.getpid())["CapEff"]


def test_no_new_privs_is_for_good(child: Child) -> None:
    assert status(child.pid)["NoNewPrivs"] == 0
    child.do("identity.no_new_privs()")
    assert status(child.pid)["NoNewPrivs"] == 1
    with pytest.raises(Refused):
        child.do("process.prctl(38, 0)")


def test_giving_up_everything_leaves_nothing(child: Child) -> None:
    child.do("identity.keep_only()")
    found = status(child.pid)
    assert [found[name] for name in ("CapEff", "CapPrm", "CapInh", "CapAmb")] == [0, 0, 0, 0]
    assert child.do("identity.effective()") == 0
    child.do("identity.keep_only()")  # once more: nothing is left to give up, and nothing fails


@needs_root
def test_what_is_kept_is_kept_and_nothing_else(child: Child) -> None:
    child.do(f"identity.keep_only({BOTH})")
    found = status(child.pid)
    assert (found["CapEff"], found["CapPrm"], found["CapBnd"]) == (SETTERS, SETTERS, SETTERS)
    assert child.do(f"[identity.has(c) for c in ({CAP_SETUID}, {CAP_SETGID}, {CAP_KILL})]") == [True, True, False]


@needs_root
def test_what_was_given_up_does_not_come_back_by_exec(child: Child) -> None:
    child.do("identity.keep_only()")
    shown = "subprocess.run(['grep', 'CapEff', '/proc/self/status'], capture_output=True, text=True).stdout.split()[1]"
    assert int(child.do(shown), 16) == 0


@needs_root
def test_the_bounding_set_alone_can_be_narrowed(child: Child) -> None:
    before = status(child.pid)["CapEff"]
    child.do(f"identity.drop_bounding(frozenset({BOTH}))")
    found = status(child.pid)
    assert found["CapBnd"] == SETTERS
    assert found["CapEff"] == before


@needs_root
def test_without_the_right_to_it_the_bounding_set_is_left_alone() -> None:
    with Child(user=(NOBODY, NOBODY)) as child:
        child.do("from kernel import identity")
        before = status(child.pid)["CapBnd"]
        child.do("identity.drop_bounding(frozenset())")
        child.do("identity.keep_only()")
        assert status(child.pid)["CapBnd"] == before


@needs_root
def test_what_nobody_has_given_cannot_be_kept() -> None:
    with Child(user=(NOBODY, NOBODY)) as child:
        child.do("from kernel import identity")
        child.do(f"identity.keep_only({BOTH})")
        assert status(child.pid)["CapEff"] == 0


def test_threads_are_counted(child: Child) -> None:
    assert child.do("identity.threads()") == 1
    child.do("import threading")
    child.do("threading.Thread(target=threading.Event().wait, daemon=True).start()")
    assert child.do("identity.threads()") == 2


# --- another user ---


@needs_root
def test_becoming_a_user_is_for_good_and_leaves_no_group(child: Child) -> None:
    child.do("os.setgroups([4, 24])")
    child.do(f"identity.become({NOBODY}, {NOBODY})")
    assert ids(child.pid) == {"Uid": [NOBODY] * 4, "Gid": [NOBODY] * 4, "Groups": []}
    assert child.do("identity.effective()") == 0
    with pytest.raises(Refused):
        child.do("os.setuid(0)")


@needs_root
def test_acting_as_a_user_ends_and_gives_everything_back(child: Child, everybodys: Path) -> None:
    child.do("os.setgroups([4, 24])")
    child.do(f"identity.keep_only({BOTH})")
    before = ids(child.pid), status(child.pid)
    child.do(
        f"with identity.acting_as({NOBODY}, {NOBODY}):\n"
        f"    os.mkdir({str(everybodys / 'folder')!r})\n"
        f"    seen = os.geteuid(), os.getegid(), os.getgroups(), identity.effective()"
    )
    assert child.do("seen") == (NOBODY, NOBODY, [], 0)
    made = (everybodys / "folder").stat()
    assert (made.st_uid, made.st_gid) == (NOBODY, NOBODY)
    assert (ids(child.pid), status(child.pid)) == before


@needs_root
def test_acting_as_a_user_ends_with_an_exception_too(child: Child) -> None:
    before = ids(child.pid)
    with pytest.raises(Refused):
        child.do(f"with identity.acting_as({NOBODY}, {NOBODY}): raise ValueError")
    assert ids(child.pid) == before


@needs_root
def test_without_cap_kill_another_users_process_is_signalled_as_that_user(child: Child) -> None:
    with Child(user=(NOBODY, NOBODY)) as other:
        child.do(f"identity.keep_only({BOTH})")
        with pytest.raises(Refused) as caught:
            child.do(f"os.kill({other.pid}, 0)")
        assert caught.value.args[1] == errno.EPERM
        child.do(f"with identity.acting_as({NOBODY}, {NOBODY}): os.kill({other.pid}, 0)")


@needs_root
def test_one_who_may_not_act_as_another_is_told_and_stays_who_he_is() -> None:
    with Child(user=(NOBODY, NOBODY)) as child:
        child.do("from kernel import identity")
        with pytest.raises(Refused) as caught:
            child.do("with identity.acting_as(1, 1): pass")
        assert caught.value.args[1] == errno.EPERM
        assert ids(child.pid)["Uid"] == [NOBODY] * 4
        child.do(f"with identity.acting_as({NOBODY}, {NOBODY}): pass")  # himself he may be
