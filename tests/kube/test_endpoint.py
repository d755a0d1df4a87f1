"""Where the API server is: by kubeconfig or by what the kubelet says, and in words where it is nowhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kube.endpoint import by_settings
from sandbox.places import SERVICE_ACCOUNT, Endpoint, Unreachable

PROXIES = ("HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "ALL_PROXY")


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def written(folder: Path, *, user: dict[str, Any] | None = None, **cluster: Any) -> Path:
    path = folder / "kubeconfig"
    content = {
        "clusters": [{"name": "c", "cluster": {"server": "https://10.0.0.1:6443", **cluster}}],
        "users": [{"name": "u", "user": user or {}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path.write_text(json.dumps(content))
    return path


def in_pod(host: str, port: str) -> Endpoint:
    return by_settings(None, {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port})


# --- the service account ---


def test_a_pod_finds_the_server_by_its_environment_and_its_account_where_the_kubelet_mounts_it() -> None:
    assert in_pod("10.96.0.1", "443") == Endpoint(("10.96.0.1",), (443,), (SERVICE_ACCOUNT,))


def test_an_ipv6_address_is_understood() -> None:
    assert in_pod("fd00::1", "6443").hosts == ("fd00::1",)


@pytest.mark.parametrize(("host", "port"), [("", "443"), ("10.0.0.1", ""), ("10.0.0.1", "x"), ("", "")])
def test_outside_a_cluster_the_remedy_is_named(host: str, port: str) -> None:
    with pytest.raises(Unreachable, match="set KUBECONFIG outside a cluster"):
        in_pod(host, port)


def test_a_port_that_cannot_be_is_named() -> None:
    with pytest.raises(Unreachable, match=r"the pod's service account: .*impossible host or port"):
        in_pod("10.0.0.1", "70000")


@given(st.text(max_size=20), st.text(max_size=8))
@example("[", "0")
@example("10.0.0.1]", "443")
def test_whatever_the_environment_says_it_is_an_endpoint_or_a_refusal(host: str, port: str) -> None:
    try:
        found = in_pod(host, port)
    except Unreachable:
        return
    assert len(found.hosts) == len(found.ports) >= 1
    assert all(0 < number < 65536 for number in found.ports)


# --- a kubeconfig ---


def test_a_kubeconfig_names_the_server_and_is_itself_a_file_to_be_read_again(tmp_path: Path) -> None:
    path = written(tmp_path)
    assert by_settings(path) == Endpoint(("10.0.0.1",), (6443,), (path,))


@pytest.mark.parametrize(
    ("server", "host", "port"),
    [
        ("https://api.example:6443", "api.example", 6443),
        ("https://api.example", "api.example", 443),
        ("http://127.0.0.1", "127.0.0.1", 80),
        ("https://[fd00::1]:8443", "fd00::1", 8443),
    ],
)
def test_host_and_port_are_the_addresss(tmp_path: Path, server: str, host: str, port: int) -> None:
    found = by_settings(written(tmp_path, server=server))
    assert (found.hosts, found.ports) == ((host,), (port,))


def test_files_that_it_names_are_left_open_too_wherever_they_lie(tmp_path: Path) -> None:
    (tmp_path / "pki").mkdir()
    for name in ("ca.crt", "client.crt", "client.key", "token"):
        (tmp_path / "pki" / name).touch()
    user = {
        "client-certificate": "pki/client.crt",
        "client-key": str(tmp_path / "pki/client.key"),
        "tokenFile": "pki/token",
    }
    path = written(tmp_path, user=user, **{"certificate-authority": "pki/ca.crt"})
    names = ("ca.crt", "client.crt", "client.key", "token")
    assert set(by_settings(path).files) == {path, *(tmp_path / "pki" / name for name in names)}


def test_what_is_written_into_it_needs_no_file(tmp_path: Path) -> None:
    path = written(tmp_path, user={"token": "SECRET", "client-key-data": "U0VDUkVU"})
    assert by_settings(path).files == (path,)


def test_its_proxy_is_an_address_too(tmp_path: Path) -> None:
    found = by_settings(written(tmp_path, **{"proxy-url": "http://user:SECRET@proxy.example:3128"}))
    assert found.hosts == ("10.0.0.1", "proxy.example")
    assert found.ports == (6443, 3128)
    assert "SECRET" not in repr(found)


def test_the_environments_proxy_is_used_and_its_exceptions_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://10.9.9.9:3128")
    path = written(tmp_path)
    assert by_settings(path).ports == (6443, 3128)
    for excepted in ("10.0.0.1", "10.0.0.0/24", ".svc,10.0.0.0/8"):
        monkeypatch.setenv("NO_PROXY", excepted)
        assert by_settings(path).ports == (6443,)


def test_its_own_proxy_is_preferred_to_the_environments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://10.9.9.9:3128")
    assert by_settings(written(tmp_path, **{"proxy-url": "http://10.8.8.8:8080"})).hosts == ("10.0.0.1", "10.8.8.8")


@pytest.mark.parametrize("server", ["https://10.0.0.1:99999", "https://10.0.0.1:x", "https://[fd00::1"])
def test_an_impossible_address_is_named_with_its_file(tmp_path: Path, server: str) -> None:
    path = written(tmp_path, server=server)
    with pytest.raises(Unreachable, match=f"KUBECONFIG {path}: .*impossible host or port"):
        by_settings(path)


def test_a_kubeconfig_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="cannot be read: No such file or directory"):
        by_settings(tmp_path / "absent")


def test_a_refusal_quotes_no_credentials(tmp_path: Path) -> None:
    path = written(tmp_path, user={"token": "SECRET"}, server="ftp://x")
    with pytest.raises(Unreachable) as caught:
        by_settings(path)
    assert "SECRET" not in str(caught.value)
