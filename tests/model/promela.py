"""The models' transitions, as their text has them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from devkit.model import FOLDER

MODELS = sorted(path.stem for path in FOLDER.glob("*.pml"))


_INLINE: Final = re.compile(r"(?:/\*((?:(?!\*/).)*)\*/\n)?inline (\w+)\([^)]*\) \{\n(.*?)^\}", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Inline:
    name: str
    helper: bool
    """It is no transition of its own."""
    comment: str
    """That stands right above it."""
    body: str


def text_of(model: str) -> str:
    return (FOLDER / f"{model}.pml").read_text("utf-8")


def inlines(text: str) -> list[Inline]:
    found = []
    for each in _INLINE.finditer(text):
        sections = re.findall(r"/\* ---- (.*?) ----", text[: each.start()])
        helper = bool(sections) and sections[-1].startswith("helpers")
        found.append(Inline(each[2], helper, " ".join((each[1] or "").replace("\n *", " ").split()), each[3]))
    return found


def names(comment: str) -> list[str]:
    """The functions that a comment says implement a transition."""
    said = re.search(r"impl: ([^;]*)", comment)
    return [name.strip() for name in said[1].split(",")] if said is not None else []


def options(text: str) -> list[str]:
    """What each option of the processes does."""
    start = text.index("\nproctype ")
    joined = re.sub(r"(&&|->)\s*\n\s*", r"\1 ", text[start:])
    return re.findall(r":: d_step \{ .*-> (.*) \}", joined)
