"""A simulated cardano-node: a real process that treats SIGHUP, files and its own metrics as the real one does.

    python -m devkit.node run --socket-path P --record F --port 0 --port-file F --control P [node's own flags]

This file only makes the process: it replaces itself by an interpreter called `cardano-node` (first argument, and
process name once it runs), so that whoever looks for a node by name finds this one.  What it does then stands in
`node_process`, its options in `node_options`, its reading of credentials in `node_credentials`.
Works as a script by path too, without site-packages: it needs nothing but the standard library.
"""

from __future__ import annotations

import os
import sys

NAME = "cardano-node"


def command(arguments: list[str]) -> tuple[list[str], dict[str, str]]:
    """Argument list and environment of the node itself."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120  # pathlib costs 10 ms
    # An interpreter that is called by another name finds neither its own library nor ours.
    environment = {"PYTHONHOME": f"{sys.base_prefix}:{sys.base_exec_prefix}", "PYTHONPATH": root}
    return [NAME, "-P", "-S", "-m", "devkit.node_process", *arguments], {**os.environ, **environment}


def main() -> None:
    argv, environment = command(sys.argv[1:])
    os.execve(sys.executable, argv, environment)  # noqa: S606


if __name__ == "__main__":
    main()
