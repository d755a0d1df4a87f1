"""How the API server is found: what is understood, what is refused with which words, what is read again."""

from __future__ import annotations

import base64
import json
import ssl
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from kubernetes.aio.config import incluster_config
from scripted_api import AGENT, TIMEOUT_S, Answer, Json, cut, kubeconfig, obj, refusal, scripted, session_with

from devkit.api import EmbeddedApi
from devkit.api.certificates import write_certificate
from kube.errors import ApiFailure, Failure, SessionConfigError
from kube.session import ApiSession

URL = "https://127.0.0.1:1"


def whole(**changes: Any) -> Json:
    return {
        "clusters": [{"name": "c", "cluster": {"server": URL}}],
        "users": [{"name": "u", "user": {"token": "SECRET"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
        **changes,
    }


def user(**fields: Any) -> Json:
    return whole(users=[{"name": "u", "user": {"token": "SECRET", **fields}}])


def cluster(**fields: Any) -> Json:
    return whole(clusters=[{"name": "c", "cluster": {"server": URL, **fields}}])


async def refusal_of(path: Path | None) -> str:
    """The words with which a session does not begin."""
    with pytest.raises(SessionConfigError) as caught:
        await ApiSession(path, user_agent=AGENT).__aenter__()
    assert "SECRET" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("a: [", "not YAML"),
        ("\t\x00", "not YAML"),
        ("", "not a kubeconfig"),
        ("just text SECRET", "not a kubeconfig"),
        (whole(**{"current-context": None}), "current-context"),
        (whole(**{"current-context": "other"}), "contexts"),
        (whole(contexts=None), "contexts"),
        (whole(contexts=["SECRET"]), "contexts"),
        (whole(contexts=[{"name": "x", "context": "SECRET"}]), "contexts"),
        (whole(clusters=[]), "clusters"),
        (whole(users=[]), "users"),
        (whole(clusters=[{"name": "c", "cluster": {}}]), "server"),
        (cluster(server="127.0.0.1:6443"), "server"),
        (cluster(**{"certificate-authority": "/no/such/ca"}), "certificate-authority"),
        (cluster(**{"certificate-authority-data": "SECRET!"}), "certificate-authority-data"),
        (cluster(**{"certificate-authority-data": base64.b64encode(b"SECRET").decode()}), "certificates"),
        (user(**{"client-certificate": "/no/such/cert"}), "client-certificate"),
        (user(**{"client-key-data": 5}), "client-key-data"),
        (user(**{"client-certificate-data": base64.b64encode(b"SECRET").decode()}), "certificates"),
        (user(tokenFile="/no/such/token"), "tokenFile"),
        (user(**{"auth-provider": {"name": "oidc", "config": {}}}), "kubeconfig"),
        (user(exec={"apiVersion": "client.authentication.k8s.io/v1", "command": "SECRET"}), "the user's exec"),
        (user(**{"auth-provider": {"name": "gcp", "config": {"access-token": "SECRET"}}}), "auth-provider gcp"),
    ],
)
async def test_a_wrong_kubeconfig_is_refused_with_file_and_field(
    tmp_path: Path, content: Json | str, named: str
) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    said = await refusal_of(path)
    assert named in said
    assert str(path) in said


async def test_a_program_for_credentials_is_refused_before_it_is_started_and_the_remedy_told(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    path = tmp_path / "kubeconfig"
    plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": "touch", "args": [str(ran)]}
    path.write_text(json.dumps(user(exec=plugin)), encoding="utf-8")
    said = await refusal_of(path)
    assert "sandbox" in said
    assert "tokenFile" in said
    assert not ran.exists()


async def test_a_program_of_a_user_who_is_not_the_current_one_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    other = {"name": "other", "user": {"exec": {"command": "no-such-program"}}}
    path.write_text(json.dumps(whole(users=[{"name": "u", "user": {"token": "t"}}, other])), encoding="utf-8")
    async with ApiSession(path, user_agent=AGENT):
        pass


async def test_a_missing_kubeconfig_is_named(tmp_path: Path) -> None:
    said = await refusal_of(tmp_path / "none")
    assert str(tmp_path / "none") in said
    assert "No such file" in said


async def test_outside_a_cluster_without_a_kubeconfig_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    said = await refusal_of(None)
    assert "service account" in said
    assert "KUBECONFIG" in said


@pytest.mark.parametrize("missing", ["token", "ca.crt"])
async def test_a_pod_without_a_mounted_service_account_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    service_account(tmp_path, monkeypatch, URL, token="SECRET", authority="CA")
    (tmp_path / missing).unlink()
    assert "automountServiceAccountToken" in await refusal_of(None)


def service_account(folder: Path, patch: pytest.MonkeyPatch, url: str, *, token: str, authority: str) -> None:
    """The files and variables that a pod has."""
    (folder / "token").write_text(token, encoding="ascii")
    (folder / "ca.crt").write_text(authority, encoding="ascii")
    patch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(folder / "token"))
    patch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(folder / "ca.crt"))
    host, port = url.removeprefix("https://").split(":")
    patch.setitem(incluster_config.os.environ, "KUBERNETES_SERVICE_HOST", host)
    patch.setitem(incluster_config.os.environ, "KUBERNETES_SERVICE_PORT", port)


