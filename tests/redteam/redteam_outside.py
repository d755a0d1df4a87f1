"""A process outside of any sandbox that runs the same attempts: each in a child of its own, since some succeed.

python redteam_outside.py SOCKET
"""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent / "hook"), str(Path(__file__).resolve().parents[2])]
import back_door  # noqa: E402


def main() -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(sys.argv[1])
    os.chmod(sys.argv[1], 0o666)
    listener.listen(8)
    while True:
        connection, _ = listener.accept()
        with connection:
            data = bytearray()
            while piece := connection.recv(1 << 16):
                data += piece
            connection.sendall(json.dumps(_in_a_child(json.loads(data))).encode())


def _in_a_child(request: dict[str, object]) -> object:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reader)
            os.write(writer, json.dumps(back_door.run(request)).encode())
        finally:
            os._exit(7)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        said = file.read()
    _, status = os.waitpid(pid, 0)
    if said:
        return json.loads(said)
    return {"done": "it became another program"} if status == 0 else {"fault": f"the child ended with {status}"}


if __name__ == "__main__":
    main()
