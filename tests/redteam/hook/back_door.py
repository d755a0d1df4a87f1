"""Runs what arrives: one connection, one request, one answer.

A request is JSON: modules as [name, source] in the order of their imports, the name of a function in the last of them,
and its one argument.  The answer is {"done": repr of what it returned}, {"errno": ..., "why": ...} of an OSError, or
{"fault": traceback}.
"""

from __future__ import annotations

import json
import socket
import sys
import traceback
import types
from typing import Any

KEPT: dict[str, Any] = {}
"""What code of one request leaves for the next, and the worker's own objects that code may want."""


def keep(name: str, thing: object) -> None:
    KEPT[name] = thing


def serve_one(listener: socket.socket) -> None:
    """Take one connection and answer it; the loop stands still meanwhile, so attempts must be short."""
    connection, _ = listener.accept()
    with connection:
        connection.settimeout(3)
        data = bytearray()
        while piece := connection.recv(1 << 16):
            data += piece
        connection.sendall(json.dumps(run(json.loads(data))).encode())


def run(request: dict[str, Any]) -> dict[str, object]:
    """The answer to one request."""
    try:
        module = None
        for name, source in request["modules"]:
            module = _module(name, source)
        return {"done": repr(getattr(module, request["function"])(request["argument"]))}
    except OSError as error:
        return {"errno": error.errno or 0, "why": str(error)}
    except BaseException:  # told to the test, whatever it is
        return {"fault": traceback.format_exc()}


def _module(name: str, source: str) -> types.ModuleType:
    """The module of this source; one that was there already is kept."""
    known = sys.modules.get(name)
    if known is not None and getattr(known, "arrived", None) == source:
        return known
    module = sys.modules[name] = types.ModuleType(name)
    module.__dict__["arrived"] = source
    try:
        exec(compile(source, name, "exec"), module.__dict__)
    except BaseException:
        del sys.modules[name]
        raise
    return module
