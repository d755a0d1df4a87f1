"""This pod as its workers describe it: every state read once, put together into one picture."""

from __future__ import annotations

import socket
import time

from cli.asking import PATIENCE_S, Failed, NotThere, connect, first, is_it_here, state_of
from config import Config
from gateway import views
from gateway.views import Picture
from ipc.messages import State, Worker
from kernel.clock import boottime_ns


def read_states(config: Config, workers: tuple[Worker, ...]) -> dict[Worker, State | Failed]:
    """The present state of each worker, or why there is none; takes PATIENCE_S at most for all together."""
    until = time.monotonic() + PATIENCE_S
    sockets: dict[Worker, socket.socket] = {}
    found: dict[Worker, State | Failed] = {}
    try:
        for worker in workers:
            try:
                sockets[worker] = connect(config, worker, config.state_socket(worker), until)
            except Failed as why:
                found[worker] = why
        for worker, sock in sockets.items():
            try:
                found[worker] = state_of(first(sock, until), worker)
            except Failed as why:
                found[worker] = why
    finally:
        for sock in sockets.values():
            sock.close()
    return found


def picture_of(config: Config) -> Picture:
    """What the workers say now.  Raises Failed if none answers."""
    answers = read_states(config, (*views.WATCHED, Worker.GATEWAY))
    states = {worker: answer for worker, answer in answers.items() if isinstance(answer, State)}
    if not states:
        for why in answers.values():
            if not isinstance(why, NotThere):
                raise Failed(f"no worker answers below {config.run_dir}: {why}")
        raise Failed(f"no worker answers below {config.run_dir}; {is_it_here(config)}")
    from importlib.metadata import version  # costs more than all the rest of this program

    return Picture(
        config=config,
        version=version("cardano-forge-manager"),
        now=boottime_ns(),
        started_at=0,
        states=states,
        connected=dict.fromkeys(states, True),
    )
