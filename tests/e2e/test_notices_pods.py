"""A fail-over as somebody far away is told of it: by both pods, each thing once, signed."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devkit.api.server_protocol import SyncApiServer
from devkit.pods import Cluster, Pod

from lanes import NAMESPACES

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
KEY = b"a key of notices, for this test alone"


class Receiver:
    """Keeps what it is told; answers 503 as long as it is asked to."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        """What was answered with 200, as it came."""
        self.refused = 0
        self.bad_signatures = 0
        self.busy = False
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:  # the library's name
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(receiver.take(self.headers, body))
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/hook"

    def take(self, headers: Any, body: bytes) -> int:
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        expected = "v1," + base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
        if not hmac.compare_digest(expected, headers["webhook-signature"] or ""):
            self.bad_signatures += 1
            return 401
        if self.busy:
            self.refused += 1
            return 503
        notice = json.loads(body)
        assert notice["id"] == headers["webhook-id"]
        self.told.append(notice)
        return 200

    def of(self, pod: Pod, *kinds: str) -> list[str]:
        """The types that this pod told of, as far as they are of these kinds."""
        names = [
            each["type"].removeprefix("io.cardano.forge.") for each in self.told if each["data"]["pod"] == pod.name
        ]
        return [name for name in names if name.partition(".")[0] in kinds]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
def cluster(api: SyncApiServer, receiver: Receiver, tmp_path: Path) -> Iterator[Cluster]:
    key = tmp_path / "notify" / "key"
    key.parent.mkdir()
    key.write_bytes(KEY + b"\n")
    environment = {"NOTIFY_URL": receiver.url, "NOTIFY_SECRET_FILE": str(key)}
    with Cluster(api, 2, namespace=NAMESPACES[0], environment=environment) as made:
        made.wait_healthy(90)
        yield made


def test_a_failover_is_told_by_both_pods_each_thing_once_and_no_restart_repeats_it(
    cluster: Cluster, receiver: Receiver
) -> None:
    first, (second,) = cluster.leader(), cluster.standbys()

    def told(pod: Pod, expected: list[str]) -> None:
        cluster.wait_for(lambda: receiver.of(pod, "pod", "forging") == expected, 40, f"{pod.name} tells {expected}")

    told(first, ["pod.started", "forging.started"])
    told(second, ["pod.started"])
    cluster.wait_healthy(60)
    audit = first.forgectl("audit", "--all")
    assert audit.returncode == 0, audit.stdout + audit.stderr
    receiver.busy = True
    assert first.forgectl("stand-down", "--for", "5").returncode == 0
    cluster.wait_for_one_forger(30, other_than=first)
    cluster.wait_for(lambda: receiver.refused >= 4, 40, "both try, and try again")
    for pod in cluster.pods:
        pod.kill_worker("prober")
    receiver.busy = False
    told(first, ["pod.started", "forging.started", "forging.stopped"])
    told(second, ["pod.started", "forging.started"])
    (stopped,) = (each for each in receiver.told if each["type"].endswith("forging.stopped"))
    started = next(each for each in reversed(receiver.told) if each["data"]["pod"] == second.name)
    assert stopped["source"] == f"/{cluster.namespace}/{first.name}"
    assert stopped["data"]["seconds"] > 0
    assert stopped["data"]["token"] + 1 == started["data"]["token"]
    cluster.wait_healthy(60)
    second.terminate()
    told(second, ["pod.started", "forging.started", "forging.stopped"])
    cluster.wait_for_one_forger(30, other_than=second)
    told(first, ["pod.started", "forging.started", "forging.stopped", "forging.started"])
    assert len({each["id"] for each in receiver.told}) == len(receiver.told)
    assert receiver.bad_signatures == 0
    assert cluster.overlap_s(cluster.began) == 0
