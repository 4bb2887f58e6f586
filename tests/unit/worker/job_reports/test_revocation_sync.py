"""Jobs wait until their store has reported its revoked jobs."""

import pytest

from crew.amqp import ConfirmStatus
from crew.protocol import topology
from crew.protocol.revocation_request import answer_id, to_request
from crew.worker.job_reports.revocation_sync import RevocationSync
from tests.support.links import FakeLink
from tests.support.waiting import until

QUEUES = [topology.jobs_queue_name(store) for store in ("a", "b")]


class Synced:
    """A revocation sync that holds two jobs, and the released ones."""

    def __init__(self, *, timeout: float = 60.0) -> None:
        self.link = FakeLink()
        self.revocation_sync = RevocationSync("w", ["t"], publishing=self.link.as_link(), timeout=timeout)
        self.released: list[str] = []
        for queue in QUEUES:
            self.revocation_sync.hold(queue, self.released.append, queue)

    @property
    def question(self) -> str:
        """Id of the last question."""
        request = self.link.published[-1]
        return to_request(request.properties, request.body).id


@pytest.mark.gen_test
async def test_jobs_of_a_store_are_released_by_the_answer_of_that_store_only() -> None:
    synced = Synced()
    assert all(map(synced.revocation_sync.is_awaiting, QUEUES))
    synced.revocation_sync.on_ready()
    synced.revocation_sync.on_answer(answer_id(synced.question, QUEUES[0]))
    assert synced.released == QUEUES[:1]
    assert [synced.revocation_sync.is_awaiting(queue) for queue in QUEUES] == [False, True]
    synced.revocation_sync.stop()


@pytest.mark.gen_test
async def test_without_an_answer_jobs_are_released_at_the_timeout() -> None:
    synced = Synced(timeout=0.02)
    synced.revocation_sync.on_ready()
    await until(lambda: synced.released == QUEUES)
    assert not any(map(synced.revocation_sync.is_awaiting, QUEUES))


@pytest.mark.gen_test
async def test_jobs_are_released_at_once_if_there_is_no_gateway() -> None:
    synced = Synced()
    synced.revocation_sync.on_ready()
    synced.link.confirm_all(ConfirmStatus.RETURNED)
    assert synced.released == QUEUES


@pytest.mark.gen_test
async def test_the_question_is_published_once_the_broker_is_back() -> None:
    synced = Synced()
    synced.link.is_ready = False
    synced.revocation_sync.on_ready()
    assert synced.link.published == []
    synced.link.is_ready = True
    synced.revocation_sync.send_question()
    assert len(synced.link.published) == 1
    assert synced.released == []
    synced.revocation_sync.stop()


@pytest.mark.gen_test
async def test_an_answer_to_a_question_of_an_earlier_connection_releases_no_jobs() -> None:
    synced = Synced()
    synced.revocation_sync.on_ready()
    earlier = synced.question
    synced.revocation_sync.on_lost()
    synced.revocation_sync.on_ready()
    synced.revocation_sync.on_answer(answer_id(earlier, QUEUES[0]))
    assert synced.revocation_sync.is_awaiting(QUEUES[0])
    synced.revocation_sync.stop()
    assert synced.released == [], "held jobs are dropped with their connection"


@pytest.mark.gen_test
async def test_only_a_store_that_has_answered_is_known() -> None:
    synced = Synced()
    synced.revocation_sync.on_ready()
    for id in (answer_id("forged", QUEUES[0]), answer_id(synced.question, "crew.reply.me"), synced.question):
        synced.revocation_sync.on_answer(id)
        assert synced.released == []
    assert not synced.revocation_sync.knows_store(QUEUES[0])
    synced.revocation_sync.on_answer(answer_id(synced.question, QUEUES[0]))
    synced.revocation_sync.on_lost()
    assert [synced.revocation_sync.knows_store(queue) for queue in (*QUEUES, "crew.reply.me")] == [True, False, False]
    synced.revocation_sync.stop()


@pytest.mark.gen_test
async def test_a_late_answer_counts_but_not_one_of_an_earlier_connection() -> None:
    synced = Synced(timeout=0.02)
    synced.revocation_sync.on_ready()
    await until(lambda: synced.released == QUEUES)
    id = answer_id(synced.question, QUEUES[0])
    assert synced.revocation_sync.parse_answer(id) is not None
    synced.revocation_sync.on_lost()
    assert synced.revocation_sync.parse_answer(id) is None


@pytest.mark.gen_test
async def test_forged_answers_do_not_fill_the_memory_of_the_worker() -> None:
    synced = Synced()
    synced.revocation_sync.on_ready()
    for number in range(1_000):
        synced.revocation_sync.on_answer(answer_id(synced.question, topology.jobs_queue_name(str(number))))
    assert len(synced.revocation_sync._known) == len(synced.revocation_sync._answered) == 100
    synced.revocation_sync.stop()
