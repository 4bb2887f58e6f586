"""Messages of somebody who may write to the broker: what they name is not declared, and what they ask is not told."""

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
    """Whether there is a queue of this name."""
    try:
        raw.depth(url, queue)
    except pika.exceptions.ChannelClosedByBroker as error:
        assert error.reply_code == 404
        return False
    return True


@pytest.mark.gen_test(timeout=30)
async def test_a_worker_declares_no_queue_because_a_call_asks_for_its_reply_there(
    broker_url: str, prefix: str, unique: str, start_worker: StartWorker
) -> None:
    worker = start_worker()
    queues = [f"crew.jobs.{unique}{number}" for number in range(FORGED)]
    with raw.channel(broker_url) as channel:
        for queue in queues:
            given = pika.BasicProperties(correlation_id=queue, reply_to=queue, headers={"crew-job": True})
            channel.basic_publish("", f"crew.tasks.{prefix}echo", b"1", given)
    async with Client(broker_url) as client:
        assert await client.call(prefix + "echo", 17, expiration=10) == 17
    await until(lambda: worker.output.count("reply discarded: its client is gone") == FORGED)
    assert not any(exists(broker_url, queue) for queue in queues)


@pytest.mark.gen_test(timeout=30)
async def test_a_forged_revocation_request_is_answered_with_one_message_that_names_no_job(
    vhost_url: Callable[[], str], tmp_path: Path
) -> None:
    url, heard = vhost_url(), "heard"
    store = JobStore(f"sqlite:///{tmp_path}/jobs.db")
    async with Client(url, store=store) as client:
        ids = [(await client.submit("t", number, wait_for_worker=True)).id for number in range(20)]
        for id in ids:
            await client.jobs.cancel(id)
        with raw.channel(url) as channel:
            channel.queue_declare(heard, arguments={"x-expires": 60_000})
            channel.queue_bind(heard, "crew.control", "worker.forged")
            channel.confirm_delivery()
            for number in range(FORGED):
                asked = pika.BasicProperties(type="briefing", correlation_id=f"q{number}", reply_to="forged")
                channel.basic_publish(
                    "crew.control", "jobs.briefing", json.dumps(["t"]).encode(), asked, mandatory=True
                )
            await until(lambda: raw.depth(url, store.queue) == 0 and raw.depth(url, heard) > 0)
            await client.submit("t", 1, wait_for_worker=True)  # what was asked before is answered by now
            told = b""
            count = 0
            while (got := channel.basic_get(heard, auto_ack=True))[0] is not None:
                count += 1
                told += repr(got).encode()
    assert 1 <= count <= FORGED
    assert not [id for id in ids if id.encode() in told]
