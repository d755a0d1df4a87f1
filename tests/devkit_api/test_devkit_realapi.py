"""The real server's keeper: nothing it starts outlives it, and it says why when it cannot start."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from pathlib import Path

import psutil
import pytest

from devkit.realapi import build
from devkit.realapi.server import RealApi, StartError

PATIENCE_S = 120.0
skip_unless_wanted = pytest.mark.skipif(
    os.environ.get("FORGE_TEST_K8S") != "1", reason="needs the real server: FORGE_TEST_K8S=1"
)


def test_a_build_is_kept_under_the_hash_of_its_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = tmp_path / "sources"
    shutil.copytree(Path(build.__file__).parent, sources)
    monkeypatch.setattr(build, "_SOURCES", sources)
    first = build.program_path(tmp_path)
    assert build.program_path(tmp_path) == first
    (sources / "main.go").write_text("package main\n")
    assert build.program_path(tmp_path) != first


def test_the_cache_is_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert build.cache_folder() == tmp_path / "cardano-forge-manager" / "realapi"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert build.cache_folder() == tmp_path / ".cache" / "cardano-forge-manager" / "realapi"


def test_what_is_in_the_cache_is_not_built_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    program = build.program_path(tmp_path)
    program.parent.mkdir(parents=True)
    program.touch()
    assert build.build(tmp_path) == program


def test_without_go_the_build_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(build.BuildError, match="go is not on the PATH"):
        build.build(tmp_path)


def test_where_nothing_can_be_kept_the_build_says_what_to_set() -> None:
    with pytest.raises(build.BuildError, match=r"no cache can be made .*: set XDG_CACHE_HOME"):
        build.build(Path("/proc/nowhere"))


def test_a_failing_build_leaves_no_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go = tmp_path / "bin" / "go"
    go.parent.mkdir()
    go.write_text("#!/bin/sh\nexit 3\n")
    go.chmod(0o755)
    monkeypatch.setenv("PATH", str(go.parent))
    with pytest.raises(build.BuildError, match="exit code 3"):
        build.build(tmp_path)
    assert not build.program_path(tmp_path).exists()


def test_a_program_that_ends_at_once_is_a_start_error_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho no such luck\nexit 7\n")
    broken.chmod(0o755)
    monkeypatch.setattr("devkit.realapi.server.build", lambda: broken)
    api = RealApi(folder=tmp_path / "data")
    with pytest.raises(StartError, match="etcd ended with 7\nno such luck"):
        api.start_sync()
    assert api.pids == {}
    with pytest.raises(RuntimeError):
        _ = api.url


async def gone(pids: list[int]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while any(psutil.pid_exists(pid) for pid in pids):
            await asyncio.sleep(0.05)


PARENT = """
import sys, threading
from devkit.realapi.server import RealApi
api = RealApi()
api.start_sync()
print(*api.pids.values(), api._folder, api._sockets, flush=True)
threading.Event().wait()
"""


@pytest.mark.k8s
@skip_unless_wanted
async def test_the_programs_die_with_a_parent_that_is_killed() -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).resolve().parents[2]
    )
    assert parent.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE_S):
            etcd, apiserver, *folders = (await parent.stdout.readline()).decode().split()
        pids = [int(etcd), int(apiserver)]
        assert all(psutil.pid_exists(pid) for pid in pids)
    finally:
        parent.send_signal(signal.SIGKILL)
        await parent.communicate()
    await gone(pids)
    for folder in folders:
        shutil.rmtree(folder)


@pytest.mark.k8s
@skip_unless_wanted
async def test_a_stop_leaves_neither_process_nor_folder() -> None:
    async with RealApi() as api:
        pids = list(api.pids.values())
        folder, sockets = api._folder, api._sockets
    assert sockets is not None
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert not folder.exists()
    assert not sockets.exists()
    await api.stop()
    with pytest.raises(RuntimeError):
        _ = api.url


@pytest.mark.k8s
@skip_unless_wanted
async def test_etcd_goes_on_while_the_api_server_is_away(tmp_path: Path) -> None:
    async with RealApi(folder=tmp_path / "data", manifests=()) as api:
        before = api.pids
        await api.kill()
        assert api.pids == {"etcd": before["etcd"]}
        await api.restart()
        assert api.pids["etcd"] == before["etcd"]
        assert api.pids["kube-apiserver"] != before["kube-apiserver"]
        assert not api.admin().exists("/apis/cardano.io/v1/cardanoleaders")
        assert api.counts() == {}
    assert (tmp_path / "data" / "kube-apiserver.log").exists()
