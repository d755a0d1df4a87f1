"""What a newcomer sees first: `make install` mends what was half made, and the demo starts or says why not."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from devkit import play
from devkit.pod import LONGEST_BASE, MemoryFolder

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

_POD = """
import signal
from devkit.api.embedded import EmbeddedApi, ThreadedApi
from devkit.ending import end_cleanly
from devkit.pods import Cluster
end_cleanly()
api = ThreadedApi(EmbeddedApi())
api.start_sync()
with Cluster(api, 1) as cluster:
    cluster.wait_healthy(90)
    print(cluster.root, flush=True)
    signal.pause()
"""


@pytest.fixture
def pod() -> Iterator[subprocess.Popen[str]]:
    nowhere = "http://127.0.0.1:9"
    environment = os.environ | {"http_proxy": nowhere, "HTTP_PROXY": nowhere, "no_proxy": "", "NO_PROXY": ""}
    command = [sys.executable, "-c", _POD]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


@pytest.mark.parametrize("ending", [signal.SIGHUP, signal.SIGTERM])
def test_it_needs_no_proxy_and_its_end_or_that_of_its_terminal_leaves_no_files(
    pod: subprocess.Popen[str], ending: signal.Signals
) -> None:
    assert pod.stdout is not None
    root = Path(pod.stdout.readline().strip())
    assert root.is_dir()
    pod.send_signal(ending)
    assert pod.wait() == 128 + ending
    assert not root.exists()


def test_a_sidecar_that_does_not_stay_up_ends_it_with_what_it_said() -> None:
    code = "import devkit.pod as p; p._forge_manager = lambda _: ['/bin/sh', '-c', 'echo no such luck']\n"
    command = [sys.executable, "-c", code + "import devkit.demo; devkit.demo.main()"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "sidecar does not stay up here. It said:\nno such luck\n" in done.stdout
    assert "Traceback" not in done.stderr


def test_the_command_that_is_shown_for_a_pod_speaks_of_that_pod_when_it_is_typed(tmp_path: Path) -> None:
    given = {"POD_NAME": "pod-7", "NAMESPACE": "cardano", "RUN_DIR": str(tmp_path / "a b")}
    shown = play.command_for(SimpleNamespace(environment=given))
    typed = subprocess.run(f"{shown} config --json", shell=True, capture_output=True, text=True, check=True)
    told = {row["name"]: row["value"] for row in json.loads(typed.stdout)}
    assert told.items() >= given.items()


def test_what_is_to_be_typed_is_one_line_on_a_narrow_terminal() -> None:
    out = io.StringIO()
    given = {"POD_NAME": "pod-7", "NAMESPACE": "cardano", "RUN_DIR": "/a/long/path/" * 9}
    pod = SimpleNamespace(name="pod-7", address="a", node_pid=1, worker_pids=dict, environment=given)
    cluster = SimpleNamespace(pods=[pod], kubeconfig="/another/long/path/" * 9, namespace="cardano")
    play._explain(Console(file=out, width=40), cluster)
    lines = out.getvalue().splitlines()
    assert f"kubectl --kubeconfig {cluster.kubeconfig} -n cardano get leases -w   (or: cardanoleaders)" in lines
    assert any(line.strip().startswith(f"{play.command_for(pod)} status ") for line in lines)


def test_a_folder_for_sockets_has_a_short_name_whatever_tmpdir_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("d" * LONGEST_BASE)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    monkeypatch.setattr("os.access", lambda path, _: str(path) != "/dev/shm")
    made = MemoryFolder()
    try:
        assert len(os.fsencode(made.path.parent)) <= LONGEST_BASE
    finally:
        made.close()


def test_where_there_is_no_such_folder_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(OSError, match="set TMPDIR to one"):
        MemoryFolder()


@pytest.mark.parametrize("target", ["build", "push", "install"])
def test_without_a_suitable_python_a_target_fails_and_says_what_is_needed(target: str, tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "pyproject.toml").touch()
    make = shutil.which("make")
    assert make is not None
    nowhere = {"PATH": str(tmp_path)}
    done = subprocess.run([make, target], cwd=tmp_path, env=nowhere, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "Python 3.11 or newer is needed" in done.stderr


@pytest.mark.parametrize("name", ["PYTHONPATH", "PYTHONSAFEPATH", "PYTHONOPTIMIZE", "GIT_DIR", "GIT_INDEX_FILE"])
def test_what_a_shell_has_set_for_another_program_is_not_heard(name: str, tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    command = ["make", "build", f"PYTHON=sh -c 'test -z \"$${name}\"' --"]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | {name: "1"}, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "left", ["without pip", "of a Python that is gone", "whole, of a Python that is gone", "from another folder"]
)
def test_make_install_mends_a_venv_that_is_half_made(left: str, tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "pyproject.toml").write_text("[project]\n")  # what follows the venv fails: no package index is asked
    if left == "without pip":
        venv.create(tmp_path / ".venv")
    elif left == "from another folder":
        venv.create(tmp_path / ".venv")
        (tmp_path / ".venv" / "bin" / "forge-manager").write_text("#!/elsewhere/.venv/bin/python\n")
        (tmp_path / ".venv" / "installed").touch()
    else:
        (tmp_path / ".venv" / "bin").mkdir(parents=True)
        (tmp_path / ".venv" / "bin" / "python").symlink_to("/nonexistent/python")
    if left.startswith("whole"):
        (tmp_path / ".venv" / "bin" / "forge-manager").write_text(f"#!{tmp_path.resolve()}/.venv/bin/python\n")
        (tmp_path / ".venv" / "installed").touch()
    command = ["make", "install", f"PYTHON={sys.executable}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "No module named pip" not in done.stderr
    assert not (tmp_path / ".venv" / "bin" / "forge-manager").exists()
    pip = [str(tmp_path / ".venv" / "bin" / "python"), "-m", "pip", "--version"]
    assert subprocess.run(pip, capture_output=True, check=False).returncode == 0, done.stderr
