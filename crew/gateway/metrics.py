"""Prometheus counters: abandoned requests and calls, discarded job reports, refused messages."""

import time
from collections.abc import Iterable, Mapping
from typing import Any, Final

from prometheus_client import REGISTRY, Counter
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from crew.amqp import signed_channel
from crew.client import PendingCall
from crew.jobs.reports import refused_reports

ABANDONED_REQUESTS: Final = Counter(
    "crew_abandoned_requests_total",
    "HTTP requests whose client disconnected while their calls were pending.",
)
ABANDONED_CALLS: Final = Counter(
    "crew_abandoned_calls_total",
    "Calls that were canceled because their HTTP client disconnected. State started: a worker had announced the start, "
    "which it does after 200 ms; otherwise queued.",
    ["state"],
)
ABANDONED_SECONDS: Final = Counter(
    "crew_abandoned_seconds_total",
    "Seconds that the abandoned calls had left until their deadline or timeout: an upper bound of the work saved.",
)
QUEUED: Final = ABANDONED_CALLS.labels("queued")  # both labels exist from the start, with the value 0
STARTED: Final = ABANDONED_CALLS.labels("started")


class _LabeledCounter(Collector):
    """A counter with one label, whose values another module counts."""

    def __init__(self, name: str, text: str, label: str, counts: Mapping[str, int]) -> None:
        self._name, self._text, self._label, self._counts = name, text, label, counts

    def collect(self) -> Iterable[CounterMetricFamily]:
        """The current values."""
        family = CounterMetricFamily(self._name, self._text, labels=[self._label])
        for value, count in self._counts.items():
            family.add_metric([value], count)
        yield family


REGISTRY.register(
    _LabeledCounter(
        "crew_job_reports_discarded",
        "Messages in the queue of a job store that were discarded. Reason unreadable: not the report of a worker, "
        "or not about a job; rejected: the database refuses it permanently.",
        "reason",
        refused_reports.discarded,
    )
)
REGISTRY.register(
    _LabeledCounter(
        "crew_messages_refused",
        "Messages that were refused because their signature was missing, wrong or too old: see CREW_SIGNING_KEY. Kind: "
        "reply, report (of a job), control or event; call, in a process that runs tasks.",
        "kind",
        signed_channel.refused,
    )
)


def count_abandoned(canceled: Iterable[PendingCall[Any]]) -> None:
    """Count one abandoned request, and the calls that were canceled with it."""
    ABANDONED_REQUESTS.inc()
    now = time.time()
    for call in canceled:
        (STARTED if call.has_started else QUEUED).inc()
        ABANDONED_SECONDS.inc(_seconds_left(call, now))


def _seconds_left(call: PendingCall[Any], now: float) -> float:
    """Seconds that the task could still have run."""
    left = 0.0 if call.message.deadline is None else max(0.0, call.message.deadline - now)
    return left if call.message.timeout is None else min(left, call.message.timeout)
