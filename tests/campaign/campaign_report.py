"""The report of a campaign: one page that needs nothing but a browser, in light and dark, and a few lines for a terminal.

Made of results.json alone.  Whatever came from outside is escaped; the page has no script and loads nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any, Final

import campaign_picture as picture
from campaign_judge import quantile

STYLE: Final = Path(__file__).with_name("report.css")
KNOWN: Final = {
    "cluster": ("One cluster", "three pods around one API server"),
    "fleet": ("A fleet", "three regions with pods and an API server each, which coordinate"),
}
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
            f"hands {transitions(part)} times"
        )
    wrong = violations(results)
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
        _banner(wrong),
        _tiles(parts),
        _findings(wrong),
        *(_part(part) for part in played),
        _kinds(played),
        _histograms(played),
        _operations(played),
        _resources(played),
        _logged(played),
        _rounds(played),
        _method(facts),
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


def _banner(wrong: Sequence[str]) -> str:
    if wrong:
        text = f"<b>Not all held.</b> {len(wrong)} finding{'s' * (len(wrong) != 1)}: see below."
        return f'<section class="banner bad" role="status">{text}</section>'
    text = "<b>All held.</b> Never two nodes forged at once, and nobody forging never lasted longer than promised."
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
        ("a node forged", f"{share:.2%}", f"of {picture.clock(length)} that all parts lasted together"),
        ("lease transitions", f"{sum(transitions(part) for part in parts)}", "the lease and the pool-wide lock"),
        ("leadership checks", f"{slots:,}".replace(",", "\u202f"), "slots in which a node asked whether it leads"),
    ]
    cells = "".join(
        f'<div class="tile{" bad" if name.startswith("two") and two > 0 else ""}"><span>{escape(name)}</span>'
        f"<b>{escape(value)}</b><small>{escape(more)}</small></div>"
        for name, value, more in tiles
    )
    return f'<section class="tiles">{cells}</section>'


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
        + (f"<details><summary>Remarks</summary><ul>{remarks}</ul></details>" if remarks else "")
        + "</section>"
    )


def _table(heads: Sequence[str], rows: Iterable[str], kind: str = "") -> str:
    cells = "".join(f"<th scope=col>{escape(head)}</th>" for head in heads)
    return f'<div class="scroll"><table class="{kind}"><thead><tr>{cells}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _s(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _kinds(parts: Sequence[dict[str, Any]]) -> str:
    sections = []
    for part in parts:
        rows = []
        for kind in part["kinds"]:
            most, bound = kind["max_s"], kind["bound_s"]
            meter = ""
            if most is not None and bound:
                share = min(1.0, most / (bound + part["terms"]["slack_s"]))
                over = most > bound
                told = f"{most:.2f} s of {bound:g} s"
                meter = (
                    f'<span class="meter{" over" if over else ""}" title="{escape(told)}">'
                    f'<span style="width:{share:.0%}"></span></span>'
                )
            rows.append(
                f"<tr><th scope=row>{escape(kind['kind'])}</th><td>{kind['count']}</td><td>{kind['alone']}</td>"
                f"<td>{kind['missed'] or ''}</td><td>{_s(kind['median_s'])}</td><td>{_s(kind['p95_s'])}</td>"
                f"<td>{_s(most)}</td><td>{_s(bound)}</td><td>{meter}</td></tr>"
            )
        heads = ("fault", "times", "alone", "missed", "median s", "p95 s", "max s", "bound s", "of bound and slack")
        title = KNOWN.get(part["name"], (part["name"],))[0]
        measure = "the longest single time" if part["terms"]["longest"] else "all together in its round"
        sections.append(
            f"<h3>{escape(title)}</h3><p class=note>Seconds without a forger: {measure}, of faults that struck alone.</p>"
            + _table(heads, rows, "figures")
        )
    return f'<section id="kinds"><h2>Faults by kind</h2>{"".join(sections)}</section>'


def _histograms(parts: Sequence[dict[str, Any]]) -> str:
    charts = "".join(
        f"<figure>{picture.histogram(gap_lengths(part), 'how long nobody forged: ' + part['name'])}"
        f"<figcaption>{escape(KNOWN.get(part['name'], (part['name'],))[0])}: {len(part['gaps'])} gaps</figcaption></figure>"
        for part in parts
    )
    return f'<section id="gaps"><h2>How long nobody forged</h2><div class="charts">{charts}</div></section>'


def _operations(parts: Sequence[dict[str, Any]]) -> str:
    rows = [
        f"<tr><th scope=row>{escape(name)}</th>"
        + "".join(f"<td>{counts.get(event, 0) or ''}</td>" for event in EVENTS)
        + "</tr>"
        for part in parts
        for name, counts in part["operations"].items()
    ]
    heads = ("node", "began to forge", "ceased", "slots", "SIGHUP", "reloads", "starts", "orderly stops", "ends")
    return (
        '<section id="operations"><h2>Operations</h2><p class=note>What each node wrote down itself, and when its process '
        f"was reaped; from the pool's start on.</p>{_table(heads, rows, 'figures')}</section>"
    )


def _resources(parts: Sequence[dict[str, Any]]) -> str:
    sections = []
    for part in parts:
        rows = []
        for drift in part["resources"]["drift"]:
            points = [
                (sample["at_s"], sample["pss_kib"])
                for sample in part["resources"]["samples"]
                if sample["kind"] == drift["kind"]
            ]
            mark = '<b class="bad">grows</b>' if drift["leaks"] else ""
            rows.append(
                f"<tr><th scope=row>{escape(drift['kind'])}</th><td>{drift['samples']}</td>"
                f"<td>{drift['pss_first_kib'] / 1024:.1f}</td><td>{drift['pss_last_kib'] / 1024:.1f}</td>"
                f"<td>{drift['pss_max_kib'] / 1024:.1f}</td><td>{drift['fds_first']:g}</td><td>{drift['fds_last']:g}</td>"
                f"<td>{drift['fds_max']}</td><td>{picture.sparkline(points, 'PSS of the ' + drift['kind'])} {mark}</td></tr>"
            )
        heads = (
            "process",
            "samples",
            "PSS MiB, first quarter",
            "last quarter",
            "most",
            "descriptors, first",
            "last",
            "most",
            "PSS over time",
        )
        title = KNOWN.get(part["name"], (part["name"],))[0]
        sections.append(f"<h3>{escape(title)}</h3>{_table(heads, rows, 'figures')}")
    return (
        '<section id="resources"><h2>Memory and descriptors</h2><p class=note>Medians over all pods, every ten seconds; '
        f"processes are killed and started all the time.</p>{''.join(sections)}</section>"
    )


def _logged(parts: Sequence[dict[str, Any]]) -> str:
    rows = [
        f"<tr><th scope=row>{escape(name)}</th><td>{escape(part['name'])}</td><td>{count}</td></tr>"
        for part in parts
        for name, count in part.get("logged", {}).items()
    ]
    table = _table(("level and event", "part", "lines"), rows, "figures")
    return f'<section id="logged"><details><summary>What the logs said above INFO</summary>{table}</details></section>'


def _rounds(parts: Sequence[dict[str, Any]]) -> str:
    sections = []
    for part in parts:
        rows = []
        for played in part["rounds"]:
            told = "<br>".join(_fault(fault) for fault in played["faults"])
            bound = "recovery" if played["bound_s"] is None else f"{played['bound_s']:g}"
            notes = [*played["violations"], *([f"excused: {played['excused']}"] if played["excused"] else [])]
            kind = ' class="bad"' if played["violations"] else ""
            rows.append(
                f'<tr id="{escape(part["name"])}-{played["number"]}"{kind}><th scope=row>{played["number"]}</th>'
                f"<td>{picture.clock(played['began_s'] - part['began_s'])}</td><td class=text>{told}</td>"
                f"<td>{played['gap_s']:.3f}</td><td>{bound}</td><td>{played['late_s'] or ''}</td>"
                f"<td class=text>{'<br>'.join(escape(note) for note in notes)}</td></tr>"
            )
        heads = ("round", "at", "faults", "gap s", "bound s", "machine late s", "")
        title = KNOWN.get(part["name"], (part["name"],))[0]
        sections.append(
            f"<details><summary>{escape(title)}: all {len(rows)} rounds</summary>{_table(heads, rows, 'figures')}</details>"
        )
    return f'<section id="rounds"><h2>Rounds</h2>{"".join(sections)}</section>'


def _fault(fault: dict[str, Any]) -> str:
    told = f"{escape(fault['kind'])} <small>{escape(fault['victim'])}"
    told += f", {escape(fault['told'])}" if fault["told"] else ""
    told += f", {fault['ended_s'] - fault['began_s']:.1f} s</small>"
    return f"<s>{told}</s> <small>{escape(fault['missed'])}</small>" if fault["missed"] else told


def _method(facts: dict[str, Any]) -> str:
    seed, minutes = escape(str(facts["seed"])), f"{facts['minutes']:g}"
    api = escape(facts["api"])
    return f"""<section id="method"><h2>How this was measured</h2>
<p>Each pool is real processes: the sidecar with its workers, and a simulated cardano-node that writes down when it begins
and ceases to forge, on the machine's monotonic clock. Nothing here rests on what the product says of itself. A node that
is killed counts as forging until its process is reaped.</p>
<p>A round begins with a pool at rest. One fault alone has to keep its bound; {facts["slack_s"]:g} s are allowed beside it
for the machine, and a bound of zero is zero. Where the next fault begins while the first lasts, no bound holds but these:
never two forge, and when all is mended one forges soon. A gap is its round's, from the first fault to the next round.</p>
<p>The same faults in the same order: <code>make campaign MINUTES={minutes} SEED={seed} API={api}</code></p></section>"""
