"""`forgectl doctor`, as arguments; what it does is imported when it is called."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from cli import across


def add_command(commands: Any) -> None:
    doctor = commands.add_parser(
        "doctor",
        help="is everything around this sidecar as it must be? findings, each with its remedy",
        description="Looks at configuration, RUN_DIR, workers, kernel, node, keys and API servers; it changes nothing. "
        "In the sidecar's container it looks at all of them, with the pod's account; elsewhere, or with an option of "
        "`where`, at the API servers alone. What it could not look at it says.",
        epilog="exit codes: 0 nothing is wrong (warnings are allowed); 1 an error; 2 usage or configuration; 3 no API "
        "server could be asked, and that is all that is wrong",
    )
    doctor.add_argument("--json", action="store_true", help="as JSON")
    across.add_where(doctor)
    doctor.set_defaults(command=command)


def command(environment: Mapping[str, str], arguments: argparse.Namespace) -> None:
    """Unlike every other command it gets the environment: a wrong one is a finding too.  Ends the process."""
    from cli import doctor  # with the client of the API: costs more than all the rest of this program

    doctor.command(environment, arguments)
