"""Runs the real kube-apiserver over a real etcd, on 127.0.0.1, for as long as this process lives.

`RealApi` satisfies devkit.api's `SyncApiServer`: `async with` in a test's loop, or plain `with`.  Authorization is
RBAC; `admin` is in system:masters, every other user has what role bindings give him.  Requests are counted from the
audit log.  The children die with the thread that started them, and that thread lives as long as the object runs: no
end of this process, not even SIGKILL, leaves one behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import secrets
import shutil
import signal
import ssl
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from devkit.api.crd import DEFAULT_FOLDER, load_manifests
from devkit.api.kubeconfig import write_kubeconfig
from devkit.api.ports import PortReservation
from devkit.api.server_protocol import ADMIN, Counts
from devkit.realapi.build import build
from devkit.realapi.client import AdminClient

START_TIMEOUT_S: Final = 120.0
"""For each program; measured: 4 s on two idle cores."""
STOP_TIMEOUT_S: Final = 3.0
"""For an orderly end of the API server; after that it is killed (it waits a minute for clients that keep a watch)."""
_POLL_S: Final = 0.05
_SETUP: Final = "forge-setup"
"""Who asks whether the server is ready and creates the manifests: not counted, so that tests count their own."""

_AUDIT_POLICY: Final = """\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: None
    nonResourceURLs: ["*"]
  - level: None
    users: ["system:apiserver", "system:anonymous", "forge-setup"]
  - level: Metadata
