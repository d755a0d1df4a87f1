"""What is written about the configuration, the privileges and the messages is what the code does."""

from __future__ import annotations

import argparse
import re

import pytest

from cli.forgectl import _parser
from devkit import docs, messages_doc
from devkit.docs import FILES, PARTS, ROOT, Part, rendered


@pytest.mark.parametrize("path", FILES)
def test_what_is_generated_in_a_file_is_what_the_code_makes_now(path: str) -> None:
    """Run `python -m devkit.docs` when this fails."""
    text = (ROOT / path).read_text("utf-8")
    assert rendered(path, text) == text


@pytest.mark.parametrize("path", FILES)
def test_what_somebody_changes_by_hand_between_the_marks_is_noticed(path: str) -> None:
    text = (ROOT / path).read_text("utf-8")
    for part in (part for part in PARTS if part.path == path):
        assert rendered(path, text.replace(part.begin, part.begin + "\nby hand")) == text


@pytest.mark.parametrize("path", FILES)
def test_what_stands_outside_the_marks_is_left_as_it_is(path: str) -> None:
    text = (ROOT / path).read_text("utf-8")
    assert rendered(path, f"before\n{text}\nafter") == f"before\n{text}\nafter"


COMMANDS = set(
    next(each for each in _parser()._actions if isinstance(each, argparse._SubParsersAction)).choices  # typed nowhere
)


@pytest.mark.parametrize("path", sorted(str(each.relative_to(ROOT)) for each in (ROOT / "docs").glob("*.md")))
def test_every_command_of_forgectl_that_is_named_exists(path: str) -> None:
    named = set(re.findall(r"`forgectl ([a-z][a-z-]*)", (ROOT / path).read_text("utf-8")))
    assert named <= COMMANDS


PART = Part("x.md", "part", lambda: "made")


@pytest.mark.parametrize(
    "text",
    ["", PART.begin, PART.end, f"{PART.end} {PART.begin}", f"{PART.begin}{PART.end}{PART.begin}{PART.end}"],
    ids=["no marks", "no end", "no begin", "wrong order", "twice"],
)
def test_a_file_without_its_marks_once_and_in_order_is_a_mistake(text: str) -> None:
    with pytest.raises(ValueError, match=r"x\.md must have the marks of part once"):
        PART.rendered(text)


def test_a_file_is_written_only_when_something_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docs.Path, "write_text", lambda *_: pytest.fail("written"))
    docs.main()


# --- docs/ipc.md ---

IPC = (ROOT / "docs/ipc.md").read_text("utf-8")


def test_every_message_there_is_has_its_section() -> None:
    written = set(re.findall(r"^### (\w+)$", IPC, re.MULTILINE))
    assert {kind.__name__ for kind in messages_doc.every_message()} <= written


def test_no_section_is_written_twice_and_every_link_leads_to_one() -> None:
    sections = re.findall(r"^#+ (\w+)$", IPC, re.MULTILINE)
    assert len(set(sections)) == len(sections)
    assert set(re.findall(r"\]\(#(\w+)\)", IPC)) <= {name.lower() for name in sections}


def test_what_is_written_beside_a_field_in_the_code_stands_beside_it_in_the_table() -> None:
    assert "| `deadline` | int | Hard end of the right we are armed under; 0: not armed. |" in IPC
    assert "| `grant` | [Grant](#grant) or nil |  |" in IPC
    assert "| `leader` |  |" in IPC
    assert "| `log_level` | `DebugLogLevel` | The argument DEBUG, INFO," in IPC
