"""Detection of reports that are not recorded."""

import pytest

from crew.jobs.reports.progress_watch import ProgressWatch
from crew.jobs.tuning import DEFAULT


def test_reports_that_wait_longer_than_a_batch_takes_are_an_obstacle(caplog: pytest.LogCaptureFixture) -> None:
    now, oldest = [100.0], [None]
    watch = ProgressWatch(lambda: oldest[0], lambda: now[0])
    now[0] += 1_000
    assert watch.obstacle() is None, "there is nothing to record"
    oldest[0] = now[0]  # type: ignore[call-overload]
    now[0] += DEFAULT.stalled_after - 1
    watch.check()
    assert watch.obstacle() is None
    watch.progressed()
    now[0] += DEFAULT.stalled_after - 1
    assert watch.obstacle() is None, "other reports were recorded"
    now[0] += 1
    for _ in range(3):
        watch.check()
    assert watch.obstacle() == "job reports arrive, but none has been recorded for 30 s, so no job ends"
    assert caplog.messages == [watch.obstacle()]
    now[0] += 5
    watch.progressed()
    assert watch.obstacle() is None
    assert caplog.messages[1:] == ["job reports are recorded again after 35 s"]
