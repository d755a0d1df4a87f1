"""`forgectl watch`, as arguments; what it does is imported when it is called."""

from __future__ import annotations

import argparse
from typing import Any

from config import Config


def add_command(commands: Any) -> None:
    """Add it to forgectl's (what `add_subparsers` gave)."""
    watch = commands.add_parser(
        "watch",
        help="this pod, live: who forges, why, until when, and what happened",
        description="Fills the terminal and follows the workers; q or Ctrl-C ends it. Where standard output is no "
        "terminal (or TERM is dumb), a line for each change. NO_COLOR is heeded.",
    )
    watch.add_argument("--json", action="store_true", help="each change as a JSON object a line, on a terminal too")
    watch.add_argument("--lines", action="store_true", help="a line for each change, on a terminal too")
    watch.set_defaults(command=_watch)


def _watch(config: Config, arguments: argparse.Namespace) -> None:
    from cli import watching  # with asyncio

    watching.command(config, arguments)
