"""`forge-manager` before it is supervisord: what it refuses, in which words, and what it does not touch."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "gateway"))

from certificates import pair
from tree import FORGE_MANAGER, Tree, environment, folder, run, tree, until

from devkit.pod import UIDS

FIRST, SECOND = pair(), pair()

WRONG = {
    "LEASE_DURATION": "soon",
    "SLEEP_INTERVAL": "-1",
    "METRICS_PORT": "65536",
    "NAMESPACE": "Not A Label",
    "POD_NAME": "UPPER_CASE",
    "NODE_SOCKET": "relative/socket",
    "CREDENTIAL_MODE": "perhaps",
    "CARDANO_NETWORK": "testnet",
    "POOL_ID": "pool",
    "NODE_METRICS_URL": "https://127.0.0.1/metrics",
    "KUBECONFIG": "config",
    "LOG_LEVEL": "LOUD",
    "LOG_FORMAT": "xml",
    "DISABLE_SOCKET_CHECK": "maybe",
    "MAX_TIP_LAG": "1",
}


def test_every_wrong_variable_is_named_with_its_value_and_a_remedy_on_one_line_and_nothing_is_started(
    root: Path,
) -> None:
    done = run(root, **WRONG)
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert len(lines) == len(WRONG)
    for name, value in WRONG.items():
        assert any(line.startswith(f"forge-manager: {name}={value!r}: ") and line[-1] != " " for line in lines), name
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert not (root / "run").exists()


def test_values_that_contradict_each_other_are_mistakes_too(root: Path) -> None:
    done = run(root, "--check", LEASE_DURATION="10", SLEEP_INTERVAL="9", CARDANO_NETWORK="preview", NETWORK_MAGIC="1")
    assert done.returncode == 2
    assert [line.split("=")[0] for line in done.stderr.splitlines()] == [
        "forge-manager: SLEEP_INTERVAL",
        "forge-manager: NETWORK_MAGIC",
    ]


def test_a_value_with_control_characters_or_bad_bytes_cannot_forge_a_line_of_the_answer(root: Path) -> None:
    given = {k.encode(): v.encode() for k, v in environment(root).items()}
    given[b"POOL_NAME"] = b"x\nforge-manager: all is well\x1b[2J"
    given[b"POOL_TICKER"] = b"\xff\xfe"
    given[b"LANG"] = given[b"LC_ALL"] = b"C"
    done = subprocess.run([FORGE_MANAGER], env=given, cwd="/", capture_output=True, check=False)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 2
    assert b"\x1b" not in done.stderr


def test_where_the_kernel_refuses_what_the_fence_needs_it_says_so_and_starts_nothing(root: Path) -> None:
    def no_timers() -> None:
        resource.setrlimit(resource.RLIMIT_SIGPENDING, (0, 0))

    for words in ((), ("--worker", "gateway")):
        command = [FORGE_MANAGER, *words]
        given = environment(root)
        done = subprocess.run(command, env=given, preexec_fn=no_timers, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert line.startswith("forge-manager: no timer on CLOCK_BOOTTIME: timer_create: Resource temporarily unavail")
        assert not (root / "run").exists()


def test_check_says_that_all_is_well_and_touches_nothing(root: Path) -> None:
    done = run(root, "--check")
    assert (done.returncode, done.stderr) == (0, "")
    assert not (root / "run").exists()


def _gateways(root: Path, *, token: bytes = b"t" * 40, key: bytes = FIRST.key) -> dict[str, str]:
    """Variables and files of a gateway that is guarded."""
    folder = root / "gateway"
    folder.mkdir(exist_ok=True)
    for name, content in (("token", token), ("cert", FIRST.certificate), ("key", key)):
        (folder / name).write_bytes(content)
    names = {"GATEWAY_TOKEN_FILE": "token", "GATEWAY_TLS_CERT_FILE": "cert", "GATEWAY_TLS_KEY_FILE": "key"}
    return {variable: str(folder / name) for variable, name in names.items()}


def test_a_variable_that_is_almost_ours_is_warned_of_by_its_name_alone(root: Path) -> None:
    said = "is no variable of ours, and is not read; did you mean"
    checked = run(root, "--check", CLUSTER_PRIORTY="canary")
    assert (checked.returncode, checked.stderr) == (0, f"forge-manager: CLUSTER_PRIORTY {said} CLUSTER_PRIORITY?\n")
    wrong = run(root, ENABLE_CLUSTER_MANAGEMENT="true", CLUSTER_REGION="eu-1", POOLID="canary")
    assert wrong.returncode == 2
    assert wrong.stderr.splitlines()[-1] == f"forge-manager: POOLID {said} POOL_ID?"
    assert "canary" not in checked.stderr + wrong.stderr
    with _held(root, CLUSTER_PRIORTY="canary") as made:
        line = made.wait_log("almost_a_variable")
    assert (line["level"], line["worker"], line["variable"]) == ("WARNING", "manager", "CLUSTER_PRIORTY")


def test_the_first_line_says_the_version_and_what_was_set_and_of_addresses_no_more_than_the_origin(root: Path) -> None:
    secret = {"NOTIFY_URL": "https://hook.example/canary", "HEALTH_CHECK_ENDPOINT": "http://health.example/?t=canary"}
    with _held(root, LEASE_DURATION="20", OTHERS_TOKEN="canary", **secret) as made:
        line = made.wait_log("starting")
        assert "canary" not in made.log.read_text()
    assert (line["level"], line["worker"], line["version"]) == ("INFO", "manager", version("cardano-forge-manager"))
    settings = line["settings"]
    assert settings["LEASE_DURATION"] == "20"
    assert settings["RUN_DIR"] == str(root / "run")
    assert (settings["NOTIFY_URL"], settings["HEALTH_CHECK_ENDPOINT"]) == (
        *("https://hook.example", "http://health.example"),
    )
    assert not {"SLEEP_INTERVAL", "OTHERS_TOKEN"} & settings.keys()


def test_token_and_certificate_that_cannot_be_used_are_mistakes_that_show_neither_path_nor_content(root: Path) -> None:
    for arguments in (["--check"], []):
        done = run(root, *arguments, **_gateways(root, token=b"short", key=SECOND.key))
        assert done.returncode == 2
        assert done.stdout == ""
        token, key = done.stderr.splitlines()
        assert token.startswith("forge-manager: GATEWAY_TOKEN_FILE='(not shown)': is shorter than 32 characters")
        assert key.startswith("forge-manager: GATEWAY_TLS_KEY_FILE='(not shown)': is not the key of the certificate in")
        assert not (root / "run").exists()
    done = run(root, "--check", **_gateways(root))
    assert (done.returncode, done.stderr) == (0, "")


def test_the_other_workers_containers_need_not_have_the_gateways_files(root: Path) -> None:
    nowhere = {"GATEWAY_TOKEN_FILE": str(root / "gateway" / "token")}
    assert run(root, "--check", "--worker", "prober", **nowhere).returncode == 0
    done = run(root, "--check", "--worker", "gateway", **nowhere)
    assert done.returncode == 2
    assert "GATEWAY_TOKEN_FILE='(not shown)': cannot be read: No such file or directory" in done.stderr


def test_a_token_that_only_the_gateways_user_may_read_is_read_as_that_user(root: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("needs root")
    uids = {"WORKER_UIDS": ",".join(f"{name}={uid}" for name, uid in UIDS.items())}
    given = _gateways(root) | uids
    root.chmod(0o711)
    (root / "gateway").chmod(0o711)
    for name in ("token", "key"):
        os.chown(root / "gateway" / name, UIDS["actuator"], UIDS["actuator"])
        (root / "gateway" / name).chmod(0o400)
    assert "GATEWAY_TOKEN_FILE='(not shown)': cannot be read: Permission denied" in run(root, "--check", **given).stderr
    for name in ("token", "key"):
        os.chown(root / "gateway" / name, UIDS["gateway"], UIDS["gateway"])
    done = run(root, "--check", **given)
    assert (done.returncode, done.stderr) == (0, "")


def _refused(root: Path, uid: int | None = None) -> str:
    done = run(root, uid=uid)
    assert done.returncode == 2, done
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"forge-manager: RUN_DIR='{root / 'run'}': cannot be prepared (")
    assert f"uid {os.getuid() if uid is None else uid} may write to" in line
    return line


def test_a_run_dir_that_is_a_file_is_refused(root: Path) -> None:
    (root / "run").write_text("")
    assert "File exists" in _refused(root)


def test_a_run_dir_below_a_file_is_refused(root: Path) -> None:
    (root / "file").write_text("")
    done = run(root, RUN_DIR=str(root / "file" / "run"))
    assert done.returncode == 2
    assert "Not a directory" in done.stderr


def test_a_worker_folder_that_is_a_link_to_elsewhere_is_refused(root: Path) -> None:
    (root / "elsewhere").mkdir(mode=0o755)
    (root / "run").mkdir()
    (root / "run" / "actuator").symlink_to(root / "elsewhere")
    assert "Not a directory" in _refused(root)
    assert (root / "elsewhere").stat().st_mode & 0o777 == 0o755


def test_a_run_dir_that_may_not_be_written_is_refused(nobody: int) -> None:
    root = folder()
    try:
        root.chmod(0o755)
        (root / "run").mkdir(mode=0o755)
        assert "Permission denied" in _refused(root, nobody)
        assert list((root / "run").iterdir()) == []
    finally:
        shutil.rmtree(root)


def test_a_run_dir_of_another_user_is_refused_even_if_it_may_be_written(nobody: int) -> None:
    root = folder()
    try:
        root.chmod(0o755)
        (root / "run").mkdir()
        (root / "run").chmod(0o777)
        os.chown(root / "run", 1000, 1000)
        assert "belongs to uid 1000" in _refused(root, nobody)
        assert "belongs to uid 1000" in _refused(root)  # root too: its owner could put in his own folders
    finally:
        shutil.rmtree(root)


def test_a_worker_folder_that_somebody_else_made_first_is_refused(nobody: int) -> None:
    root = folder()
    try:
        root.chmod(0o755)
        (root / "run").mkdir()
        (root / "run").chmod(0o777)
        (root / "run" / "elector").mkdir(mode=0o777)
        assert "belongs to uid 0" in _refused(root, nobody)
    finally:
        shutil.rmtree(root)


def test_a_run_dir_that_its_group_may_write_is_closed_to_the_group(root: Path) -> None:
    (root / "run").mkdir()
    (root / "run").chmod(0o775)
    with _held(root) as made:
        until(lambda: (root / "run" / "elector" / "instance").exists(), "prepared")
        assert (root / "run").stat().st_mode & 0o7777 == 0o700
        assert made.process.poll() is None


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o2777])
def test_an_empty_dir_of_the_kubelets_or_a_tmpfs_of_a_container_engines_will_do(nobody: int, mode: int) -> None:
    root = folder()
    try:
        root.chmod(0o755)
        (root / "run").mkdir()
        (root / "run").chmod(mode)
        with _held(root, uid=nobody):
            until(lambda: (root / "run" / "elector" / "instance").exists(), "prepared")
            for path in (root / "run").iterdir():
                assert path.stat().st_uid == nobody
                assert path.stat().st_mode & 0o077 == 0, path
    finally:
        shutil.rmtree(root, ignore_errors=True)


@contextlib.contextmanager
def _held(root: Path, **more: Any) -> Iterator[Tree]:
    """A tree in a given root; the root stays."""
    made = Tree(root, **more)
    try:
        yield made
    finally:
        made.close()


def test_a_second_forge_manager_is_refused_by_the_first_ones_pid_and_disturbs_nothing(root: Path) -> None:
    with _held(root) as first:
        until(lambda: (root / "run" / "elector" / "instance").exists(), "prepared")
        instance = (root / "run" / "elector" / "instance").read_text()
        second = run(root)
        assert second.returncode == 1
        assert second.stderr.splitlines() == [
            f"forge-manager: RUN_DIR='{root / 'run'}': in use by another forge-manager (pid {first.pid})"
        ]
        assert (root / "run" / "elector" / "instance").read_text() == instance
        assert first.process.poll() is None


def test_what_a_dead_one_left_is_no_obstacle_and_the_instance_id_outlives_it(root: Path) -> None:
    with _held(root) as first:
        first.wait_up("arbiter")
        first.process.kill()
        first.process.wait()
    instance = (root / "run" / "elector" / "instance").read_text()
    with _held(root) as second:
        second.wait_up("arbiter")
    assert (root / "run" / "elector" / "instance").read_text() == instance


@pytest.mark.parametrize("left", ["", "short", "\u00e4" * 8, "../../..", "a" * 4096])
def test_an_instance_file_that_makes_no_sense_is_made_anew(root: Path, left: str) -> None:
    (root / "run" / "elector").mkdir(parents=True)
    (root / "run" / "elector" / "instance").write_text(left, encoding="utf-8")
    with _held(root):
        until(lambda: len((root / "run" / "elector" / "instance").read_bytes()) == 9, "made anew")


def test_nothing_is_written_outside_run_dir_on_a_read_only_root(root: Path) -> None:
    if os.getuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("needs root and unshare(1)")
    mounts = (
        'mount -t tmpfs none "$1" 2>/dev/null; for m in $(cut -d" " -f2 /proc/mounts); do case "$m" in '
        '/proc*|/sys*|/dev|/dev/pts|/dev/mqueue|"$1"*) ;; *) mount -o remount,bind,ro "$m" 2>/dev/null;; esac; done; '
        'for f in /tmp/x /var/tmp/x /x /dev/shm/x; do touch "$f" 2>/dev/null && exit 9; done; shift; exec "$@"'
    )
    command = ("unshare", "-m", "--propagation", "private", "sh", "-c", mounts, "sh", str(root / "run"), FORGE_MANAGER)
    (root / "run").mkdir()
    with _held(root, command=command) as made:
        made.wait_up("arbiter", "actuator", "gateway", "prober")


def test_a_poor_environment_and_a_lost_working_directory_are_enough(uid: int | None) -> None:
    gone = folder(uid)

    def lose() -> None:
        os.chdir(gone)
        gone.rmdir()

    # By its interpreter: below a folder with a blank the command is a script for a shell, which complains of the loss.
    command = (sys.executable, FORGE_MANAGER)
    with tree(uid, then=lose, command=command, LANG="C", LC_ALL="C") as made:  # neither HOME nor PATH
        made.wait_up()


def test_a_malicious_package_in_the_working_directory_is_not_imported(root: Path) -> None:
    evil = root / "evil"
    for name in ("ipc", "workers", "kernel", "json", "asyncio"):
        (evil / name).mkdir(parents=True)
        (evil / name / "__init__.py").write_text(f"open({str(root / 'pwned')!r}, 'w').close()\n")
    (evil / "evil_only.py").write_text("")
    with _held(root, cwd=str(evil)) as made:
        made.wait_up()
    assert not (root / "pwned").exists()


def test_workers_get_neither_relative_import_paths_nor_switches_that_change_python(root: Path) -> None:
    switches = {"PYTHONINSPECT": "1", "PYTHONOPTIMIZE": "2", "PYTHONWARNINGS": "error", "PYTHONDEVMODE": "1"}
    here = str(root / "nothing-here")
    with _held(root, PYTHONPATH=f"relative::{here}", **switches) as made:
        pid = made.wait_up("actuator")["actuator"]
        found = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    got = {word.split("=")[0]: word.partition("=")[2] for word in found if word.startswith("PYTHON")}
    assert got == {"PYTHONPATH": here, "PYTHONSAFEPATH": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def test_an_environment_as_large_as_a_big_namespaces_is_no_trouble(root: Path) -> None:
    links = {f"SERVICE_{i}_PORT_{i}_TCP": f"tcp://10.0.0.{i % 250}:80%(nonsense)s;%" for i in range(3000)}
    with _held(root, **links) as made:
        made.wait_up("arbiter", "actuator")


def test_run_dir_may_contain_what_is_special_to_supervisors_configuration(root: Path) -> None:
    odd = root / "a %(x)s ; 'b'"
    with _held(root, RUN_DIR=str(odd)) as made:
        made.wait_up("arbiter", "actuator")
    assert (odd / "elector" / "instance").is_file()


@pytest.mark.parametrize("fds", [(0,), (1,), (2,), (0, 1, 2)])
def test_closed_standard_descriptors_do_not_become_a_lock_or_a_pipe(root: Path, fds: tuple[int, ...]) -> None:
    def shut() -> None:
        for fd in fds:
            os.close(fd)

    with _held(root, then=shut) as made:
        until(lambda: (root / "run" / "arbiter" / "state.sock").is_socket(), "the arbiter serves")
        for fd in (0, 1, 2):
            target = str(Path(f"/proc/{made.pid}/fd/{fd}").readlink())
            assert target == "/dev/null" if fd in fds else target != "", (fd, target)


def test_files_are_private_whatever_the_umask_was(root: Path) -> None:
    with _held(root, then=lambda: os.umask(0)) as made:
        made.wait_up("arbiter")
        for path in (root / "run").rglob("*"):
            assert path.lstat().st_mode & 0o077 == 0 or path.is_symlink(), path


def test_version_and_help_are_there_without_any_configuration() -> None:
    for word in ("--version", "--help"):
        done = subprocess.run([FORGE_MANAGER, word], env={}, cwd="/", capture_output=True, check=False)
        assert done.returncode == 0
        assert done.stdout
