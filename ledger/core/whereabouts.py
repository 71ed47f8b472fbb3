"""From where a request comes: whom proxies name as its client, and which region a code or a location record means.

Everything here is what somebody else says, read strictly: what is not well formed, not public or made up is None, which
counts as anywhere. Whom to believe is the caller's list of trusted proxies; looking an address up is done elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

from ledger.core.errors import Malformed
from ledger.core.regions import COUNTRIES

Address = IPv4Address | IPv6Address

HOPS_MAX = 32
"""Proxies that one request may have passed; a longer list is nobody's."""
ADDRESS_MAX_CHARACTERS = 64
NETWORKS_MAX = 1_024

_SUBDIVISION = re.compile(r"[A-Z0-9]{1,3}")
_PORT = re.compile(r"[0-9]{1,5}")
_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PAIR = re.compile(rf'[ \t]*({_WORD})=({_WORD}|"(?:[^"\\]|\\.)*")[ \t]*(;|,|\Z)')
_ESCAPED = re.compile(r"\\(.)")


class Networks:
    """Some networks, asked for addresses: one look-up for each length of prefix, however many networks there are."""

    __slots__ = ("_four", "_six")

    def __init__(self, networks: Collection[IPv4Network | IPv6Network] = ()) -> None:
        by_length: dict[tuple[int, int], set[int]] = {}
        for network in networks:
            shift = network.max_prefixlen - network.prefixlen
            by_length.setdefault((network.version, shift), set()).add(int(network.network_address) >> shift)
        self._four, self._six = (
            tuple((shift, frozenset(found)) for (version, shift), found in by_length.items() if version == wanted)
            for wanted in (4, 6)
        )

    def __bool__(self) -> bool:
        return bool(self._four or self._six)

    def __contains__(self, address: Address) -> bool:
        number = int(address)
        for shift, found in self._four if address.version == 4 else self._six:  # noqa: SIM110 - three times as fast
            if number >> shift in found:
                return True
        return False


def parse_networks(text: str) -> Networks:
    """Networks (CIDR) and single addresses, separated by commas. `Malformed` names the part that is none."""
    networks: list[IPv4Network | IPv6Network] = []
    for part in filter(None, map(str.strip, text.split(","))):
        try:
            network = ip_network(part)
        except ValueError as error:
            raise Malformed(f"{part[:64]!r} is no address and no network like 10.0.0.0/8") from error
        if network.prefixlen == 0:
            raise Malformed(f"{part!r} is everybody")
        networks.append(network)
    if len(networks) > NETWORKS_MAX:
        raise Malformed(f"more than {NETWORKS_MAX} networks")
    return Networks(networks)


# IANA's registries of special-purpose addresses, and multicast: nobody's place can be known from one of these.
_NOT_PUBLIC = parse_networks(
    "0.0.0.0/8, 10.0.0.0/8, 100.64.0.0/10, 127.0.0.0/8, 169.254.0.0/16, 172.16.0.0/12, 192.0.0.0/24, 192.0.2.0/24, "
    "192.88.99.0/24, 192.168.0.0/16, 198.18.0.0/15, 198.51.100.0/24, 203.0.113.0/24, 224.0.0.0/3, "
    "::/127, ::ffff:0:0/96, 64:ff9b:1::/48, 100::/64, 2001:2::/48, 2001:db8::/32, 3fff::/20, 5f00::/16, fc00::/7, "
    "fe80::/10, fec0::/10, ff00::/8"
)


def is_public(address: Address) -> bool:
    """Whether the address may belong to somebody on the internet. (The standard library's own answer keeps a cache of
    the addresses that it was asked for.)
    """
    return address not in _NOT_PUBLIC


