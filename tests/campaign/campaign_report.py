"""The report of a campaign: one page, in light and dark, that needs a browser and nothing else; and some lines of text.

Made of results.json alone.  Whatever came from outside is escaped; the page has no script and loads nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any, Final

import campaign_picture as picture
from campaign_judge import BUSY, quantile

STYLE: Final = Path(__file__).with_name("report.css")
KNOWN: Final = {
    "cluster": ("One cluster", "three pods around one API server"),
    "fleet": ("A fleet", "three regions with pods and an API server each, which coordinate"),
}
WORDS: Final = ("faults", "findings")
"""Columns of words; the others are of figures."""
EVENTS: Final = ("on", "off", "slot", "hup", "reload", "start", "stop", "exit")


# --- figures ---


def faults(part: dict[str, Any]) -> list[dict[str, Any]]:
    """Those that struck."""
    return [fault for played in part.get("rounds", []) for fault in played["faults"] if not fault["missed"]]


def gap_lengths(part: dict[str, Any]) -> list[float]:
    return [gap["end_s"] - gap["begin_s"] for gap in part.get("gaps", [])]


def overlap_s(part: dict[str, Any]) -> float:
    return float(sum(end - begin for begin, end in part.get("overlaps", [])))


def length_s(part: dict[str, Any]) -> float:
    return float(part.get("ended_s", 0.0) - part.get("began_s", 0.0))


def forged_share(part: dict[str, Any]) -> float:
    """Of the time in which some node forged."""
    length = length_s(part)
    return 1 - sum(gap_lengths(part)) / length if length > 0 else 0.0


def excused(part: dict[str, Any]) -> int:
    """Rounds whose gaps prove nothing."""
    return sum(bool(played["excused"]) for played in part.get("rounds", []))


def busy(part: dict[str, Any]) -> int:
    """Rounds in which the machine was so busy that even a bound of zero had slack."""
    return sum(played["waited"] >= BUSY for played in part.get("rounds", []))


def machine(facts: dict[str, Any], parts: Sequence[dict[str, Any]]) -> str:
    """How busy it was, and what was given for it."""
    rounds = [played for part in parts for played in part.get("rounds", [])]
    several = sum(busy(part) for part in parts)
    waited = quantile([played["waited"] for played in rounds], 0.5) if rounds else 0.0
    late = max((played["late_s"] for played in rounds), default=0.0)
    return (
        f"load {facts['load']:.1f} when it began and {facts.get('load_at_end', facts['load']):.1f} when it ended, on "
        f"{facts['processors']} processors; in the median round something waited for a processor in {waited:.0%} of "
        f"the time, and a timer of ours was late by {late:.2f} s at most; slack beside bounds {facts['slack_s']:g} s, "
        f"in {_rounds_told(several)} beside a bound of zero too"
    )


def transitions(part: dict[str, Any]) -> int:
    begin, end = part.get("lease_transitions", [-1, -1])
    return max(0, end - begin) if begin >= 0 and end >= 0 else 0


def violations(results: dict[str, Any]) -> list[str]:
    return [f"{part['name']}: {each}" for part in results["parts"] for each in part["violations"]]


def summary(results: dict[str, Any]) -> str:
    """For a terminal."""
    told = []
    for part in results["parts"]:
        gaps = gap_lengths(part)
        told.append(
            f"{part['name']}: {len(faults(part))} faults in {len(part.get('rounds', []))} rounds and "
            f"{length_s(part) / 60:.1f} minutes; two forged for {overlap_s(part):.3f} s; {len(gaps)} gaps, the longest "
            f"{max(gaps, default=0.0):.3f} s; one forged for {forged_share(part):.2%} of the time; the lease changed "
            f"hands {transitions(part)} times" + (f"; excused: {_rounds_told(excused(part))}" if excused(part) else "")
        )
    wrong = violations(results)
    told.append(f"the machine: {machine(results['campaign'], results['parts'])}")
    told += [f"VIOLATION {each}" for each in wrong]
    total = sum(len(faults(part)) for part in results["parts"])
    told.append(f"seed {results['campaign']['seed']}: {total} faults, {'NOT all held' if wrong else 'all held'}")
    return "\n".join(told)


# --- the page ---


def page(results: dict[str, Any]) -> str:
    """HTML."""
    facts, parts = results["campaign"], results["parts"]
    wrong = violations(results)
    played = [part for part in parts if part.get("rounds")]
    body = [
        "<header>",
        "<p class=kicker>Cardano Forge Manager</p><h1>Fault campaign</h1>",
        f"<p class=facts>{_facts(facts)}</p>",
        "</header>",
        _banner(wrong, parts),
        _tiles(parts),
        _findings(wrong),
        *(_part(part) for part in played),
        _kinds(played),
        _histograms(played),
        _operations(played),
        _resources(played),
        _logged(played),
        _rounds(played),
        _method(facts, parts),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>Fault campaign, seed {escape(str(facts['seed']))}</title>"
        f"<style>{STYLE.read_text()}</style></head>\n<body><main>\n" + "\n".join(body) + "\n</main></body></html>\n"
    )


def _facts(facts: dict[str, Any]) -> str:
    api = "a real kube-apiserver over etcd" if facts["api"] == "real" else "the embedded API server"
    told = [
        f"seed <b>{escape(str(facts['seed']))}</b>",
        f"{facts['minutes']:g} minutes",
        escape(api),
        escape(f"{facts['began'].replace('T', ' ').replace('+00:00', ' UTC')}"),
        f"commit <code>{escape(facts['commit'] or 'unknown')}</code>",
        escape(f"{facts['processors']} processors, Linux {facts['kernel']}, Python {facts['python']}"),
    ]
    return " · ".join(told)


def _banner(wrong: Sequence[str], parts: Sequence[dict[str, Any]]) -> str:
    if wrong:
        text = f"<b>Not all held.</b> {len(wrong)} finding{'s' * (len(wrong) != 1)}: see below."
        return f'<section class="banner bad" role="status">{text}</section>'
    text = "<b>All held.</b> Never two nodes forged at once, and no time without a forger was longer than promised."
    if several := sum(excused(part) for part in parts):
        why = f"Excused from the second, since the machine itself stood still: {_rounds_told(several)}."
        text += f"<br><small>{why}</small>"
    return f'<section class="banner good" role="status">{text}</section>'


def _tiles(parts: Sequence[dict[str, Any]]) -> str:
    struck = sum(len(faults(part)) for part in parts)
    rounds = [played for part in parts for played in part.get("rounds", [])]
    several = sum(sum(not fault["missed"] for fault in played["faults"]) > 1 for played in rounds)
    gaps = [gap for part in parts for gap in gap_lengths(part)]
    length = sum(length_s(part) for part in parts)
    share = 1 - sum(gaps) / length if length else 0.0
    slots = sum(counts.get("slot", 0) for part in parts for counts in part.get("operations", {}).values())
    two = sum(overlap_s(part) for part in parts)
    tiles = [
        ("faults", f"{struck}", f"in {len(rounds)} rounds, {several} of them with several at once"),
        ("two forging at once", f"{two:.3f} s", "by the nodes' own records"),
        ("longest time without a forger", f"{max(gaps, default=0.0):.2f} s", f"of {len(gaps)}; median {_median(gaps)}"),
        ("a node forged", f"{share:.2%}", f"of {picture.clock(length)}, with {_every(length, struck)}"),
        ("lease transitions", f"{sum(transitions(part) for part in parts)}", "the lease and the pool-wide lock"),
        ("leadership checks", f"{slots:,}".replace(",", "\u202f"), "slots in which a node asked whether it leads"),
    ]
    cells = "".join(
        f'<div class="tile{" bad" if name.startswith("two") and two > 0 else ""}"><span>{escape(name)}</span>'
        f"<b>{escape(value)}</b><small>{escape(more)}</small></div>"
        for name, value, more in tiles
    )
    return f'<section class="tiles">{cells}</section>'


def _every(length: float, struck: int) -> str:
    return f"a fault every {length / struck:.0f} s" if struck else "no fault"


def _rounds_told(count: int) -> str:
    return f"{count} round{'s' * (count != 1)}"


def _median(values: Sequence[float]) -> str:
    return f"{quantile(values, 0.5):.2f} s" if values else "none"


def _findings(wrong: Sequence[str]) -> str:
    if not wrong:
        return ""
    items = "".join(f"<li><pre>{escape(each)}</pre></li>" for each in wrong)
    return f'<section id="findings"><h2>What did not hold</h2><ul class="findings">{items}</ul></section>'


def _part(part: dict[str, Any]) -> str:
    title, more = KNOWN.get(part["name"], (part["name"], ""))
    gaps = gap_lengths(part)
    told = (
        f"{len(faults(part))} faults in {len(part['rounds'])} rounds, {picture.clock(length_s(part))}; "
        f"{overlap_s(part):.3f} s with two forgers; {len(gaps)} gaps, {sum(gaps):.1f} s together, "
        f"the longest {max(gaps, default=0.0):.2f} s; one forged for {forged_share(part):.2%} of the time."
        + (f" Excused, since the machine itself stood still: {_rounds_told(excused(part))}." if excused(part) else "")
    )
    legend = (
        '<p class="legend"><span class="k forges"></span>forges <span class="k idle"></span>does not '
        '<span class="k gap"></span>nobody forges <span class="k two"></span>two forge '
        '<span class="k fault"></span>a fault lasts <span class="k missed"></span>found nothing to strike '
        '<span class="k bad"></span>a bound was broken</p>'
    )
    remarks = "".join(f"<li>{escape(each)}</li>" for each in part.get("remarks", []))
    return (
        f'<section id="{escape(part["name"])}"><h2>{escape(title)} <small>{escape(more)}</small></h2>'
        f"<p>{escape(told)}</p>{legend}<div class=scroll><div class=timeline>{picture.timeline(part)}</div></div>"
        + (f"<details open><summary>Remarks</summary><ul>{remarks}</ul></details>" if remarks else "")
        + "</section>"
    )


def _name(part: dict[str, Any]) -> str:
    return escape(KNOWN.get(part["name"], (part["name"],))[0])


def _table(heads: Sequence[str], rows: Iterable[str]) -> str:
    cells = "".join(f"<th scope=col{' class=text' * (head in WORDS)}>{escape(head)}</th>" for head in heads)
    inside = f"<thead><tr>{cells}</tr></thead><tbody>{''.join(rows)}</tbody>"
    return f'<div class="scroll"><table>{inside}</table></div>'


def _row(name: str, *cells: object) -> str:
    """The name is escaped, cells are HTML."""
    return f"<tr><th scope=row>{escape(name)}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _section(key: str, title: str, note: str, *inside: str) -> str:
    head = f"<h2>{title}</h2>" + (f"<p class=note>{note}</p>" if note else "")
    return f'<section id="{key}">{head}{"".join(inside)}</section>'


def _s(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _kinds(parts: Sequence[dict[str, Any]]) -> str:
    heads = ("fault", "times", "alone", "missed", "median s", "p95 s", "max s", "bound s", "of bound and slack")
    inside = []
    for part in parts:
        rows = [
            _row(
                kind["kind"],
                kind["count"],
                kind["alone"],
                kind["missed"] or "",
                *(_s(kind[each]) for each in ("median_s", "p95_s", "max_s", "bound_s")),
                _meter(kind, part["terms"]["slack_s"]),
            )
            for kind in part["kinds"]
        ]
        measure = "the longest single time" if part["terms"]["longest"] else "all together in its round"
        note = f"<p class=note>Seconds without a forger, {measure}, of faults that struck alone.</p>"
        inside.append(f"<h3>{_name(part)}</h3>{note}{_table(heads, rows)}")
    return _section("kinds", "Faults by kind", "", *inside)


def _meter(kind: dict[str, Any], slack_s: float) -> str:
    """How near it came; none where the bound is zero."""
    most, bound = kind["max_s"], kind["bound_s"]
    if most is None or not bound:
        return ""
    over = " over" if most > bound else ""
    filled = f'<span style="width:{min(1.0, most / (bound + slack_s)):.0%}"></span>'
    return f'<span class="meter{over}" title="{most:.2f} s of {bound:g} s">{filled}</span>'


def _histograms(parts: Sequence[dict[str, Any]]) -> str:
    charts = []
    for part in parts:
        chart = picture.histogram(gap_lengths(part), f"how long nobody forged: {part['name']}")
        caption = f"<figcaption>{_name(part)}: {len(part['gaps'])} times</figcaption>"
        charts.append(f"<figure>{chart}{caption}</figure>")
    return _section("gaps", "How long nobody forged", "", f'<div class="charts">{"".join(charts)}</div>')


def _operations(parts: Sequence[dict[str, Any]]) -> str:
    rows = [
        _row(name, *(counts.get(event, 0) or "" for event in EVENTS))
        for part in parts
        for name, counts in part["operations"].items()
    ]
    heads = ("node", "began to forge", "ceased", "slots", "SIGHUP", "reloads", "starts", "orderly stops", "ends")
    note = "What each node wrote down itself, and when its process was reaped; from the pool's start on."
    return _section("operations", "Operations", note, _table(heads, rows))


def _resources(parts: Sequence[dict[str, Any]]) -> str:
    heads = ("process", "samples", "PSS MiB, first quarter", "last quarter", "most")
    heads += ("descriptors, first quarter", "last quarter", "most", "PSS over time", "")
    inside = []
    for part in parts:
        samples = part["resources"]["samples"]
        rows = []
        for drift in part["resources"]["drift"]:
            kind = drift["kind"]
            points = [(sample["at_s"], sample["pss_kib"]) for sample in samples if sample["kind"] == kind]
            rows.append(
                _row(
                    kind,
                    drift["samples"],
                    *(f"{drift[each] / 1024:.1f}" for each in ("pss_first_kib", "pss_last_kib", "pss_max_kib")),
                    *(f"{drift[each]:g}" for each in ("fds_first", "fds_last", "fds_max")),
                    picture.sparkline(points, f"PSS of the {kind}"),
                    '<b class="bad">grows</b>' if drift["leaks"] else "",
                )
            )
        inside.append(f"<h3>{_name(part)}</h3>{_table(heads, rows)}")
    every = max((part["resources"]["every_s"] for part in parts), default=10)
    note = f"Medians over all pods, looked at every {every:g} s; processes are killed and started all the time."
    return _section("resources", "Memory and descriptors", note, *inside)


def _logged(parts: Sequence[dict[str, Any]]) -> str:
    rows = [_row(name, escape(part["name"]), count) for part in parts for name, count in part.get("logged", {}).items()]
    table = _table(("level and event", "part", "lines"), rows)
    note = "Lines of ERROR and worse that no fault explains are findings."
    return _section("logged", "Logs", note, f"<details><summary>All lines above INFO</summary>{table}</details>")


def _rounds(parts: Sequence[dict[str, Any]]) -> str:
    heads = ("round", "at", "faults", "gap s", "bound s", "machine late s", "waited", "findings")
    inside = []
    for part in parts:
        table = _table(heads, (_round(part, played) for played in part["rounds"]))
        summary = f"<summary>{_name(part)}: all {len(part['rounds'])} rounds</summary>"
        inside.append(f"<details>{summary}{table}</details>")
    return _section("rounds", "Rounds", "", *inside)


def _round(part: dict[str, Any], played: dict[str, Any]) -> str:
    told = "<br>".join(_fault(fault) for fault in played["faults"])
    notes = [*played["violations"], *([f"excused: {played['excused']}"] if played["excused"] else [])]
    notes += [] if played["home"] else ["the pool was on its way home"]
    cells = (
        f"<th scope=row>{played['number']}</th>",
        f"<td>{picture.clock(played['began_s'] - part['began_s'])}</td>",
        f"<td class=text>{told}</td>",
        f"<td>{played['gap_s']:.3f}</td>",
        f"<td>{'recovery' if played['bound_s'] is None else format(played['bound_s'], 'g')}</td>",
        f"<td>{played['late_s'] or ''}</td>",
        f"<td>{played['waited']:.0%}</td>",
        f"<td class=text>{'<br>'.join(escape(note) for note in notes)}</td>",
    )
    bad = ' class="bad"' if played["violations"] else ""
    return f'<tr id="{escape(part["name"])}-{played["number"]}"{bad}>{"".join(cells)}</tr>'


def _fault(fault: dict[str, Any]) -> str:
    told = f"{escape(fault['kind'])} <small>{escape(fault['victim'])}"
    told += f", {escape(fault['told'])}" if fault["told"] else ""
    told += f", {fault['ended_s'] - fault['began_s']:.1f} s</small>"
    return f"<s>{told}</s> <small>{escape(fault['missed'])}</small>" if fault["missed"] else told


def _method(facts: dict[str, Any], parts: Sequence[dict[str, Any]]) -> str:
    seed, minutes = escape(str(facts["seed"])), f"{facts['minutes']:g}"
    api = escape(facts["api"])
    looks = sum(part.get("looks", 0) for part in parts)
    return f"""<section id="method"><h2>How this was measured</h2>
