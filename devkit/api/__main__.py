"""`python -m devkit.api`: the embedded Kubernetes API as a process.

Prints its URL on one line when it is ready, then serves until SIGINT or SIGTERM.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import signal
import sys
from pathlib import Path

from devkit.api.embedded import EmbeddedApi
from devkit.api.server_protocol import ADMIN


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m devkit.api", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="on 127.0.0.1; 0: any free one")
    parser.add_argument("--kubeconfig", type=Path, help="write the administrator's kubeconfig here")
    parser.add_argument("--db", type=Path, help="SQLite file: objects outlive the process")
    parser.add_argument("--tokens", type=Path, help="CSV file of token,user: callers must show one")
    parser.add_argument("--tls", action="store_true", help="HTTPS: kubectl shows a token only then")
    parser.add_argument("--namespace", action="append", default=[], help="create it; may be repeated")
    parser.add_argument("--history", type=int, default=1000, help="changes a watch can go back")
    arguments = parser.parse_args()
    tokens = _read_tokens(arguments.tokens) if arguments.tokens else None
    api = EmbeddedApi(
        port=arguments.port,
        db=arguments.db,
        tokens=tokens,
        namespaces=arguments.namespace,
        history=arguments.history,
        tls=arguments.tls,
    )
    try:
        asyncio.run(_serve(api, arguments.kubeconfig))
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


async def _serve(api: EmbeddedApi, kubeconfig: Path | None) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    async with api:
        if kubeconfig is not None:
            api.write_kubeconfig(kubeconfig, ADMIN)
        print(api.url, flush=True)
        await ended.wait()


def _read_tokens(path: Path) -> dict[str, str]:
    with path.open(newline="", encoding="utf-8") as file:
        return {row[1]: row[0] for row in csv.reader(file) if row}


if __name__ == "__main__":
    sys.exit(main())
