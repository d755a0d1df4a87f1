"""What an attempt's answer, and the kernel's own description of a process, mean against a declaration.  Pure.

Promises: an error that says neither "done" nor "refused" is never taken for a refusal; whatever goes beyond the
declaration is told, and so is what is declared and refused.
"""

from __future__ import annotations

import enum
import errno
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ipc.messages import AuditRow, DebugAudit, ProcessView
from kernel.identity import CAP_SETGID, CAP_SETUID
from sandbox.privileges import Privileges
from sandbox.syscalls import Calls

THIS_KERNEL: Final = "this kernel"
"""The check whose rows say in words what the kernel cannot refuse."""
STANDARD_STREAMS: Final = 3
"""Descriptors 0, 1 and 2 are whoever's started the container."""
_SETTERS: Final = 1 << CAP_SETGID | 1 << CAP_SETUID
_SECCOMP_FILTER: Final = 2


class Expect(enum.StrEnum):
    """What the declaration says of an attempt."""

    DONE = "done"
    EITHER = "either"
    REFUSED = "refused"


class Way(enum.Enum):
    """How an attempt's errno is to be read."""

    FILE = "opening or renaming a file"
    CALL = "a system call with nothing to do: only the filter answers ENOSYS"
    CONNECT = "connecting"


class Outcome(enum.StrEnum):
    DONE = "done"
    REFUSED = "refused"
    ABSENT = "absent"
    """There is no such thing to try it on."""
    UNSUPPORTED = "unsupported"
    """This file system has no harmless way to try it."""
    UNCLEAR = "unclear"


class Verdict(enum.StrEnum):
    OK = "ok"
    EXCEEDS = "exceeds"
    LACKS = "lacks"
    EXCUSED = "excused"
    UNCLEAR = "unclear"


_FILE: Final = {
    errno.EACCES: Outcome.REFUSED,  # Landlock, or owners and modes
    errno.EPERM: Outcome.REFUSED,
    errno.ENOSYS: Outcome.REFUSED,  # seccomp
    errno.EROFS: Outcome.REFUSED,
    errno.ENOENT: Outcome.ABSENT,
    errno.ENOTDIR: Outcome.ABSENT,
    errno.ESRCH: Outcome.ABSENT,  # a process that ended
    errno.EOPNOTSUPP: Outcome.UNSUPPORTED,
    errno.EISDIR: Outcome.UNSUPPORTED,  # O_TMPFILE where the file system does not know it (open(2))
    errno.ETXTBSY: Outcome.DONE,  # past every right
}
_CONNECT: Final = {
    errno.EACCES: Outcome.REFUSED,
    errno.EPERM: Outcome.REFUSED,
    errno.ENOSYS: Outcome.REFUSED,
    errno.ENOENT: Outcome.ABSENT,
    errno.ENOTDIR: Outcome.ABSENT,
    errno.ECONNREFUSED: Outcome.DONE,
    errno.EINPROGRESS: Outcome.DONE,
    errno.EAGAIN: Outcome.DONE,  # a full queue: nobody minds
    errno.ENETUNREACH: Outcome.DONE,
    errno.EHOSTUNREACH: Outcome.DONE,
    errno.EADDRNOTAVAIL: Outcome.DONE,
    errno.ETIMEDOUT: Outcome.DONE,
}


def outcome(way: Way, code: int) -> Outcome:
    """What the errno of an attempt means; 0: it succeeded."""
    if code == 0:
        return Outcome.DONE
    match way:
        case Way.CALL:
            return Outcome.REFUSED if code == errno.ENOSYS else Outcome.DONE
        case Way.FILE:
            return _FILE.get(code, Outcome.UNCLEAR)
        case Way.CONNECT:
            return _CONNECT.get(code, Outcome.UNCLEAR)


def judge(expect: Expect, got: Outcome, *, enforceable: bool = True) -> Verdict:
    """enforceable: whether this kernel can refuse it at all (`Sandbox.missing` says where it cannot)."""
    if got is Outcome.UNCLEAR:
        return Verdict.UNCLEAR
    if expect is Expect.REFUSED and got is Outcome.DONE:
        return Verdict.EXCEEDS if enforceable else Verdict.EXCUSED
    if expect is Expect.DONE and got is Outcome.REFUSED:
        return Verdict.LACKS
    return Verdict.OK


