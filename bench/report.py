"""Tables and plots in docs/benchmarks.md from the results of `bench.failover` and `bench.scaling`.

    python -m bench.report

The results are read from bench/results.  The tables are parts of `devkit.docs`, the plots its whole files: a test
finds what is not of these results.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from statistics import median
from typing import Final

from bench import results
from bench.plots import bars, lines
from bench.results import BUSY, Json

PLOTS: Final = "docs/benchmarks"


# --- who, where, when ---


def provenance(found: Json) -> str:
    """The command, the machine, and whether it was quiet."""
    facts = found["facts"]
    (before, *_), (after, *_) = facts["load"]
    told = (
        f"`{found['command']}`, {facts['date']}, {facts['seconds']} s: {facts['machine']}, Python {facts['python']}, "
        f"{found['api']}. Load {before:g} before, {after:g} at the end; other work took {facts['others_cpus']:.2f} "
        "processors"
    )
    if facts["waited_share"] is not None:
        told += f", and what was measured waited for one {facts['waited_share']:.0%} of the time in which it wanted one"
    lines = [f"{told}."]
    if disturbed(found):
        lines.append("")
        lines.append(
            "**Measured beside other work**: times and processor seconds would be the same or smaller on a quiet "
            "machine. Counts of requests and writes are not touched by that."
        )
    return "\n".join(lines)


def disturbed(found: Json) -> bool:
    """Whether others used so much of the machine that its figures must say so."""
    facts = found["facts"]
    return float(facts["others_cpus"]) > BUSY or int(facts["niceness"]) > 0


# --- fail-over ---

FAULTS: Final[Mapping[str, str]] = {
    "SIGTERM": "asked to stop",
    "SIGKILL": "killed, all its processes",
    "frozen": "frozen for 25 s",
    "cut off": "cut off from the API for 25 s",
    "API restart": "API server restarted",
    "node killed": "its node is killed",
}


def nobody_table(found: Json) -> str:
    """Seconds in which nobody leads."""

    def cell(figures: Json) -> str:
        return f"{figures['nobody_median_s']:.2f} ({figures['nobody_most_s']:.2f}){_mark(figures)}"

    return _fault_table(found, cell)


def two_table(found: Json) -> str:
    """Seconds in which two lead."""

    def cell(figures: Json) -> str:
        text = f"{figures['two_median_s']:.2f} ({figures['two_most_s']:.2f}){_mark(figures)}"
        return f"**{text}**" if figures["two_most_s"] > 0 else text

    return _fault_table(found, cell)


def _mark(figures: Json) -> str:
    return "" if all(each["settled"] for each in figures["rounds"]) else " †"


def _fault_table(found: Json, cell: Callable[[Json], str]) -> str:
    names = [each["name"] for each in found["contenders"]]
    rows = [
        [FAULTS[fault], *(cell(by_name[name]) if name in by_name else "-" for name in names)]
        for fault, by_name in found["faults"].items()
    ]
    return _table(["the leader is", *names], rows)


def failover(found: Json | None = None) -> str:
    """Both tables, and whence they are; of the results in the repository, unless others are given."""
    found = found or results.read("failover")
    versions = "Versions: " + ", ".join(f"{each['name']} {each['version']}" for each in found["contenders"])
    parts = [
        provenance(found),
        f"Rounds of each fault: {found['rounds']}. Instances of each contender: {found['instances']}. {versions}.",
        "Seconds in which **nobody** leads, median (most):",
        nobody_table(found),
        "Seconds in which **two** lead, median (most):",
        two_table(found),
    ]
    if "†" in "".join(parts):
        parts.append("† It did not come to rest within 75 s: the figure is what was seen until then.")
    parts += [f"Settings of {each['name']}: {each['settings']}." for each in found["contenders"] if each["settings"]]
    return "\n\n".join(parts)


def failover_plot(which: str) -> str:
    """`nobody` or `two`, medians."""
    found = results.read("failover")
    groups = {
        FAULTS[fault]: {name: figures[f"{which}_median_s"] for name, figures in by_name.items()}
        for fault, by_name in found["faults"].items()
        if which == "nobody" or fault != "node killed"
    }
    what = {"nobody": "in which nobody leads", "two": "in which two lead"}[which]
    return bars(f"Seconds {what}, median of {found['rounds']}", "seconds", groups)


# --- cost at rest ---


def cost(found: Json | None = None) -> str:
    """Of each contender, in the same run as the fail-over."""
    found = found or results.read("failover")
    rows = []
    for each in found["contenders"]:
        name = each["name"]
        leader, standby = found["rest"][name]["leader"], found["rest"][name]["standby"]
        start = found["start"][name]
        rows.append(
            [
                name,
                _pair(leader, standby, "requests", ".0f"),
                _pair(leader, standby, "cpu_s", ".2f"),
                _pair(leader, standby, "pss_mib", ".1f"),
                f"{median(start['leads_s']):.2f}",
                f"{median(start['stands_by_s']):.2f}",
            ]
        )
    head = ["leader, standby", "requests a minute", "CPU s a minute", "PSS MiB", "start to leading, s", "to standby, s"]
    return f"{provenance(found)}\n\nAt rest for {found['rest_seconds']:g} s:\n\n{_table(head, rows)}"


def _pair(leader: Mapping[str, float], standby: Mapping[str, float], name: str, form: str) -> str:
    return f"{leader[name]:{form}}, {standby[name]:{form}}"


# --- scaling ---

SERIES: Final[Mapping[str, str]] = {
    "whole": "whole pods of one pool",
    "pods": "electors and arbiters of one pool",
    "pools": "pools of two electors and arbiters each",
}


def scaling(series: str, found: Json | None = None) -> str:
    """One of `SERIES`."""
    found = found or results.read(series)
    title = SERIES[series]
    table = _table(_scaling_head(series), [_scaling_row(row, series) for row in found["rows"]])
    head = f"{title[0].upper()}{title[1:]}, at rest for {found['rest_seconds']:g} s each:"
    return f"{provenance(found)}\n\n{head}\n\n{table}"


def _scaling_head(name: str) -> list[str]:
    head = ["pools" if name == "pools" else "pods", "start, s", "requests a minute", "API server CPU s a minute"]
    head += ["CPU s a minute of a pod"]
    head += ["PSS MiB of a pod"] if name == "whole" else []
    head += ["leader stops: nobody leads, s", "leader vanishes: nobody leads, s"]
    return head if name == "whole" else [*head, "writes of a hand-over"]


def _scaling_row(row: Json, name: str) -> list[str]:
    cells = [
        str(row["pools" if name == "pools" else "pods"]),
        f"{row['start_s']:.1f}",
        f"{row['requests']:.0f}",
        f"{row['server_cpu_s']:.2f}",
        f"{row['pod_cpu_s']:.2f}",
    ]
    cells += [f"{row['pod_pss_mib']:.1f}"] if name == "whole" else []
    cells += [_times(row["stopped_s"]), _times(row["vanished_s"])]
    return cells if name == "whole" else [*cells, f"{row['writes']:.0f}"]


def _times(seconds: Sequence[float]) -> str:
    return f"{median(seconds):.2f} ({max(seconds):.2f})" if seconds else "-"


def scaling_plot(figure: str, title: str, unit: str, *, log_y: bool = False) -> str:
    """One figure of all series over the number of pods or pools."""
    series: dict[str, list[tuple[float, float]]] = {}
    for name, told in SERIES.items():
        count = "pools" if name == "pools" else "pods"
        values = [(row[count], _value(row[figure])) for row in results.read(name)["rows"]]
        points = [(x, y) for x, y in values if y is not None and (y > 0 or not log_y)]
        if points:
            series[told] = points
    return lines(title, "pods, or pools", unit, series, log_y=log_y)


def _value(figure: float | Sequence[float]) -> float | None:
    if isinstance(figure, int | float):
        return figure
    return median(figure) if figure else None


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))


def _plots() -> dict[str, Callable[[], str]]:
    takes = "Seconds without a leader after it "
    return {
        f"{PLOTS}/nobody.svg": partial(failover_plot, "nobody"),
        f"{PLOTS}/two.svg": partial(failover_plot, "two"),
        f"{PLOTS}/requests.svg": partial(
            scaling_plot, "requests", "Requests a minute at rest, all pods", "a minute", log_y=True
        ),
        f"{PLOTS}/server.svg": partial(
            scaling_plot, "server_cpu_s", "Processor time of the API server at rest", "s a minute", log_y=True
        ),
        f"{PLOTS}/stops.svg": partial(scaling_plot, "stopped_s", f"{takes}stops in order", "seconds"),
        f"{PLOTS}/vanishes.svg": partial(scaling_plot, "vanished_s", f"{takes}vanishes", "seconds"),
    }


PARTS: Final[dict[str, Callable[[], str]]] = {
    "failover": failover,
    "cost": cost,
    **{name: partial(scaling, name) for name in SERIES},
}
"""Of docs/benchmarks.md."""
WHOLE: Final[dict[str, Callable[[], str]]] = _plots()
"""Files in which nothing is written by hand."""


def main() -> None:
    from devkit import docs

    docs.main()


if __name__ == "__main__":
    main()
