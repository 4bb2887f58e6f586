"""All discarded reports are counted; the number of log lines is limited."""

import pytest
from prometheus_client import REGISTRY, generate_latest

from crew.gateway import metrics
from crew.jobs.reports import refused_reports
from crew.jobs.reports.refused_reports import EVERY, LINES, REJECTED, UNREADABLE, RefusedReports


def test_many_discarded_reports_log_a_few_lines_with_the_number_of_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = [0.0]
    of_store = RefusedReports(lambda: now[0])
    for _ in range(1_000):
        of_store.discard(UNREADABLE, "crew.jobs.x", "no id")
    assert caplog.messages == ["job report discarded: queue=crew.jobs.x reason=unreadable: no id"] * LINES
    now[0] = EVERY
    of_store.discard(REJECTED, "crew.jobs.x", "too large")
    (line,) = caplog.messages[LINES:]
    assert line.endswith(f"reason=rejected: too large (and {1_000 - LINES} more since the last line)")


def test_prometheus_metrics_count_discarded_reports_by_reason() -> None:
    assert metrics.ABANDONED_CALLS
    name, labels = "crew_job_reports_discarded_total", {"reason": REJECTED}
    before = REGISTRY.get_sample_value(name, labels) or 0.0
    RefusedReports().discard(REJECTED, "crew.jobs.x", "no")
    assert REGISTRY.get_sample_value(name, labels) == before + 1
    assert refused_reports.discarded[REJECTED] == before + 1
    assert b"crew_job_reports_discarded_total{" in generate_latest()
