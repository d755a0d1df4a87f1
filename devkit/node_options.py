"""The simulated node's options: cardano-node's own, and those that make it behave as tests want."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

STYLES: Final = ("classic", "new", "nosuffix")

_IGNORED: Final = (
    "--config",
    "--topology",
    "--database-path",
    "--immutable-database-path",
    "--volatile-database-path",
    "--host-addr",
    "--host-ipv6-addr",
    "--bulk-credentials-file",
    "--byron-delegation-certificate",
    "--byron-signing-key",
    "--tracer-socket-path-connect",
    "--tracer-socket-path-accept",
    "--shutdown-ipc",
    "--mempool-capacity-override",
)
"""Options of cardano-node with a value that changes nothing here."""


def parser() -> argparse.ArgumentParser:
    """Milliseconds and seconds as the option's name says."""
    made = argparse.ArgumentParser(
        prog="python -m devkit.node", description="A simulated cardano-node.", allow_abbrev=False
    )
    made.add_argument("run", choices=["run"])
    node = made.add_argument_group("as cardano-node has them")
    node.add_argument("--socket-path", type=Path, required=True)
    node.add_argument("--shelley-kes-key", type=Path)
    node.add_argument("--shelley-kes-agent-socket", type=Path)
    node.add_argument("--shelley-vrf-key", type=Path)
    node.add_argument("--shelley-operational-certificate", type=Path)
    node.add_argument(
        "--start-as-non-producing-node", "--non-producing-node", dest="non_producing", action="store_true"
    )
    node.add_argument("--validate-db", action="store_true", help="ignored")
    for name in _IGNORED:
        node.add_argument(name, help="ignored")

    about = made.add_argument_group("what it tells")
    about.add_argument("--name", default="node", help="in its record")
    about.add_argument("--record", type=Path, help="JSON lines: when it forged (devkit.record)")
    about.add_argument("--port", type=int, default=0, help="of its metrics on 127.0.0.1; 0: any")
    about.add_argument("--port-file", type=Path, help="gets the port once the metrics are served")
    about.add_argument("--metric-style", choices=STYLES, default="classic")
    about.add_argument("--gauge-starts-at-1", action="store_true", help="as issues 6113 and 6576 have it")
    about.add_argument("--metrics-hang", action="store_true", help="accept connections, never answer")
    about.add_argument("--network", default="mainnet", help="whose slots it counts; custom: one a second")

    how = made.add_argument_group("how it behaves")
    how.add_argument("--early-ms", type=float, default=0.0, help="with credentials read and no handler installed")
    how.add_argument("--replay-seconds", type=float, default=0.0, help="before consensus is up")
    how.add_argument("--flag-gap-ms", type=float, default=0.0, help="from open socket to the initial forging")
    how.add_argument("--reload-ms", type=float, default=5.0, help="of one SIGHUP; the files are read half way")
    how.add_argument("--cancel-ms", type=float, default=0.0, help="by which forging lags behind its gauge")
    how.add_argument("--stop-ms", type=float, default=50.0, help="from SIGTERM, forging off, to the end")
    how.add_argument("--deaf", action="store_true", help="its SIGHUP handler does nothing")
    how.add_argument("--control", type=Path, help="Unix socket that takes one command a connection")
    how.add_argument("--die-with", type=int, metavar="PID", help="be killed when this parent ends")
    return made
