"""The fault campaign: real processes, a real API server, random faults by seed, for as long as asked.

    python tests/campaign --minutes 20 [--seed N] [--api real|embedded]

Two pools side by side, each in a process of its own: three pods of one cluster, and a fleet of three regions.  Checked
are the nodes' own records: never two forge, and nobody forging no longer than each fault's bound.  The seed gives the
list of faults (`--list`), not the moments at which real processes react to them.

Writes results.json and report.html into a folder (build/campaign), whatever the outcome.  Exit code 0: all held.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import secrets
import shutil
import signal
import subprocess
import sys
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

_HERE = Path(__file__).resolve().parent
_ROOT = _HERE.parents[1]
sys.path[:0] = [str(_HERE), str(_HERE.parent / "e2e"), str(_ROOT)]

PARTS = ("cluster", "fleet")
_ENDS = (signal.SIGINT, signal.SIGTERM)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python tests/campaign", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=20.0, help="of faults, after the start (20)")
    parser.add_argument("--seed", type=int, help="repeats a list of faults; a new one otherwise")
    parser.add_argument("--api", choices=("real", "embedded"), help="real, if it is built")
    parser.add_argument("--parts", default=",".join(PARTS), help="cluster, fleet, or both")
    parser.add_argument("--pods-each", type=int, default=2, help="in each region of the fleet")
    parser.add_argument("--slack", type=float, default=1.5, help="seconds beside each bound, for a busy machine (1.5)")
    parser.add_argument("--out", type=Path, default=_ROOT / "build" / "campaign")
    parser.add_argument("--list", type=int, metavar="N", help="print the first N rounds of the seed, and play nothing")
    parser.add_argument("--render", type=Path, metavar="FILE", help="make the report of a results.json anew")
    parser.add_argument("--play", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--zero", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--parent", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def _real_is_built() -> bool:
    from devkit.realapi.build import program_path

    return program_path().exists()


def _list(asked: argparse.Namespace, parts: list[str], *, real: bool) -> None:
    from campaign_parts import planned_rounds

    for part in parts:
        for planned in itertools.islice(planned_rounds(part, asked.seed, asked.minutes, real=real), asked.list):
            told = " + ".join(f"{f.kind} ({f.victim}, at {f.at_s:.1f} s for {f.hold_s:.1f} s)" for f in planned.faults)
            print(f"{part:<7} #{planned.number} {told}")


def _interrupt_once(*_: object) -> None:
    """What is done because of it is not interrupted again."""
    for sig in _ENDS:
        signal.signal(sig, signal.SIG_IGN)
    raise KeyboardInterrupt


def _play(asked: argparse.Namespace) -> int:
    """One part, in a process of its own: a pool's kubelets wait for no other pool."""
    from kernel.process import die_with_parent

    from campaign_parts import Part, Setting

    die_with_parent(signal.SIGKILL, asked.parent)
    for sig in _ENDS:
        signal.signal(sig, _interrupt_once)
    setting = Setting(asked.play, asked.seed, asked.minutes, asked.slack, asked.zero, asked.out, asked.pods_each)
    try:
        results = Part(setting).run()
    except Exception:  # noqa: BLE001  # where the process ends: whatever it is, the report tells it
        told = f"the campaign itself failed: {traceback.format_exc()[-2000:]}"
        print(told, flush=True)
        results = {"name": asked.play, "held": False, "violations": [told]}
    (asked.out / f"{asked.play}.json").write_text(json.dumps(results))
    return 0 if results["held"] else 1


def _facts(asked: argparse.Namespace, api: str) -> dict[str, Any]:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=_ROOT, capture_output=True, text=True, check=False
    )
    return {
        "seed": asked.seed,
        "minutes": asked.minutes,
        "api": api,
        "slack_s": asked.slack,
        "commit": commit.stdout.strip(),
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "processors": os.cpu_count(),
        "load": os.getloadavg()[0],
    }


def _run(asked: argparse.Namespace, parts: list[str], api: str) -> int:
    asked.out.mkdir(parents=True, exist_ok=True)
    _forget(asked.out)
    zero, facts = time.monotonic_ns(), _facts(asked, api)
    print(f"campaign: seed {asked.seed}, {asked.minutes:g} minutes, {api} API server, {', '.join(parts)}", flush=True)
    common = ["--minutes", str(asked.minutes), "--seed", str(asked.seed), "--slack", str(asked.slack)]
    common += ["--out", str(asked.out), "--zero", str(zero), "--pods-each", str(asked.pods_each)]
    common += ["--parent", str(os.getpid())]
    environment = os.environ | {"FORGE_TEST_K8S": "1" if api == "real" else "0"}
    running = {
        part: subprocess.Popen([sys.executable, str(_HERE), "--play", part, *common], env=environment) for part in parts
    }
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    while any(process.poll() is None for process in running.values()):
        try:
            for process in running.values():
                process.wait()
        except KeyboardInterrupt:  # each part ends its round; there is a report of what was
            for process in running.values():
                process.terminate()
    found = []
    for part, process in running.items():
        file = asked.out / f"{part}.json"
        if file.exists():
            found.append(json.loads(file.read_text()))
            file.unlink()
        else:
            found.append({"name": part, "held": False, "violations": [f"ended with {process.returncode} and no word"]})
    facts |= {"ended": datetime.now(UTC).isoformat(timespec="seconds"), "load_at_end": os.getloadavg()[0]}
    results = {"campaign": facts, "parts": found}
    (asked.out / "results.json").write_text(json.dumps(results, indent=1))
    return _report(results, asked.out)


def _forget(out: Path) -> None:
    """What an earlier campaign left there."""
    for path in (*(out / f"{part}.json" for part in PARTS), *out.glob("evidence-*.txt")):
        path.unlink(missing_ok=True)
    for folder in out.glob("logs-*"):
        shutil.rmtree(folder)


def _report(results: dict[str, Any], out: Path) -> int:
    """Writes the page and says the end of it; the exit code."""
    import campaign_report

    (out / "report.html").write_text(campaign_report.page(results))
    print(campaign_report.summary(results), flush=True)
    print(f"report: {out / 'report.html'}", flush=True)
    return 0 if all(part["held"] for part in results["parts"]) else 1


def main() -> int:
    asked = _arguments()
    if asked.render is not None:
        return _report(json.loads(asked.render.read_text()), asked.out)
    if asked.seed is None:
        asked.seed = secrets.randbelow(1_000_000)
    if asked.play:
        return _play(asked)
    parts = [part for part in PARTS if part in asked.parts.split(",")]
    api = asked.api or ("real" if _real_is_built() else "embedded")
    if asked.list is not None:
        _list(asked, parts, real=api == "real")
        return 0
    return _run(asked, parts, api)


if __name__ == "__main__":
    sys.exit(main())