def row(check: str, way: Way, expect: Expect, code: int, *, enforceable: bool = True) -> AuditRow:
    """An attempt with its answer."""
    got = outcome(way, code)
    name = errno.errorcode.get(code, str(code))
    said = str(got) if code == 0 else f"{got} ({name})"
    return AuditRow(check, str(expect), said, str(judge(expect, got, enforceable=enforceable)))


# --- the kernel's own view ---


class NotAView(ValueError):  # noqa: N818  # the text of /proc is not what proc(5) says
    """A field is missing."""


def view(
    pid: int,
    *,
    status: str,
    limits: str,
    mountinfo: str,
    files: Iterable[str] | None,
    dumpable: int,
) -> ProcessView:
    """From the texts of /proc/<pid>/status, limits and mountinfo.  Raises NotAView."""
    fields = _fields(status)
    try:
        return ProcessView(
            pid=pid,
            uids=_numbers(fields["Uid"]),
            gids=_numbers(fields["Gid"]),
            groups=_numbers(fields["Groups"]),
            cap_inheritable=int(fields["CapInh"], 16),
            cap_permitted=int(fields["CapPrm"], 16),
            cap_effective=int(fields["CapEff"], 16),
            cap_bounding=int(fields["CapBnd"], 16),
            cap_ambient=int(fields.get("CapAmb", "0"), 16),
            no_new_privs=int(fields["NoNewPrivs"]),
            seccomp=int(fields["Seccomp"]),
            seccomp_filters=int(fields.get("Seccomp_filters", "-1")),
            threads=int(fields["Threads"]),
            dumpable=dumpable,
            core_limit=_limit(limits, "Max core file size"),
            memlock_limit=_limit(limits, "Max locked memory"),
            files=_most(files) if files is not None else None,
            mounts=_most(_unescaped(line.split()[4]) for line in mountinfo.splitlines() if len(line.split()) > 4),
        )
    except (KeyError, ValueError, IndexError) as error:
        raise NotAView(f"/proc/{pid}: {type(error).__name__} {error}") from None


def _fields(status: str) -> dict[str, str]:
    return {name: value.strip() for name, _, value in (line.partition(":") for line in status.splitlines())}


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(word) for word in text.split())[:MOST_ITEMS]


MOST_ITEMS: Final = 200


def _most(items: Iterable[str]) -> tuple[str, ...]:
    every = tuple(items)
    cut = len(every) - MOST_ITEMS
    return (*every[:MOST_ITEMS], f"and {cut} more") if cut > 0 else every


def _unescaped(text: str) -> str:
    """proc_pid_mountinfo(5): space, tab, newline and backslash as octal."""
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, char)
    return text


def _limit(limits: str, name: str) -> int:
    """The soft one, in the unit of the line; -1: none."""
    for line in limits.splitlines():
        if line.startswith(name):
            soft = line[len(name) :].split()[0]
            return -1 if soft == "unlimited" else int(soft)
    raise KeyError(name)


@dataclass(frozen=True, slots=True)
class Standard:
    """What a worker's process must look like."""

    privileges: Privileges
    separation: str
    uid: int
    threads: bool
    """Whether it may have more than one (it looks up names)."""
    reach: tuple[Path, ...]
    """Files and folders of which it may hold some open."""


def examine(seen: ProcessView, standard: Standard) -> tuple[AuditRow, ...]:
    """The kernel's view against the declaration."""
    privileges = standard.privileges
    rows = [
        *_identity(seen, standard),
        _flag("no_new_privs", "1", seen.no_new_privs, seen.no_new_privs == 1),
        _flag("seccomp mode", "2 (filter)", seen.seccomp, seen.seccomp == _SECCOMP_FILTER),
        _flag("seccomp filters", "at least 1", seen.seccomp_filters, seen.seccomp_filters != 0),
        _flag("core dump limit", "at most 1 byte", seen.core_limit, 0 <= seen.core_limit <= 1),
    ]
    if not standard.threads:
        rows.append(_flag("threads", "1", seen.threads, seen.threads == 1))
    if seen.dumpable >= 0 and not privileges.dumpable:
        rows.append(_flag("dumpable", "0", seen.dumpable, seen.dumpable == 0))
    elif seen.dumpable >= 0:
        rows.append(AuditRow("dumpable", "1", str(seen.dumpable), str(_lacking(seen.dumpable == 1))))
    rows += [_open_file(text, standard) for text in seen.files or ()]
    return tuple(rows)


