"""What the worker tells Prometheus of requests. Labels are sites and states, never who asked."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ledger.requests.delivering import RequestWorker


class RequestCollector(Collector):
    """Of the worker: how many requests wait, how many of them too long, and whether the controller is told."""

    def __init__(self, worker: RequestWorker) -> None:
        self._worker = worker

    def collect(self) -> Iterator[Metric]:
        waiting = GaugeMetricFamily(
            "consent_ledger_requests_open", "Requests of people that wait, by state.", labels=["site", "state"]
        )
        overdue = GaugeMetricFamily(
            "consent_ledger_requests_overdue", "Of them those that are beyond their deadline.", labels=["site"]
        )
        late = GaugeMetricFamily(
            "consent_ledger_request_late_seconds",
            "For how long the most urgent one is overdue; negative: how long it has.",
            labels=["site"],
        )
        told = CounterMetricFamily(
            "consent_ledger_requests_told", "Requests of which the controller's webhook was told.", labels=["site"]
        )
        failures = CounterMetricFamily(
            "consent_ledger_request_webhook_failures",
            "Attempts to tell it that failed.",
            value=self._worker.failures,
        )
        for site, rows in list(self._worker.figures.items()):
            for row in rows:
                waiting.add_metric([site, row.state], row.requests)
            overdue.add_metric([site], sum(row.overdue for row in rows))
            if rows:
                late.add_metric([site], max(row.late_seconds for row in rows))
        for site, count in list(self._worker.told.items()):
            told.add_metric([site], count)
        yield from (waiting, overdue, late, told, failures)