"""


class StartError(RuntimeError):
    """A program did not become ready; the message ends with its last log lines."""


class RealApi:
    """A real API server.

    folder: data, logs, certificates; made if missing, not removed.  None: a temporary one, removed by `stop`.
    users: names beside `admin`; a service account is `system:serviceaccount:NAMESPACE:NAME` and gets its groups.
    manifests: YAML files or folders, created once the server is ready (definitions are waited for).
    """

    def __init__(
        self,
        *,
        folder: Path | None = None,
        users: Iterable[str] = (),
        manifests: Iterable[Path] = (DEFAULT_FOLDER,),
    ) -> None:
        self._given_folder = folder
        self._folder = Path()
        self._sockets: Path | None = None
        self._tokens = {user: secrets.token_hex(16) for user in (ADMIN, _SETUP, *users)}
        self._manifests = tuple(manifests)
        self._installed = False
        self._port: PortReservation | None = None
        self._spawner: ThreadPoolExecutor | None = None
        self._etcd: subprocess.Popen[bytes] | None = None
        self._apiserver: subprocess.Popen[bytes] | None = None

    # --- ApiServer ---

    @property
    def url(self) -> str:
        """https://127.0.0.1:PORT, the same until `stop`.  RuntimeError before the start."""
        if self._port is None:
            raise RuntimeError("the server is not started")
        return f"https://127.0.0.1:{self._port.port}"

    @property
    def ca_file(self) -> Path | None:
        """The server's own certificate."""
        return self._folder / "certs" / "apiserver.crt"

    def token_for(self, user: str) -> str | None:
        """KeyError: the user was not named at construction."""
        return self._tokens[user]

    def write_kubeconfig(self, path: Path, user: str = ADMIN) -> None:
        """See ApiServer."""
        write_kubeconfig(path, url=self.url, ca_file=self.ca_file, token=self.token_for(user), user=user)

    def counts(self) -> Counts:
        """See `audit_counts`."""
        return self.audit_counts()

    def audit_counts(self) -> Counts:
        """Requests for resources per user and verb, from the audit log; without the server's own."""
        seen: set[str] = set()
        counts: Counts = {}
        for line in _lines(self._folder / "audit.log"):
            event = json.loads(line)
            if event["auditID"] in seen:
                continue
            seen.add(event["auditID"])
            of_user = counts.setdefault(event["user"].get("username", ""), {})
            of_user[event["verb"]] = of_user.get(event["verb"], 0) + 1
        return counts

    async def start(self) -> None:
        """Starts both programs; StartError, devkit.realapi.build.BuildError."""
        await asyncio.to_thread(self.start_sync)

    async def stop(self) -> None:
        """Ends both."""
        await asyncio.to_thread(self.stop_sync)

    async def kill(self) -> None:
        """SIGKILL to the API server; etcd goes on."""
        await asyncio.to_thread(self.kill_sync)

    async def restart(self) -> None:
        """Ends the API server in order, if it runs, and starts it again; etcd goes on."""
        await asyncio.to_thread(self.restart_sync)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    # --- blocking ---

    def __enter__(self) -> Self:
        self.start_sync()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop_sync()

    def start_sync(self) -> None:
        """See `start`."""
        program = build()
        try:
            self._prepare()
            self._start_etcd(program)
            self._start_apiserver(program)
            self._install()
        except BaseException:
            self.stop_sync()
            raise

    def stop_sync(self) -> None:
        """See `stop`.  The API server is killed: nobody is left to whom its last words matter."""
        _end(self._apiserver, 0)
        self._apiserver = None
        _end(self._etcd, 0)
        self._etcd = None
        if self._spawner is not None:
            self._spawner.shutdown()
            self._spawner = None
        if self._port is not None:
            self._port.close()
            self._port = None
        if self._sockets is not None:
            shutil.rmtree(self._sockets)
            self._sockets = None
            if self._given_folder is None:
                shutil.rmtree(self._folder)
            self._installed = False

    def kill_sync(self) -> None:
        """See `kill`."""
        _end(self._apiserver, 0)
        self._apiserver = None

    def restart_sync(self) -> None:
        """See `restart`."""
        _end(self._apiserver, STOP_TIMEOUT_S)
        self._apiserver = None
        self._start_apiserver(build())

    @property
    def pids(self) -> dict[str, int]:
        """Of what runs now: etcd, kube-apiserver.  For faults by signal (SIGSTOP)."""
        running = {"etcd": self._etcd, "kube-apiserver": self._apiserver}
        return {name: process.pid for name, process in running.items() if process is not None}

    def admin(self) -> AdminClient:
        """A small blocking client with every right; its requests are not counted."""
        return AdminClient(self.url, self.ca_file, self._tokens[_SETUP])

    # --- the parts ---

    def _prepare(self) -> None:
        # Socket addresses are limited to some hundred bytes: they get a short folder of their own.
        self._sockets = Path(tempfile.mkdtemp(prefix="forge-api-"))
        self._folder = self._given_folder or Path(tempfile.mkdtemp(prefix="forge-api-data-"))
        self._folder.mkdir(parents=True, exist_ok=True)
        self._port = PortReservation()
        self._spawner = ThreadPoolExecutor(1, thread_name_prefix="realapi-parent")
        _write_private(self._folder / "audit-policy.yaml", _AUDIT_POLICY)
        _write_private(self._folder / "tokens.csv", "".join(_token_line(*item) for item in self._tokens.items()))
        if not (self._folder / "service-account.pem").exists():
            _write_private(self._folder / "service-account.pem", _private_key())

    def _start_etcd(self, program: Path) -> None:
        assert self._sockets is not None
        peer = f"unix://{self._sockets}/peer"
        client = f"unix://{self._sockets}/client"
        flags = {
            "name": "only",
            "data-dir": self._folder / "etcd",
            "unsafe-no-fsync": "true",
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"only={peer}",
            "log-level": "warn",
        }
        self._etcd = self._spawn(program, "etcd", flags)
        self._await(self._etcd, (self._sockets / "client").exists, "etcd")

    def _start_apiserver(self, program: Path) -> None:
        assert self._port is not None
        folder = self._folder
        flags = {
            "etcd-servers": f"unix://{self._sockets}/client",
            "cert-dir": folder / "certs",
            "bind-address": "127.0.0.1",
            "secure-port": self._port.port,
            "permit-port-sharing": "true",
            "service-account-issuer": "https://forge.invalid",
            "service-account-key-file": folder / "service-account.pem",
            "service-account-signing-key-file": folder / "service-account.pem",
            "service-cluster-ip-range": "10.0.0.0/24",
            "authorization-mode": "RBAC",
            "token-auth-file": folder / "tokens.csv",
            "disable-admission-plugins": "ServiceAccount",
            "audit-policy-file": folder / "audit-policy.yaml",
            "audit-log-path": folder / "audit.log",
            "endpoint-reconciler-type": "none",
            "profiling": "false",
        }
        self._apiserver = self._spawn(program, "kube-apiserver", flags)
        self._await(self._apiserver, self._ready, "kube-apiserver")

    def _ready(self) -> bool:
        assert self.ca_file is not None
        if not self.ca_file.exists():
            return False
        try:
            return self.admin().request("GET", "/readyz").code == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException, ssl.SSLError):
            return False  # not listening yet

    def _install(self) -> None:
        if self._installed:
            return
        admin = self.admin()
        # `default` is made by the server itself a moment after it is ready.
        self._await(self._apiserver, lambda: admin.exists("/api/v1/namespaces/default"), "kube-apiserver")
        for path in self._manifests:
            for document in load_manifests(path):
                admin.create(document)
                if document["kind"] == "CustomResourceDefinition":
                    self._await(self._apiserver, partial(admin.served, document), "kube-apiserver")
        self._installed = True

    def _spawn(self, program: Path, role: str, flags: Mapping[str, object]) -> subprocess.Popen[bytes]:
        """Starts a child from the one thread whose end would be the child's."""
        assert self._spawner is not None
        command = [str(program), role, *(f"--{name}={value}" for name, value in flags.items())]

        def start() -> subprocess.Popen[bytes]:
            with (self._folder / f"{role}.log").open("ab") as output:
                return subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    cwd=self._folder,
                    env={**os.environ, "FORGE_PARENT_PID": str(os.getpid())},
                    start_new_session=True,  # a Ctrl-C is for us: we end the children in order
                )

        return self._spawner.submit(start).result()

    def _await(self, process: subprocess.Popen[bytes] | None, ready: Callable[[], bool], role: str) -> None:
        """Asks until it is ready.  StartError when it ended or time is up."""
        assert process is not None
        give_up = time.monotonic() + START_TIMEOUT_S
        while not ready():
            log = self._folder / f"{role}.log"
            if process.poll() is not None:
                raise StartError(f"{role} ended with {process.returncode}\n{_tail(log)}")
            if time.monotonic() > give_up:
                raise StartError(f"{role} is not ready after {START_TIMEOUT_S:.0f} s\n{_tail(log)}")
            time.sleep(_POLL_S)


def _end(process: subprocess.Popen[bytes] | None, patience_s: float) -> None:
    """SIGTERM and, after that patience, SIGKILL; no patience: SIGKILL at once.  Returns when it is reaped."""
    if process is None:
        return
    if patience_s > 0 and process.poll() is None:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience_s)
    if process.poll() is None:
        process.kill()
    process.wait()


def _token_line(user: str, token: str) -> str:
    groups: list[str] = []
    if user in {ADMIN, _SETUP}:
        groups = ["system:masters"]
    elif user.startswith("system:serviceaccount:"):
        groups = ["system:serviceaccounts", f"system:serviceaccounts:{user.split(':')[2]}"]
    return f'{token},{user},{user},"{",".join(groups)}"\n'


def _private_key() -> str:
    return (
        ec.generate_private_key(ec.SECP256R1())
        .private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
        .decode()
    )


def _write_private(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)


def _lines(path: Path) -> list[str]:
    """Whole lines of a log that is being written."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    return text[: text.rfind("\n") + 1].splitlines()


def _tail(path: Path, lines: int = 20) -> str:
    try:
        return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return ""
