"""Invalid reports in the queue of a job store: they are discarded, and jobs still end."""

import logging
import time
import uuid
from typing import Any

import pika
import pytest

from crew import Client
from crew.jobs import JobStatus, JobStore
from crew.jobs.tuning import DEFAULT
from crew.protocol import properties
from crew.protocol.encoding import codec
from crew.protocol.message import Outcome, Reply, Run
from tests.support import raw
from tests.support.waiting import until

ENDS = ["returned", "raised", "timed_out", "started", "progress"]


def hostile(job: str) -> list[dict[str, Any]]:
    """Properties of reports with values that a database cannot hold, or that a job cannot have.

    Args:
        job: id of a job that is recorded.
    """
    died = {"x-first-death-reason": "expired", "x-last-death-reason": "a\0b"}
    ids = ["\0", f"{uuid.uuid4()}\0", f"a\0{uuid.uuid4().hex}", "\0" * 255, "x" * 255, "\u202ename", "not a uuid"]
    return [
        *({"correlation_id": id, "headers": {"crew-outcome": end}} for id in ids for end in ENDS),
        *({"correlation_id": id, "headers": died} for id in ids),
        {"correlation_id": job, "headers": {"crew-host": "a\0b", "crew-outcome": "started"}},
        {"correlation_id": job, "headers": {"crew-host": "a\0b" * 1000, "crew-outcome": "progress"}},
        {
            "correlation_id": job,
            "headers": {"crew-worker": "\0" * 1000, "crew-host": "h" * 1000, "crew-outcome": "started"},
        },
    ]


def send_report(url: str, queue: str, job: str, *, value: object = 1, **changed: Any) -> None:
    """Publish what a worker sends when a task has returned."""
    body = codec.encode(value)
    reply = Reply(id=job, outcome=Outcome.RETURNED, body=body, run=Run(host="host:7", started=time.time()))
    given = properties.of_reply(reply)
    fields = {"correlation_id": job, "type": "reply", "content_type": given.content_type, "headers": given.headers}
    raw.send(url, queue, body.data, **{**fields, **changed})


@pytest.mark.gen_test(timeout=120)
async def test_invalid_reports_in_any_number_do_not_prevent_jobs_from_ending(
    store_url: str, broker_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with Client(broker_url, store=JobStore(store_url)) as client:
        task = f"unserved.{uuid.uuid4().hex}"
        jobs = [(await client.submit(task, wait_for_worker=True)).id for _ in range(3)]
        queue = client.jobs.store.queue
        sent = hostile(jobs[0])
        with caplog.at_level(logging.WARNING, "crew.jobs"), raw.channel(broker_url) as channel:
            for number in range(2 * DEFAULT.prefetch + len(sent)):
                fields = sent[number % len(sent)]
                channel.basic_publish("", queue, b"1", pika.BasicProperties(type="reply", **fields))
            for at, job in enumerate(jobs):
                kind = {"content_type": "application/json\0"} if at == 1 else {}
                send_report(broker_url, queue, job, **kind)
            await until(lambda: raw.depth(broker_url, queue) == 0 and len(client.jobs._inbox) == 0, timeout=60)
        ended = [await client.jobs.get(job) for job in jobs]
        assert [job.status for job in ended] == [JobStatus.SUCCESS, JobStatus.ERROR, JobStatus.SUCCESS]
        assert await client.jobs.obstacle() is None
        await until(lambda: raw.depth(broker_url, queue) == 0)
        assert "\0" not in caplog.text