async def test_a_pod_s_service_account_works_and_a_rotated_token_is_taken_up_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with EmbeddedApi(tls=True, users=["pod"]) as api:
        assert api.ca_file is not None
        service_account(tmp_path, monkeypatch, api.url, token="expired", authority=api.ca_file.read_text())
        async with ApiSession(None, user_agent=AGENT) as session:
            with pytest.raises(ApiFailure) as caught:
                await session.request("get", "/api/v1/namespaces", timeout_s=TIMEOUT_S)
            assert caught.value.kind is Failure.UNAUTHORIZED
            (tmp_path / "token").write_text(f"{api.token_for('pod')}\n", encoding="ascii")
            await session.request("get", "/api/v1/namespaces", timeout_s=TIMEOUT_S)


async def test_a_token_file_that_vanished_is_unauthorized_until_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with EmbeddedApi(tls=True, users=["pod"]) as api:
        assert api.ca_file is not None
        service_account(tmp_path, monkeypatch, api.url, token="expired", authority=api.ca_file.read_text())
        async with ApiSession(None, user_agent=AGENT) as session:
            (tmp_path / "token").unlink()
            for _ in range(3):
                with pytest.raises(ApiFailure) as caught:
                    await session.request("get", "/api/v1/namespaces", timeout_s=TIMEOUT_S)
                assert caught.value.kind is Failure.UNAUTHORIZED
            (tmp_path / "token").write_text(f"{api.token_for('pod')}", encoding="ascii")
            await session.request("get", "/api/v1/namespaces", timeout_s=TIMEOUT_S)


async def test_a_kubeconfig_written_anew_is_read_after_a_refusal(tmp_path: Path) -> None:
    script = [("GET", refusal(401, "Unauthorized")), ("GET", obj({})), ("GET", obj({}))]
    async with scripted(*script) as api, session_with(api.url, tmp_path, token="old") as session:
        with pytest.raises(ApiFailure):
            await session.request("get", "/x", timeout_s=TIMEOUT_S)
        kubeconfig(tmp_path, api.url, token="new")
        for _ in range(2):
            await session.request("get", "/x", timeout_s=TIMEOUT_S)
    assert [r.headers["authorization"] for r in api.requests] == ["Bearer old", "Bearer new", "Bearer new"]


