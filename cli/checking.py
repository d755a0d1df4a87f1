"""`forgectl check`: would a node forge with these keys?  Reads files, asks nobody, and shows nothing that is secret."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from cardano.envelope import KES_SIGNING_KEY, KINDS, OPERATIONAL_CERTIFICATE, VRF_SIGNING_KEY
from config import Config

OPTIONS: Final = {KES_SIGNING_KEY: "--kes-key", VRF_SIGNING_KEY: "--vrf-key", OPERATIONAL_CERTIFICATE: "--op-cert"}


def add_command(commands: Any) -> None:
    check = commands.add_parser(
        "check",
        help="would a node forge with these keys? works on any machine",
        description="Examine a KES key, a VRF key and an operational certificate: whether they belong together and to "
        "the pool, are good now, and for how long. Reads files and asks nobody; shows nothing secret.",
        epilog="exit codes: 0 a node can forge with them; 1 it cannot; 2 usage",
    )
    check.add_argument(
        "folder", nargs="?", type=Path, metavar="DIR", help="where the files are (default: SOURCE_KES_KEY and so on)"
    )
    check.add_argument("--network", help="mainnet, preprod, preview or another (default: CARDANO_NETWORK)")
    check.add_argument(
        "--genesis", type=Path, metavar="FILE", help="the network's Shelley genesis file (default: SHELLEY_GENESIS)"
    )
    check.add_argument("--pool", metavar="ID", help="whose they should be: pool1... or its digits (default: POOL_ID)")
    check.add_argument(
        "--counter", type=_natural, metavar="N", help="the highest certificate counter that is known to be on chain"
    )
    check.add_argument("--at", type=_instant, metavar="TIME", help="judge for then, such as 2026-12-24T18:00Z")
    for kind, option in OPTIONS.items():
        check.add_argument(option, type=Path, metavar="FILE", help=f"{KINDS[kind]}, if not found in DIR by itself")
    check.add_argument("--kes-agent", action="store_true", help="the KES key is with an agent: look for none")
    check.add_argument("--json", action="store_true")
    check.set_defaults(command=_command)


def _command(config: Config, arguments: argparse.Namespace) -> None:
    from cli import examining  # with CBOR and libsodium, which no other command needs

    examining.command(config, arguments)


def _natural(text: str) -> int:
    number = int(text)
    if not 0 <= number < 2**64:
        raise argparse.ArgumentTypeError("must be 0 or more")
    return number


def _instant(text: str) -> float:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError("must be a time such as 2026-12-24T18:00Z") from None
    return (instant if instant.tzinfo is not None else instant.replace(tzinfo=UTC)).timestamp()
