"""The limit of requests for one host, with a clock that the test moves."""

from crew.protocol.http_job.request import check_request
from crew.worker.execution.execution import Execution
from crew.worker.url_jobs.host_limit import DELAYS, SLOW_FOR, WAIT, HostLimit
from tests.support.deliveries import an_execution


class Limited:
    """A HostLimit of two requests."""

    def __init__(self) -> None:
        self.now = 100.0
        self.hosts = HostLimit(2, clock=lambda: self.now)

    def runs(self, host: str) -> Execution:
        """Start a request."""
        assert self.hosts.has_room(host)
        execution = an_execution()
        self.hosts.begin(host, execution)
        return execution

    def holds(self, host: str) -> Execution | None:
        """Let a request wait; None if it must be postponed."""
        assert not self.hosts.has_room(host)
        one = an_execution()
        return one if self.hosts.hold(check_request(url=f"http://{host}/"), one.delivery, one.call, one.task) else None


def test_a_host_has_no_more_requests_than_its_limit_and_others_have_theirs() -> None:
    limited = Limited()
    limited.runs("a")
    limited.runs("a")
    assert not limited.hosts.has_room("a")
    limited.runs("b")
    assert limited.hosts.has_room("b")


def test_waiting_jobs_start_in_order_when_a_request_for_their_host_ends() -> None:
    limited = Limited()
    first, other = limited.runs("a"), limited.runs("b")
    limited.runs("a")
    waits = [limited.holds("a"), limited.holds("a")]
    assert limited.hosts.end(other) == "b"
    assert (limited.hosts.following("b"), limited.hosts.following("a")) == (None, None)
    assert limited.hosts.end(first) == "a"
    following = limited.hosts.following("a")
    assert following is not None
    assert waits[0] is not None
    assert following.call is waits[0].call
    limited.runs("a")
    assert (len(limited.hosts), limited.hosts.following("a")) == (1, None)


def test_a_host_is_slow_after_a_job_has_waited_too_long_and_then_few_wait_for_it() -> None:
    limited = Limited()
    limited.runs("a")
    limited.runs("a")
    first = limited.holds("a")
    limited.now += WAIT / 2
    others = [limited.holds("a") for _ in range(3)]
    assert (limited.hosts.overdue(), limited.hosts.next_look()) == ([], WAIT / 2)
    limited.now += WAIT / 2
    overdue = [(host, one.call) for host, one in limited.hosts.overdue()]
    assert overdue == [("a", one.call) for one in (first, *others[:2]) if one is not None]
    assert (limited.hosts.room, len(limited.hosts), limited.hosts.next_look()) == (1, 1, WAIT / 2)
    assert limited.holds("a") is None
    limited.now += SLOW_FOR - 1
    assert len(limited.hosts.overdue()) == 1
    assert limited.holds("a") is not None, "so that no slot of it is idle"
    assert limited.holds("a") is None
    limited.now += SLOW_FOR - 1
    assert len(limited.hosts.overdue()) == 1
    limited.now += SLOW_FOR
    assert None not in (limited.holds("a"), limited.holds("a")), "nothing has found the limit reached for long"


def test_a_delay_follows_the_age_of_the_oldest_request_and_the_remaining_time() -> None:
    limited = Limited()
    oldest = limited.runs("a")
    ages = {0.0: 1.0, 1.5: 2.0, 3.0: 4.0, 20.0: 32.0, 1000.0: 32.0}
    found = {}
    for age in ages:
        limited.now = 100.0 + age
        found[age] = limited.hosts.delay("a", None)
    assert found == ages
    for remaining in (-5.0, 0.1, 3.0, 10.0, 40.0):
        delay = limited.hosts.delay("a", remaining)
        assert delay in DELAYS
        assert delay <= max(1.0, remaining / 2)
    limited.hosts.end(oldest)
    assert limited.hosts.delay("a", None) == 1.0


def test_a_host_without_requests_is_deleted() -> None:
    limited = Limited()
    for number in range(100):
        limited.hosts.end(limited.runs(f"host{number}"))
    first, second = limited.runs("a"), limited.runs("a")
    limited.holds("a")
    assert len(limited.hosts.withdraw()) == 1
    limited.hosts.end(first)
    limited.hosts.end(second)
    assert limited.hosts.end(second) is None
    assert not limited.hosts._hosts
    assert not limited.hosts._host_of
