"""Every bad set of credentials that anybody thought of: it is found, the remedy is named, the pod does not contend with
it, and whoever forges meanwhile is not disturbed."""

from __future__ import annotations

import errno
import json
import os
import socket
from codecs import BOM_UTF8
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import workers.credentials
from cardano.slots import NETWORKS, kes_period_at
from config import load
from devkit import keys
from devkit.keys import KeySet
from ipc.messages import CertificateCounter, Check, Fence, NodeView, Severity, StartFlag
from kernel.secretmem import SecretBuffer
from policy.fencing import FenceMachine, View
from workers.credentials import CannotExpose, Credentials

PERIOD = keys.current_kes_period("mainnet")
EVOLUTIONS = NETWORKS["mainnet"].max_kes_evolutions
PREPROD = kes_period_at(NETWORKS["preprod"], keys.time.time()) or 0
SEED = b"s" * 32
KES, VRF, CERT = "kes.skey", "vrf.skey", "node.cert"


@dataclass(frozen=True)
class Bad:
    name: str
    check: Check
    spoil: Callable[[Path], object] = lambda folder: None
    """What is done to a good set in this folder."""
    made: dict[str, int] = field(default_factory=dict)
    """How the set is made, if it is not good from the beginning."""
    recorded: int | None = None
    """The counter that the pool's blocks were made with."""
    says: str = ""
    """In the finding or its remedy."""
    unusable: bool = True
    """Not even for a node that is only to start."""


def put(folder: Path, name: str, content: bytes) -> None:
    (folder / name).unlink(missing_ok=True)
    (folder / name).write_bytes(content)


def in_its_place(folder: Path, name: str, make: Callable[[Path], object]) -> None:
    (folder / name).unlink()
    make(folder / name)


def envelope(folder: Path, name: str, **changes: object) -> None:
    put(folder, name, json.dumps(json.loads((folder / name).read_bytes()) | changes).encode())


def spoilt_text(folder: Path, name: str, more: bytes) -> bytes:
    """With more in its description."""
    return (folder / name).read_bytes().replace(b'"description": "', b'"description": "' + more)


def digits(folder: Path, name: str) -> str:
    return str(json.loads((folder / name).read_bytes())["cborHex"])


def swap(folder: Path, one: str, other: str) -> None:
    first, second = (folder / one).read_bytes(), (folder / other).read_bytes()
    put(folder, one, second)
    put(folder, other, first)


def another(folder: Path, name: str) -> None:
    """The file of another set."""
    put(folder, name, (keys.generate(folder / "other", kes_period=PERIOD).folder / name).read_bytes())


def serve(path: Path) -> None:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    sock.close()


def evolve(folder: Path) -> None:
    """By 40 periods, with a certificate that begins now."""
    envelope(folder, KES, cborHex="590260" + keys.kes_signing_key(keys._blake(b"kes" + SEED), evolved=40).hex())