def _identity(seen: ProcessView, standard: Standard) -> list[AuditRow]:
    wanted = standard.uid
    rows = [_flag("uids", f"{wanted} four times", _words(seen.uids), set(seen.uids) == {wanted})]
    if standard.separation == "single-uid":
        rows.append(_flag("gids", "one and the same", _words(seen.gids), len(set(seen.gids)) == 1))
    else:
        rows.append(_flag("gids", f"{wanted} four times", _words(seen.gids), set(seen.gids) == {wanted}))
    if standard.separation == "uids":
        rows.append(_flag("supplementary groups", "none", _words(seen.groups) or "none", not seen.groups))
    for name, value in (
        ("inheritable", seen.cap_inheritable),
        ("permitted", seen.cap_permitted),
        ("effective", seen.cap_effective),
        ("ambient", seen.cap_ambient),
    ):
        rows.append(_flag(f"{name} capabilities", "none", f"{value:#x}", value == 0))
    beyond = seen.cap_bounding & ~_SETTERS
    moot = standard.separation != "uids" and wanted != 0 and seen.no_new_privs == 1
    expected = "any: no exec can gain them" if moot else "at most SETUID and SETGID"
    rows.append(_flag("bounding set", expected, f"{seen.cap_bounding:#x}", moot or beyond == 0))
    return rows


def _flag(check: str, expected: str, got: object, right: bool) -> AuditRow:
    return AuditRow(check, expected, str(got), str(Verdict.OK if right else Verdict.EXCEEDS))


def _lacking(right: bool) -> Verdict:
    return Verdict.OK if right else Verdict.LACKS


def _words(numbers: tuple[int, ...]) -> str:
    return " ".join(map(str, numbers))


def _open_file(text: str, standard: Standard) -> AuditRow:
    number, _, target = text.partition(" ")
    privileges = standard.privileges
    expected, right = "of its declaration", True
    if target.startswith("/memfd:"):
        right = Calls.MEMORY_FILES in privileges.calls
    elif target.startswith("/") and number.isdecimal() and int(number) >= STANDARD_STREAMS:
        path = Path(target.removesuffix(" (deleted)"))
        right = any(path == allowed or allowed in path.parents for allowed in standard.reach)
    elif target.startswith(("socket inet stream listening", "socket inet6 stream listening")):
        expected, right = "none that listens" if not privileges.listens else expected, bool(privileges.listens)
    elif target.startswith(("socket inet", "socket inet6")):
        right = privileges.internet or (bool(privileges.listens) and " stream " in target)
    elif target.startswith("socket") and not target.startswith(("socket unix", "socket:")):
        expected, right = "no such family", False
    return _flag(f"open file {number}", expected, target, right)


# --- all of it ---


def rows_of(found: DebugAudit) -> tuple[AuditRow, ...]:
    """Every row of an audit."""
    return (*found.files, *found.processes, *found.calls, *found.network, *found.itself)


def deviations(rows: Iterable[AuditRow]) -> tuple[AuditRow, ...]:
    """What an operator must see: everything but `ok` and `excused`."""
    return tuple(each for each in rows if each.verdict not in (Verdict.OK, Verdict.EXCUSED))


def violations(rows: Iterable[AuditRow]) -> tuple[str, ...]:
    """What exceeds the declaration, in words."""
    return tuple(f"{each.check}: {each.got}" for each in rows if each.verdict == Verdict.EXCEEDS)


def counts(rows: Iterable[AuditRow]) -> Mapping[str, int]:
    """How often each verdict."""
    found = {str(verdict): 0 for verdict in Verdict}
    for each in rows:
        found[each.verdict] = found.get(each.verdict, 0) + 1
    return found
