"""Calls that were canceled before their start."""

import time

import pytest

from crew.protocol.message import Control
from crew.protocol.revocation_request import digest
from crew.worker.consumer.revoked_calls import MAX_STORES, RevokedCalls, reason_of
from crew.worker.execution.interrupt import InterruptReason


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = time.time()

    def revoked(self, *, most: int = 100) -> RevokedCalls:
        """RevokedCalls with this clock, which are swept at every second cancel."""
        return RevokedCalls(most=most, sweep_every=2, wall=lambda: self.now)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def known(revoked: RevokedCalls, ids: str) -> str:
    """Those of `ids`, one letter each, that must not start."""
    backlog = {id for id, _ in revoked._reasons}
    return "".join(id for id in ids if id in backlog)


def test_a_call_that_was_not_canceled_may_start() -> None:
    assert RevokedCalls().get("17", 60.0) is None


@pytest.mark.parametrize(
    ("text", "reason"), [("canceled", InterruptReason.CANCELED), ("timeout", InterruptReason.TIMEOUT)]
)
def test_a_canceled_call_is_remembered_with_the_reason(text: str, reason: InterruptReason) -> None:
    revoked = RevokedCalls()
    revoked.add(Control(id="17", reason=text, deadline=60.0))
    assert revoked.get("17", 60.0) is reason
    assert revoked.get("18", 60.0) is None
    assert repr(revoked) == "<RevokedCalls: 1>"


@pytest.mark.parametrize("deadline", [60.0, None], ids=["of its own", "none, as a cancel after a late start has none"])
def test_the_next_call_of_the_same_id_may_start(deadline: float | None) -> None:
    revoked = RevokedCalls()
    revoked.add(Control(id="nightly", reason="timeout", deadline=deadline))
    assert revoked.get("nightly", 60.001) is None


def test_a_cancel_that_names_a_message_is_not_remembered() -> None:
    revoked = RevokedCalls()
    revoked.add(Control(id="17", reason="canceled", message_id="17"))
    assert len(revoked) == 0


def test_the_cancel_of_a_job_does_not_revoke_a_call_of_the_same_id() -> None:
    revoked = RevokedCalls()
    revoked.add(Control(id="17", reason="canceled", is_job=True))
    assert revoked.get("17", None, is_job=True) is InterruptReason.CANCELED
    assert revoked.get("17", None) is None


def test_the_cancels_of_calls_never_displace_those_of_jobs(clock: Clock) -> None:
    revoked = clock.revoked(most=2)
    revoked.add(Control(id="job", reason="canceled", is_job=True))
    for number in range(10):
        revoked.add(Control(id=f"dated-{number}", reason="canceled", deadline=clock.now + 60))
        revoked.add(Control(id=f"older-client-{number}", reason="canceled"))
    assert revoked.get("job", None, is_job=True) is InterruptReason.CANCELED
    assert len(revoked) <= 1 + 2 * 2 + 2


@pytest.mark.parametrize("text", ["drain", "", "a reason of a newer client"])
def test_an_unknown_reason_counts_as_a_cancel(text: str) -> None:
    assert reason_of(Control(id="17", reason=text)) is InterruptReason.CANCELED


def test_a_cancel_is_remembered_until_the_deadline_of_its_call(clock: Clock) -> None:
    revoked = clock.revoked()
    revoked.add(Control(id="a", reason="canceled", deadline=clock.now + 10))
    revoked.add(Control(id="b", reason="canceled", deadline=clock.now + 60))
    assert known(revoked, "ab") == "ab"
    clock.now += 11
    for id in "cdef":
        revoked.add(Control(id=id, reason="canceled", deadline=clock.now + 10))
    assert known(revoked, "abcdef") == "bcdef"


def test_the_cancel_of_a_job_is_remembered_for_as_long_as_it_may_be_queued(clock: Clock) -> None:
    revoked = clock.revoked()
    revoked.add(Control(id="a", reason="canceled"))
    clock.now += 30 * 86_400
    for id in "bcdefgh":
        revoked.add(Control(id=id, reason="canceled", deadline=clock.now + 10))
    assert revoked.get("a", None) is InterruptReason.CANCELED


def test_the_number_of_remembered_cancels_is_bounded_and_the_oldest_go_first(clock: Clock) -> None:
    revoked = clock.revoked(most=20)
    for number in range(1_000):
        revoked.add(Control(id=f"{number}", reason="canceled", deadline=clock.now + 60))
        assert len(revoked) < 20 + 2
    assert revoked.get("0", clock.now + 60) is None
    assert all(revoked.get(f"{number}", clock.now + 60) for number in range(980, 1_000))


def test_a_call_that_is_canceled_again_is_the_newest_and_has_the_last_reason(clock: Clock) -> None:
    revoked = clock.revoked(most=2)
    for id, reason in (("a", "canceled"), ("b", "canceled"), ("a", "timeout"), ("c", "canceled"), ("d", "canceled")):
        revoked.add(Control(id=id, reason=reason, deadline=clock.now + 60))
        if id == "c":
            assert known(revoked, "abc") in ("ac", "abc")
            assert revoked.get("a", clock.now + 60) is InterruptReason.TIMEOUT
    assert "d" in known(revoked, "abcd")


def test_a_job_that_its_store_has_revoked_does_not_start() -> None:
    revoked = RevokedCalls()
    revoked.set_revoked_jobs("crew.jobs.a", "q1", frozenset({digest("q1", "17")}))
    assert revoked.get("17", None, is_job=True) is InterruptReason.CANCELED
    assert revoked.get("18", None, is_job=True) is None
    assert revoked.get("17", None) is None, "a call may have the id of a job"
    revoked.set_revoked_jobs("crew.jobs.b", "q1", frozenset())
    assert revoked.get("17", None, is_job=True) is InterruptReason.CANCELED, (
        "the answer of another store does not concern it"
    )
    revoked.set_revoked_jobs("crew.jobs.a", "q2", frozenset())
    assert revoked.get("17", None, is_job=True) is None


def test_the_number_of_remembered_stores_is_bounded() -> None:
    revoked = RevokedCalls()
    for number in range(1_000):
        revoked.set_revoked_jobs(f"crew.jobs.{number}", "q1", frozenset({b"12345678"}))
    assert len(revoked._revoked_jobs) == MAX_STORES
