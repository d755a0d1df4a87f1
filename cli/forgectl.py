"""`forgectl`: look at this pod's workers and ask it to stand down; look at the pool's clusters and command them.

What concerns the pod works inside the sidecar's container, on the sockets below RUN_DIR, and sends nothing over a
network.  The verbs across clusters (cli/across.py) ask the coordination APIs, from the container or a laptop.
Exit codes: 0 done; 1 something is wrong (nothing reachable, refused, nobody forges); 2 usage or configuration; 3 no
coordination API could be asked.
"""

from __future__ import annotations

import cli.descriptors  # noqa: F401  # before anything else opens a file

# isort: split
import signal
import sys

if __name__ == "__main__" or sys.argv[0].endswith(("/forgectl", "/kubectl-forge")):
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C while the rest is imported is no traceback either

# isort: split
import argparse
import errno
import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NoReturn

from cli import across, alive, awaiting, checking, debugging, doctoring, environment_file, settings, watch, where, why
from cli.asking import PATIENCE_S, Failed, columns, connect, elsewhere, frames, printable, who_may
from cli.looking import picture_of, read_states
from config import Config, ConfigError, load
from gateway import views
from gateway.chronicle import Chronicle
from gateway.story import headline
from ipc.frames import frame
from ipc.messages import (
    ElectorState,
    Fence,
    GatewayState,
    ProtocolError,
    Severity,
    StandDown,
    StandDownReply,
    Worker,
    decode,
    encode,
)
from kernel.clock import boottime_ns
from policy import timing

EPILOG: Final = (
    "exit codes: 0 done; 1 something is wrong (nothing reachable, refused, nobody forges); 2 usage or configuration; "
    "3 no coordination API could be asked"
)


HAND_OVER_S: Final = 10.0
"""A node that does not obey is killed after 6 s, and the lease released then; the others take it in about 0.1 s."""
HAND_OVER_POLL_S: Final = 0.1
NOBODY: Final = f"Exit code 1 if nobody has within {HAND_OVER_S:g} s; it stays out all the same."
_UNWRITTEN: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _open_streams()
    try:
        try:
            code = _run()
        except SystemExit as end:  # of argparse, and of commands that have said all
            code = end.code  # type: ignore[assignment]
        sys.stdout.flush()
    except BrokenPipeError:  # of standard output: whoever read it has seen enough
        _let_go_of_output()
        return
    except OSError as error:
        if error.errno not in _UNWRITTEN:
            raise
        _let_go_of_output()
        print(f"forgectl: standard output cannot be written: {error.strerror}", file=sys.stderr)
        code = 1
    if code:
        sys.exit(code)


def _open_streams() -> None:
    """Where one was closed there is none, and what is for standard error would be printed on standard output."""
    sys.stdin = sys.stdin or open(os.devnull)  # noqa: PTH123, SIM115  # for as long as we live
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: PTH123, SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: PTH123, SIM115


