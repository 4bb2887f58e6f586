"""Calls are refused at once while the broker is short of memory, and accepted again after it has recovered."""

import asyncio
from collections.abc import Callable

import pytest

import crew
from crew import Client
from tests.integration.conftest import StartWorker
from tests.support.waiting import eventually, until

BLOCKED = "the broker has blocked publishing: it is short of memory or disk"


@pytest.mark.gen_test(timeout=60)
async def test_calls_and_events_raise_overloaded_while_the_broker_blocks_publishing(
    evaluate: Callable[[str], str], broker_url: str, prefix: str, start_worker: StartWorker
) -> None:
    worker = start_worker()
    async with Client(broker_url) as client:
        assert await client.call(prefix + "echo", "before") == "before"
        nested = client.call(prefix + "pressed", expiration=30)
        await until(lambda: nested.has_started)
        evaluate("ok = vm_memory_monitor:set_vm_memory_high_watermark({absolute, 1}).")
        try:
            published = client.call(prefix + "echo", "published", expiration=30)  # the first message triggers the block
            refused = await until(lambda: _refusal(client, prefix + "echo"))
            assert "blocked publishing" in str(refused)
            assert client.obstacle == BLOCKED
            with pytest.raises(crew.Overloaded, match=BLOCKED):
                await client.publish("topic", "refused")
            await asyncio.to_thread(eventually, lambda: "REFUSED both" in worker.output)
        finally:
            evaluate("ok = vm_memory_monitor:set_vm_memory_high_watermark(0.4).")
        assert await published == "published"
        assert await nested == [BLOCKED, BLOCKED]
        await until(lambda: _refusal(client, prefix + "echo") is None)
        assert await client.call(prefix + "echo", "after") == "after"
    assert "Traceback" not in worker.output


def _refusal(client: Client, task: str) -> crew.Overloaded | None:
    """The error of a call that is refused, or None."""
    try:
        client.call(task).cancel()
    except crew.Overloaded as refused:
        return refused
    return None
