"""The channel over which a link publishes."""

import asyncio
from collections.abc import Callable

import pytest

from crew.amqp.channel import Channel
from crew.amqp.errors import LinkError
from crew.amqp.publish_channel import PublishChannel
from tests.support.links import never
from tests.support.pika_channel import an_open_channel


async def no_test_channel(*, on_closed: Callable[[LinkError], None]) -> Channel:
    """Must not be called."""
    raise AssertionError("no test channel is needed")


@pytest.mark.gen_test
async def test_a_wait_for_a_change_ends_when_the_new_channel_is_open() -> None:
    publish_channel = PublishChannel(no_test_channel)
    publish_channel.channel, _, _ = await an_open_channel()
    new, _, _ = await an_open_channel()
    may_open = asyncio.Event()

    async def open_channel() -> Channel:
        await may_open.wait()
        return new

    publish_channel.change(open_channel, never)
    changed = asyncio.ensure_future(publish_channel.changed())
    await asyncio.sleep(0)
    assert publish_channel.channel is not new
    may_open.set()
    await changed
    assert publish_channel.channel is new
