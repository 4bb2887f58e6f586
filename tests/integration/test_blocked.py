"""A broker that is short of memory refuses calls at once, and takes them again when it has recovered."""

import asyncio

import pytest

import crew
from crew import Client
from crew.cli.broker.node import Node
from tests.integration.conftest import StartWorker
from tests.support.waiting import eventually, until

BLOCKED = "the broker has blocked publishing: it is short of memory or disk"


@pytest.mark.gen_test(timeout=60)
async def test_a_blocked_broker_is_overload_until_it_recovers(
    node: Node, broker_url: str, prefix: str, start_worker: StartWorker
) -> None:
    worker = start_worker()
    async with Client(broker_url) as client:
        assert await client.call(prefix + "echo", "before") == "before"
        pressed = client.call(prefix + "pressed", expiration=30)
        await until(lambda: pressed.has_started)
        await asyncio.to_thread(node.ctl, "set_vm_memory_high_watermark", "absolute", "1")
        try:
            caught = client.call(prefix + "echo", "caught", expiration=30)  # the first one shows the block
            refused = await until(lambda: _refusal(client, prefix + "echo"))
            assert "blocked publishing" in str(refused)
            assert client.obstacle == BLOCKED
            with pytest.raises(crew.Overloaded, match=BLOCKED):
                await client.publish("topic", "refused")
            await asyncio.to_thread(eventually, lambda: "REFUSED both" in worker.output)
        finally:
            await asyncio.to_thread(node.ctl, "set_vm_memory_high_watermark", "0.4")
        assert await caught == "caught"
        assert await pressed == [BLOCKED, BLOCKED]
        await until(lambda: _refusal(client, prefix + "echo") is None)
        assert await client.call(prefix + "echo", "after") == "after"
    assert "Traceback" not in worker.output


def _refusal(client: Client, task: str) -> crew.Overloaded | None:
    try:
        client.call(task).cancel()
    except crew.Overloaded as refused:
        return refused
    return None
