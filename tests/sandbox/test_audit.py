"""What errnos and the kernel's descriptions mean against a declaration."""

from __future__ import annotations

import dataclasses
import errno
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mutants import PRIVILEGES

from ipc.messages import AuditRow, ProcessView, Worker
from sandbox import audit
from sandbox.audit import Expect, NotAView, Outcome, Standard, Verdict, Way

STATUS = """Name:\tforge-elector
Umask:\t0077
Uid:\t10003\t10003\t10003\t10003
Gid:\t10003\t10003\t10003\t10003
Groups:\t2000 3000
Threads:\t1
CapInh:\t0000000000000000
CapPrm:\t0000000000000000
CapEff:\t0000000000000000
CapBnd:\t00000000000000c0
CapAmb:\t0000000000000000
NoNewPrivs:\t1
Seccomp:\t2
Seccomp_filters:\t1
"""
LIMITS = """Limit                     Soft Limit           Hard Limit           Units
Max core file size        1                    unlimited            bytes
Max locked memory         8388608              8388608              bytes
"""
MOUNTS = "36 35 98:0 / /run/forge\\040manager rw,noatime - tmpfs tmpfs rw\n37 35 0:5 / /proc rw - proc proc rw\n"
ERRNOS = st.integers(1, 200)

# --- errnos ---


@given(ERRNOS)
def test_a_call_is_refused_by_enosys_and_by_nothing_else(code: int) -> None:
    assert audit.outcome(Way.CALL, code) is (Outcome.REFUSED if code == errno.ENOSYS else Outcome.DONE)


@given(ERRNOS)
def test_an_error_that_says_nothing_is_never_taken_for_a_refusal(code: int) -> None:
    says_no = {errno.EACCES, errno.EPERM, errno.ENOSYS, errno.EROFS}
    for way in (Way.FILE, Way.CONNECT):
        assert audit.outcome(way, code) is not Outcome.REFUSED or code in says_no


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR, errno.EIO])
def test_running_out_of_something_is_unclear_whatever_was_expected(code: int) -> None:
    for way in (Way.FILE, Way.CONNECT):
        for expect in Expect:
            assert audit.row("x", way, expect, code).verdict == Verdict.UNCLEAR


@pytest.mark.parametrize(
    ("expect", "got", "verdict"),
    [
        (Expect.REFUSED, Outcome.DONE, Verdict.EXCEEDS),
        (Expect.REFUSED, Outcome.REFUSED, Verdict.OK),
        (Expect.REFUSED, Outcome.ABSENT, Verdict.OK),
        (Expect.DONE, Outcome.REFUSED, Verdict.LACKS),
        (Expect.DONE, Outcome.DONE, Verdict.OK),
        (Expect.DONE, Outcome.ABSENT, Verdict.OK),
        (Expect.EITHER, Outcome.DONE, Verdict.OK),
        (Expect.EITHER, Outcome.REFUSED, Verdict.OK),
    ],
)
def test_done_beyond_the_declaration_exceeds_and_refused_within_it_lacks(
    expect: Expect, got: Outcome, verdict: Verdict
) -> None:
    assert audit.judge(expect, got) is verdict


def test_what_this_kernel_cannot_refuse_is_excused_but_an_unclear_answer_is_not() -> None:
    assert audit.judge(Expect.REFUSED, Outcome.DONE, enforceable=False) is Verdict.EXCUSED
    assert audit.judge(Expect.REFUSED, Outcome.UNCLEAR, enforceable=False) is Verdict.UNCLEAR
    assert audit.judge(Expect.DONE, Outcome.REFUSED, enforceable=False) is Verdict.LACKS


def test_a_row_names_the_errno() -> None:
    row = audit.row("read the key", Way.FILE, Expect.REFUSED, errno.EACCES)
    assert row == AuditRow("read the key", "refused", "refused (EACCES)", "ok")
    assert audit.row("read the key", Way.FILE, Expect.REFUSED, 0).got == "done"


