"""A gateway with token and TLS as `forge-manager` starts it, locked up: what it serves, takes over, and may reach."""

from __future__ import annotations

import json
import shutil
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "gateway"))

from certificates import Mounted, Pair, pair
from tree import FORGE_MANAGER, Tree, environment, tree, until

TOKEN, OTHER = "t" * 40, "u" * 40
FIRST, SECOND = pair(), pair()


@pytest.fixture
def mounted(root: Path) -> Mounted:
    return Mounted(root / "gateway", token=TOKEN.encode(), cert=FIRST.certificate, key=FIRST.key)


@pytest.fixture
def guarded(root: Path, mounted: Mounted) -> Iterator[Tree]:
    made = Tree(
        root,
        GATEWAY_TOKEN_FILE=str(mounted["token"]),
        GATEWAY_TLS_CERT_FILE=str(mounted["cert"]),
        GATEWAY_TLS_KEY_FILE=str(mounted["key"]),
    )
    try:
        made.wait_up()
        yield made
    finally:
        made.close()


def port(tree: Tree) -> int:
    return int(tree.wait_log("listening", "gateway")["port"])


def answer(tree: Tree, path: str, token: str = "", trusted: Pair = FIRST) -> tuple[int, str]:
    """Status and body; 0 and why where the certificate is not `trusted`'s."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    asked = urllib.request.Request(f"https://127.0.0.1:{port(tree)}{path}", headers=headers)
    try:
        with urllib.request.urlopen(asked, timeout=30, context=trusted.trusting) as got:
            return got.status, got.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except urllib.error.URLError as error:
        assert isinstance(error.reason, ssl.SSLCertVerificationError)
        return 0, str(error.reason)


def test_locked_up_it_serves_by_tls_asks_for_the_token_and_follows_both_files_as_kubernetes_swaps_them(
    guarded: Tree, mounted: Mounted
) -> None:
    before = guarded.workers()
    assert answer(guarded, "/health")[0] == 200
    assert answer(guarded, "/status")[0] == 401
    assert json.loads(answer(guarded, "/status", TOKEN)[1])["pod"] == "pod-0"
    mounted.swap(token=OTHER.encode(), cert=FIRST.certificate, key=FIRST.key)
    until(lambda: answer(guarded, "/status", OTHER)[0] == 200, "the new token is taken over")
    assert answer(guarded, "/status", TOKEN)[0] == 401
    mounted.swap(token=OTHER.encode(), cert=SECOND.certificate, key=SECOND.key)
    until(lambda: answer(guarded, "/health", trusted=SECOND)[0] == 200, "the new certificate is taken over")
    assert answer(guarded, "/health", trusted=FIRST)[0] == 0
    mounted.swap(token=b"short", cert=SECOND.certificate, key=SECOND.key)

    def warned() -> bool:
        text = answer(guarded, "/status", OTHER, SECOND)[1]
        return any(each.startswith("GATEWAY_TOKEN_FILE is shorter") for each in json.loads(text)["warnings"])

    until(warned, "the file that holds no token is said")
    metrics = answer(guarded, "/metrics", trusted=SECOND)[1]
    assert 'cardano_forge_manager_gateway_file_unusable{file="token"} 1.0' in metrics
    assert 'cardano_forge_manager_gateway_file_unusable{file="certificate"} 0.0' in metrics
    assert guarded.workers() == before, "nobody had to start anew"
    assert TOKEN not in guarded.log.read_text()
    assert OTHER not in guarded.log.read_text()


def test_its_audit_finds_it_within_its_declaration_and_nobody_else_reads_token_or_key(
    root: Path, guarded: Tree, mounted: Mounted
) -> None:
    given = environment(root) | {variable: str(mounted[name]) for variable, name in NAMED.items()}
    forgectl = str(Path(FORGE_MANAGER).with_name("forgectl"))
    done = subprocess.run(
        [forgectl, "audit", "--json"], env=given, cwd="/", capture_output=True, text=True, timeout=90, check=False
    )
    found = json.loads(done.stdout)
    text = json.dumps(found)
    assert "read GATEWAY_TOKEN_FILE" in text
    assert "read GATEWAY_TLS_KEY_FILE" in text
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr


NAMED = {"GATEWAY_TOKEN_FILE": "token", "GATEWAY_TLS_CERT_FILE": "cert", "GATEWAY_TLS_KEY_FILE": "key"}


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")
@pytest.mark.parametrize("token", [False, True], ids=["open", "with a token"])
def test_the_contracts_line_of_curl_shows_the_metrics(root: Path, token: bool) -> None:
    mounted = Mounted(root / "gateway", token=TOKEN.encode())
    with tree(**({"GATEWAY_TOKEN_FILE": str(mounted["token"])} if token else {})) as made:
        made.wait_up("gateway")
        line = f"curl localhost:{port(made)}/metrics | grep cardano_"
        shown = subprocess.run(line, shell=True, capture_output=True, text=True, timeout=60, check=True).stdout
        assert "cardano_forging_enabled{" in shown
        status = subprocess.run(
            ["curl", "-s", f"localhost:{port(made)}/status"], capture_output=True, text=True, timeout=60, check=True
        )
        assert ("a token is needed" in status.stdout) is token
