"""A crowd around the gateways of some pods: who scrape, who look, and who never finish what they began to say."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from devkit.pod import Pod

SCRAPE: Final = b"GET /metrics HTTP/1.1\r\nHost: pod\r\n\r\n"
LOOK: Final = b"GET /events HTTP/1.1\r\nHost: pod\r\n\r\n"
DRIBBLE: Final = b"GET /metrics HTTP/1.1\r\nX: "
SCRAPING_THREADS: Final = 8
HOLDING_THREADS: Final = 4
PAUSE_S: Final = 1.0
"""Between two waves of scrapes."""
PATIENCE_S: Final = 2.0


class Siege:
    """Lasts as long as its `with`."""

    def __init__(self, pods: Sequence[Pod], *, scrapers: int = 1000, holders: int = 200) -> None:
        """scrapers: connections at once, in waves; holders: half of them streams, half that go on byte by byte."""
        self._stop = threading.Event()
        self._ports = [int(pod.address.rpartition(":")[2]) for pod in pods]
        self._scrapers, self._holders = scrapers // SCRAPING_THREADS, holders // HOLDING_THREADS
        jobs = [self._scrape] * SCRAPING_THREADS + [self._hold] * HOLDING_THREADS
        self._threads = [threading.Thread(target=job, args=(number,), daemon=True) for number, job in enumerate(jobs)]
        self.answers = 0
        """Scrapes that were answered."""

    def __enter__(self) -> Siege:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _scrape(self, number: int) -> None:
        port = self._ports[number % len(self._ports)]
        while not self._stop.is_set():
            with contextlib.ExitStack() as stack:
                asked = [_connected(stack, port, SCRAPE) for _ in range(self._scrapers)]
                for sock in filter(None, asked):
                    with contextlib.suppress(OSError):  # cut: there are too many
                        self.answers += sock.recv(4096).startswith(b"HTTP/1.1 200")
            self._stop.wait(PAUSE_S)

    def _hold(self, number: int) -> None:
        port = self._ports[number % len(self._ports)]
        with contextlib.ExitStack() as stack:
            held = [_connected(stack, port, (LOOK, DRIBBLE)[n % 2]) for n in range(self._holders)]
            while not self._stop.wait(PAUSE_S / 2):
                for n in range(1, len(held), 2):
                    if not _goes_on(held[n]):
                        held[n] = _connected(stack, port, DRIBBLE)


def _goes_on(sock: socket.socket | None) -> bool:
    """Another byte of an endless header; False: it was cut."""
    if sock is None:
        return False
    try:
        sock.send(b"x")
    except OSError:
        sock.close()
        return False
    return True


def _connected(stack: contextlib.ExitStack, port: int, said: bytes) -> socket.socket | None:
    """None: it was not let in."""
    try:
        sock = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S))
        sock.sendall(said)
    except OSError:
        return None
    return sock


def peak_mib(pod: Pod) -> float:
    """The most memory that the pod's gateway has had resident (VmHWM, proc_pid_status(5))."""
    with Path(f"/proc/{pod.worker_pids()['gateway']}/status").open() as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))
