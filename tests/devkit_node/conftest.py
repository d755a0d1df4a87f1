"""Keys made once, nodes started where asked and ended with the test."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from simulated import SimulatedNode

from cardano.slots import NETWORKS, kes_period_at
from devkit.keys import KeySet, generate


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> KeySet:
    return generate(
        tmp_path_factory.mktemp("made"), kes_period=(kes_period_at(NETWORKS["mainnet"], 1_800_000_000) or 0) - 5
    )


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short enough for a socket's address, whatever the test's name."""
    with tempfile.TemporaryDirectory(prefix="n-") as name:
        yield Path(name)


@pytest.fixture
def keys(folder: Path, made: KeySet) -> Path:
    """A folder with kes.skey, vrf.skey and node.cert, to take away and put back."""
    target = folder / "keys"
    target.mkdir()
    for file in (made.kes, made.vrf, made.cert):
        shutil.copy(file, target / file.name)
    return target


StartNode = Callable[..., SimulatedNode]


@pytest.fixture
def start(folder: Path, keys: Path) -> Iterator[StartNode]:
    """Start a node with the keys of this test (`keys=None`: without key flags)."""
    started: list[SimulatedNode] = []

    def one(*options: str, name: str = "a", **more: Path | None) -> SimulatedNode:
        (folder / name).mkdir(exist_ok=True)
        node = SimulatedNode(folder / name, more.get("keys", keys), *options)
        started.append(node)
        return node

    yield one
    for node in started:
        node.close()
