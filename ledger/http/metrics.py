"""What the edge counts: requests, their time, lines of batches. Labels are routes, statuses and sites, no persons."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

_BUCKETS_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
EXPOSITION_TYPE = CONTENT_TYPE_LATEST


class Meters:
    """The meters of one process. Children are kept by key, which costs a third of `labels()`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._requests = Counter(
            "consent_ledger_http_requests",
            "HTTP requests answered",
            ("method", "route", "status", "site"),
            registry=registry,
        )
        self._seconds = Histogram(
            "consent_ledger_http_request_seconds",
            "Time from the request's headers to its answer",
            ("method", "route"),
            registry=registry,
            buckets=_BUCKETS_SECONDS,
        )
        self._lines = Counter(
            "consent_ledger_http_batch_lines", "Lines of batches answered", ("status",), registry=registry
        )
        self._waits = Counter(
            "consent_ledger_http_checkpoint_waits",
            "Posts that waited for their checkpoint: those that got a proof with its quorum, and those that did not",
            ("outcome",),
            registry=registry,
        )
        self._request_children: dict[tuple[str, str, int, str], Counter] = {}
        self._second_children: dict[tuple[str, str], Histogram] = {}

    def request(self, method: str, route: str, status: int, site: str, seconds: float) -> None:
        """Count one answered request. `route` is the template of the path, `site` a known site or empty."""
        key = (method, route, status, site)
        counter = self._request_children.get(key)
        if counter is None:
            counter = self._request_children[key] = self._requests.labels(method, route, str(status), site)
        counter.inc()
        histogram = self._second_children.get(key[:2])
        if histogram is None:
            histogram = self._second_children[key[:2]] = self._seconds.labels(method, route)
        histogram.observe(seconds)

    def line(self, status: int) -> None:
        """Count one answered line of a batch."""
        self._lines.labels(str(status)).inc()

    def wait(self, outcome: str) -> None:
        """Count one post that waited for its checkpoint: `proven`, or `pending` when its time was over."""
        self._waits.labels(outcome).inc()

    def exposition(self) -> bytes:
        """Everything in the registry, in the text format of Prometheus."""
        return generate_latest(self._registry)
