"""Counters for Prometheus: what was given up, because its HTTP client had gone, and what was discarded."""

import time
from collections.abc import Iterable, Mapping
from typing import Final

from prometheus_client import REGISTRY, Counter
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from crew.amqp import signed_channel
from crew.client import PendingCall
from crew.jobs import refused_reports

REQUESTS: Final = Counter(
    "crew_abandoned_requests_total",
    "HTTP requests whose client has gone while calls were in flight for them.",
)
CALLS: Final = Counter(
    "crew_abandoned_calls_total",
    "Calls that were cancelled because their HTTP client has gone. State started: a worker had said that it runs, as "
    "it does after 200 ms; else queued.",
    ["state"],
)
SECONDS: Final = Counter(
    "crew_abandoned_seconds_total",
    "Seconds that the cancelled calls still had until their deadline or timeout: an upper bound of what was saved.",
)
QUEUED: Final = CALLS.labels("queued")  # made here, so that both are there, as 0, from the start
STARTED: Final = CALLS.labels("started")


class _Counts(Collector):
    """A counter of which another module keeps the values, by a label."""

    def __init__(self, name: str, text: str, label: str, counts: Mapping[str, int]) -> None:
        self._name, self._text, self._label, self._counts = name, text, label, counts

    def collect(self) -> Iterable[CounterMetricFamily]:
        """The counter as it is now."""
        family = CounterMetricFamily(self._name, self._text, labels=[self._label])
        for value, count in self._counts.items():
            family.add_metric([value], count)
        yield family


REGISTRY.register(
    _Counts(
        "crew_job_reports_discarded",
        "Messages in the queue of a job store that were discarded. Reason unreadable: not the report of a worker, "
        "or not about a job; rejected: the database never takes it.",
        "reason",
        refused_reports.discarded,
    )
)
REGISTRY.register(
    _Counts(
        "crew_messages_refused",
        "Messages that were refused because their signature was missing, wrong or old: see CREW_SIGNING_KEY. Kind: "
        "reply, report (of a job), control or event; call, in a process that runs tasks.",
        "kind",
        signed_channel.refused,
    )
)


def count(canceled: Iterable[PendingCall]) -> None:
    """Count one abandoned request, and the calls that were cancelled with it."""
    REQUESTS.inc()
    now = time.time()
    for call in canceled:
        (STARTED if call.has_started else QUEUED).inc()
        SECONDS.inc(_unused(call, now))


def _unused(call: PendingCall, now: float) -> float:
    """Seconds that its task could have run at most."""
    left = 0.0 if call.message.deadline is None else max(0.0, call.message.deadline - now)
    return left if call.message.timeout is None else min(left, call.message.timeout)
