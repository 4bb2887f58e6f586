"""Calls are refused at once while the broker is short of memory, and accepted again after it has recovered."""

import asyncio
import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import crew
from crew import Client
from crew.cli.broker.node import Node
from crew.cli.broker.node_folder import NodeFolder
from tests.integration.conftest import StartWorker
from tests.support import erlang
from tests.support.shared_node import used_node
from tests.support.waiting import eventually, until

BLOCKED = "the broker has blocked publishing: it is short of memory or disk"


@pytest.fixture
def own_node(tmp_path: Path) -> Iterator[Node]:
    """A node for this test only: it refuses everything that is published."""
    with used_node(tmp_path / "node") as node:
        yield node


@pytest.mark.chaos
@pytest.mark.gen_test(timeout=60)
async def test_calls_and_events_raise_overloaded_while_the_broker_blocks_publishing(
    own_node: Node, tmp_path: Path, prefix: str, start_worker: StartWorker
) -> None:
    evaluate: Callable[[str], str] = functools.partial(erlang.evaluate, own_node, NodeFolder(tmp_path / "node"))
    worker = start_worker("--url", own_node.url)
    async with Client(own_node.url) as client:
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
