"""NOTIFY_URL opens one port and one file to the prober, and nothing while it is not set; the key is nobody else's."""

from __future__ import annotations

import asyncio
import os
import platform
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from locked_up import alone
from test_health_sandbox import CLUSTERS, PATIENCE_S, PROXIES, Endpoint

from config import load
from devkit.privileges import DECLARED
from health import reach as health_reach
from health.endpoint import Checker
from ipc.messages import HealthCheck, Worker
from outgoing.webhook import Webhook
from policy.outbox import Letter, Sent
from sandbox import close as closing
from sandbox import landlock, places, plan
from sandbox.close import CannotClose, addresses, close
from sandbox.privileges import Place, Port, Privileges
from sandbox.syscalls import Architecture
from workers.prober import NOTIFYING

OTHERS = [declaration for declaration in DECLARED if declaration.worker is not Worker.PROBER]
PROBER = next(declaration for declaration in DECLARED if declaration.worker is Worker.PROBER)
KEY = b"the key of this test, for notices"

needs_landlock = pytest.mark.skipif(
    landlock.abi() == 0 or Architecture.of(platform.machine()) is None, reason="no sandbox here"
)


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def pod() -> Iterator[dict[str, str]]:
    """The environment of a pod whose files are there."""
    with tempfile.TemporaryDirectory(prefix="notify-", dir="/tmp") as name:
        root = Path(name).resolve()
        for folder in ("secrets", "notify", "ipc", *(f"run/{worker}" for worker in Worker)):
            (root / folder).mkdir(parents=True)
        (root / "notify" / "key").write_bytes(KEY)
        variables = {"RUN_DIR": f"{root}/run", "NODE_SOCKET": f"{root}/ipc/node.socket"}
        for variable, file in (("KES_KEY", "kes.skey"), ("VRF_KEY", "vrf.skey"), ("OP_CERT", "node.cert")):
            (root / "secrets" / file).write_text("not a key")
            variables |= {f"SOURCE_{variable}": f"{root}/secrets/{file}", f"TARGET_{variable}": f"{root}/ipc/{file}"}
        yield variables | {"NOTIFY_SECRET_FILE": f"{root}/notify/key"}


@pytest.fixture
def plain() -> Iterator[Endpoint]:
    made = Endpoint(None)
    yield made
    made.stop()


def told(environment: dict[str, str], *urls: str) -> list[str]:
    """What comes of telling them within the sandbox of a prober with this environment; the kernel alone refuses."""
    os.environ.update(environment)
    config = load(environment)
    close(NOTIFYING, config, None)

    async def deliver() -> list[str]:
        results = [
            await Webhook(url, config.notify_secret_file).deliver(Letter("a-1", 1, "{}"), 1.0, PATIENCE_S)
            for url in urls
        ]
        return ["sent" if isinstance(result, Sent) else result.why for result in results]

    return asyncio.run(deliver())


@needs_landlock
def test_a_notice_is_signed_and_sent_from_within_the_sandbox_to_its_port_alone(
    pod: dict[str, str], plain: Endpoint
) -> None:
    url = f"http://127.0.0.1:{plain.port}/hook"
    there, other, named = alone(
        told, pod | {"NOTIFY_URL": url}, url, "http://127.0.0.1:443/", f"http://localhost:{plain.port}/"
    )
    assert there == "sent"
    if landlock.abi() >= landlock.NET_ABI:
        assert other == "127.0.0.1:443: no connection: Permission denied"
    assert "names are looked up only where HEALTH_CHECK_ENDPOINT or NOTIFY_URL has one" in named


@needs_landlock
def test_a_receiver_with_a_name_is_looked_up(pod: dict[str, str], plain: Endpoint) -> None:
    url = f"http://localhost:{plain.port}/hook"
    assert alone(told, pod | {"NOTIFY_URL": url}, url) == ["sent"]


def reading(environment: dict[str, str], worker: str) -> list[str]:
    """Of the keys, what this worker can open in its sandbox."""
    declaration = NOTIFYING if worker == "notifying" else next(d for d in DECLARED if d.worker == worker)
    config = load(environment)
    close(declaration, config, None)
    found = []
    for path in (config.notify_secret_file, config.source_kes_key):
        assert path is not None
        try:
            found.append(path.read_text())
        except OSError:
            found.append("refused")
    return found


