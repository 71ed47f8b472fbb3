"""A location file as MaxMind makes them, with a few networks in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmdb_writer import MMDBWriter
from netaddr import IPSet

LONDON, FRANKFURT, ALMATY, SAN_JOSE = "81.2.69.142", "88.198.7.9", "5.34.12.13", "63.116.31.5"
ALMATY_V6, NOWHERE = "2a00:5da0:1::77", "9.9.9.9"
PLACES: Mapping[str, Any] = {
    "81.2.69.0/24": {"country": {"iso_code": "GB"}, "subdivisions": [{"iso_code": "ENG"}]},
    "88.198.0.0/16": {"country": {"iso_code": "DE", "names": {"en": "Germany"}}},
    "5.34.0.0/17": {"country": {"iso_code": "KZ"}},
    "63.116.0.0/16": {"country": {"iso_code": "US"}, "subdivisions": [{"iso_code": "CA"}, {"iso_code": "085"}]},
    "2a00:5da0::/32": {"country": {"iso_code": "KZ"}},
    "10.0.0.0/8": {"country": {"iso_code": "KZ"}},
    "45.45.0.0/16": {"registered_country": {"iso_code": "FR"}, "traits": {"is_anonymous_proxy": True}},
    "45.46.0.0/16": {"country": {"iso_code": "A1"}},
    "45.47.0.0/16": {"country": {"iso_code": "EU"}},
    "45.48.0.0/16": {"country": 7, "subdivisions": {"iso_code": "CA"}},
    "45.49.0.0/16": {"country": "US", "subdivisions": [{"iso_code": "California"}]},
    "45.50.0.0/16": {"country": "Kazakhstan", "country_code": "KZ"},
}


def write_locations(path: Path, places: Mapping[str, Any] = PLACES, *, version: int = 6) -> Path:
    """The file at `path`, put there at once. `version` 4 holds IPv4 networks alone."""
    writer = MMDBWriter(version, "Test-Country", languages=["en"], ipv4_compatible=version == 6)
    for network, record in places.items():
        if version == 6 or ":" not in network:
            writer.insert_network(IPSet([network]), record)
    made = path.with_suffix(".new")
    writer.to_db_file(str(made))
    return made.replace(path)