<p>Each pool is real processes: the sidecar with its workers, and a simulated cardano-node that writes down when it
begins and ceases to forge, on the machine's monotonic clock. Nothing here rests on what the product says of itself. A
node that is killed counts as forging until its process is reaped.</p>
<p>A round begins with a pool at rest: one forges, all could, no edit is under way, and in a fleet the region forges
that should (one that is to wait longer for it than the round does may come home in a later one, as planned). One fault
alone has to keep its bound; {facts["slack_s"]:g} s are allowed beside it for the machine, and a bound of zero is
zero, unless something waited for a processor in half of the round: a zero says that what was ended is there again in
time. Where the next fault begins while the first lasts, no bound holds but these: never two forge, and when all is
mended one forges soon. A gap belongs to its round, which lasts from its first fault to the next round. Where the
machine itself stood still for two seconds, or its clock was set, the gaps of that round prove nothing and are excused;
two forgers never are, and have no slack.</p>
<p>The machine: {escape(machine(facts, parts))}.</p>
<p>What pods say is held against the records too, {looks} times while faults lasted: a pod may say that its node forges
for no longer than a worker's state is valid after it ceased, and two may not both claim the right for longer. When all
is mended everything has to agree: metrics, /status, custom resources, Leases, the certificate that the node forges by,
and the fencing token, which never falls.</p>
<p>The same faults in the same order: <code>make campaign MINUTES={minutes} SEED={seed} API={api}</code></p>
</section>"""
