"""Where a request comes from, for limits on an address: of IPv6, the network of 64 bits that one line is given whole.

Whoever has such a line may send each request from another of its 2^64 addresses.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any

from starlette.types import Scope

NETWORK = 64
"""Bits of an IPv6 address that tell lines apart."""


def address_of(request: Any) -> str:
    """Of a request; empty if unknown."""
    client = getattr(request, "client", None)
    return line_of(str(client.host)) if client else ""


def address_of_scope(scope: Scope) -> str:
    """Of a request as middleware sees it; empty if unknown."""
    client: Any = scope.get("client")
    return line_of(str(client[0])) if client else ""


@lru_cache(maxsize=4_096)
def line_of(host: str) -> str:
    """An IPv4 address as it is, also one written as IPv6; the network of an IPv6 address; any other name as it is."""
    try:
        found = ip_address(host)
    except ValueError:
        return host
    if not isinstance(found, IPv6Address):
        return host
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ip_network((int(found), NETWORK), strict=False))
