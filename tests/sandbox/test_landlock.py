"""What Landlock takes away, right by right and version by version; each try in a process of its own."""

from __future__ import annotations

import errno
import os
import re
import shutil
import socket
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from locked_up import alone

from kernel.process import prctl
from sandbox import landlock
from sandbox.landlock import Access, Ruleset, Scope

KERNELS = landlock.abi()
NOTHING = Scope(0)
BOTH = Scope.SIGNALS | Scope.ABSTRACT_SOCKETS

pytestmark = pytest.mark.skipif(KERNELS == 0, reason="no Landlock here")


def from_abi(version: int) -> pytest.MarkDecorator:
    return pytest.mark.skipif(version > KERNELS, reason=f"needs Landlock ABI {version}, the kernel has {KERNELS}")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """in/ is what rules name; out/ is what none does."""
    for name in ("in", "out"):
        folder = tmp_path / name
        (folder / "folder").mkdir(parents=True)
        (folder / "file").write_text("content")
        (folder / "link").symlink_to("file")
        shutil.copy("/bin/true", folder / "program")
    return tmp_path


def restrict(
    version: int, rules: list[tuple[str, int]], ports: list[int], scopes: int, datagrams: list[int] | None = None
) -> None:
    prctl(38, 1)  # PR_SET_NO_NEW_PRIVS
    ruleset = Ruleset(version, scopes=Scope(scopes))
    for path, rights in rules:
        assert ruleset.allow(Path(path), Access(rights))
    ruleset.allow_connect(ports)
    ruleset.allow_datagrams(datagrams or [])
    ruleset.restrict()
    ruleset.close()


def answer(action: Callable[[], object]) -> int:
    try:
        action()
    except OSError as error:
        return error.errno or -1
    return 0


def opened(path: Path, flags: int) -> Callable[[], object]:
    return lambda: os.close(os.open(path, flags | os.O_CLOEXEC, 0o600))


def executed(path: Path) -> Callable[[], object]:
    return lambda: os.waitpid(os.posix_spawn(path, [path], {}), 0)


def bound(path: Path) -> Callable[[], object]:
    def make() -> None:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(path))

    return make


def actions(folder: Path) -> dict[str, Callable[[], object]]:
    return {
        "read": opened(folder / "file", os.O_RDONLY),
        "write": opened(folder / "file", os.O_WRONLY),
        "empty when opened": opened(folder / "file", os.O_WRONLY | os.O_TRUNC),
        "empty by name": lambda: os.truncate(folder / "file", 0),
        "list": opened(folder, os.O_RDONLY | os.O_DIRECTORY),
        "execute": executed(folder / "program"),
        "make a file": lambda: os.mknod(folder / "new"),
        "make a nameless file": opened(folder, os.O_WRONLY | os.O_TMPFILE),
        "make a folder": lambda: (folder / "new-folder").mkdir(),
        "make a link": lambda: (folder / "new-link").symlink_to("x"),
        "make a fifo": lambda: os.mkfifo(folder / "new-fifo"),
        "make a socket": bound(folder / "new-socket"),
        "make another name": lambda: os.link(folder / "file", folder / "other-name"),
        "rename": lambda: (folder / "file").rename(folder / "renamed"),
        "remove a file": lambda: (folder / "link").unlink(),
        "remove a folder": lambda: (folder / "folder").rmdir(),
        "look at": lambda: (folder / "file").stat(),
        "follow": lambda: (folder / "link").readlink(),
    }


def tried(version: int, rules: list[tuple[str, int]], folder: str, action: str) -> int:
    restrict(version, rules, [], 0)
    return answer(actions(Path(folder))[action])


NEEDED = {
    "read": Access.READ_FILE,
    "write": Access.WRITE_FILE,
    "empty when opened": Access.WRITE_FILE | Access.TRUNCATE,
    "empty by name": Access.TRUNCATE,
    "list": Access.READ_DIR,
    "execute": Access.EXECUTE,
    "make a file": Access.MAKE_REG,
    "make a nameless file": Access.WRITE_FILE,
    "make a folder": Access.MAKE_DIR,
    "make a link": Access.MAKE_SYM,
    "make a fifo": Access.MAKE_FIFO,
    "make a socket": Access.MAKE_SOCK,
    "make another name": Access.MAKE_REG,
    "rename": Access.MAKE_REG | Access.REMOVE_FILE,
    "remove a file": Access.REMOVE_FILE,
    "remove a folder": Access.REMOVE_DIR,
}
ALWAYS = ("look at", "follow")
"""What no version restricts."""


