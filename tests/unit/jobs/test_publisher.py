"""Publishing of jobs, with confirm and mark."""

from pathlib import Path

import pytest

from crew.amqp import ConfirmStatus
from crew.jobs.publisher import Publisher
from tests.support.a_job import a_specification, opened
from tests.support.links import FakeLink
from tests.support.waiting import until


@pytest.mark.gen_test
async def test_a_job_without_a_confirm_stays_in_the_store_and_is_published_again(tmp_path: Path) -> None:
    link = FakeLink()
    async with opened(tmp_path) as store:
        publisher = Publisher(link.as_link(), store)
        publisher.on_queue_declared()
        specification = a_specification()
        await store.insert(specification)
        publishing = publisher._start(publisher.publish(specification.job))
        await until(lambda: link.published)
        link.confirm_all(ConfirmStatus.LOST)
        assert await publishing is False
        assert (await store.get(specification.job.id)).enqueued is None
        await publisher.drain()