def _let_go_of_output() -> None:
    """What could not be written is not tried again at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run() -> int:
    """The exit code.  What failed is said on standard error, and with --json as an object on standard output too."""
    arguments = _parser().parse_args()
    if arguments.environment_file:
        try:
            environment_file.use(Path(arguments.environment_file), os.environ)
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "is no UTF-8"
            _say(arguments, 2, f"{arguments.environment_file}: {why}")
            return 2
    environment = dict(os.environ)
    if arguments.run_dir:
        environment["RUN_DIR"] = arguments.run_dir
    try:
        if arguments.command is _completion:
            print(_completion(arguments.shell), end="")
            return 0
        if arguments.command is doctoring.command:
            doctoring.command(environment, arguments)
            return 0
        if arguments.command is not _config:
            environment = where.without_many(environment)
        arguments.command(load(environment), arguments)
    except ConfigError as error:
        _say(arguments, 2, *map(str, error.mistakes))
        _warn_of_spelling(environment)
        return 2
    except Failed as error:
        text = printable(str(error))  # a worker's own words may be in it
        _say(arguments, error.code, text, told=error.told)
        return error.code
    return 0


def _say(arguments: argparse.Namespace, code: int, *texts: str, told: bool = False) -> None:
    """told: standard output has an object already."""
    if getattr(arguments, "json", False) and not told:
        print(json.dumps({"error": "; ".join(texts), "exit_code": code}))
    for text in texts:
        print(f"forgectl: {text}", file=sys.stderr)


class _Version(argparse.Action):
    """argparse's own wants the text beforehand, and asking for it costs more than most commands."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from importlib.metadata import version

        print(version("cardano-forge-manager"))
        parser.exit()


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        if "--json" in sys.argv:
            print(json.dumps({"error": message, "exit_code": 2}))
        super().error(message)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="kubectl forge" if Path(sys.argv[0]).name == "kubectl-forge" else "forgectl",
        description="Look at this pod's workers and at the pool's clusters, and command them.",
        epilog=EPILOG,
    )
    parser.add_argument(
        "--environment-file",
        metavar="FILE",
        help="take the settings from this file, read as systemd does (EnvironmentFile=), in place of the environment",
    )
    parser.add_argument("--run-dir", help="RUN_DIR of the sidecar (default: from the environment)")
    parser.add_argument("--version", action=_Version, nargs=0, help="of this program, and of the sidecar it came with")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    status = commands.add_parser(
        "status",
        help="who forges, and why",
        description="This pod's state, and what its arbiter knows of the pool. Where there is no sidecar, or where one "
        "of the options below is given, the same as `forgectl clusters`.",
        epilog=across.CODES,
    )
    status.add_argument("--json", action="store_true", help="as JSON, like /status")
    across.add_where(status)
    status.set_defaults(command=_status)
    across.add_commands(commands, _reason)
    why.add_command(commands)
    alive.add_command(commands)
    watch.add_command(commands)
    awaiting.add_command(commands)
    debugging.add_commands(commands, _seconds)
    checking.add_command(commands)
    doctoring.add_command(commands)
    down = commands.add_parser(
        "stand-down",
        help="hand over and stay out of the election for a while",
        description=f"Of a pod that forges: wait until another has taken over. {NOBODY}",
    )
    down.add_argument(
        "--for",
        dest="seconds",
        type=across.duration,
        default=float(timing.STAND_DOWN_DEFAULT_S),
        metavar="DURATION",
        help=f"how long, such as 10m (default {timing.STAND_DOWN_DEFAULT_S}s; a number: s)",
    )
    down.add_argument(
        "--hook",
        action="store_true",
        help="before a container ends: not in a pause; a longer stand-down or drain stays",
    )
    down.set_defaults(command=_stand_down)
    drain = commands.add_parser(
        "drain",
        help="hand over and stay out of the election until `forgectl come-back`",
        description=f"Of a pod that forges: wait until another has taken over. {NOBODY}",
    )
    drain.set_defaults(command=_stand_down, seconds=None, hook=False)
    for each in (down, drain):
        each.add_argument("--reason", type=_reason, default="asked by forgectl", metavar="TEXT", help="for the log")
        each.add_argument(
            "--now", action="store_true", help="do not wait for a gap between the pool's slots (LEADERSHIP_SCHEDULE)"
        )
        each.add_argument(
            "--no-wait", dest="wait", action="store_false", help="do not wait until another pod has taken over"
        )
    back = commands.add_parser("come-back", help="end a stand-down or a drain")
    back.add_argument("--reason", type=_reason, default="asked by forgectl", metavar="TEXT", help="for the log")
    back.set_defaults(command=_stand_down, seconds=0.0, now=True, hook=False, wait=False)
    for each in (down, drain, back):
        each.add_argument("--json", action="store_true")
    audit = commands.add_parser("audit", help="does each worker hold exactly what it declares? exit 1 if not")
    audit.add_argument("--worker", choices=[str(w) for w in Worker], help="this one only")
    audit.add_argument("--json", action="store_true", help="every row, as JSON")
    audit.add_argument("--all", action="store_true", help="every row, not only what deviates")
    audit.set_defaults(command=_audit)
    settings = commands.add_parser("config", help="every variable with the value in effect")
    form = settings.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true")
    form.add_argument("--markdown", action="store_true", help="every variable with its default and its meaning")
    settings.set_defaults(command=_config)
    completion = commands.add_parser(
        "completion",
        help="what makes a shell complete this program's words",
        description="bash: forgectl completion bash > /etc/bash_completion.d/forgectl; "
        "zsh: forgectl completion zsh > a folder of $fpath, as _forgectl; "
        "fish: forgectl completion fish > ~/.config/fish/completions/forgectl.fish.",
    )
    completion.add_argument("shell", choices=("bash", "zsh", "fish", "tcsh"))
    completion.set_defaults(command=_completion)
    return parser


def _seconds(text: str) -> float:
    value = float(text)
    if not math.isfinite(value) or value <= 0:
        raise argparse.ArgumentTypeError("must be more than 0 seconds")
    return value


