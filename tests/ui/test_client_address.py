"""Whoever has a line has all of its addresses: limits on an address hold for them together."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from sdsdemo.settings import LIMITS
from sdsdemo.ui.client_address import address_of, address_of_scope
from tests.ui.test_body_limits import Served


@pytest.mark.parametrize(
    ("host", "line"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("testclient", "testclient"),
    ],
)
def test_an_address_is_that_of_the_line(host: str, line: str) -> None:
    assert address_of(SimpleNamespace(client=SimpleNamespace(host=host))) == line
    assert address_of_scope({"client": (host, 1)}) == line


def test_a_request_without_a_client_has_no_address() -> None:
    assert address_of(None) == address_of_scope({}) == ""


def test_uploads_from_one_line_share_its_limit() -> None:
    served = Served()
    hosts = [f"2001:db8::{k:x}" for k in range(LIMITS.uploads_of_address + 1)]
    statuses = [served.post("/upload", [b"1"], address=host)[0] for host in hosts]
    assert statuses[-2:] == [200, 429]
    assert served.post("/upload", [b"1"], address="2001:db8:0:1::1")[0] == 200
