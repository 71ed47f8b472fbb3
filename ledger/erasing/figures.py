"""What the worker tells Prometheus of erasures. Labels are sites, never who."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ledger.erasing.eraser import Eraser


class EraserCollector(Collector):
    """Of the worker: what it erased, and how many orders wait."""

    def __init__(self, eraser: Eraser) -> None:
        self._eraser = eraser

    def collect(self) -> Iterator[Metric]:
        events = CounterMetricFamily("consent_ledger_erasure_events", "Events that were erased.", labels=["site"])
        entries = CounterMetricFamily("consent_ledger_erasure_entries", "Erasure entries.", labels=["site"])
        people = CounterMetricFamily("consent_ledger_erasures", "Orders that were carried out.", labels=["site"])
        waiting = GaugeMetricFamily("consent_ledger_erasures_waiting", "Orders that wait.", labels=["site"])
        late = GaugeMetricFamily(
            "consent_ledger_erasure_late_seconds", "For how long the oldest order has been due.", labels=["site"]
        )
        for family, counted in (
            (events, self._eraser.erased),
            (entries, self._eraser.entries),
            (people, self._eraser.people),
        ):
            for site, count in list(counted.items()):
                family.add_metric([site], count)
        for site, lag in list(self._eraser.lags.items()):
            waiting.add_metric([site], lag.waiting)
            late.add_metric([site], lag.late_seconds)
        yield from (events, entries, people, waiting, late)