def _reason(text: str) -> str:
    if len(text) > 500 or not text.isprintable():
        raise argparse.ArgumentTypeError("must be one line of at most 500 characters")
    return text


# --- commands ---


def _status(config: Config, arguments: argparse.Namespace) -> None:
    if elsewhere(config) or across.names_a_place(arguments):
        from cli import pool  # with the client of the API: costs more than all the rest of this program

        pool.command(config, arguments)
        return
    picture = picture_of(config)
    shown = views.status(picture)
    gateway = picture.fresh(Worker.GATEWAY)
    port = gateway.body.port if gateway is not None and isinstance(gateway.body, GatewayState) else None
    shown["metrics_port"] = port
    print(json.dumps(shown, indent=2) if arguments.json else _table(shown))


def _table(shown: dict[str, Any]) -> str:
    rows = [
        ("pod", f"{shown['pod']} ({shown['namespace']}, {shown['network']})"),
        ("forging", _forging_text(shown)),
        *_leader_rows(shown),
        *_fence_rows(shown),
        *_credential_rows(shown["credentials"]),
        ("node", _node_text(shown["node"])),
        ("startup", f"{shown['startup']['state']}: {shown['startup']['reason']}"),
        ("ready", "yes" if shown["ready"]["ready"] else "no: " + "; ".join(shown["ready"]["reasons"])),
    ]
    rows += [(f"worker/{name}", _worker_text(worker)) for name, worker in shown["workers"].items()]
    port = shown["metrics_port"]
    rows.append(("worker/gateway", f"alive, port {port}" if port is not None else "silent"))
    rows.append(("sandbox", _sandbox_text(shown["sandbox"])))
    rows += [("warning", text) for text in shown["warnings"]]
    rows += _pool_rows(shown["pool"])
    width = max(len(printable(name)) for name, _ in rows)
    lines = [f"{printable(name):<{width}}  {printable(text)}" for name, text in rows]
    return "\n".join([*lines, *_clusters(shown["pool"])])


def _forging_text(shown: dict[str, Any]) -> str:
    """No only where that is proven."""
    if shown["forging"]:
        return "yes"
    if shown["fence"] is None:
        return "unknown: the actuator is silent"
    state = Fence(shown["fence"]["state"])
    return "no" if state is Fence.FENCED else f"not proven either way: {state}"


def _pool_rows(pool: dict[str, Any]) -> list[tuple[str, str]]:
    """With cluster management only."""
    if "lock" not in pool:
        return []
    rows = [
        ("cluster", f"{pool['cluster']}: {pool['state'] or 'unknown'}, priority {pool['priority']}: {pool['why']}"),
        (
            "pool lock",
            f"{pool['lock']} held by {pool['holder'] or 'nobody'}, token {pool['token']}; {pool['phase']} here",
        ),
    ]
    rows += [("pool lock", pool["objection"])] if pool["objection"] else []
    for member in pool["members"]:
        told = f"held by {member['holder'] or 'nobody'}" + (
            f", ours for {member['seconds_left']:.1f} s" if member["seconds_left"] else ""
        )
        told = told if member["api_ok"] else f"does not answer: {member['problem'] or 'not asked yet'}"
        rows.append((f"member/{member['name']}", told + ("" if member["crd_ok"] else "; the CRD is not installed")))
    return rows


def _clusters(pool: dict[str, Any]) -> list[str]:
    """As this pod's arbiter judges them, the best first; nothing without cluster management."""
    if not pool.get("clusters"):
        return []
    rows: list[tuple[str, ...]] = [("CLUSTER", "REGION", "STATE", "PRIORITY", "LEADER", "LOCK", "HEARD", "WHY NOT")]
    for each in pool["clusters"]:
        age = each["heard_seconds_ago"]
        rows.append(
            (
                each["name"],
                each["region"],
                each["state"] or "?",
                str(each["priority"]),
                each["leader"] or "-",
                "holds it" if each["name"] == pool["holder"] else "-",
                "ours" if age is None else f"{age:.0f} s ago",
                each["why_not"],
            )
        )
    return ["", *columns(rows)]


def _leader_rows(shown: dict[str, Any]) -> list[tuple[str, str]]:
    leader = shown["leader"]
    if leader is None:
        return [("role", "unknown: the elector is silent")]
    rows = [
        ("role", f"{leader['role']} for {leader['seconds']:.0f} s: {leader['reason']}"),
        ("lease", f"{leader['lease']} held by {leader['holder'] or 'nobody'}"),
    ]
    if shown["paused"]:
        rows.append(("paused", shown["paused"]))
    if shown["drained"] is not None:
        rows.append(("standing down", f"until `forgectl come-back`: {shown['drained']}"))
    elif shown["standing_down_seconds"]:
        rows.append(("standing down", f"{shown['standing_down_seconds']:.0f} s more"))
    return rows


