"""What is heard of jobs is committed and then acknowledged, whatever it is."""

import itertools
from pathlib import Path
from typing import cast

import pytest

from crew.amqp import Delivery
from crew.amqp.channel import Channel
from crew.jobs.inbox import Inbox
from crew.jobs.job import Job, JobStatus
from crew.protocol import codec, properties
from crew.protocol.message import Outcome, Reply, Run
from crew.protocol.topology import HTTP_TASK
from tests.unit.deliveries import RecordingChannel
from tests.unit.jobs.a_job import HOST, NOW, a_candidate, opened
from tests.waiting import until

tags = itertools.count(1)


def said(channel: RecordingChannel, job: Job, value: object) -> Delivery:
    """Its worker says that it has come to `value`."""
    body = codec.encode(value, "msgpack")
    reply = Reply(id=job.id, outcome=Outcome.RETURNED, body=body, run=Run(host=HOST, started=NOW))
    return Delivery(
        channel=cast(Channel, channel),
        tag=next(tags),
        queue="crew.jobs",
        topic="crew.jobs",
        redelivered=False,
        properties=properties.of_reply(reply),
        body=reply.body.data,
    )


@pytest.mark.gen_test
async def test_a_value_that_cannot_be_taken_ends_its_own_job_and_no_other_waits_for_it(tmp_path: Path) -> None:
    channel = RecordingChannel()
    async with opened(tmp_path) as store:
        inbox = Inbox(store, on_settled=lambda settled: None, on_briefing=lambda briefing: None)
        jobs = [(await store.admit(a_candidate(task=task))).job for task in ("t", HTTP_TASK, "t")]
        for job in jobs:
            inbox.on_delivery(said(channel, job, {"code": float("inf")}))
        await until(lambda: len(channel.acked) == len(jobs))
        ended = [await store.get(job.id) for job in jobs]
        assert [job.status for job in ended] == [JobStatus.SUCCESS, JobStatus.ERROR, JobStatus.SUCCESS]
        assert b"cannot convert float infinity" in (ended[1].failure or b"")
        await inbox.close()