@pytest.mark.parametrize("action", NEEDED)
def test_with_its_rights_it_is_done(tree: Path, action: str) -> None:
    rights = NEEDED[action] | (Access.READ_FILE | Access.EXECUTE if action == "execute" else Access(0))
    rules = [(str(tree / "in"), int(rights))]
    if action == "execute":  # the program's libraries
        rules += [
            (path, int(Access.EXECUTE | Access.READ_FILE)) for path in ("/lib", "/lib64", "/usr") if Path(path).exists()
        ]
    assert alone(tried, KERNELS, rules, str(tree / "in"), action) == 0


@pytest.mark.parametrize("action", NEEDED)
def test_with_all_rights_but_its_own_it_is_refused(tree: Path, action: str) -> None:
    for right in Access:
        if right in NEEDED[action] and right in landlock.handled(KERNELS):
            others = landlock.handled(KERNELS) & ~right
            assert alone(tried, KERNELS, [(str(tree / "in"), int(others))], str(tree / "in"), action) == errno.EACCES


@pytest.mark.parametrize("action", NEEDED)
def test_where_no_rule_is_it_is_refused(tree: Path, action: str) -> None:
    rules = [(str(tree / "in"), int(landlock.handled(KERNELS)))]
    known = bool(NEEDED[action] & landlock.handled(KERNELS))  # truncating by name is not, below ABI 3
    assert alone(tried, KERNELS, rules, str(tree / "out"), action) == (errno.EACCES if known else 0)


@pytest.mark.parametrize("action", ALWAYS)
def test_looking_is_never_refused(tree: Path, action: str) -> None:
    assert alone(tried, KERNELS, [], str(tree / "out"), action) == 0


def moved(version: int, rules: list[tuple[str, int]], folder: str) -> int:
    restrict(version, rules, [], 0)
    return answer(lambda: Path(folder, "in/file").rename(Path(folder, "in/folder/file")))


@from_abi(2)
def test_moving_to_another_folder_needs_the_right_to_refer(tree: Path) -> None:
    everything = landlock.handled(KERNELS)
    assert alone(moved, KERNELS, [(str(tree), int(everything & ~Access.REFER))], str(tree)) == errno.EXDEV
    assert alone(moved, KERNELS, [(str(tree), int(everything))], str(tree)) == 0


def test_the_first_version_never_lets_a_file_move_to_another_folder(tree: Path) -> None:
    assert alone(moved, 1, [(str(tree), int(landlock.handled(1)))], str(tree)) == errno.EXDEV


def test_a_rule_on_a_file_is_for_that_file_alone(tree: Path) -> None:
    rules = [(str(tree / "in" / "file"), int(Access.READ_FILE | Access.READ_DIR | Access.MAKE_REG))]
    assert alone(tried, KERNELS, rules, str(tree / "in"), "read") == 0
    assert alone(tried, KERNELS, rules, str(tree / "in"), "list") == errno.EACCES
    assert alone(tried, KERNELS, rules, str(tree / "out"), "read") == errno.EACCES


def test_a_rule_on_a_link_is_for_what_it_points_to(tree: Path) -> None:
    (tree / "way").symlink_to("in")
    rules = [(str(tree / "way"), int(Access.READ_FILE))]
    assert alone(tried, KERNELS, rules, str(tree / "in"), "read") == 0
    assert alone(tried, KERNELS, rules, str(tree / "out"), "read") == errno.EACCES


def test_a_link_inside_does_not_lead_outside(tree: Path) -> None:
    (tree / "in" / "file").unlink()
    (tree / "in" / "file").symlink_to("../out/file")
    assert alone(tried, KERNELS, [(str(tree / "in"), int(Access.READ_FILE))], str(tree / "in"), "read") == errno.EACCES


