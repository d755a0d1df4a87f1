"""Which addresses NO_PROXY excepts by network: `10.96.0.0/12`, `fd00::/8`, or an IPv6 address without brackets.

Python's urllib compares text only. Clusters are given to other clients (Go's, curl's) as networks, an API server's
address in them has no name, and a request for it that goes to a proxy is refused there.
"""

from __future__ import annotations

import ipaddress


def excepted(host: str, no_proxy: str) -> bool:
    """Whether this host is an address that lies in one of the networks of such a list; what is none of these is not."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return any(address in network for network in map(_network, no_proxy.split(",")) if network is not None)


def _network(entry: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(entry.strip(), strict=False)
    except ValueError:  # a name, a suffix, with a port: urllib's
        return None
