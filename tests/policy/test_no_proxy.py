"""NO_PROXY by network, as clusters write it."""

from __future__ import annotations

import pytest

from policy.no_proxy import excepted

OPENSHIFT = ".cluster.local,.svc,10.0.0.0/16, 172.30.0.0/16 ,fd02::/112,fd00::1,localhost,,*.example:443,10.1.2.3:6443"


@pytest.mark.parametrize("host", ["172.30.0.1", "10.0.255.255", "fd02::1", "fd00::1"])
def test_an_address_in_a_named_network_is_excepted(host: str) -> None:
    assert excepted(host, OPENSHIFT)


@pytest.mark.parametrize("host", ["172.31.0.1", "10.1.2.3", "fd00::2", "localhost", "api.svc", "", "10.0.0.1.svc"])
def test_nothing_else_is_and_names_are_left_to_urllib(host: str) -> None:
    assert not excepted(host, OPENSHIFT)


def test_an_empty_list_excepts_nothing() -> None:
    assert not excepted("10.0.0.1", "")
