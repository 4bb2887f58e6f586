"""Forged messages: a worker declares no queue that they name, and a gateway reveals no job to them."""

import json
from collections.abc import Callable
from pathlib import Path

import pika
import pytest

from crew import Client
from crew.jobs import JobStore
from tests.integration.conftest import StartWorker
from tests.support import raw
from tests.support.waiting import until

FORGED = 10  # messages


def exists(url: str, queue: str) -> bool:
    """Whether the queue exists."""
    try:
        raw.depth(url, queue)
    except pika.exceptions.ChannelClosedByBroker as error:
        assert error.reply_code == 404
        return False
    return True


@pytest.mark.gen_test(timeout=30)
async def test_a_worker_never_declares_the_reply_queue_that_a_call_names(
    broker_url: str, prefix: str, unique: str, start_worker: StartWorker
) -> None:
    worker = start_worker()
    queues = [f"crew.jobs.{unique}{number}" for number in range(FORGED)]
    with raw.channel(broker_url) as channel:
        for queue in queues:
            properties = pika.BasicProperties(correlation_id=queue, reply_to=queue, headers={"crew-job": True})
            channel.basic_publish("", f"crew.tasks.{prefix}echo", b"1", properties)
    async with Client(broker_url) as client:
        assert await client.call(prefix + "echo", 17, expiration=10) == 17
    await until(lambda: worker.output.count("reply discarded: its client is gone") == FORGED)
    assert not any(exists(broker_url, queue) for queue in queues)


@pytest.mark.gen_test(timeout=30)
async def test_forged_revocation_requests_do_not_reveal_the_ids_of_jobs(
    vhost_url: Callable[[], str], tmp_path: Path
) -> None:
    url, queue = vhost_url(), "forged"
    store = JobStore(f"sqlite:///{tmp_path}/jobs.db")
    async with Client(url, store=store) as client:
        ids = [(await client.submit("t", number, wait_for_worker=True)).id for number in range(20)]
        for id in ids:
            await client.jobs.cancel(id)
        with raw.channel(url) as channel:
            channel.queue_declare(queue, arguments={"x-expires": 60_000})
            channel.queue_bind(queue, "crew.control", "worker.forged")
            channel.confirm_delivery()
            for number in range(FORGED):
                properties = pika.BasicProperties(type="briefing", correlation_id=f"q{number}", reply_to="forged")
                channel.basic_publish(
                    "crew.control", "jobs.briefing", json.dumps(["t"]).encode(), properties, mandatory=True
                )
            await until(lambda: raw.depth(url, store.queue) == 0 and raw.depth(url, queue) > 0)
            await client.submit("t", 1, wait_for_worker=True)  # the requests above have been processed by now
            received = b""
            count = 0
            while (message := channel.basic_get(queue, auto_ack=True))[0] is not None:
                count += 1
                received += repr(message).encode()
    assert 1 <= count <= FORGED
    assert not [id for id in ids if id.encode() in received]
