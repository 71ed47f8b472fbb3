"""Regions of the world, the regimes that a table gives them, and which of two regimes is stricter.

A region is an ISO 3166-1 alpha-2 code or an ISO 3166-2 subdivision. Whatever is not known exactly counts as the
strictest that it could be.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Literal, TypeVar, get_args

Regime = Literal["opt-in", "opt-out", "exempt"]
"""Strictest first. Under opt-out and exempt the default is a grant; exempt needs no consent, only heeds objection."""

REGIMES: tuple[Regime, ...] = get_args(Regime)
DEFAULT = "default"

Value = TypeVar("Value")

_COUNTRIES = """
AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ CA
CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR GA
GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP
KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS
MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS
RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW
TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW
"""
COUNTRIES = frozenset(_COUNTRIES.split())
"""ISO 3166-1 alpha-2. Codes that location services make up (EU, XX, T1, ZZ) are not here: such a place is unknown."""

_EU_STATES = "AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK"
_EU_REGIONS = "AX GF GP MF MQ RE YT"
"""Parts of Finland and France that have codes of their own, where EU law holds."""
_EU = frozenset((*_EU_STATES.split(), *_EU_REGIONS.split()))

GROUPS: Mapping[str, frozenset[str]] = {
    "EU": _EU,
    "EEA": _EU | {"IS", "LI", "NO"},
    "UK": frozenset({"GB"}),
}
_OTHER_NAMES = {"UK": "GB", "EL": "GR"}
_SUBDIVISION = re.compile(r"[A-Z]{2}-[A-Z0-9]{1,3}")


def is_region(key: str) -> bool:
    """Whether a regime table may have this key: a group, a country or a subdivision."""
    return key in GROUPS or key in COUNTRIES or (_SUBDIVISION.fullmatch(key) is not None and key[:2] in COUNTRIES)


def strictest(regimes: Iterable[Regime]) -> Regime:
    """The strictest of some regimes; of none at all, the strictest there is."""
    return min(regimes, key=REGIMES.index, default="opt-in")


def regime_in(table: Mapping[str, Regime], region: str | None) -> Regime:
    """What `table` (groups, countries, subdivisions and `default`) says of a region, the strictest that it could be."""
    return strictest(applying(table, region, "opt-in"))


def applying(table: Mapping[str, Value], region: str | None, default: Value) -> tuple[Value, ...]:
    """All that `table` may say of a region; `default` where it has none of its own. At least one, doubles among them.

    The most specific key wins; of several groups each has a say. None and codes that name no country are anywhere: the
    whole table. A country without its subdivision may be any of those that the table names.
    """
    default = table.get(DEFAULT, default)
    country, _, subdivision = (region or "").partition("-")
    country = _OTHER_NAMES.get(country, country)
    if country not in COUNTRIES:
        return (*table.values(), default)
    if subdivision and (exact := table.get(f"{country}-{subdivision}")) is not None:
        return (exact,)
    whole = table.get(country)
    if whole is not None:
        values: tuple[Value, ...] = (whole,)
    else:
        values = tuple(table[group] for group, members in GROUPS.items() if country in members and group in table)
    values = values or (default,)
    if subdivision:
        return values
    return (*values, *(value for key, value in table.items() if key.startswith(f"{country}-")))