def test_excused_rows_are_no_deviations_and_only_excess_is_a_violation() -> None:
    rows = [AuditRow(str(verdict), "", "got", str(verdict)) for verdict in Verdict]
    assert {row.check for row in audit.deviations(rows)} == {"exceeds", "lacks", "unclear"}
    assert audit.violations(rows) == ("exceeds: got",)
    assert audit.counts(rows) == dict.fromkeys(map(str, Verdict), 1)


# --- the kernel's view ---


def view(files: list[str] | None = None, **changes: Any) -> ProcessView:
    made = audit.view(7, status=STATUS, limits=LIMITS, mountinfo=MOUNTS, files=files or [], dumpable=0)
    return dataclasses.replace(made, **changes)


def standard(worker: Worker = Worker.ELECTOR, separation: str = "containers", uid: int = 10003) -> Standard:
    return Standard(PRIVILEGES[worker], separation, uid, threads=False, reach=(Path("/run/fm/elector"), Path("/usr")))


def bad(seen: ProcessView, wanted: Standard | None = None) -> dict[str, str]:
    return {row.check: row.verdict for row in audit.deviations(audit.examine(seen, wanted or standard()))}


def test_a_view_is_what_the_texts_of_proc_say() -> None:
    seen = view(["3 /usr/x"])
    assert (seen.uids, seen.groups, seen.cap_bounding) == ((10003,) * 4, (2000, 3000), 0xC0)
    assert (seen.no_new_privs, seen.seccomp, seen.seccomp_filters, seen.threads) == (1, 2, 1, 1)
    assert (seen.core_limit, seen.memlock_limit) == (1, 8388608)
    assert seen.mounts == ("/run/forge manager", "/proc")
    assert seen.files == ("3 /usr/x",)


def test_no_limit_is_told_from_a_limit() -> None:
    limits = LIMITS.replace("size        1  ", "size        unlimited")
    assert audit.view(7, status=STATUS, limits=limits, mountinfo="", files=None, dumpable=0).core_limit == -1


@pytest.mark.parametrize(
    "line", [line.partition(":")[0] for line in STATUS.splitlines() if "Cap" in line or "id" in line]
)
def test_a_missing_field_is_no_view_rather_than_a_zero(line: str) -> None:
    status = "".join(each for each in STATUS.splitlines(keepends=True) if not each.startswith(line))
    if line == "CapAmb":  # kernels before 4.3 have no such set
        return
    with pytest.raises(NotAView):
        audit.view(7, status=status, limits=LIMITS, mountinfo=MOUNTS, files=None, dumpable=0)


@given(st.text(), st.text(), st.text())
def test_whatever_proc_says_gives_a_view_or_no_view(status: str, limits: str, mountinfo: str) -> None:
    for text in (status, STATUS):
        try:
            seen = audit.view(7, status=text, limits=limits, mountinfo=mountinfo, files=None, dumpable=-1)
        except NotAView:
            continue
        assert isinstance(seen, ProcessView)


def test_our_own_proc_files_are_a_view() -> None:
    texts = {name: Path(f"/proc/self/{name}").read_text() for name in ("status", "limits", "mountinfo")}
    seen = audit.view(os.getpid(), **texts, files=None, dumpable=-1)
    assert seen.uids[0] == os.getuid()
    assert "/proc" in seen.mounts


def test_more_mounts_than_a_frame_holds_are_counted() -> None:
    many = "".join(f"1 1 0:1 / /m{n} rw - tmpfs t rw\n" for n in range(500))
    seen = audit.view(7, status=STATUS, limits=LIMITS, mountinfo=many, files=None, dumpable=-1)
    assert len(seen.mounts) == audit.MOST_ITEMS + 1
    assert seen.mounts[-1] == "and 300 more"


# --- judging it ---


