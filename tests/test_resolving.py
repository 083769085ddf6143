"""Test which addresses are private and which texts are web addresses."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coa.records.trajectory import Outcome
from coa.tools.fetching import AddressError, is_public, web_address
from tests.page_support import (
    open_page,
)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "danube",
        "file:///etc/passwd",
        "ftp://a.example",
        "http://u:p@a.example/",
        "http://",
        "http://a.example/ b",
        "http://[",
        "http://a:b",
        "http://a.example/" + "x" * 2000,
    ],
)
def test_what_is_no_web_address_is_invalid(url: str) -> None:
    assert open_page(url).outcome is Outcome.INVALID


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("8.8.8.8", True),
        ("127.0.0.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("::1", False),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::a00:1", False),
        ("2002:7f00:1::", False),
        ("fe80::1%eth0", False),
        ("192.0.0.192", False),
        ("168.63.129.16", False),
        ("fec0::1", False),
        ("::7f00:1", False),
        ("64:ff9b:1::7f00:1", False),
        ("fd00:ec2::254", False),
        ("240.0.0.1", False),
        ("3fff::1", False),
        ("64:ff9b::808:808", True),
        ("224.0.0.1", False),
        ("2001:4860:4860::8888", True),
    ],
)
def test_private_addresses_are_known_in_every_form(address: str, expected: bool) -> None:
    assert is_public(address) is expected


@given(st.text(max_size=40))
def test_any_text_is_an_address_with_a_host_or_an_error(text: str) -> None:
    for url in (text, f"http://{text}"):
        with suppress(AddressError):
            assert web_address(url).host