BAD = [
    Bad("no KES key", Check.KES_KEY, lambda f: (f / KES).unlink(), says="SOURCE_KES_KEY"),
    Bad("no VRF key", Check.VRF_KEY, lambda f: (f / VRF).unlink(), says="SOURCE_VRF_KEY"),
    Bad("no certificate", Check.CERTIFICATE, lambda f: (f / CERT).unlink(), says="SOURCE_OP_CERT"),
    Bad("an empty file", Check.KES_KEY, lambda f: put(f, KES, b"")),
    Bad("a truncated KES key", Check.KES_KEY, lambda f: put(f, KES, (f / KES).read_bytes()[:700])),
    Bad("a truncated VRF key", Check.VRF_KEY, lambda f: put(f, VRF, (f / VRF).read_bytes()[:-20])),
    Bad("a truncated certificate", Check.CERTIFICATE, lambda f: put(f, CERT, (f / CERT).read_bytes()[:200])),
    Bad("KES and VRF key swapped", Check.KES_KEY, lambda f: swap(f, KES, VRF)),
    Bad("VRF key and certificate swapped", Check.CERTIFICATE, lambda f: swap(f, VRF, CERT)),
    Bad("another set's KES key", Check.MATCH, lambda f: another(f, KES)),
    Bad("another pool's certificate", Check.MATCH, lambda f: another(f, CERT)),
    Bad(
        "another pool's whole set",
        Check.POOL,
        lambda f: [another(f, name) for name in (KES, VRF, CERT)],
        says="POOL_ID",
    ),
    Bad(
        "a certificate of the network preprod",
        Check.KES_PERIOD,
        made={"kes_period": PREPROD},
        says="preprod",
        unusable=False,
    ),
    Bad("expired", Check.KES_PERIOD, made={"kes_period": PERIOD - EVOLUTIONS}, says="expired", unusable=False),
    Bad("not yet valid", Check.KES_PERIOD, made={"kes_period": PERIOD + 1}, says="issue-op-cert", unusable=False),
    Bad("a counter that is too low", Check.COUNTER, made={"counter": 3}, recorded=4, says="new", unusable=False),
    Bad("a counter that skips", Check.COUNTER, made={"counter": 6}, recorded=4, says="new-counter", unusable=False),
    Bad(
        "a certificate with a damaged signature",
        Check.SIGNATURE,
        lambda f: envelope(f, CERT, cborHex=digits(f, CERT).replace(digits(f, CERT)[-150:-148], "00", 1)),
    ),
    Bad("a verification key", Check.KES_KEY, lambda f: envelope(f, KES, type="KesVerificationKey_ed25519_kes_2^6")),
    Bad("the cold key", Check.KES_KEY, lambda f: put(f, KES, (keys.generate(f / "o").cold).read_bytes())),
    Bad("a KES key of the old layout", Check.KES_KEY, lambda f: envelope(f, KES, cborHex="5902c0" + "11" * 704)),
    Bad("a VRF key that is too short", Check.VRF_KEY, lambda f: envelope(f, VRF, cborHex="5820" + "11" * 32)),
    Bad("digits that are none", Check.VRF_KEY, lambda f: envelope(f, VRF, cborHex="zz" * 66)),
    Bad("half a digit", Check.KES_KEY, lambda f: envelope(f, KES, cborHex=digits(f, KES)[:-1])),
    Bad("no digits", Check.CERTIFICATE, lambda f: envelope(f, CERT, cborHex=None)),
    Bad(
        "CBOR with something behind it", Check.CERTIFICATE, lambda f: envelope(f, CERT, cborHex=digits(f, CERT) + "00")
    ),
    Bad("CBOR of something else", Check.CERTIFICATE, lambda f: envelope(f, CERT, cborHex="83010203")),
    Bad("CBOR nested too deep", Check.CERTIFICATE, lambda f: envelope(f, CERT, cborHex="81" * 20_000 + "00")),
    Bad("JSON nested too deep", Check.KES_KEY, lambda f: put(f, KES, b"[" * 60_000)),
    Bad("JSON that is no object", Check.VRF_KEY, lambda f: put(f, VRF, b'["type", "cborHex"]')),
    Bad("text of another encoding", Check.CERTIFICATE, lambda f: put(f, CERT, (f / CERT).read_text().encode("utf-16"))),
    Bad(
        "a byte order mark", Check.KES_KEY, lambda f: put(f, KES, BOM_UTF8 + (f / KES).read_bytes()), says="without one"
    ),
    Bad("half a surrogate pair", Check.VRF_KEY, lambda f: put(f, VRF, spoilt_text(f, VRF, b"\\ud800"))),
    Bad("bytes that are no UTF-8", Check.CERTIFICATE, lambda f: put(f, CERT, spoilt_text(f, CERT, b"\xed\xa0\x80"))),
    Bad("binary rubbish", Check.KES_KEY, lambda f: put(f, KES, bytes(range(256)) * 10)),
    Bad("a huge file", Check.CERTIFICATE, lambda f: os.truncate(f / CERT, 10**9), says="SOURCE_OP_CERT"),
    Bad("a folder", Check.KES_KEY, lambda f: in_its_place(f, KES, Path.mkdir)),
    Bad("a FIFO that nobody writes to", Check.VRF_KEY, lambda f: in_its_place(f, VRF, os.mkfifo)),
    Bad("a socket", Check.CERTIFICATE, lambda f: in_its_place(f, CERT, serve)),
    Bad("a device without an end", Check.KES_KEY, lambda f: in_its_place(f, KES, lambda p: p.symlink_to("/dev/zero"))),
    Bad("links in a circle", Check.KES_KEY, lambda f: in_its_place(f, KES, lambda p: p.symlink_to(KES))),
    Bad("a link to nowhere", Check.VRF_KEY, lambda f: in_its_place(f, VRF, lambda p: p.symlink_to("..data/none"))),
    Bad("a KES key that was evolved", Check.EVOLUTION, evolve, unusable=False),
]


class Scene:
    """A secret's folder, and an actuator's hands upon it."""

    def __init__(self, root: Path) -> None:
        self.root, self.secrets, self.shared = root, root / "secrets", root / "ipc"
        self.shared.mkdir()
        self.made = self.make()

    def make(self, **how: int) -> KeySet:
        """A set in place of what is there."""
        if self.secrets.exists():
            self.secrets.rename(self.root / f"before-{len(list(self.root.iterdir()))}")
        made = keys.generate(self.secrets, seed=SEED, **{"kes_period": PERIOD, "counter": 4, **how})
        for path in self.secrets.iterdir():
            path.chmod(0o600)
        return made

    def hands(self) -> Credentials:
        environment = {
            "RUN_DIR": str(self.root / "run"),
            "POD_NAME": "pod-0",
            "CREDENTIAL_MODE": "file",
            "POOL_ID": self.made.pool_id,
        }
        for variable, name in (("KES_KEY", KES), ("VRF_KEY", VRF), ("OP_CERT", CERT)):
            environment |= {
                f"SOURCE_{variable}": str(self.secrets / name),
                f"TARGET_{variable}": str(self.shared / name),
            }
        (self.root / "run" / "actuator").mkdir(parents=True, exist_ok=True)
        return Credentials(load(environment), lambda: None)

    def visible(self) -> list[bytes]:
        return [path.read_bytes() for name in (KES, VRF, CERT) if (path := self.shared / name).exists()]


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def look(hands: Credentials) -> None:
    hands._look_at = 0
    hands.look(1)


