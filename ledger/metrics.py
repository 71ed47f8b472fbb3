"""What the moving parts tell Prometheus. Labels are sites and states, never visitors."""

from __future__ import annotations

import time
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ledger.consumers import Consumers
from ledger.cookies import Cookies
from ledger.lapser import Lapser
from ledger.projector import Projector
from ledger.region import RegionFinder
from ledger.service import Service


class SequencerCollector(Collector):
    """Of the HTTP process: what it appends, and what waits."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterator[Metric]:
        appended = CounterMetricFamily(
            "consent_ledger_appended_events", "Entries this process appended.", labels=["site"]
        )
        batches = CounterMetricFamily("consent_ledger_append_batches", "Appends that committed.", labels=["site"])
        resubmitted = CounterMetricFamily(
            "consent_ledger_append_resubmissions",
            "Batches submitted again because their answer was lost.",
            labels=["site"],
        )
        waiting = GaugeMetricFamily(
            "consent_ledger_append_waiting_drafts", "Drafts that wait for the next batch.", labels=["site"]
        )
        size = GaugeMetricFamily(
            "consent_ledger_size_entries", "Size of the log as this process saw it last.", labels=["site"]
        )
        trouble = GaugeMetricFamily(
            "consent_ledger_append_refused", "1 while appending is refused, by reason.", labels=["site", "reason"]
        )
        for site in self._service.sites.loaded():
            if site.sequencer is None:
                trouble.add_metric([site.site, "no-signer"], 1)
                continue
            stats = site.sequencer.stats
            appended.add_metric([site.site], stats.appended)
            batches.add_metric([site.site], stats.batches)
            resubmitted.add_metric([site.site], stats.resubmitted)
            waiting.add_metric([site.site], stats.waiting)
            size.add_metric([site.site], site.sequencer.head.size)
            if site.sequencer.trouble is not None:
                trouble.add_metric([site.site, site.sequencer.trouble], 1)
        yield from (appended, batches, resubmitted, waiting, size, trouble)


class ProjectorCollector(Collector):
    """Of the worker: how far each projection is."""

    def __init__(self, projector: Projector) -> None:
        self._projector = projector

    def collect(self) -> Iterator[Metric]:
        position = GaugeMetricFamily(
            "consent_ledger_projection_position", "Last seq folded into the state.", labels=["site"]
        )
        lag = GaugeMetricFamily("consent_ledger_projection_lag_entries", "Entries not folded yet.", labels=["site"])
        for progress in self._projector.progress():
            position.add_metric([progress.site], progress.position)
            lag.add_metric([progress.site], progress.size - 1 - progress.position)
        yield from (position, lag)


class LapserCollector(Collector):
    """Of the worker: what it told of lapses, and how long the oldest of each site has waited."""

    def __init__(self, lapser: Lapser) -> None:
        self._lapser = lapser

    def collect(self) -> Iterator[Metric]:
        told = CounterMetricFamily(
            "consent_ledger_lapse_events", "Events about lapses that were appended.", labels=["site", "type"]
        )
        lag = GaugeMetricFamily(
            "consent_ledger_lapse_lag_seconds", "For how long the oldest lapse has waited to be told.", labels=["site"]
        )
        passing = GaugeMetricFamily(
            "consent_ledger_lapse_pass_under_way",
            "1 while the rows of a site are being gone through after a version was published.",
            labels=["site"],
        )
        batches = CounterMetricFamily(
            "consent_ledger_lapse_batches", "Batches of rows that were looked at.", value=self._lapser.batches
        )
        seconds = CounterMetricFamily(
            "consent_ledger_lapse_batch_seconds", "What those took.", value=self._lapser.worked_seconds
        )
        for (site, kind), count in list(self._lapser.told.items()):
            told.add_metric([site, kind], count)
        for site, of_site in list(self._lapser.lags.items()):
            lag.add_metric([site], of_site.seconds)
            passing.add_metric([site], of_site.passing)
        yield from (told, lag, passing, batches, seconds)


class RegionCollector(Collector):
    """Of the HTTP process: whether regions are found, and how old the file is that they are found in."""

    def __init__(self, regions: RegionFinder) -> None:
        self._regions = regions

    def collect(self) -> Iterator[Metric]:
        finding = self._regions.finding()
        lookups = CounterMetricFamily(
            "consent_ledger_region_lookups", "Requests whose region was looked for, by outcome.", labels=["outcome"]
        )
        lookups.add_metric(["found"], finding.found)
        lookups.add_metric(["unknown"], finding.unknown)
        built = GaugeMetricFamily(
            "consent_ledger_region_database_built_seconds",
            "When the location file in use was built, in seconds since 1970; 0 where there is none.",
            value=finding.built,
        )
        yield from (lookups, built)


class CookieCollector(Collector):
    """Of the HTTP process: how the sites' cookie inventories stand."""

    def __init__(self, cookies: Cookies) -> None:
        self._cookies = cookies

    def collect(self) -> Iterator[Metric]:
        undeclared = GaugeMetricFamily(
            "consent_ledger_cookies_undeclared",
            "Names seen on a site's pages of late that its policy does not declare.",
            labels=["site"],
        )
        overdue = GaugeMetricFamily(
            "consent_ledger_cookie_review_overdue_seconds",
            "For how long a review of the cookies is overdue; 0 while it is not. None where the policy asks for none.",
            labels=["site"],
        )
        for figures in self._cookies.figures():
            undeclared.add_metric([figures.site], figures.undeclared)
            if figures.overdue_seconds is not None:
                overdue.add_metric([figures.site], figures.overdue_seconds)
        yield from (undeclared, overdue)


class ConsumerCollector(Collector):
    """Of the HTTP process: which consumers have not confirmed every erasure, and for how long."""

    def __init__(self, consumers: Consumers) -> None:
        self._consumers = consumers

    def collect(self) -> Iterator[Metric]:
        behind = GaugeMetricFamily(
            "consent_ledger_consumer_behind_seconds",
            "For how long the first erasure that a consumer has not confirmed has been in the log; 0: none.",
            labels=["site", "consumer"],
        )
        now_ms = time.time_ns() // 1_000_000
        for one in self._consumers.known:
            behind.add_metric([one.site, one.name], one.behind_seconds(now_ms))
        yield behind
