"""`forgectl await`: end when this pod has got so far, for units and scripts that do what comes next.

The same answers as /startup-status and /ready, without a port, a certificate or a token.  A sidecar that is not there
yet is waited for as well.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any, Final

from cli.across import duration
from cli.asking import Failed, NotAllowed
from cli.looking import picture_of
from config import Config
from gateway import views
from gateway.views import Answer, Picture

PAUSE_S: Final = 0.2
WHAT: Final[dict[str, Callable[[Picture], Answer]]] = {"startup": views.startup, "ready": views.ready}


def add_command(commands: Any) -> None:
    wait = commands.add_parser(
        "await",
        help="end when the node may be started, or when this pod could take over",
        description="startup: the node may be started, its bootstrap files are there. ready: this pod forges, or could "
        "take over at once. Exit code 1, with the reasons, if it is not so in time.",
    )
    wait.add_argument("what", choices=tuple(WHAT))
    wait.add_argument(
        "--for", dest="seconds", type=duration, default=120.0, metavar="DURATION", help="at most, such as 2m (default)"
    )
    wait.add_argument("--json", action="store_true", help="as JSON")
    wait.set_defaults(command=_await)


def _await(config: Config, arguments: argparse.Namespace) -> None:
    until = time.monotonic() + arguments.seconds
    while True:
        try:
            answer = WHAT[arguments.what](picture_of(config))
            if answer.body["ready"]:
                if arguments.json:
                    print(json.dumps(answer.body))
                return
            why = "; ".join(answer.body["reasons"]) if "reasons" in answer.body else answer.body["reason"]
        except NotAllowed:
            raise
        except Failed as error:
            why = str(error)
        if time.monotonic() >= until:
            raise Failed(f"not within {arguments.seconds:g} s: {why}")
        time.sleep(PAUSE_S)
