"""What `forgectl watch` shows: the page's own story (gateway/story.py) in the lines of a terminal.  Pure.

`render` promises lines that are never wider and never more than asked for.  The weightiest stands on top: what a short
window leaves out is below, and counted.  Colour says nothing that a word does not say.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from cli.cells import cut, shown, width_of, wrapped
from cli.wording import span
from gateway.story import Standing

LABEL: Final = 9
MOST_WRAPPED: Final = 4
_COLOURS: Final = {
    Standing.FORGING: "1;32",
    Standing.STANDBY: "1;36",
    Standing.FENCED: "1;33",
    Standing.CONFLICT: "1;31",
    Standing.UNKNOWN: "1;31",
}
_DIM: Final = "2"
_BAD: Final = "31"


@dataclass(frozen=True, slots=True)
class Line:
    """`head` is a label or empty."""

    head: str
    text: str
    style: str = ""
    """Of the text, as SGR has it."""
    long: bool = False
    """Broken into several lines rather than cut."""


def render(page: dict[str, Any], width: int, height: int, *, unheard: str = "", colour: bool = False) -> list[str]:
    """`page`: as `gateway.story.page` made it.  `unheard`: why no worker is heard; empty: one is."""
    lines = [each for line in _lines(page, unheard) for each in _laid_out(line, width, colour=colour)]
    happened = [_laid_out(each, width, colour=colour)[0] for each in _happened(page)]
    if len(lines) > height:
        left_out = len(lines) - height + 1
        note = _laid_out(Line("", f"{left_out} more lines: make the window taller", _DIM), width, colour=colour)
        return [*lines[: max(height - 1, 0)], *note][:height]
    room = height - len(lines) - 1
    if room < 1 or not happened:
        return lines
    return [*lines, "", *happened[:room]]


def _laid_out(line: Line, width: int, *, colour: bool) -> list[str]:
    """Beside its label, or below it where that leaves too little room."""
    label = LABEL if width >= 4 * LABEL else min(LABEL, width // 3)
    if not line.head:
        label = 0
    text = shown(line.text)
    parts = wrapped(text, width - label, MOST_WRAPPED) if line.long else [cut(text, width - label)]
    heads = [cut(line.head, max(label - 1, 0)), *[""] * len(parts)]
    return [
        _styled(f"{head:<{label}}", _DIM, colour=colour) + _styled(part, line.style, colour=colour)
        for head, part in zip(heads, parts, strict=False)
    ]


def _styled(text: str, style: str, *, colour: bool) -> str:
    return f"\x1b[{style}m{text}\x1b[0m" if colour and style and text.strip() else text


def _lines(page: dict[str, Any], unheard: str) -> Iterator[Line]:
    told, status = page["headline"], page["status"]
    standing = Standing(told["standing"])
    yield Line("", f"{standing.upper()}: {told['title']}", _COLOURS[standing], long=True)
    if unheard:
        yield Line("", f"no worker is heard, trying again: {unheard}", _BAD, long=True)
    yield Line("pod", f"{status['pod']} in {status['namespace']}, {status['network']}")
    yield Line("why", "; ".join(told["why"]) or "nothing is known", long=True)
    if told["forger"]:
        yield Line("forger", _forger(page))
    yield Line("until", _until(told))
    yield Line("next", told["next"])
    yield from _role(status)
    yield from _fence(status)
    yield from _node(status)
    yield from _keys(page)
    yield from _workers(status["workers"])
    for warning in status["warnings"]:
        yield Line("warning", warning, _BAD, long=True)
    yield from _pool(status["pool"])


def _forger(page: dict[str, Any]) -> str:
    told = page["headline"]
    where = f" in {told['cluster']}" if told["cluster"] else ""
    since = told["since_seconds"]
    if since is None:
        return f"{told['forger']}{where}"
    # What the time line began with was so before, nobody here knows since when.
    least = any(each["old"] == "" and each["seconds_ago"] == since for each in page["timeline"])
    return f"{told['forger']}{where}, for {'at least ' if least else ''}{span(since)}"


def _until(told: dict[str, Any]) -> str:
    left = told["until_seconds"]
    return "not known" if left is None else f"{left:.0f} s are left of that right, unless it is renewed"


def _role(status: dict[str, Any]) -> Iterator[Line]:
    leader = status["leader"]
    if leader is None:
        yield Line("role", "unknown: the elector is silent", _BAD)
        return
    yield Line("role", f"{leader['role']} for {span(leader['seconds'])}: {leader['reason']}")
    holder = leader["holder"] or "nobody"
    api = "" if leader["api_ok"] else "; the API server does not answer, or refuses"
    yield Line("lease", f"{leader['lease']} held by {holder}, token {leader['token']}{api}", _BAD if api else "")
    if status["standing_down_seconds"]:
        yield Line("stands by", f"stands down as asked, {span(status['standing_down_seconds'])} more")


def _fence(status: dict[str, Any]) -> Iterator[Line]:
    fence = status["fence"]
    if fence is None:
        yield Line("fence", "unknown: the actuator is silent", _BAD)
    else:
        proof = f" (proof: {fence['proof']})" if fence["state"] == "fenced" else ""
        yield Line("fence", f"{fence['state']}{proof} for {span(fence['seconds'])}: {fence['reason']}")
    grants = [
        f"{issuer} {grant['seconds_left']:.0f} s" if grant else f"{issuer} none"
        for issuer, grant in status["grants"].items()
    ]
    yield Line("grants", ", ".join(grants))


def _node(status: dict[str, Any]) -> Iterator[Line]:
    node = status["node"]
    process = f"pid {node['pid']}" if node["pid"] is not None else "no process"
    fit = "fit" if node["fit"] else f"not fit: {'; '.join(node['reasons'])}"
    yield Line("node", f"{process}, {fit}", "" if node["fit"] else _BAD)


def _keys(page: dict[str, Any]) -> Iterator[Line]:
    credentials, kes = page["status"]["credentials"], page["kes"]
    if credentials is None:
        yield Line("keys", "unknown: the actuator is silent", _BAD)
        return
    certificate = credentials["certificate"]
    parts = [f"counter {certificate['counter']}" if certificate is not None else "no certificate"]
    if kes is not None:
        parts.append(f"{kes['days_left']} days left")
    yield Line("keys", ", ".join(parts))
    for finding in credentials["findings"]:
        if finding["severity"] != "info":
            yield Line("keys", f"{finding['severity']}: {finding['reason']}", _BAD, long=True)


def _workers(workers: dict[str, dict[str, Any]]) -> Iterator[Line]:
    up = [f"{name} {span(each['up_seconds'])}" for name, each in workers.items() if each["alive"] and each["connected"]]
    away = [name for name, each in workers.items() if each["alive"] and not each["connected"]]
    silent = [name for name, each in workers.items() if not each["alive"]]
    yield Line("workers", ", ".join(up) or "none is heard", long=True)
    if away:
        yield Line(" ", f"gone just now: {', '.join(away)}", _BAD)
    if silent:
        yield Line(" ", f"silent: {', '.join(silent)}", _BAD)


def _pool(pool: dict[str, Any]) -> Iterator[Line]:
    """With cluster management only."""
    if "lock" not in pool:
        return
    yield Line(
        "cluster", f"{pool['cluster']}: {pool['state'] or 'unknown'}, priority {pool['priority']}: {pool['why']}"
    )
    held = f"held by {pool['holder'] or 'nobody'}, token {pool['token']}; {pool['phase']} here"
    yield Line("lock", f"{pool['lock']} {held}")
    if pool["objection"]:
        yield Line("lock", pool["objection"], _BAD, long=True)
    away = [member["name"] for member in pool["members"] if not member["api_ok"]]
    count = len(pool["members"])
    members = f"{count - len(away)} of {count} coordination APIs answer"
    yield Line("members", f"{members}; not {', '.join(away)}" if away else members, _BAD if away else "")
    name = max((width_of(shown(each["name"])) for each in pool["clusters"]), default=0)
    for each in pool["clusters"]:
        holds = "  holds the lock" if each["name"] == pool["holder"] else ""
        why = f"  {each['why_not']}" if each["why_not"] else ""
        padded = shown(each["name"]) + " " * (name - width_of(shown(each["name"])))
        leader = each["leader"] or "no leader"
        yield Line("", f"  {padded}  {each['state'] or '?'}, priority {each['priority']}, {leader}{holds}{why}")


def _happened(page: dict[str, Any]) -> Iterator[Line]:
    """The newest first."""
    for each in page["timeline"]:
        yield Line("", f"{time.strftime('%H:%M:%S', time.gmtime(each['time']))}  {change(each)}")


def change(each: dict[str, Any]) -> str:
    """An entry of the time line as a sentence."""
    what = f"{each['old']} -> {each['new']}" if each["old"] else each["new"]
    token = f" (token {each['token']})" if each["token"] else ""
    why = f": {each['why']}" if each["why"] else ""
    return f"{each['about']} {what}{why}{token}"