def parse_address(text: str) -> Address | None:
    """An address; one that is IPv4 mapped into IPv6 (RFC 4291 section 2.5.5.2) is the IPv4 address."""
    if len(text) > ADDRESS_MAX_CHARACTERS:
        return None
    try:
        address = IPv6Address(text) if ":" in text else IPv4Address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def client_address(
    peer: Address | None, trusted: Networks, x_forwarded_for: Sequence[str], forwarded: Sequence[str]
) -> Address | None:
    """Who sent a request: the peer, or whom trusted proxies name, read from the right to the first not trusted.

    `x_forwarded_for` and `forwarded` (RFC 7239) are the lines of these headers in their order. Where there are both
    they have to agree: a proxy that writes one passes on what a client wrote into the other.
    """
    if peer is None or peer not in trusted:
        return peer
    named: list[Address | None] = []
    if x_forwarded_for:
        named.append(_first_untrusted(_x_forwarded_for(x_forwarded_for), trusted))
    if forwarded:
        named.append(_first_untrusted(_forwarded(forwarded), trusted))
    if not named or any(other != named[0] for other in named):
        return None
    return named[0]


def _first_untrusted(hops: Sequence[Address | None], trusted: Networks) -> Address | None:
    if len(hops) > HOPS_MAX:
        return None
    for hop in reversed(hops):
        if hop is None or hop not in trusted:
            return hop
    return None


def _x_forwarded_for(lines: Sequence[str]) -> list[Address | None]:
    return [_node(part.strip(" \t")) for part in ",".join(lines).split(",")]


def _forwarded(lines: Sequence[str]) -> list[Address | None]:
    """The `for` of each element; None where an element has none, and for all that is not RFC 7239."""
    text, at = ",".join(lines), 0
    hops: list[Address | None] = []
    element: dict[str, str] = {}
    while at < len(text):
        pair = _PAIR.match(text, at)
        if pair is None or pair[1].lower() in element:
            return [None]
        element[pair[1].lower()] = _ESCAPED.sub(r"\1", pair[2][1:-1]) if pair[2].startswith('"') else pair[2]
        at = pair.end()
        if pair[3] != ";":
            hops.append(_node(element.get("for", "")))
            element = {}
    return [None] if element or text.endswith((";", ",")) else hops


def _node(text: str) -> Address | None:
    """An address, perhaps with a port: `192.0.2.1:443`, `[2001:db8::1]:443`, `2001:db8::1`."""
    if text.startswith("["):
        host, closed, rest = text[1:].partition("]")
        return parse_address(host) if closed and ":" in host and (not rest or _is_port(rest)) else None
    if text.count(":") == 1:
        host, _, port = text.partition(":")
        return parse_address(host) if _PORT.fullmatch(port) else None
    return parse_address(text)


def _is_port(text: str) -> bool:
    return text.startswith(":") and _PORT.fullmatch(text, 1) is not None


def region_of_code(code: str) -> str | None:
    """A code as services send it, in either case: ISO 3166-1 alpha-2 or ISO 3166-2. Codes that they make up are none
    (XX and ZZ for unknown, T1 for Tor, A1 for a proxy, EU, AP).
    """
    if len(code) > 6 or not code.isascii():
        return None
    country, dash, subdivision = code.strip().upper().partition("-")
    if country not in COUNTRIES or (dash and _SUBDIVISION.fullmatch(subdivision) is None):
        return None
    return f"{country}-{subdivision}" if dash else country


def region_of_record(record: object) -> str | None:
    """What a MaxMind-format database says of an address: the country, with its largest subdivision where that is told.

    Some makers write the country as a code instead of a record, some as `country_code`. Where an address is merely
    registered is not where it is.
    """
    if not isinstance(record, dict):
        return None
    named = (_iso_code(record.get(member)) for member in ("country", "country_code"))
    country = next((code for code in named if code in COUNTRIES), None)
    if country is None:
        return None
    subdivisions = record.get("subdivisions")
    if isinstance(subdivisions, list) and subdivisions:
        code = _iso_code(subdivisions[0])
        if code is not None and _SUBDIVISION.fullmatch(code):
            return f"{country}-{code}"
    return country


def _iso_code(value: object) -> str | None:
    code = value.get("iso_code") if isinstance(value, dict) else value
    return code if isinstance(code, str) else None
