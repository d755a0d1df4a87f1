"""Every test that docs/threat-model.md names exists, and so does every attempt."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import redteam_power  # noqa: F401  # fills the list
from redteam_tools import ATTEMPTS

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "threat-model.md").read_text(encoding="utf-8")
TESTS = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT)))
FILES = sorted(set(re.findall(r"`((?:tests|docs|deploy|sandbox|policy)/[\w/.-]+)`", TEXT)))
QUOTED = sorted({" ".join(words.split()) for words in re.findall(r'"([^"`]+)"', TEXT)} - {"restricted"})


@pytest.mark.parametrize(("file", "name"), TESTS)
def test_a_test_that_is_named_exists(file: str, name: str) -> None:
    assert re.search(rf"^(async )?def {name}\(", (ROOT / file).read_text(encoding="utf-8"), re.M)


@pytest.mark.parametrize("name", QUOTED)
def test_an_attempt_that_is_quoted_is_made(name: str) -> None:
    assert name in ATTEMPTS


@pytest.mark.parametrize("file", FILES)
def test_a_file_that_is_named_exists(file: str) -> None:
    assert (ROOT / file).exists()


def test_a_fault_that_is_named_is_made() -> None:
    faults = (ROOT / "tests" / "e2e" / "faults.py").read_text(encoding="utf-8")
    named = re.search(r"\(the faults ([^)]+)\)", TEXT)
    assert named is not None
    for name in re.findall(r"`(\w+)`", named[1]):
        assert f"def {name}(" in faults


def test_every_position_has_a_section() -> None:
    headings = " ".join(re.findall(r"^## (.*)", TEXT, re.M)).lower()
    for position in ("prober", "gateway", "elector", "arbiter", "actuator", "neighbour", "api server"):
        assert position in headings
    for position in ("metrics endpoint", "debug socket", "write the lease", "supervisord"):
        assert position in headings


def test_there_is_something_to_check() -> None:
    assert len(TESTS) > 15
    assert len(QUOTED) > 15