def contends(hands: Credentials) -> bool:
    """Whether the elector would hear that this pod could arm at once."""
    node = NodeView(pid=1, start_ticks=1, up=True, takes_hup=True, flag=StartFlag.NON_PRODUCING, problem="")
    view = View(node=node, sources=hands.sources_problem, unfit=hands.unfit)
    machine = FenceMachine(0, managed=False)
    assert machine.fence is Fence.FENCED
    return not machine.refusals(view)


def test_there_are_enough_of_them() -> None:
    assert len({bad.name for bad in BAD}) == len(BAD) >= 25


async def test_with_a_good_set_a_pod_contends(scene: Scene) -> None:
    hands = scene.hands()
    look(hands)
    assert contends(hands)
    hands.close()


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name.replace(" ", "-"))
async def test_a_bad_set_is_found_with_its_remedy_and_keeps_the_pod_from_contending(scene: Scene, bad: Bad) -> None:
    scene.make(**bad.made)
    bad.spoil(scene.secrets)
    hands = scene.hands()
    hands.hear_counters(None if bad.recorded is None else CertificateCounter(bad.recorded, ""))
    look(hands)
    errors = [finding for finding in hands.findings if finding.severity is Severity.ERROR]
    (found,) = (finding for finding in errors if finding.check is bad.check)
    assert found.remedy
    assert bad.says in f"{found.reason} {found.remedy}"
    assert not contends(hands)
    assert bool(hands.sources_problem) is bad.unusable
    for why in ("armed", *(("bootstrap",) if bad.unusable else ())):
        with pytest.raises(CannotExpose):
            hands.expose(why)
    assert scene.visible() == []
    hands.close()


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name.replace(" ", "-"))
async def test_a_bad_set_in_the_secret_does_not_disturb_the_node_that_forges(scene: Scene, bad: Bad) -> None:
    hands = scene.hands()
    look(hands)
    hands.expose("armed")
    before = scene.visible()
    assert len(before) == 3
    hands.hear_counters(None if bad.recorded is None else CertificateCounter(bad.recorded, ""))
    scene.make(**bad.made)
    bad.spoil(scene.secrets)
    look(hands)
    assert not hands.rotated
    assert hands.spent == ""
    with pytest.raises(CannotExpose):
        hands.expose("rotated")
    assert scene.visible() == before
    scene.make()
    look(hands)
    assert hands.sources_problem == ""
    assert not hands.rotated
    hands.close()


async def test_a_file_that_disappears_while_it_is_read_is_missing(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = workers.credentials.read_secret

    def vanishing(path: Path, most: int) -> SecretBuffer:
        if path.name == KES:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(path))
        return real(path, most)

    monkeypatch.setattr(workers.credentials, "read_secret", vanishing)
    hands = scene.hands()
    look(hands)
    assert "SOURCE_KES_KEY" in hands.sources_problem
    assert not contends(hands)
    monkeypatch.setattr(workers.credentials, "read_secret", real)
    look(hands)
    assert contends(hands)
    hands.close()


@pytest.mark.parametrize("there", [False, True])
async def test_without_the_agents_socket_a_pod_whose_kes_key_is_with_an_agent_does_not_contend(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, *, there: bool
) -> None:
    monkeypatch.chdir(scene.root)
    agent = scene.root / "agent.socket"
    environment = {
        "RUN_DIR": str(scene.root / "run"),
        "POD_NAME": "pod-0",
        "CREDENTIAL_MODE": "kes-agent",
        "SOURCE_VRF_KEY": str(scene.secrets / VRF),
        "SOURCE_OP_CERT": str(scene.secrets / CERT),
        "SOURCE_KES_AGENT_SOCKET": str(agent),
        **{f"TARGET_{v}": str(scene.shared / v.lower()) for v in ("KES_AGENT_SOCKET", "VRF_KEY", "OP_CERT")},
    }
    (scene.root / "run" / "actuator").mkdir(parents=True)
    if there:
        serve(agent)
    else:
        agent.write_text("no socket")
    hands = Credentials(load(environment), lambda: None)
    look(hands)
    assert contends(hands) is there
    found = next(finding for finding in hands.findings if finding.check is Check.KES_AGENT)
    assert (found.severity is Severity.ERROR) is not there
    if there:
        hands.expose("armed")
        assert (scene.shared / "kes_agent_socket").resolve() == agent
        hands.withdraw("enough")
    else:
        assert "KES agent" in found.remedy
    assert not (scene.shared / "kes_agent_socket").exists()
    hands.close()