@needs_landlock
@pytest.mark.parametrize(
    ("who", "expected"),
    [
        ("notifying", [KEY.decode(), "refused"]),
        ("prober", ["refused", "refused"]),
        ("gateway", ["refused", "refused"]),
        ("actuator", ["refused", "not a key"]),
    ],
)
def test_the_key_for_notices_is_the_probers_where_it_tells_and_nobody_elses(
    pod: dict[str, str], who: str, expected: list[str]
) -> None:
    assert alone(reading, pod, who) == expected


@needs_landlock
def test_a_key_for_notices_beside_the_nodes_keys_opens_none_of_those(pod: dict[str, str]) -> None:
    beside = Path(pod["SOURCE_KES_KEY"]).with_name("notify")
    beside.write_bytes(KEY)
    assert alone(reading, pod | {"NOTIFY_SECRET_FILE": str(beside)}, "notifying") == [KEY.decode(), "refused"]


def test_a_link_to_one_of_the_nodes_keys_starts_no_prober(pod: dict[str, str]) -> None:
    link = Path(pod["NOTIFY_SECRET_FILE"]).with_name("link")
    link.symlink_to(pod["SOURCE_KES_KEY"])
    with pytest.raises(CannotClose, match="leads to SOURCE_KES_KEY"):
        close(NOTIFYING, load(pod | {"NOTIFY_SECRET_FILE": str(link)}), None)


@needs_landlock
def test_the_health_check_does_not_reach_the_port_of_notices(pod: dict[str, str], plain: Endpoint) -> None:
    config = load(pod | CLUSTERS | {"NOTIFY_URL": f"http://127.0.0.1:{plain.port}/"})
    found = health_reach.of(config, {})
    assert found is not None
    check = HealthCheck(f"http://127.0.0.1:{plain.port}/", 60, PATIENCE_S)
    said = asyncio.run(Checker(found.ports).ask(check)).message
    assert f"port {plain.port} is not open to the prober" in said


# --- what is declared ---


def planned(declaration: Privileges, **variables: str) -> Any:
    return closing._plan(declaration, load(variables), None)


def test_without_a_webhook_a_prober_declares_and_opens_nothing_for_it() -> None:
    assert Port.NOTIFY not in PROBER.connects
    assert Place.NOTIFY_KEY not in PROBER.reads
    assert Worker.ELECTOR not in PROBER.subscribes
    assert not PROBER.keeps
    assert Port.NOTIFY not in addresses(load({}), None)
    assert planned(PROBER).ports == (12798,)


@pytest.mark.parametrize(
    ("url", "proxies", "ports", "names"),
    [
        ("https://10.0.0.1/", {}, (443,), False),
        ("http://[fd00::1]:8080/x", {}, (8080,), False),
        ("https://hook.example/", {}, (443,), True),
        ("https://10.0.0.1/", {"HTTPS_PROXY": "http://u:p@10.0.0.2:3128"}, (443, 3128), False),
    ],
)
def test_with_one_its_port_and_the_proxys_are_open_and_names_only_where_it_has_one(
    monkeypatch: pytest.MonkeyPatch, url: str, proxies: dict[str, str], ports: tuple[int, ...], names: bool
) -> None:
    for name, value in proxies.items():
        monkeypatch.setenv(name, value)
    made = planned(NOTIFYING, NOTIFY_URL=url)
    assert made.ports == tuple(sorted({*ports, 12798, *((53,) if names else ())}))
    assert ("clone" in {permit.call for permit in made.permits}) is names


def test_it_writes_no_file_signals_nobody_and_reads_no_other_credential_for_it() -> None:
    assert NOTIFYING.writes == PROBER.writes == frozenset()
    assert NOTIFYING.calls == PROBER.calls
    assert NOTIFYING.reads - PROBER.reads == {Place.NOTIFY_KEY}
    assert NOTIFYING.subscribes - PROBER.subscribes == {Worker.ELECTOR}
    assert set(NOTIFYING.connects) - set(PROBER.connects) == {Port.NOTIFY}


@pytest.mark.parametrize("declaration", [*OTHERS, PROBER], ids=lambda each: str(each.worker))
def test_for_everybody_else_the_key_is_a_secret_that_no_rule_may_lead_to(
    pod: dict[str, str], declaration: Privileges
) -> None:
    (secret,) = [each for each in places.secrets(load(pod)) if each.name == "NOTIFY_SECRET_FILE"]
    assert not plan.declared(declaration, secret)
    assert plan.declared(NOTIFYING, secret)
