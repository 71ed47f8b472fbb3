"""What became of the rows: counted as they are read and answered, told at the end. Holds nothing of any row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from msgspec import Struct, field

WHY_LEFT_OUT = {
    "no-choice": "no choice was made",
    "not-in-force": "not confirmed, or no longer in force there",
    "lapsed": "lapsed there",
    "nothing-asked": "nothing that is asked here",
    "test": "a test",
}


class Tally(Struct, rename="camel"):
    """Rows by what became of them. `left_out` and `refused` are by kind; `visitors` by how the id came about; `overdue`
    are events whose record is older than the site keeps it, by purpose too."""

    rows: int = 0
    ready: int = 0
    recorded: int = 0
    replayed: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    denials_kept: int = 0
    removed: int = 0
    visitors: Counter[str] = field(default_factory=Counter)
    overdue: int = 0
    overdue_purposes: Counter[str] = field(default_factory=Counter)

    def lines(self, *, sent: bool) -> Iterator[str]:
        """For people."""
        yield f"rows read   {self.rows:>10,}"
        if sent:
            yield f"recorded    {self.recorded:>10,}"
            yield f"replayed    {self.replayed:>10,}  stored by an earlier run"
        else:
            yield f"would send  {self.ready:>10,}"
        yield f"left out    {self.left_out.total():>10,}{_told(self.left_out, WHY_LEFT_OUT)}"
        yield f"refused     {self.refused.total():>10,}{_told(self.refused, {})}"
        if self.denials_kept:
            yield f"            {self.denials_kept:>10,}  of them with their denials recorded"
        if self.overdue:
            yield f"too old     {self.overdue:>10,}  retention would erase them next{_told(self.overdue_purposes, {})}"
        yield f"taken out   {self.removed:>10,}  addresses, browsers, queries and ids in the rows kept as evidence"
        yield f"visitor ids           {_told(self.visitors, {}) or '  none'}"


def _told(counts: Counter[str], words: dict[str, str]) -> str:
    told = ", ".join(f"{words.get(kind, kind)}: {count:,}" for kind, count in counts.most_common())
    return f"  {told}" if told else ""