def _fence_rows(shown: dict[str, Any]) -> list[tuple[str, str]]:
    fence = shown["fence"]
    if fence is None:
        rows = [("fence", "unknown: the actuator is silent")]
    else:
        proof = f" (proof: {fence['proof']})" if fence["state"] == "fenced" else ""
        rows = [("fence", f"{fence['state']}{proof} for {fence['seconds']:.0f} s: {fence['reason']}")]
    for issuer, grant in shown["grants"].items():
        rows.append((f"grant/{issuer}", f"{grant['seconds_left']:.1f} s left" if grant else "none"))
    return rows


def _credential_rows(credentials: dict[str, Any] | None) -> list[tuple[str, str]]:
    if credentials is None:
        return []
    rows, certificate = [], credentials["certificate"]
    if certificate is not None:
        rows.append(("certificate", f"counter {certificate['counter']}, {certificate['pool_id']}"))
    for finding in credentials["findings"]:
        remedy = f"; {finding['remedy']}" if finding["remedy"] else ""
        name = "keys" if finding["severity"] == Severity.INFO else f"keys: {finding['severity']}"
        rows.append((name, f"{finding['reason']}{remedy}"))
    return rows


def _node_text(node: dict[str, Any]) -> str:
    pid = f"pid {node['pid']}" if node["pid"] is not None else "no process"
    return f"{pid}, " + ("fit" if node["fit"] else "not fit: " + "; ".join(node["reasons"]))


def _worker_text(worker: dict[str, Any]) -> str:
    return f"alive, pid {worker['pid']}, up {worker['up_seconds']:.0f} s" if worker["alive"] else "silent"


def _sandbox_text(shown: dict[str, dict[str, Any] | None]) -> str:
    """All workers' in a line; what a worker can do beyond its declaration is a warning of its own."""
    known = {worker: each for worker, each in shown.items() if each is not None}
    if not known:
        return "unknown: every worker is silent"
    open_ = [worker for worker, each in known.items() if not each["closed"]]
    missing = sorted({what for each in known.values() for what in each["missing"]})
    violations = {worker: len(each["violations"]) for worker, each in known.items() if each["violations"]}
    ages = [each["audited_seconds_ago"] for each in known.values()]
    unheard = [worker for worker, each in shown.items() if each is None]
    unaudited = [worker for worker, each in known.items() if each["audited_seconds_ago"] is None]
    how = ", ".join(sorted({each["separation"] or "unknown" for each in known.values()}))
    counted = f"{sum(violations.values())} violation{'' if sum(violations.values()) == 1 else 's'}"
    named = f" ({', '.join(f'{worker}: {count}' for worker, count in violations.items())})" if violations else ""
    audited = f"not audited yet: {', '.join(unaudited)}" if unaudited else f"audited {max(ages):.0f} s ago"
    parts = [
        how + (f", NOT closed: {', '.join(open_)}" if open_ else ", closed"),
        "missing: " + ", ".join(missing) if missing else "nothing missing",
        f"{counted}{named}, {audited}",
    ]
    return "; ".join([*parts, f"silent: {', '.join(unheard)}"] if unheard else parts)


def _stand_down(config: Config, arguments: argparse.Namespace) -> None:
    if arguments.hook and (why := _left_alone(config, arguments.seconds)):
        print(json.dumps({"did": why}) if arguments.json else printable(why))
        return
    leaves = arguments.seconds != 0 and not arguments.hook and arguments.wait and _hands_over(config, arguments.now)
    reply = _command(config, StandDown(arguments.seconds, arguments.reason, arguments.now))
    if not reply.accepted:
        raise Failed(reply.message)
    if not arguments.json:
        print(printable(reply.message), flush=True)
    patience_s = HAND_OVER_S if arguments.seconds is None else min(HAND_OVER_S, arguments.seconds)
    successor, stands = _successor(config, patience_s) if leaves else ("", "")
    if arguments.json:
        print(json.dumps({"did": reply.message} | ({"handed_over_to": successor or None} if leaves else {})))
    elif successor:
        print(printable(f"{config.pod_name} does not forge any more, {successor} has the right to"))
    if leaves and not successor:
        raise Failed(
            f"{stands}. {config.pod_name} stays out all the same; `forgectl come-back` ends that",
            told=True,
        )