def opened_before(folder: str) -> list[int]:
    fd = os.open(f"{folder}/out/file", os.O_RDONLY)
    restrict(KERNELS, [], [], 0)
    return [answer(lambda: os.read(fd, 1)), answer(opened(Path(f"{folder}/out/file"), os.O_RDONLY))]


def test_what_was_open_before_stays_open(tree: Path) -> None:
    assert alone(opened_before, str(tree)) == [0, errno.EACCES]


def what_is_not_there(folder: str) -> list[bool]:
    ruleset = Ruleset(KERNELS, scopes=NOTHING)
    found = [ruleset.allow(Path(folder, name), Access.READ_FILE) for name in ("absent", "in/file/below", "in/file")]
    ruleset.close()
    return found


def test_a_path_that_does_not_exist_is_told(tree: Path) -> None:
    assert alone(what_is_not_there, str(tree)) == [False, False, True]


def grandchild(folder: str) -> list[int]:
    restrict(KERNELS, [], [], 0)
    return [alone(lambda name=name: answer(actions(Path(folder))[name])) for name in ("read", "list", "write")]


def test_children_inherit_it(tree: Path) -> None:
    assert alone(grandchild, str(tree / "out")) == [errno.EACCES] * 3


def widened(folder: str) -> int:
    restrict(KERNELS, [], [], 0)
    restrict(KERNELS, [(folder, int(Access.READ_FILE))], [], 0)
    return answer(actions(Path(folder))["read"])


def test_a_second_sandbox_gives_nothing_back(tree: Path) -> None:
    assert alone(widened, str(tree / "in")) == errno.EACCES


# --- older kernels ---


VERSIONS = range(1, 11)


@pytest.mark.parametrize("version", VERSIONS)
def test_each_version_handles_the_rights_that_it_knows(version: int) -> None:
    since = {Access.REFER: 2, Access.TRUNCATE: 3, Access.IOCTL_DEV: 5, Access.RESOLVE_UNIX: 9}
    assert landlock.handled(version) == Access(sum(right for right in Access if since.get(right, 1) <= version))


def test_without_landlock_no_right_is_handled() -> None:
    assert landlock.handled(0) == Access(0)


def of_a_version(version: int, folder: str, port: int) -> dict[str, int]:
    out, at_path = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
    name, path = f"\0forge-test-{os.getpid()}", f"{folder}/listens"
    for sock, address in ((out, name), (at_path, path)):
        sock.bind(address)
        sock.listen(1)
    restrict(version, [], [], int(BOTH))
    folder_actions = actions(Path(folder))
    answers = {what: answer(folder_actions[what]) for what in ("read", "make a file", "empty by name")}
    with socket.socket(socket.AF_INET) as tcp:
        answers["TCP"] = answer(lambda: tcp.connect(("127.0.0.1", port)))
    with socket.socket(socket.AF_INET) as tcp:
        answers["bind"] = answer(lambda: tcp.bind(("127.0.0.1", 0)))
    with socket.socket(socket.AF_UNIX) as unix:
        answers["abstract"] = answer(lambda: unix.connect(name))
    with socket.socket(socket.AF_UNIX) as unix:
        answers["by path"] = answer(lambda: unix.connect(path))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        answers["UDP"] = answer(lambda: udp.connect(("127.0.0.1", port)))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        answers["bind UDP"] = answer(lambda: udp.bind(("127.0.0.1", 0)))
    answers["signal"] = answer(lambda: os.kill(os.getppid(), 0))
    return answers


