"""Each restriction of each worker, removed alone, is noticed by the worker's own audit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mutants
import pytest
from mutants import Mutant

from sandbox import landlock

ROOT = Path(__file__).resolve().parents[2]
EVERY = {mutant.id: mutant for mutant in mutants.mutants()}

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(landlock.abi() < landlock.SCOPE_ABI, reason="this kernel's Landlock lacks some restrictions"),
]


@pytest.fixture(scope="module")
def found() -> Iterator[dict[str, Any]]:
    """What the audit of each mutant says."""
    with tempfile.TemporaryDirectory(prefix="mu-") as folder:
        yield audits(folder)


def audits(folder: str) -> dict[str, Any]:
    ran = subprocess.run(
        [sys.executable, str(Path(mutants.__file__)), folder],
        env={"PYTHONPATH": str(ROOT), "PATH": os.defpath, "PYTHONDONTWRITEBYTECODE": "1"},
        cwd="/",
        stdout=subprocess.PIPE,
        timeout=280,
        check=True,
    )
    answers: dict[str, Any] = json.loads(ran.stdout)
    return answers


@pytest.mark.parametrize("mutant", [m for m in EVERY.values() if m.remove is None], ids=lambda m: m.id)
def test_with_nothing_removed_an_audit_finds_nothing(found: dict[str, Any], mutant: Mutant) -> None:
    assert found[mutant.id] == []


@pytest.mark.parametrize("mutant", [m for m in EVERY.values() if m.remove is not None], ids=lambda m: m.id)
def test_one_restriction_removed_is_noticed(found: dict[str, Any], mutant: Mutant) -> None:
    rows = found[mutant.id]
    assert isinstance(rows, list), rows
    assert any(row["check"].startswith(mutant.notices) for row in rows), rows


def test_mutants_cover_every_group_of_calls_and_every_call_that_is_judged_by_its_arguments() -> None:
    names = {mutant.name for mutant in EVERY.values()}
    assert {f"seccomp: {call} with any arguments" for call in mutants.JUDGED} - names == {
        f"seccomp: {call} with any arguments" for call in ("clone", "sendmmsg")
    }, "those two are nobody's but where names are looked up"
    assert "host names, and processes too" in names
