"""Key material is where it must be, and nowhere else: one pod goes through everything, with keys that are known here.

Where it must be: in the source, in the exposed files while the pod may forge, and while the actuator copies them in
pages that the kernel keeps out of core dumps.  Whatever else can be seen or read of the pod is searched for all that
is secret of each set that it ever met.
"""

from __future__ import annotations

import contextlib
import errno
import http.server
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from canaries import BROKEN, Files, Search, canary, seed_of

from cli import asking
from config import load
from devkit.api.embedded import EmbeddedApi
from devkit.fleet import Fleet
from ipc.messages import DEBUG_REPLIES, DebugWhat, Worker
from workers.events import ALWAYS, EVENTS, TRANSITIONS

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE_S = 120
CUT = "cut in the middle of its digits"
WORKERS = [str(worker) for worker in Worker]
PROCESSES = ["supervisord", *WORKERS]
FORGECTL = (
    *("status", "status --json", "clusters", "history", "config", "audit --all", "audit --json", "check --json"),
    *("trace --for 2", "trace --for 2 --heartbeats --json", "log-level actuator", "stand-down --for 600", "come-back"),
    *(f"inspect {worker}" for worker in WORKERS),
    *(f"inspect actuator --{what}" for what in ("json", "decisions", "subscriptions", "counters", "tasks")),
)
SEEN = {
    "logs": ["DEBUG", "cut short", *WORKERS],
    "answers over HTTP": ["cardano_credential_findings", "cut short"],
    "states": ["cut short", *(f"{worker.title()}State" for worker in WORKERS)],
    "debug answers": [reply.__name__ for reply in DEBUG_REPLIES.values()],
    "forgectl's output": ["cut short", "pool's cold signing key"],
    "objects on the API server": ["Lease", "CardanoLeader", "CardanoForgeCluster", "Event"],
    "notices": ["forging.started", "forging.stopped", "credentials.error", "webhook-signature"],
    "files": ["supervisord.pid", "kubeconfig", "prober/ledger"],
    "environments and command lines": ["workers.actuator", "SOURCE_KES_KEY"],
}
"""Where keys are searched for, and words that must be there: there was something to see when it was looked at."""


