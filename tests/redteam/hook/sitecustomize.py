"""Puts a back door into every worker of a test's pod: Python code that arrives later, when the sandbox is closed, is
run in the worker's main thread, in its event loop.

The interpreter imports this by itself when this folder is on PYTHONPATH; nothing of the product knows of it.  Before
the sandbox closes it makes one listening socket in the worker's own folder; from then on it is the worker's code like
any other, with the worker's rights and no more.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import os
import sys


class _Finder(importlib.abc.MetaPathFinder):
    """Stays out of the way but for one module."""

    def find_spec(self, name, path, target=None):  # type: ignore[no-untyped-def]
        if name != "workers.runtime":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            spec.loader.exec_module = _then_open_the_door(spec.loader.exec_module)
        return spec


def _then_open_the_door(exec_module):  # type: ignore[no-untyped-def]
    def both(module):  # type: ignore[no-untyped-def]
        exec_module(module)
        _open_the_door(module)

    return both


def _open_the_door(runtime):  # type: ignore[no-untyped-def]
    import asyncio
    import socket

    import back_door

    path = os.path.join(os.environ["RUN_DIR"], _WORKER, "redteam.sock")
    if os.path.lexists(path):  # of an earlier life
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    listener.bind(path)
    listener.listen(8)
    start = runtime.Context.start

    async def start_with_door(context):  # type: ignore[no-untyped-def]
        await start(context)
        back_door.keep("context", context)
        asyncio.get_running_loop().add_reader(listener.fileno(), back_door.serve_one, listener)

    runtime.Context.start = start_with_door


_WORKER = next((word[8:] for word in sys.orig_argv if word.startswith("workers.")), None)
if _WORKER is not None:
    sys.meta_path.insert(0, _Finder())
