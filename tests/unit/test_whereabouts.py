"""Whom proxies name as the client, and what a code or a location record means."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.core.errors import Malformed
from ledger.core.whereabouts import (
    HOPS_MAX,
    Networks,
    client_address,
    is_public,
    parse_address,
    parse_networks,
    region_of_code,
    region_of_record,
)

TRUSTED = parse_networks("10.0.0.0/8, 2001:db8:ffff::/48, 192.0.2.7")
PROXY, CLIENT = "10.0.0.1", "81.2.69.142"


def client(peer: str, *, xff: list[str] | None = None, forwarded: list[str] | None = None) -> str | None:
    found = client_address(parse_address(peer), TRUSTED, xff or [], forwarded or [])
    return None if found is None else str(found)


@pytest.mark.parametrize(
    ("peer", "xff", "found"),
    [
        (CLIENT, [], CLIENT),
        (CLIENT, ["5.34.12.13"], CLIENT),
        ("2a00:5da0::1", ["5.34.12.13"], "2a00:5da0::1"),
        (PROXY, [CLIENT], CLIENT),
        ("::ffff:10.0.0.1", [CLIENT], CLIENT),
        (PROXY, [f"::ffff:{CLIENT}"], CLIENT),
        (PROXY, [f"5.34.12.13, {CLIENT}"], CLIENT),
        (PROXY, ["5.34.12.13", CLIENT], CLIENT),
        (PROXY, [f"5.34.12.13, {CLIENT}, 10.9.9.9,192.0.2.7"], CLIENT),
        (PROXY, [f"{CLIENT}, 192.0.2.8"], "192.0.2.8"),
        (PROXY, [f"{CLIENT}:4711"], CLIENT),
        (PROXY, ["2a00:5da0::1"], "2a00:5da0::1"),
        (PROXY, ["[2a00:5da0::1]"], "2a00:5da0::1"),
        (PROXY, ["[2a00:5da0::1]:443"], "2a00:5da0::1"),
        ("2001:db8:ffff::3", [CLIENT], CLIENT),
        ("2001:db8:fffe::3", [CLIENT], "2001:db8:fffe::3"),
        # Nobody is named, or nothing that can be read
        (PROXY, [], None),
        (PROXY, ["10.1.2.3, 10.0.0.1"], None),
        (PROXY, [""], None),
        (PROXY, [f"{CLIENT}, unknown"], None),
        (PROXY, [f"{CLIENT}, _hidden"], None),
        (PROXY, [f"{CLIENT},"], None),
        (PROXY, [f"{CLIENT}, 10.0.0.1,"], None),
        (PROXY, ["81.2.69.142.5"], None),
        (PROXY, ["081.2.69.142"], None),
        (PROXY, ["81.2.69.142:99999999"], None),
        (PROXY, ["[81.2.69.142]"], None),
        (PROXY, ["[2a00:5da0::1]x"], None),
        (PROXY, ["[2a00:5da0::1"], None),
        (PROXY, ["٨1.2.69.142"], None),
        (PROXY, ["1" * 100], None),
        ("", [CLIENT], None),
        ("unix:", [CLIENT], None),
    ],
)
def test_the_client_is_the_rightmost_address_that_is_not_trusted(peer: str, xff: list[str], found: str | None) -> None:
    assert client(peer, xff=xff) == found


@pytest.mark.parametrize(
    ("forwarded", "found"),
    [
        ([f"for={CLIENT}"], CLIENT),
        ([f"For={CLIENT};Proto=https;by=10.0.0.1"], CLIENT),
        ([f'proto=http ; for="{CLIENT}:4711"'], CLIENT),
        (['for="[2a00:5da0::1]:4711"'], "2a00:5da0::1"),
        (['for="[2a00:5da0::1]"', "for=10.0.0.9"], "2a00:5da0::1"),
        ([f"for=5.34.12.13, for={CLIENT}, for=10.0.0.9;secret=a,for=192.0.2.7"], CLIENT),
        ([f'for=5.34.12.13;host="a,b;for=1.1.1.1", for={CLIENT}'], CLIENT),
        ([r'for="81.2.69.14\2"'], CLIENT),
        ([f"for={CLIENT}, for=unknown"], None),
        ([f"for={CLIENT}, for=_gazonk"], None),
        ([f"for={CLIENT}, proto=http"], None),
        ([f"for={CLIENT};for=5.34.12.13"], None),
        ([f'for="{CLIENT}'], None),
        ([f'for="{CLIENT}"x'], None),
        (["for=[2a00:5da0::1]"], None),
        ([f"for={CLIENT};"], None),
        ([f"for={CLIENT},"], None),
        ([f"{CLIENT}"], None),
        (["for"], None),
        ([""], None),
        (['for="' + "\\" * 99], None),
    ],
)
def test_forwarded_is_read_as_rfc_7239_has_it(forwarded: list[str], found: str | None) -> None:
    assert client(PROXY, forwarded=forwarded) == found


def test_where_two_headers_name_two_clients_it_is_nobody() -> None:
    assert client(PROXY, xff=[CLIENT], forwarded=[f"for={CLIENT}"]) == CLIENT
    assert client(PROXY, xff=[CLIENT], forwarded=["for=5.34.12.13"]) is None
    assert client(PROXY, xff=[CLIENT], forwarded=["nonsense"]) is None
    assert client(PROXY, xff=["nonsense"], forwarded=[f"for={CLIENT}"]) is None


def test_a_longer_way_than_anybody_goes_is_nobodys() -> None:
    hops = [PROXY] * (HOPS_MAX - 1)
    assert client(PROXY, xff=[", ".join([CLIENT, *hops])]) == CLIENT
    assert client(PROXY, xff=[", ".join([CLIENT, PROXY, *hops])]) is None


def test_without_trusted_proxies_the_client_is_the_peer() -> None:
    assert client_address(ip_address(PROXY), Networks(), [CLIENT], [f"for={CLIENT}"]) == ip_address(PROXY)


@given(st.lists(st.text(max_size=80), max_size=4), st.lists(st.text(max_size=80), max_size=4))
def test_no_header_makes_it_raise_or_trusts_whom_it_should_not(xff: list[str], forwarded: list[str]) -> None:
    assert client(CLIENT, xff=xff, forwarded=forwarded) == CLIENT
    named = client(PROXY, xff=xff, forwarded=forwarded)
    assert named is None or parse_address(named) not in TRUSTED


@given(st.text(alphabet='for=";,\\ []:.0129ax', max_size=60))
def test_forwarded_of_its_own_letters_never_raises(text: str) -> None:
    client(PROXY, forwarded=[text])


@pytest.mark.parametrize(
    "text", ["10.0.0.1/8", "0.0.0.0/0", "::/0", "10.0.0.0/33", "localhost", "10.0.0.0/8;::1", "10.0.0.256", "-"]
)
def test_a_list_of_proxies_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(Malformed):
        parse_networks(text)


def test_networks_hold_their_addresses_and_no_others() -> None:
    assert not parse_networks(" , ")
    networks = parse_networks("10.0.0.0/8,192.168.1.0/24 , 192.168.2.5,2001:db8::/32, ::1")
    assert networks
    inside = ("10.255.0.1", "192.168.1.0", "192.168.1.255", "192.168.2.5", "2001:db8:9::", "::1")
    outside = ("11.0.0.0", "192.168.2.4", "192.168.2.6", "2001:db9::", "::2", "0.0.0.1", "::a00:1")
    assert [text for text in inside if ip_address(text) not in networks] == []
    assert [text for text in outside if ip_address(text) in networks] == []


@pytest.mark.parametrize(
    "text",
    [
        *("127.0.0.1", "10.1.1.1", "100.64.0.1", "169.254.1.1", "172.31.0.1", "192.168.0.1", "203.0.113.9"),
        *("224.0.0.1", "255.255.255.255", "0.0.0.0", "::", "::1", "fe80::1", "fc00::1", "2001:db8::1", "ff02::1"),
    ],
)
def test_an_address_of_no_place_is_not_public(text: str) -> None:
    address = parse_address(text)
    assert address is not None
    assert not is_public(address)


@pytest.mark.parametrize("text", [CLIENT, "1.1.1.1", "100.128.0.1", "172.32.0.1", "2a00:5da0::1", "2606:4700::1111"])
def test_an_address_of_the_internet_is_public(text: str) -> None:
    assert is_public(ip_address(text))


@pytest.mark.parametrize(
    ("code", "region"),
    [
        *(("KZ", "KZ"), ("kz", "KZ"), (" de ", "DE"), ("US-CA", "US-CA"), ("us-ca", "US-CA"), ("KZ-75", "KZ-75")),
        *((made_up, None) for made_up in ("XX", "T1", "EU", "ZZ", "A1", "A2", "O1", "AP", "UK", "XK", "-", "")),
        *((bad, None) for bad in ("K", "KAZ", "KZ-", "US-CALI", "US--CA", "US_CA", "KZ\x00", "ſk", "XX-CA", "K Z")),
    ],
)
def test_codes_of_places_are_believed_and_made_up_ones_are_unknown(code: str, region: str | None) -> None:
    assert region_of_code(code) == region


@pytest.mark.parametrize(
    "record", [None, 7, "KZ", [], {}, {"country": None}, {"country": {"iso_code": ["KZ"]}}, {"country": {}}]
)
def test_a_record_without_a_country_is_unknown(record: object) -> None:
    assert region_of_record(record) is None
