"""Pages of instructions: every command's place is named, every link leads somewhere."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from blocks import DOCS, MARKS, ROOT, Block, Shell, blocks

INSTRUCTIONS = ["install.md", "bare-metal.md"]
PAGES = sorted(path.relative_to(ROOT) for path in (*ROOT.glob("*.md"), *DOCS.rglob("*.md")))


@pytest.mark.parametrize("page", INSTRUCTIONS)
def test_every_shell_block_says_where_it_can_be_run_in_words_that_are_known(page: str) -> None:
    for block in blocks(page):
        if block.language == "sh":
            assert block.mark in MARKS, f"{page}:{block.line}"
        else:
            assert block.mark == "", f"{page}:{block.line} is not run"


@pytest.mark.parametrize("page", INSTRUCTIONS)
def test_every_shell_block_is_one_that_bash_can_read(page: str) -> None:
    for block in blocks(page):
        if block.language == "sh":
            read = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True, check=False)
            assert (read.returncode, read.stderr) == (0, ""), f"{page}:{block.line}"


def anchor(heading: str) -> str:
    """As the platforms that show Markdown make it of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_link_within_the_repository_leads_to_something(page: Path) -> None:
    text = re.sub(r"^( *)```.*?^\1```$", "", (ROOT / page).read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in link or link.startswith("mailto:"):
            continue
        path, _, fragment = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), f"{page}: {link}"
        if fragment:
            headings = re.findall(r"^#+ (.*)$", target.read_text("utf-8"), re.MULTILINE)
            assert fragment in map(anchor, headings), f"{page}: {link}"


def test_a_shell_keeps_what_a_block_sets_and_ends_at_the_first_fault(tmp_path: Path) -> None:
    with Shell(tmp_path, {"PATH": "/usr/bin:/bin"}) as shell:
        shell.run(Block("api", "sh", "x=1; cat > f <<'E'\nhere\nE\n", 1))
        assert shell.run(Block("api", "sh", 'echo "$x"; cat f; printf "no newline"', 1)) == "1\nhere\nno newline"
        with pytest.raises(AssertionError, match="exit code 1"):
            shell.run(Block("api", "sh", "false | cat\necho not reached", 7))