@pytest.mark.parametrize("version", VERSIONS)
def test_a_lower_version_restricts_what_it_can_and_missing_says_the_rest(tree: Path, version: int) -> None:
    if version > KERNELS:
        pytest.skip(f"the kernel has {KERNELS}")
    with socket.create_server(("127.0.0.1", 0)) as server:
        found = alone(of_a_version, version, str(tree / "out"), server.getsockname()[1])
    assert found == {
        "read": errno.EACCES,
        "make a file": errno.EACCES,
        "empty by name": errno.EACCES if version >= 3 else 0,
        "TCP": errno.EACCES if version >= 4 else 0,
        "bind": errno.EACCES if version >= 4 else 0,
        "abstract": errno.EPERM if version >= 6 else 0,
        "signal": errno.EPERM if version >= 6 else 0,
        "by path": errno.EACCES if version >= 9 else 0,
        "UDP": errno.EACCES if version >= 10 else 0,
        "bind UDP": errno.EACCES if version >= 10 else 0,
    }
    said = " ".join(landlock.missing(version, datagrams=True))
    assert ("truncating" in said) is (found["empty by name"] == 0)
    assert ("TCP ports" in said) is (found["TCP"] == 0)
    assert ("signals and abstract sockets" in said) is (found["signal"] == 0)
    assert ("Unix sockets by path" in said) is (found["by path"] == 0)
    assert ("datagrams" in said) is (found["UDP"] == 0)


def test_a_version_with_everything_misses_nothing() -> None:
    for version in (10, 11, 99):
        assert landlock.missing(version, datagrams=True) == ()


def test_what_datagrams_could_do_is_missing_only_to_who_can_send_any() -> None:
    assert landlock.missing(9, datagrams=False) == ()
    assert len(landlock.missing(9, datagrams=True)) == 1


def test_without_landlock_owners_and_modes_are_named() -> None:
    said = landlock.missing(0, datagrams=False)
    assert "owners and modes" in said[0]
    assert not any("truncating" in each for each in said)  # the first line says it all


@pytest.mark.parametrize("version", range(10))
def test_what_a_version_misses_names_the_version_that_has_it(version: int) -> None:
    for each in landlock.missing(version, datagrams=True)[1 if version == 0 else 0 :]:
        assert each.startswith(f"Landlock ABI {version}: ")
        assert re.search(r"\(ABI \d+, Linux [67]\.\d+\)", each)


# --- ports and scopes ---


def connected(ports: list[int], to: list[int]) -> list[int]:
    restrict(KERNELS, [], ports, 0)
    found = []
    for port in to:
        with socket.socket(socket.AF_INET) as tcp:
            found.append(answer(lambda tcp=tcp, port=port: tcp.connect(("127.0.0.1", port))))  # type: ignore[misc]
    return found


@from_abi(4)
def test_only_declared_ports_can_be_connected_to() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        ports = [one.getsockname()[1], other.getsockname()[1]]
        assert alone(connected, ports[:1], ports) == [0, errno.EACCES]


def connected6(port: int) -> int:
    restrict(KERNELS, [], [], 0)
    with socket.socket(socket.AF_INET6) as tcp:
        return answer(lambda: tcp.connect(("::1", port)))


@from_abi(4)
def test_ports_of_ipv6_are_refused_as_well() -> None:
    assert alone(connected6, 1) == errno.EACCES


def aimed(ports: list[int], to: list[int]) -> list[int]:
    restrict(KERNELS, [], [], 0, datagrams=ports)
    found = []
    for port in to:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            found.append(answer(lambda udp=udp, port=port: udp.sendto(b"x", ("127.0.0.1", port))))  # type: ignore[misc]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        found.append(answer(lambda: udp.bind(("127.0.0.1", to[-1] ^ 1))))
    return found


@from_abi(10)
def test_datagrams_go_to_declared_ports_only_and_from_no_port_of_ones_own_choice() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as two,
    ):
        for sock in (one, two):
            sock.bind(("127.0.0.1", 0))
        ports = [one.getsockname()[1], two.getsockname()[1]]
        assert alone(aimed, ports[:1], ports) == [0, errno.EACCES, errno.EACCES]


def called(allowed: list[str], folder: str) -> list[int]:
    """Servers in both folders from before, then one made inside the sandbox, by connection and by datagram."""
    kinds = (socket.SOCK_STREAM, socket.SOCK_DGRAM)
    servers = {(name, kind): socket.socket(socket.AF_UNIX, kind) for name in ("in", "out") for kind in kinds}
    for (name, kind), sock in servers.items():
        sock.bind(f"{folder}/{name}/{kind}")
        if kind == socket.SOCK_STREAM:
            sock.listen(1)
    making = int(Access.MAKE_SOCK)
    restrict(KERNELS, [*((path, int(Access.RESOLVE_UNIX)) for path in allowed), (f"{folder}/out", making)], [], 0)
    inside = socket.socket(socket.AF_UNIX)
    inside.bind(f"{folder}/out/inside")
    inside.listen(1)
    ways = [f"{folder}/{name}/{kind}" for name in ("in", "out") for kind in kinds] + [f"{folder}/out/inside"]
    return [called_one(path) for path in ways]


