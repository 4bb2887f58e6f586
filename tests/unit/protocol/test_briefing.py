"""What a worker asks the gateways before it takes jobs."""

import msgspec
import pytest

from crew.protocol import briefing
from crew.protocol.message import Briefing
from crew.protocol.properties import MalformedMessage

ASKED = Briefing(id="q1", worker="w1", tasks=("resize", "crew.http"))


def test_a_briefing_arrives_as_it_was_asked() -> None:
    assert briefing.to_briefing(*briefing.of_briefing(ASKED)) == ASKED


def test_a_briefing_does_not_stay_in_the_queue_where_no_gateway_takes_it() -> None:
    properties, _ = briefing.of_briefing(ASKED)
    assert (properties.expiration, properties.delivery_mode) == (str(briefing.TTL_MS), 1)


@pytest.mark.parametrize("change", [{"correlation_id": None}, {"reply_to": ""}, {"reply_to": 3}])
def test_a_briefing_of_nobody_is_malformed(change: dict[str, object]) -> None:
    properties, data = briefing.of_briefing(ASKED)
    with pytest.raises(MalformedMessage):
        briefing.to_briefing(msgspec.structs.replace(properties, **change), data)


@pytest.mark.parametrize("data", [b"", b"{}", b'"resize"', b"[1]", b"\xff"])
def test_a_briefing_that_names_no_tasks_is_malformed(data: bytes) -> None:
    properties, _ = briefing.of_briefing(ASKED)
    with pytest.raises(MalformedMessage):
        briefing.to_briefing(properties, data)


@pytest.mark.parametrize("worker", ["w" * 255, "w\n"])
def test_a_briefing_of_a_worker_that_cannot_be_answered_is_malformed(worker: str) -> None:
    properties, data = briefing.of_briefing(ASKED)
    with pytest.raises(MalformedMessage, match="reply_to of a briefing"):
        briefing.to_briefing(msgspec.structs.replace(properties, reply_to=worker), data)


def test_a_briefing_that_names_more_tasks_than_any_worker_has_is_malformed() -> None:
    properties, data = briefing.of_briefing(msgspec.structs.replace(ASKED, tasks=("t" * 100,) * 1_000))
    with pytest.raises(MalformedMessage, match="more than 65536"):
        briefing.to_briefing(properties, data)


def test_an_answer_tells_no_ids_and_is_read_by_who_knows_them() -> None:
    properties, data = briefing.of_briefed(ASKED, "crew.jobs.a", ["job-1", "job-2"])
    assert properties.correlation_id == "q1 crew.jobs.a"
    assert b"job" not in data
    given_up = briefing.to_given_up(data)
    assert [briefing.digest("q1", id) in given_up for id in ("job-1", "job-2", "job-3")] == [True, True, False]
    assert briefing.digest("q2", "job-1") not in given_up, "it says nothing to who asks something else"


@pytest.mark.parametrize("data", [b"x", b"x" * 9, b"x" * 8 * 10_001])
def test_what_is_no_answer_gives_no_job_up(data: bytes) -> None:
    assert briefing.to_given_up(data) == frozenset()
