"""What the actuator says of a node that it has found."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cardano.process import NodeProcess
from config import load
from workers.node_watch import NodeWatch


@pytest.mark.parametrize(
    ("pid", "said"), [(1, "process 1 of its pid namespace"), (os.getpid(), "")], ids=["1", "another"]
)
def test_one_that_nobody_here_could_kill_has_a_problem(pid: int, said: str, tmp_path: Path) -> None:
    """It cannot be armed: should it not confirm a fence, nothing would end it."""
    if os.getuid() != 0 or os.getegid() != 0:
        pytest.skip("needs the user of process 1")
    config = load({"RUN_DIR": str(tmp_path), "CREDENTIAL_MODE": "file", "CARDANO_NETWORK": "mainnet"})
    watch = NodeWatch(config, lambda: None, supervisor=None)
    watch._process = process = NodeProcess.open(pid)
    watch._read_status()
    view = watch.view()
    process.close()
    assert view is not None
    assert said in view.problem
    assert bool(view.problem) is bool(said)


@pytest.mark.parametrize("hidden", [True, False])
def test_where_processes_are_hidden_it_says_so_of_the_node_that_it_does_not_find(
    hidden: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with hidepid=2: process 1 is there, and not to be seen."""
    if not hidden:
        (tmp_path / "1").mkdir()
    monkeypatch.setattr("cardano.process.PROC", tmp_path)
    monkeypatch.setattr("workers.node_watch.start_ticks", lambda pid: 1)
    monkeypatch.setattr("workers.node_watch.find_by_name", lambda *_, **__: [])
    config = load({"RUN_DIR": str(tmp_path / "run"), "NODE_SOCKET": str(tmp_path / "node.socket")})
    watch = NodeWatch(config, lambda: None, supervisor=None)
    watch.look(1)
    assert ("hidepid" in watch.hint) is hidden