def called_one(path: str) -> int:
    if path.endswith(str(socket.SOCK_DGRAM)):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            return answer(lambda: sock.sendto(b"x", path))
    with socket.socket(socket.AF_UNIX) as sock:
        return answer(lambda: sock.connect(path))


@from_abi(9)
def test_unix_sockets_are_connected_to_only_where_a_rule_is_or_within_the_sandbox(tree: Path) -> None:
    no = errno.EACCES
    assert alone(called, [str(tree / "in")], str(tree)) == [0, 0, no, no, 0]
    for path in tree.glob("*/*"):
        if path.is_socket():
            path.unlink()
    assert alone(called, [], str(tree)) == [no, no, no, no, 0]


def scoped(scopes: int) -> list[int]:
    name = f"\0forge-test-{os.getpid()}"
    out = socket.socket(socket.AF_UNIX)
    out.bind(name)
    out.listen(1)
    restrict(KERNELS, [], [], scopes)
    inside = socket.socket(socket.AF_UNIX)
    inside.bind(name + "-in")
    inside.listen(1)
    found = []
    for each in (name, name + "-in"):
        with socket.socket(socket.AF_UNIX) as unix:
            found.append(answer(lambda unix=unix, each=each: unix.connect(each)))  # type: ignore[misc]
    return [*found, answer(lambda: os.kill(os.getppid(), 0)), answer(lambda: os.kill(os.getpid(), 0))]


@from_abi(6)
@pytest.mark.parametrize(
    ("scopes", "answers"),
    [
        (NOTHING, [0, 0, 0, 0]),
        (Scope.ABSTRACT_SOCKETS, [errno.EPERM, 0, 0, 0]),
        (Scope.SIGNALS, [0, 0, errno.EPERM, 0]),
        (BOTH, [errno.EPERM, 0, errno.EPERM, 0]),
    ],
)
def test_scopes_end_at_the_sandbox(scopes: Scope, answers: list[int]) -> None:
    assert alone(scoped, int(scopes)) == answers


def scope_by_pidfd() -> int:
    import signal

    restrict(KERNELS, [], [], int(BOTH))
    fd = os.pidfd_open(os.getppid())
    return answer(lambda: signal.pidfd_send_signal(fd, 0))  # type: ignore[arg-type]


@from_abi(6)
def test_a_pidfd_is_no_way_round_the_scope() -> None:
    assert alone(scope_by_pidfd) == errno.EPERM


def unprivileged_without_no_new_privs() -> int:
    from kernel.identity import keep_only

    keep_only()
    ruleset = Ruleset(KERNELS, scopes=NOTHING)
    return answer(ruleset.restrict)


def test_without_no_new_privs_it_is_refused() -> None:
    assert alone(unprivileged_without_no_new_privs) == errno.EPERM


def test_the_structures_have_the_kernels_sizes() -> None:
    import ctypes

    assert ctypes.sizeof(landlock._RulesetAttr) == struct.calcsize("=QQQ")
    assert (landlock._PATH_ATTR.size, landlock._PORT_ATTR.size) == (12, 16)


def without_the_call() -> int:
    """As in a container whose seccomp profile answers for a kernel it does not know."""
    import platform

    from sandbox.seccomp import install, permits, program
    from sandbox.syscalls import Architecture, Calls

    architecture = Architecture.of(platform.machine())
    assert architecture is not None
    prctl(38, 1)
    install(program(permits(Calls, internet=True, names=True, signals=True), architecture), architecture)
    return landlock.abi()


def test_where_a_container_refuses_the_call_there_is_no_landlock() -> None:
    assert alone(without_the_call) == 0