def test_a_process_as_declared_deviates_in_nothing() -> None:
    assert bad(view()) == {}


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ({"uids": (10003, 10003, 0, 10003)}, "uids"),
        ({"gids": (0, 10003, 10003, 10003)}, "gids"),
        ({"cap_inheritable": 1}, "inheritable capabilities"),
        ({"cap_permitted": 1}, "permitted capabilities"),
        ({"cap_effective": 1 << 21}, "effective capabilities"),
        ({"cap_ambient": 1}, "ambient capabilities"),
        ({"no_new_privs": 0}, "no_new_privs"),
        ({"seccomp": 0}, "seccomp mode"),
        ({"seccomp_filters": 0}, "seccomp filters"),
        ({"threads": 2}, "threads"),
        ({"dumpable": 1}, "dumpable"),
        ({"core_limit": -1}, "core dump limit"),
        ({"core_limit": 4096}, "core dump limit"),
    ],
)
def test_each_thing_beyond_the_declaration_is_named(change: dict[str, Any], check: str) -> None:
    assert bad(view(**change)) == {check: "exceeds"}


def test_an_actuator_that_is_not_dumpable_lacks_what_the_node_needs() -> None:
    assert bad(view(), standard(Worker.ACTUATOR)) == {"dumpable": "lacks"}
    assert bad(view(dumpable=1), standard(Worker.ACTUATOR)) == {}


def test_what_cannot_be_told_from_outside_is_not_judged() -> None:
    checks = {row.check for row in audit.examine(view(dumpable=-1, files=None), standard())}
    assert "dumpable" not in checks


def test_a_wide_bounding_set_is_moot_for_who_was_never_root_and_can_gain_nothing() -> None:
    assert bad(view(cap_bounding=0xA80425FB)) == {}
    assert bad(view(cap_bounding=0xA80425FB), standard(separation="uids")) == {
        "bounding set": "exceeds",
        "supplementary groups": "exceeds",
    }
    as_root = view(cap_bounding=0xA80425FB, uids=(0,) * 4, gids=(0,) * 4)
    assert bad(as_root, standard(separation="single-uid", uid=0)) == {"bounding set": "exceeds"}


def test_threads_are_for_those_who_look_up_names() -> None:
    assert bad(view(threads=3), dataclasses.replace(standard(), threads=True)) == {}


@pytest.mark.parametrize(
    ("file", "worker", "right"),
    [
        ("3 /run/fm/elector/lock", Worker.ELECTOR, True),
        ("3 /run/fm/elector/lock (deleted)", Worker.ELECTOR, True),
        ("3 /run/fm/elector2/lock", Worker.ELECTOR, False),
        ("3 /secrets/kes.skey", Worker.ELECTOR, False),
        ("2 /var/log/sidecar.log", Worker.ELECTOR, True),
        ("3 /memfd:ca (deleted)", Worker.ELECTOR, True),
        ("3 /memfd:ca (deleted)", Worker.PROBER, False),
        ("4 pipe:[17]", Worker.ELECTOR, True),
        ("4 anon_inode:[eventpoll]", Worker.PROBER, True),
        ("4 socket:[17]", Worker.ACTUATOR, True),
        ("4 socket unix stream listening /run/fm/elector/state.sock", Worker.ELECTOR, True),
        ("4 socket inet stream 10.0.0.7:4711 10.0.0.1:443", Worker.ELECTOR, True),
        ("4 socket inet stream 10.0.0.7:4711 10.0.0.1:443", Worker.ACTUATOR, False),
        ("4 socket inet stream listening 0.0.0.0:8000", Worker.GATEWAY, True),
        ("4 socket inet stream listening 0.0.0.0:8000", Worker.ELECTOR, False),
        ("4 socket inet6 stream :::8000", Worker.GATEWAY, True),
        ("4 socket inet datagram 0.0.0.0:0", Worker.GATEWAY, False),
        ("4 socket netlink other", Worker.ELECTOR, False),
        ("4 socket packet other", Worker.PROBER, False),
    ],
)
def test_open_files_and_sockets_are_held_against_the_declaration(file: str, worker: Worker, right: bool) -> None:
    seen = view([file], dumpable=int(PRIVILEGES[worker].dumpable))
    assert bad(seen, standard(worker)) == ({} if right else {f"open file {file.split()[0]}": "exceeds"})
