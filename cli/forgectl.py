"""`forgectl`: look at this pod's workers, and ask it to stand down.

Works inside the sidecar's container, on the sockets below RUN_DIR; nothing is sent over a network.
Exit codes: 0 done, 1 something is wrong (nothing reachable, refused), 2 usage or configuration.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import signal
import socket
import sys
from typing import Any, Final

from config import Config, ConfigError, load
from config.variables import variables
from gateway import views
from gateway.views import Picture
from ipc.frames import FrameReader, frame
from ipc.messages import (
    ProtocolError,
    StandDown,
    StandDownReply,
    State,
    Worker,
    decode,
    decode_state,
    encode,
)
from ipc.peers import peer_of
from kernel.clock import boottime_ns
from policy import timing

TIMEOUT_S: Final = 3.0


class Failed(Exception):  # noqa: N818  # said to the operator, then exit 1
    """What could not be done, in one line."""


def main() -> None:
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    arguments = _parser().parse_args()
    environment = dict(os.environ)
    if arguments.run_dir:
        environment["RUN_DIR"] = arguments.run_dir
    try:
        config = load(environment)
        sys.exit(arguments.command(config, arguments))
    except ConfigError as error:
        for mistake in error.mistakes:
            print(f"forgectl: {mistake}", file=sys.stderr)
        sys.exit(2)
    except Failed as error:
        print(f"forgectl: {error}", file=sys.stderr)
        sys.exit(1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="forgectl", description=__doc__.splitlines()[0])
    parser.add_argument("--run-dir", help="RUN_DIR of the sidecar (default: from the environment)")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    status = commands.add_parser("status", help="who forges, and why")
    status.add_argument("--json", action="store_true")
    status.set_defaults(command=_status)
    inspect = commands.add_parser("inspect", help="one worker's state as it is")
    inspect.add_argument("worker", choices=[str(w) for w in Worker])
    inspect.set_defaults(command=_inspect)
    down = commands.add_parser("stand-down", help="hand over and stay out of the election for a while")
    down.add_argument("--for", dest="seconds", type=float, default=timing.STAND_DOWN_DEFAULT_S, metavar="SECONDS")
    down.add_argument("--reason", default="asked by forgectl")
    down.set_defaults(command=_stand_down)
    back = commands.add_parser("come-back", help="end a stand-down")
    back.add_argument("--reason", default="asked by forgectl")
    back.set_defaults(command=_stand_down, seconds=0.0)
    settings = commands.add_parser("config", help="every variable with its value")
    settings.add_argument("--json", action="store_true")
    settings.set_defaults(command=_config)
    return parser


def _connect(path: str) -> socket.socket:
    """A connection to a socket of ours.  Raises Failed."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(TIMEOUT_S)
    try:
        sock.connect(path)
    except OSError as error:
        sock.close()
        raise Failed(f"{path}: {error.strerror or error}; is the sidecar running here?") from None
    if peer_of(sock).uid != os.getuid():
        sock.close()
        raise Failed(f"{path} is served by uid {peer_of(sock).uid}; run forgectl as that user")
    return sock


def _receive(sock: socket.socket) -> bytes:
    """One frame.  Raises Failed."""
    reader = FrameReader()
    try:
        while data := sock.recv(65536):
            if payloads := reader.feed(data):
                return payloads[0]
    except (TimeoutError, ProtocolError, OSError) as error:
        raise Failed(f"no answer ({error})") from None
    raise Failed("the connection was closed without an answer")


def read_state(config: Config, worker: Worker) -> State:
    """A worker's present state.  Raises Failed."""
    with _connect(str(config.state_socket(worker))) as sock:
        try:
            return decode_state(_receive(sock), worker)
        except ProtocolError as error:
            raise Failed(f"the {worker} speaks another language: {error}") from None


def _status(config: Config, arguments: argparse.Namespace) -> int:
    states: dict[Worker, State] = {}
    for worker in views.WATCHED:
        try:
            states[worker] = read_state(config, worker)
        except Failed:
            continue
    if not states:
        raise Failed(f"no worker answers below {config.run_dir}; is the sidecar running here?")
    now = boottime_ns()
    picture = Picture(
        config=config,
        version="",
        now=now,
        started_at=0,
        states=states,
        connected=dict.fromkeys(states, True),
    )
    shown = views.status(picture)
    print(json.dumps(shown, indent=2) if arguments.json else _table(shown))
    return 0


def _table(shown: dict[str, Any]) -> str:
    fence, leader, node = shown["fence"] or {}, shown["leader"] or {}, shown["node"]
    rows = [
        ("pod", f"{shown['pod']} ({shown['namespace']})"),
        ("forging", "yes" if shown["forging"] else "no"),
        ("role", f"{leader.get('role', 'unknown')}: {leader.get('reason', 'the elector is silent')}"),
        ("lease", f"{leader.get('lease', '?')} held by {leader.get('holder') or 'nobody'}"),
        ("fence", f"{fence.get('state', 'unknown')}: {fence.get('reason', 'the actuator is silent')}"),
    ]
    for issuer, grant in shown["grants"].items():
        rows.append((f"grant/{issuer}", f"{grant['seconds_left']:.1f} s left" if grant else "none"))
    rows.append(("node", f"pid {node['pid']}, " + ("fit" if node["fit"] else "unfit: " + "; ".join(node["reasons"]))))
    rows += [(f"worker/{name}", "alive" if w["alive"] else "silent") for name, w in shown["workers"].items()]
    rows += [("warning", text) for text in shown["warnings"]]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {text}" for name, text in rows)


def _inspect(config: Config, arguments: argparse.Namespace) -> int:
    state = read_state(config, Worker(arguments.worker))
    print(json.dumps(dataclasses.asdict(state), indent=2))
    return 0


def _stand_down(config: Config, arguments: argparse.Namespace) -> int:
    with _connect(str(config.command_socket)) as sock:
        sock.sendall(frame(encode(StandDown(float(arguments.seconds), arguments.reason))))
        try:
            reply = decode(_receive(sock), StandDownReply)
        except ProtocolError as error:
            raise Failed(f"the elector speaks another language: {error}") from None
    if not reply.accepted:
        raise Failed(reply.message)
    print(reply.message)
    return 0


def _config(config: Config, arguments: argparse.Namespace) -> int:
    rows = [
        {
            "name": v.name,
            "value": os.environ.get(v.name) or v.default,
            "source": "environment" if v.name in config.explicit else "default",
        }
        for v in variables()
    ]
    if arguments.json:
        print(json.dumps(rows, indent=2))
    else:
        width = max(len(row["name"]) for row in rows)
        print("\n".join(f"{r['name']:<{width}}  {r['value']}  ({r['source']})" for r in rows))
    return 0


if __name__ == "__main__":
    main()
