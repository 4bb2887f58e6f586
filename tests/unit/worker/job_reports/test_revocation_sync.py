"""Jobs wait until their store has reported its revoked jobs."""

import pytest

from crew.amqp import ConfirmStatus
from crew.protocol import topology
from crew.protocol.revocation_request import answer_id, to_request
from crew.worker.job_reports.revocation_sync import RevocationSync
from tests.support.links import FakeLink
from tests.support.waiting import until

QUEUES = [topology.jobs_queue_name(store) for store in ("a", "b")]


class Asked:
    """A revocation sync that holds two jobs, and the released ones."""

    def __init__(self, *, timeout: float = 60.0) -> None:
        self.link = FakeLink()
        self.revocation_sync = RevocationSync("w", ["t"], publishing=self.link.as_link(), timeout=timeout)
        self.went_on: list[str] = []
        for queue in QUEUES:
            self.revocation_sync.hold(queue, self.went_on.append, queue)

    @property
    def question(self) -> str:
        """Id of the last question."""
        asked = self.link.published[-1]
        return to_request(asked.properties, asked.body).id


@pytest.mark.gen_test
async def test_jobs_of_a_store_are_released_by_the_answer_of_that_store_only() -> None:
    asked = Asked()
    assert all(map(asked.revocation_sync.is_awaiting, QUEUES))
    asked.revocation_sync.on_ready()
    asked.revocation_sync.on_answer(answer_id(asked.question, QUEUES[0]))
    assert asked.went_on == QUEUES[:1]
    assert [asked.revocation_sync.is_awaiting(queue) for queue in QUEUES] == [False, True]
    asked.revocation_sync.stop()


@pytest.mark.gen_test
async def test_without_an_answer_jobs_are_released_at_the_timeout() -> None:
    asked = Asked(timeout=0.02)
    asked.revocation_sync.on_ready()
    await until(lambda: asked.went_on == QUEUES)
    assert not any(map(asked.revocation_sync.is_awaiting, QUEUES))


@pytest.mark.gen_test
async def test_jobs_are_released_at_once_if_there_is_no_gateway() -> None:
    asked = Asked()
    asked.revocation_sync.on_ready()
    asked.link.confirm_all(ConfirmStatus.RETURNED)
    assert asked.went_on == QUEUES


@pytest.mark.gen_test
async def test_the_question_is_published_once_the_broker_is_back() -> None:
    asked = Asked()
    asked.link.is_ready = False
    asked.revocation_sync.on_ready()
    assert asked.link.published == []
    asked.link.is_ready = True
    asked.revocation_sync.send_question()
    assert len(asked.link.published) == 1
    assert asked.went_on == []
    asked.revocation_sync.stop()


@pytest.mark.gen_test
async def test_an_answer_to_a_question_of_an_earlier_connection_releases_no_jobs() -> None:
    asked = Asked()
    asked.revocation_sync.on_ready()
    earlier = asked.question
    asked.revocation_sync.on_lost()
    asked.revocation_sync.on_ready()
    asked.revocation_sync.on_answer(answer_id(earlier, QUEUES[0]))
    assert asked.revocation_sync.is_awaiting(QUEUES[0])
    asked.revocation_sync.stop()
    assert asked.went_on == [], "held jobs are dropped with their connection"


@pytest.mark.gen_test
async def test_only_a_store_that_has_answered_is_known() -> None:
    asked = Asked()
    asked.revocation_sync.on_ready()
    for id in (answer_id("forged", QUEUES[0]), answer_id(asked.question, "crew.reply.me"), asked.question):
        asked.revocation_sync.on_answer(id)
        assert asked.went_on == []
    assert not asked.revocation_sync.knows_store(QUEUES[0])
    asked.revocation_sync.on_answer(answer_id(asked.question, QUEUES[0]))
    asked.revocation_sync.on_lost()
    assert [asked.revocation_sync.knows_store(queue) for queue in (*QUEUES, "crew.reply.me")] == [True, False, False]
    asked.revocation_sync.stop()


@pytest.mark.gen_test
async def test_a_late_answer_counts_but_not_one_of_an_earlier_connection() -> None:
    asked = Asked(timeout=0.02)
    asked.revocation_sync.on_ready()
    await until(lambda: asked.went_on == QUEUES)
    id = answer_id(asked.question, QUEUES[0])
    assert asked.revocation_sync.parse_answer(id) is not None
    asked.revocation_sync.on_lost()
    assert asked.revocation_sync.parse_answer(id) is None


@pytest.mark.gen_test
async def test_forged_answers_do_not_fill_the_memory_of_the_worker() -> None:
    asked = Asked()
    asked.revocation_sync.on_ready()
    for number in range(1_000):
        asked.revocation_sync.on_answer(answer_id(asked.question, topology.jobs_queue_name(str(number))))
    assert len(asked.revocation_sync._known) == len(asked.revocation_sync._answered) == 100
    asked.revocation_sync.stop()
