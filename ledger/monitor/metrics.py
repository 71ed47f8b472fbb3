"""What a monitor tells Prometheus, as of its last round."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ledger.core.watch import Kind
from ledger.monitor.watch import Watch
from ledger.monitor.webhook import Webhook


class MonitorCollector(Collector):
    """One log under watch."""

    def __init__(self, watch: Watch, webhook: Webhook | None) -> None:
        self._watch, self._webhook = watch, webhook

    def collect(self) -> Iterator[Metric]:
        watch, state, origin = self._watch, self._watch.record.state, self._watch.aim.origin
        size = GaugeMetricFamily(
            "consent_ledger_monitor_size_entries", "Size of the log as far as it was verified.", labels=["origin"]
        )
        size.add_metric([origin], state.size)
        seconds = GaugeMetricFamily(
            "consent_ledger_monitor_completed_timestamp_seconds",
            "When every URL was last judged.",
            labels=["origin"],
        )
        seconds.add_metric([origin], watch.completed_at)
        rounds = CounterMetricFamily("consent_ledger_monitor_rounds", "Rounds so far.", labels=["origin"])
        rounds.add_metric([origin], watch.rounds)
        faults = GaugeMetricFamily(
            "consent_ledger_monitor_faults", "Faults that nobody acknowledged yet.", labels=["origin", "kind"]
        )
        counts = Counter(fault.kind for fault in state.faults)
        for kind in Kind:
            if kind.is_fault:
                faults.add_metric([origin, kind], counts[kind])
        alarms = GaugeMetricFamily(
            "consent_ledger_monitor_alarm", "1 while something is amiss.", labels=["origin", "kind", "url"]
        )
        for key in list(state.raised):
            kind_word, _, url = key.partition(" ")
            alarms.add_metric([origin, kind_word, url], 1)
        view = GaugeMetricFamily(
            "consent_ledger_monitor_view_entries", "Greatest size that each URL showed.", labels=["origin", "url"]
        )
        requests = CounterMetricFamily(
            "consent_ledger_monitor_requests", "Requests to each URL.", labels=["origin", "url"]
        )
        for client in watch.clients:
            place = state.places.get(client.url)
            view.add_metric([origin, client.url], place.size if place is not None else 0)
            requests.add_metric([origin, client.url], client.requests)
        cosigned = GaugeMetricFamily(
            "consent_ledger_monitor_cosigned_timestamp_seconds",
            "Latest cosignature of each witness.",
            labels=["origin", "witness"],
        )
        for witness in watch.aim.policy.witnesses:
            cosigned.add_metric([origin, witness.name], state.witnesses.get(str(witness.vkey), 0))
        waiting = GaugeMetricFamily(
            "consent_ledger_monitor_webhook_waiting", "Notices that wait for the webhook.", labels=["origin"]
        )
        waiting.add_metric([origin], len(state.notices))
        failures = CounterMetricFamily(
            "consent_ledger_monitor_webhook_failures", "Attempts that the webhook did not take.", labels=["origin"]
        )
        failures.add_metric([origin], self._webhook.failures if self._webhook is not None else 0)
        yield from (size, seconds, rounds, faults, alarms, view, requests, cosigned, waiting, failures)