def _command(config: Config, command: StandDown) -> StandDownReply:
    """Send it to the elector.  Raises Failed."""
    until = time.monotonic() + PATIENCE_S
    try:
        sent = frame(encode(command))
    except ProtocolError as error:
        raise Failed(f"not sent: {error}") from None
    with connect(config, Worker.ELECTOR, config.command_socket, until) as sock:
        try:
            sock.sendall(sent)
            payload = next(frames(sock, until), None)
        except ConnectionError:
            raise Failed(f"the elector does not let us command it: {who_may(config, Worker.ELECTOR)}") from None
        except OSError as error:
            raise Failed(f"the elector did not take the command: {error.strerror or error}") from None
        if payload is None:
            raise Failed(
                "the elector closed the connection without an answer: it ends, or is of another version than this "
                "forgectl; use the one beside it"
            )
        try:
            return decode(payload, StandDownReply)
        except ProtocolError as error:
            raise Failed(f"the elector speaks another language: {error}") from None


def _hands_over(config: Config, at_once: bool) -> bool:
    """Whether this pod has the right to forge, and would give it up when told, not in a later gap between slots."""
    try:
        picture = picture_of(config)
    except Failed:
        return False  # what is wrong says the command's own answer
    waits = picture.prober is not None and picture.prober.quiet_at > picture.now and not at_once
    return picture.enabled and picture.actuator is not None and not waits


def _successor(config: Config, patience_s: float) -> tuple[str, str]:
    """Who has the right to forge after us, once our node is proven to be fenced, or else how it stands at the end."""
    until = time.monotonic() + patience_s
    stands = ""
    while time.monotonic() < until:
        try:
            picture = picture_of(config)
        except Failed as why:
            return "", str(why)
        told = headline(picture, Chronicle())
        fenced = picture.actuator is not None and picture.actuator.fence is Fence.FENCED
        if fenced and not picture.leading and told.forger not in ("", config.pod_name):
            return (f"{told.forger} in {told.cluster}" if picture.pool is not None else told.forger), ""
        late = f"nobody has taken over within {patience_s:g} s (is a standby ready?)"
        late = late if fenced else f"the hand-over is not done after {patience_s:g} s"
        stands = f"{late}: {told.title[:1].lower()}{told.title[1:]}"
        time.sleep(HAND_OVER_POLL_S)
    return "", stands


def _left_alone(config: Config, seconds: float) -> str:
    """What an operator asked for that a hook must not undo; empty: nothing.  Raises Failed."""
    answer = read_states(config, (Worker.ELECTOR,))[Worker.ELECTOR]
    if isinstance(answer, Failed):
        raise answer
    assert isinstance(answer.body, ElectorState)
    if answer.body.paused:  # a pod that ends keeps the lease for its next life then; a stand-down would give it away
        return f"paused {answer.body.paused}: the lease stays with this pod"
    if answer.body.drained:
        return "it stands down until `forgectl come-back`, as before"
    left_s = (answer.body.standing_down_until - boottime_ns()) / timing.SECOND
    return f"it stands down for {left_s:.0f} s, as before" if left_s > seconds else ""


def _audit(config: Config, arguments: argparse.Namespace) -> None:
    from cli import auditing  # with every worker's declaration: half a second that no other command needs

    auditing.command(config, arguments)


def _completion(shell: str) -> str:
    import shtab

    parser = _parser()
    parser.prog = "forgectl"
    for action in parser._subparsers._group_actions if parser._subparsers else ():
        assert isinstance(action, argparse._SubParsersAction)
        for shown in action._choices_actions:  # a line each, as in --help: shtab would take the whole description
            action.choices[shown.dest].description = shown.help
    return str(shtab.complete(parser, shell))


def _warn_of_spelling(environment: Mapping[str, str]) -> None:
    from config.spelling import misspelt  # with difflib: most commands do without

    for each in misspelt(environment):
        print(f"forgectl: {each}", file=sys.stderr)


def _config(config: Config, arguments: argparse.Namespace) -> None:
    if not arguments.markdown:
        _warn_of_spelling(os.environ)
    rows = [
        {"name": name, "value": value, "source": "environment" if name in config.explicit else "default"}
        for name, value in settings.effective(config)
    ]
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return
    if arguments.markdown:
        from config.markdown import configuration_table

        print(configuration_table().rstrip())
        return
    width = max(len(row["name"]) for row in rows)
    for row in rows:
        print(f"{row['name']:<{width}}  {row['value']}" + ("" if row["source"] == "environment" else "  (default)"))


if __name__ == "__main__":
    main()
