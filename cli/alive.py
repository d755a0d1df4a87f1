"""`forgectl alive`: does every worker of this container speak?  For a container engine's health check.

Alive says nothing of forging: a standby is alive, and so is a pod whose node is down.  Where each worker has a
container, the one that runs as our user is asked, since the others' sockets are not for it.
"""

from __future__ import annotations

import argparse
import json
import os
from typing import Any

from cli.asking import Failed, need_sidecar
from cli.looking import read_states
from config import Config
from ipc.messages import State, Worker
from kernel.clock import boottime_ns


def add_command(commands: Any) -> None:
    alive = commands.add_parser(
        "alive",
        help="does every worker of this container speak? for a health check",
        description="Says nothing of forging. Exit code 0 if all are alive, 1 if one is silent. Where each worker "
        "has a container: the one that runs as this user.",
    )
    alive.add_argument("--json", action="store_true", help="as JSON")
    alive.set_defaults(command=_alive)


def _alive(config: Config, arguments: argparse.Namespace) -> None:
    need_sidecar(config)
    asked = ours(config)
    now = boottime_ns()
    answers = read_states(config, asked)
    silent = [
        f"{worker} ({answer if isinstance(answer, Failed) else 'its last word has expired'})"
        for worker, answer in answers.items()
        if not (isinstance(answer, State) and now < answer.valid_until)
    ]
    if silent:
        raise Failed("silent: " + "; ".join(silent))
    print(json.dumps({"alive": asked}) if arguments.json else "alive: " + ", ".join(asked))


def ours(config: Config) -> tuple[Worker, ...]:
    """Whom to ask: the worker whose user we are, else all of them."""
    mine = tuple(worker for worker in Worker if config.worker_uids.get(worker) == os.getuid())
    return mine or tuple(Worker)
