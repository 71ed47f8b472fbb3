"""What the worker tells Prometheus of retention. Labels are sites, never who."""

from __future__ import annotations

import time
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ledger.retention.pruner import Pruner


class RetentionCollector(Collector):
    """Of the worker: what went because its time was over, and when nothing more was due."""

    def __init__(self, pruner: Pruner) -> None:
        self._pruner = pruner

    def collect(self) -> Iterator[Metric]:
        events = CounterMetricFamily(
            "consent_ledger_retention_events", "Events that were erased because their time was over.", labels=["site"]
        )
        entries = CounterMetricFamily("consent_ledger_retention_entries", "Erasure entries for them.", labels=["site"])
        looked = GaugeMetricFamily(
            "consent_ledger_retention_age_seconds", "Since when it is known that nothing is due.", labels=["site"]
        )
        for family, counted in ((events, self._pruner.events), (entries, self._pruner.entries)):
            for site, count in list(counted.items()):
                family.add_metric([site], count)
        for site, looked_ms in list(self._pruner.looked_ms.items()):
            looked.add_metric([site], max(0.0, time.time() - looked_ms / 1000))
        yield from (events, entries, looked)