async def test_a_token_file_beside_the_kubeconfig_may_end_with_a_newline(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t1\n", encoding="ascii")
    async with scripted(("GET", obj({}))) as api, session_with(api.url, tmp_path, tokenFile="token") as session:
        await session.request("get", "/x", timeout_s=TIMEOUT_S)
    assert api.requests[0].headers["authorization"] == "Bearer t1"


async def test_user_and_password_are_understood(tmp_path: Path) -> None:
    user = {"username": "u", "password": "p"}
    async with scripted(("GET", obj({}))) as api, session_with(api.url, tmp_path, **user) as session:
        await session.request("get", "/x", timeout_s=TIMEOUT_S)
    assert api.requests[0].headers["authorization"] == "Basic dTpw"


def client_certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate for a client, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pod")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "client.crt").write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / "client.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return folder / "client.crt", folder / "client.key"


def client_demanding(certificate: Path, key: Path, client: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(client)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


@pytest.mark.parametrize("inline", [True, False], ids=["inside the kubeconfig", "in files beside it"])
async def test_a_client_certificate_is_shown_and_never_written_to_a_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inline: bool
) -> None:
    certificate, key = write_certificate(tmp_path)
    client, client_key = client_certificate(tmp_path)

    def no_disk(*_: object, **__: object) -> None:
        raise AssertionError("a temporary file")

    monkeypatch.setattr(tempfile, "mkstemp", no_disk)

    def field(name: str, file: Path) -> Json:
        if inline:
            return {f"{name}-data": base64.b64encode(file.read_bytes()).decode()}
        return {name: file.name}

    async with scripted(("GET", obj({})), tls=client_demanding(certificate, key, client)) as api:
        path = kubeconfig(
            tmp_path,
            api.url,
            cluster=field("certificate-authority", certificate),
            **field("client-certificate", client),
            **field("client-key", client_key),
        )
        async with ApiSession(path, user_agent=AGENT) as session:
            await session.request("get", "/x", timeout_s=TIMEOUT_S)


async def test_a_server_with_another_certificate_is_not_spoken_to(tmp_path: Path) -> None:
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    for folder in (mine, theirs):
        folder.mkdir()
    authority, _ = write_certificate(mine)
    certificate, key = write_certificate(theirs)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    async with scripted(("GET", obj({})), tls=context) as api:
        path = kubeconfig(tmp_path, api.url, cluster={"certificate-authority": str(authority)}, token="SECRET")
        async with ApiSession(path, user_agent=AGENT) as session:
            with pytest.raises(ApiFailure) as caught:
                await session.request("get", "/x", timeout_s=TIMEOUT_S)
            assert caught.value.kind is Failure.UNREACHABLE
            assert "certificate" in str(caught.value) or "self-signed" in str(caught.value)
            assert api.requests == []
            kubeconfig(tmp_path, api.url, cluster={"certificate-authority": str(certificate)})
            await session.request("get", "/x", timeout_s=TIMEOUT_S)


@pytest.mark.parametrize("answer", [refusal(403, "Forbidden"), cut(), refusal(503, "ServiceUnavailable")])
async def test_a_kubeconfig_that_was_replaced_is_read_when_the_server_that_it_named_fails(
    tmp_path: Path, answer: Answer
) -> None:
    async with scripted(("GET", obj({})), ("GET", answer)) as old, scripted(("GET", obj({"new": 1}))) as new:
        path = kubeconfig(tmp_path, old.url, token="a")
        async with ApiSession(path, user_agent=AGENT) as session:
            await session.request("get", "/x", timeout_s=TIMEOUT_S)
            kubeconfig(tmp_path, new.url, token="b")
            with pytest.raises(ApiFailure):
                await session.request("get", "/x", timeout_s=TIMEOUT_S)
            assert await session.request("get", "/x", timeout_s=TIMEOUT_S) == {"new": 1}
            assert session.loads == 2, "so that the lock asks anew which API server this is"


async def test_a_kubeconfig_that_was_spoilt_costs_nothing_while_what_was_read_before_serves(tmp_path: Path) -> None:
    async with scripted(("GET", refusal(503, "ServiceUnavailable")), ("GET", obj({})), ("GET", obj({}))) as api:
        path = kubeconfig(tmp_path, api.url, token="a")
        async with ApiSession(path, user_agent=AGENT) as session:
            path.write_text("{", encoding="utf-8")
            with pytest.raises(ApiFailure):
                await session.request("get", "/x", timeout_s=TIMEOUT_S)
            await session.request("get", "/x", timeout_s=TIMEOUT_S)
            await session.request("get", "/x", timeout_s=TIMEOUT_S)
            assert session.loads == 1


async def test_answers_of_a_healthy_server_have_no_kubeconfig_read(tmp_path: Path) -> None:
    async with scripted(("GET", refusal(404, "NotFound")), ("GET", obj({}))) as api:
        path = kubeconfig(tmp_path, api.url, token="a")
        async with ApiSession(path, user_agent=AGENT) as session:
            kubeconfig(tmp_path, api.url, token="other")
            with pytest.raises(ApiFailure):
                await session.request("get", "/x", timeout_s=TIMEOUT_S)
            await session.request("get", "/x", timeout_s=TIMEOUT_S)
            assert session.loads == 1


async def test_a_kubeconfig_without_authorities_trusts_the_system_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = write_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with scripted(("GET", obj({})), tls=context) as api:
        path = kubeconfig(tmp_path, api.url, token="t")
        async with ApiSession(path, user_agent=AGENT) as session:
            await session.request("get", "/x", timeout_s=TIMEOUT_S)


async def test_an_unverified_server_is_spoken_to_when_the_kubeconfig_says_so(tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    async with scripted(("GET", obj({})), tls=context) as api:
        path = kubeconfig(tmp_path, api.url, cluster={"insecure-skip-tls-verify": True})
        async with ApiSession(path, user_agent=AGENT) as session:
            await session.request("get", "/x", timeout_s=TIMEOUT_S)
