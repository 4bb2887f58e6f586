"""The policies of the outboxes: each value is a promise, with its own test."""

import math

from crew.amqp.outbox import policy as policies
from crew.amqp.outbox.policy import CALLS, EVENTS, JOBS, REPLIES, RETRIES, OutboxPolicy, Repeatable
from tests.support.outboxes import KEPT


def test_the_policy_of_calls() -> None:
    assert (
        OutboxPolicy(name="call", refused_for=5.0, refused_for_after_confirm=2.0, refused_if_replicated=True) == CALLS
    )


def test_the_policy_of_replies() -> None:
    assert (
        OutboxPolicy(
            name="reply",
            plural="replies",
            refused_for=30.0,
            returned_delays=(0.3, 0.7, 1.5),
            lost=Repeatable.ALL,
            max_messages=10_000,
            max_bytes=256 * 1024 * 1024,
        )
        == REPLIES
    )


def test_the_policies_of_retries_jobs_and_events() -> None:
    assert OutboxPolicy(name="retry", returned_delays=(0.1,) * 50, max_attempts=50, resumes=True) == RETRIES
    assert (
        OutboxPolicy(
            name="job",
            refused_for=5.0,
            refused_if_replicated=True,
            lost=Repeatable.NONE,
            resumes=True,
            kept_for=2.0,
        )
        == JOBS
    )
    assert OutboxPolicy(name="event", refused=Repeatable.PERSISTENT, resumes=True) == EVENTS


def test_a_message_is_published_again_without_a_limit_unless_its_policy_has_one() -> None:
    assert (
        OutboxPolicy(
            name="test",
            plural="messages",
            refused=Repeatable.ALL,
            refused_for=math.inf,
            refused_for_after_confirm=None,
            refused_if_replicated=False,
            again_after=0.1,
            returned_delays=(),
            max_attempts=math.inf,
            lost=Repeatable.PERSISTENT,
            resumes=False,
            kept_for=math.inf,
            max_messages=math.inf,
            max_bytes=math.inf,
        )
        == KEPT
    )


def test_an_election_fits_into_each_time_that_waits_for_one() -> None:
    election = 3.0  # seconds on a busy machine
    assert election < policies.ELECTION
    assert election < policies.REPLY_REFUSED_FOR
    assert election < policies.MAX_RETRY_ATTEMPTS * policies.AGAIN_AFTER
