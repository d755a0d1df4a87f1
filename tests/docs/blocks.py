"""The shell blocks of a page of docs/, each with the mark that says where it can be run, and a shell that runs them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

ROOT: Final = Path(__file__).resolve().parents[2]
DOCS: Final = ROOT / "docs"

MARKS: Final = {
    "api": "any Kubernetes API server, as its administrator",
    "pods": "the same, with the sidecars of the page's pods running",
    "end": "the same, when the pods are gone",
    "keys": "a folder with keys",
    "host": "a host under systemd, as root",
    "older": "an API server with the definitions of an early older manager, as its administrator",
    "before": "beside the node that forges until now",
    "cluster": "needs a kubelet, controllers or several servers: not run by a test",
    "release": "needs the files of a release: not run by a test (tests/package does the like)",
    "index": "needs a package index and a release: not run by a test (tests/package does the like)",
}
_BLOCK: Final = re.compile(r"(?:^ *<!-- run: (\w+) -->\n)?^( *)```(\w*)\n(.*?)^\2```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    mark: str
    """Empty: it has none."""
    language: str
    text: str
    line: int


def blocks(page: str) -> list[Block]:
    """All of the page's, in order."""
    text = (DOCS / page).read_text("utf-8")
    return [
        Block(found[1] or "", found[3], textwrap.dedent(found[4]), text.count("\n", 0, found.start(4)) + 1)
        for found in _BLOCK.finditer(text)
    ]


def marked(page: str, *marks: str) -> list[Block]:
    return [block for block in blocks(page) if block.mark in marks]


class Shell:
    """One bash for all blocks of a page, as a reader has it: what one sets, the next one knows.  It ends at a fault."""

    _DONE: Final = "-- the block is done --"

    def __init__(self, cwd: Path, environment: dict[str, str], *, through: Sequence[str] = ()) -> None:
        """through: what leads to another place, before the command."""
        self._process = subprocess.Popen(
            [*through, "bash", "-euo", "pipefail"],
            cwd=cwd,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()

    def run(self, block: Block) -> str:
        """What it prints.  AssertionError if one of its commands fails."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{{\n{block.text}\n}} </dev/null\necho '{self._DONE}'\n")
        self._process.stdin.flush()
        said = []
        for line in self._process.stdout:
            if line.rstrip("\n").endswith(self._DONE):
                return "".join(said) + line.rstrip("\n").removesuffix(self._DONE)
            said.append(line)
        raise AssertionError(f"line {block.line}, exit code {self._process.wait()}:\n{block.text}\n{''.join(said)}")
