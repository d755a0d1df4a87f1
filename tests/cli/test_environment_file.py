"""forgectl reads a unit's settings as systemd does, and as no shell would; tests/systemd asks systemd itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from cli.environment_file import parse, use

ODD: Final = rb"""# a comment (~: a space)
; another one, which goes on \
GONE=1
PLAIN=value
SPACES=  My first Pool~~
URL=https://h.example/x?a=1&b=2;c=$HOME`id`
  INDENTED=x
NAME_SPACE = y
EMPTY=
QUOTED="two words"~
SINGLE='a "b" \n $c'
DOUBLE="a \"b\" \\ \$c \`d\` \n 'e'"
BOTH="a"'b'c"d"
INSIDE=a"b"c
ESCAPED=a\ b\"c\\d\
e
LINES="one
two"
export EXPORTED=1
NOTHING
=nobody
1ST=number
DASH-ED=x
TRAILING=x\~
TWICE=1
TWICE=2
HASH=a#b #c
""".replace(b"~", b" ")
ODD_VALUES: Final = {
    "PLAIN": "value",
    "SPACES": "My first Pool",
    "URL": "https://h.example/x?a=1&b=2;c=$HOME`id`",
    "INDENTED": "x",
    "NAME_SPACE": "y",
    "EMPTY": "",
    "QUOTED": "two words",
    "SINGLE": r"""a "b" \n $c""",
    "DOUBLE": r"""a "b" \ $c `d` \n 'e'""",
    "BOTH": 'abc"d"',
    "INSIDE": 'a"b"c',
    "ESCAPED": 'a b"c\\de',
    "LINES": "one\ntwo",
    "TRAILING": "x ",
    "TWICE": "2",
    "HASH": "a#b #c",
}


def test_each_line_means_what_it_means_to_systemd() -> None:
    assert parse(ODD.decode()) == ODD_VALUES


def test_lines_may_end_as_windows_ends_them_and_the_last_one_not_at_all() -> None:
    assert parse("A=1\r\n# c\r\nB='x y'\r\nC=3") == {"A": "1", "B": "x y", "C": "3"}


def test_a_setting_that_the_file_does_not_have_is_not_taken_from_whoever_types(tmp_path: Path) -> None:
    file = tmp_path / "environment"
    file.write_text("POD_NAME=producer-a\nHTTPS_PROXY=http://p:1\n")
    known = {"POD_NAME": "laptop", "KUBECONFIG": "/root/admin", "PATH": "/bin"}
    use(file, known)
    assert known == {"POD_NAME": "producer-a", "HTTPS_PROXY": "http://p:1", "PATH": "/bin"}


def forgectl(file: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cli.forgectl", "--environment-file", str(file), "config"]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    return subprocess.run(command, env={**environment, "POD_NAME": "mine"}, capture_output=True, text=True, check=False)


def test_forgectl_shows_what_the_file_says(tmp_path: Path) -> None:
    file = tmp_path / "environment"
    file.write_text("POOL_NAME=My first Pool\nPOOL_TICKER=A$B\n")
    rows = dict(line.split("  ", 1) for line in forgectl(file).stdout.splitlines())
    assert {name: rows[name].strip() for name in ("POOL_NAME", "POOL_TICKER")} == {
        "POOL_NAME": "My first Pool",
        "POOL_TICKER": "A$B",
    }
    assert "mine" not in rows["POD_NAME"]


@pytest.mark.parametrize(("content", "why"), [(None, "No such file or directory"), (b"A=\xff\n", "is no UTF-8")])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None, why: str) -> None:
    file = tmp_path / "environment"
    if content is not None:
        file.write_bytes(content)
    ran = forgectl(file)
    assert (ran.returncode, ran.stderr) == (2, f"forgectl: {file}: {why}\n")