class Receiver:
    """Of notices: keeps whatever it is sent, heads too."""

    def __init__(self) -> None:
        self.content: list[bytes] = []
        content = self.content

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:  # the library's name
                content.append(bytes(self.headers) + self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(PATIENCE_S)


class Recorder:
    """Keeps what a peer sends; connects again whenever it has gone, until the end."""

    def __init__(self, address: str | tuple[str, int], question: str = "") -> None:
        self._address, self._question = address, question.encode()
        self._ended = threading.Event()
        self._content = bytearray()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        family = socket.AF_UNIX if isinstance(self._address, str) else socket.AF_INET
        while not self._ended.wait(0.05):
            with contextlib.suppress(OSError), socket.socket(family) as sock:  # not there yet, or killed
                sock.connect(self._address)
                sock.sendall(self._question)
                while data := sock.recv(65536):
                    self._content += data

    def end(self) -> bytes:
        """When the peer has ended, too."""
        self._ended.set()
        self._thread.join(PATIENCE_S)
        return bytes(self._content)


def memory(pid: int, *, as_dumped: bool = False) -> Iterator[tuple[str, bytes]]:
    """What a process can write to.  as_dumped: without the pages that no core dump has (MADV_DONTDUMP)."""
    mappings = re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", Path(f"/proc/{pid}/smaps").read_text(), flags=re.MULTILINE)[1:]
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as pages:
        for mapping in mappings:
            line, _, more = mapping.partition("\n")
            span, access, *_ = line.split()
            if "w" not in access or (as_dumped and "dd" in more.partition("VmFlags:")[2].split()):
                continue
            first, last = (int(end, 16) for end in span.split("-"))
            try:
                pages.seek(first)
                yield line, pages.read(last - first)
            except OSError as error:
                if error.errno != errno.EIO:  # unmapped since
                    raise


class Life:
    """A pod's life from its first start to its stop, and what was seen in it."""

    def __init__(self, folder: Path, mode: str) -> None:
        """Raises TimeoutError where the pod does not do what this is about."""
        self.folder = folder
        self.first = canary(folder / "first", "first")
        self.second = canary(folder / "second", "second", counter=1, pool="first")
        self.broken = {name: canary(folder / name, name, counter=10 + i) for i, name in enumerate(BROKEN)}
        sets = (self.first, self.second, *self.broken.values())
        keys_of_the_node = {name: secret for one in sets for name, secret in one.secrets.items()}
        self.keys = Search(keys_of_the_node)
        notify_key = seed_of("notices")
        self.search = Search(keys_of_the_node | {"the key for notices": notify_key})
        """Beside the node's keys the one that only the prober has, whose memory it must be in."""
        notify_file = folder / "notify" / "key"
        notify_file.parent.mkdir()
        notify_file.write_bytes(notify_key)
        self.seen: dict[str, list[tuple[str, bytes]]] = defaultdict(list)
        """Where -> what was looked at, and its content."""
        self.in_memory: dict[str, list[str]] = {}
        """Process -> what of the keys was there; missing: we may not look."""
        self.core_limits: dict[str, str] = {}
        recorders: dict[tuple[str, str], Recorder] = {}
        with EmbeddedApi.threaded() as api:
            self.receiver = receiver = Receiver()
            given = {"LOG_LEVEL": "DEBUG", "LOG_FORMAT": "json", "CREDENTIAL_MODE": mode}
            given |= {"NOTIFY_URL": receiver.url, "NOTIFY_SECRET_FILE": str(notify_file)}
            with (
                contextlib.closing(receiver),
                Fleet({"home": api}, pods_each=1, environment=given, seed=seed_of("first")) as self.fleet,
            ):
                (self.pod,) = self.fleet.pods
                self.config = load(self.pod._environment)
                address = ("127.0.0.1", int(api.url.rpartition(":")[2]))
                for path in self._kinds_of_objects():  # every version of each; a chunk is a whole object
                    question = f"GET {path}?watch=true HTTP/1.1\r\nHost: api\r\n\r\n"
                    recorders["objects on the API server", path] = Recorder(address, question)
                for worker in Worker:
                    recorders["states", worker] = Recorder(str(self.config.state_socket(worker)))
                self._live()
                for log in (self.pod.log, self.pod.root / "node.log"):
                    self.seen["logs"].append((log.name, log.read_bytes()))
            self.seen["notices"] += [("a notice", content) for content in receiver.content]
        for (where, name), recorder in recorders.items():
            self.seen[where].append((name, recorder.end()))

    def _kinds_of_objects(self) -> Iterator[str]:
        admin = self.fleet.admins["home"]
        groups = [each for group in admin.request("GET", "/apis").body["groups"] for each in group["versions"]]
        for group in ("/api/v1", *(f"/apis/{each['groupVersion']}" for each in groups)):
            for kind in admin.request("GET", group).body["resources"]:
                if "watch" in kind["verbs"]:
                    yield f"{group}/{kind['name']}"

    def _live(self) -> None:
        self._wait(lambda: self._forges_with(0), "the first set forges")
        self._look_around("armed")
        self._put(self.second.files)
        self._wait(lambda: self._forges_with(1), "a rotation is taken up")
        self._look_around("rotated")
        killed = self.pod.worker_pids()["actuator"]
        self.pod.kill_worker("actuator")
        self._wait(lambda: self.pod.worker_pids().get("actuator", killed) != killed, "a new actuator")
        self._wait(lambda: self._forges_with(1), "the new actuator has it forge")
        for name in BROKEN:
            self._break(name)
            self._look_around(name, calm=False)
            self._forgectl("check", f"check {self.pod.secrets} --json")
        self._put(self.second.files)
        self._wait(lambda: self._examined(1), "the good set is back")
        self._forgectl(f"check {self.folder / 'first'}", *FORGECTL)
        self._ask_everything()
        self._wait(lambda: self._forges_with(1), "it has come back")
        self._look_around("much later")
        self._forgectl("stand-down --for 600")
        self._wait(lambda: self._fence() == "fenced", "it is fenced")
        self._look_around("fenced")
        self._break(CUT)
        self._forgectl("come-back")
        self._wait(lambda: "SOURCE_KES_KEY" in self.pod.get("/ready")[1], "it cannot forge, and says why")
        self._look_around("asked to forge with a broken set", calm=False)
        # a set that is broken for less than the notice's grace is told to nobody
        self._wait(lambda: any(b"credentials.error" in each for each in self.receiver.content), "somebody is told")
        self._put(self.second.files)
        self._wait(lambda: self._forges_with(1), "it forges again")
        self.pod.terminate()
        self._wait(lambda: not self.pod.sidecar_running(), "it has ended")
        self._look_at_files("ended", [])

    # --- doing ---

    def _wait(self, what: Callable[[], bool], why: str) -> None:
        self.fleet.wait_for(what, PATIENCE_S, why)

    def _put(self, files: Files) -> None:
        for name, content in files.items():
            fresh = self.pod.secrets / ".fresh"
            fresh.write_bytes(content)
            fresh.chmod(0o400)
            fresh.replace(self.pod.secrets / name)

    def _break(self, name: str) -> None:
        """Each broken set has keys of its own: what is left of them tells where it came from."""
        files = self.broken[name].files
        changed = BROKEN[name](files)
        self._put(files | changed)
        counter = None if "node.cert" in changed else 10 + list(BROKEN).index(name)
        self._wait(lambda: self._examined(counter), f"the actuator has read it: {name}")

    def _examined(self, counter: int | None) -> bool:
        shown = self.pod.status().get("credentials")
        return shown is not None and (shown["certificate"] or {}).get("counter") == counter

    def _fence(self) -> str:
        return str((self.pod.status().get("fence") or {}).get("state"))

    def _forges_with(self, counter: int) -> bool:
        """By the node's own word."""
        if self._fence() != "armed" or self.fleet.forgers() != [self.pod]:
            return False
        return bool(json.loads(self.pod.node_control("state"))["counter"] == counter)

    # --- looking ---

    def _look_around(self, when: str, *, calm: bool = True) -> None:
        """calm: the actuator has no reason to have a file in its hands; all other processes are looked at, too."""
        for path in ("/metrics", "/status", "/ready", "/health", "/startup-status"):
            self.seen["answers over HTTP"].append((f"{path}, {when}", self.pod.get(path)[1].encode()))
        links = [self.pod.ipc / name for name in self.first.files]
        exposed = [*links, *(self.pod.run_dir / "actuator" / "keys").glob("set-*/*")]
        self._look_at_files(when, [] if self._fence() == "fenced" else exposed)
        pids = {"supervisord": self.pod.sidecar_pids()[0], **self.pod.worker_pids()}
        for name in PROCESSES if calm else ["actuator"]:
            proc = Path(f"/proc/{pids[name]}")
            self.core_limits[name] = (proc / "limits").read_text().partition("Max core file size")[2]
            with contextlib.suppress(PermissionError):  # not dumpable, or not ours to trace; root may all the same
                for file in ("cmdline", "environ"):
                    what = (f"{file} of {name}, {when}", (proc / file).read_bytes())
                    self.seen["environments and command lines"].append(what)
                for line, content in memory(pids[name], as_dumped=not calm):
                    found = self.keys.found(content, coarse=True)
                    self.in_memory.setdefault(name, []).extend(f"{what} in {line}, {when}" for what in found)

    def _look_at_files(self, when: str, exposed: list[Path]) -> None:
        """All of the pod's but the source and what is exposed."""
        for path in self.pod.root.rglob("*"):
            with contextlib.suppress(FileNotFoundError):  # it was there
                if path.is_file() and path not in exposed and self.pod.secrets not in path.parents:
                    name = path.relative_to(self.pod.root)
                    self.seen["files"].append((f"{name}, {when}", f"{name}\n".encode() + path.read_bytes()))

    def _forgectl(self, *commands: str) -> None:
        for command in commands:
            ran = subprocess.run(
                [sys.executable, "-m", "cli.forgectl", *command.split()],
                env=self.pod._environment,
                cwd=REPOSITORY,
                capture_output=True,
                timeout=PATIENCE_S,
                check=False,
            )
            self.seen["forgectl's output"].append((command, ran.stdout + ran.stderr))

    def _ask_everything(self) -> None:
        for worker in Worker:
            for what in DebugWhat:
                with asking.ask(self.config, worker, what, time.monotonic() + PATIENCE_S) as sock:
                    answer = b"".join(iter(lambda: sock.recv(65536), b""))
                self.seen["debug answers"].append((f"{what} of {worker}", answer))


@pytest.fixture(scope="module", params=["ephemeral", "file"])
def life(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Life:
    """Lived once in each mode."""
    return Life(tmp_path_factory.mktemp("canaries"), request.param)


@pytest.mark.parametrize("where", SEEN)
def test_in_a_pods_whole_life_nothing_of_a_key_is_in_its(where: str, life: Life) -> None:
    everything = b"".join(content for _, content in life.seen[where])
    assert [word for word in SEEN[where] if word.encode() not in everything] == []
    assert [(what, found) for what, content in life.seen[where] if (found := life.search.found(content))] == []


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("of", ["first", "second", *BROKEN])
def test_nothing_of_a_key_is_in_the_memory_of(process: str, of: str, life: Life) -> None:
    if process not in life.in_memory:
        pytest.skip(f"only root may look into the memory of the {process}: it is not dumpable")
    assert [found for found in life.in_memory[process] if found.startswith(f"{of}: ")] == []


def test_what_is_in_the_memory_of_a_process_is_found_there(life: Life) -> None:
    assert any(life.search.found(content, coarse=True) for _, content in memory(os.getpid()))


def test_every_worker_may_leave_no_core_dump(life: Life) -> None:
    limits = {name: set(limit.split()[:2]) for name, limit in life.core_limits.items() if name in WORKERS}
    assert limits.keys() == set(WORKERS)
    assert all(limit <= {"0", "1"} for limit in limits.values())


def log_of(life: Life) -> list[dict[str, Any]]:
    """The sidecar's lines."""
    (content,) = [content for name, content in life.seen["logs"] if name == life.pod.log.name]
    return [json.loads(line) for line in content.splitlines()]


def test_every_line_of_its_log_is_of_a_known_event_and_has_its_fields_only(life: Life) -> None:
    odd = [line for line in log_of(life) if line["event"] not in EVENTS and "." not in line["event"]]
    assert odd == []
    for line in log_of(life):
        if line["event"] in EVENTS:
            assert line.keys() <= {*ALWAYS, *EVENTS[line["event"]].fields}, line


def test_every_transition_in_its_log_begins_where_the_one_before_it_ended(life: Life) -> None:
    states: dict[tuple[str, str], str] = {}
    for line in log_of(life):
        if line["event"] == "worker_started":
            states = {key: state for key, state in states.items() if key[0] != line["worker"]}
        elif line["event"] in TRANSITIONS and "old" in line:
            assert line["old"] != line["new"]
            assert line["seconds"] >= 0
            assert line["old"] == states.get((line["worker"], line["event"]), line["old"]), line
            states[line["worker"], line["event"]] = line["new"]
    assert {event for _, event in states} >= {"role_changed", "fence_changed", "fitness_changed", "grant_changed"}


def test_the_audit_trail_tells_what_was_done_with_its_keys_and_by_whom(life: Life) -> None:
    trail = [line for line in log_of(life) if line.get("audit") is True]
    done = [line for line in trail if line["event"] == "credential_operation" and line["outcome"] == "done"]
    assert {line["operation"] for line in done} == {"offer", "withdraw", "install", "replace", "remove"}
    assert {line["counter"] for line in done if line["operation"] in ("install", "replace", "remove")} == {0, 1}
    assert all(line["token"] > 0 for line in done if line["operation"] in ("install", "replace", "remove"))
    signals = [line for line in trail if line["event"] == "signal" and line["to"] == "node"]
    assert {line["why"] for line in signals} >= {"enable", "disable", "rotate"}
    assert {line["start_ticks"] > 0 for line in signals} == {True}
    (found,) = [line for line in trail if line["event"] == "earlier_life"]
    assert set(found["files"]) == {"kes.skey", "vrf.skey", "node.cert"}
    asked = [(line["for_seconds"], line["uid"]) for line in trail if line["event"] == "stand_down"]
    assert asked == [(600.0, os.getuid()), (0.0, os.getuid())] * 2
