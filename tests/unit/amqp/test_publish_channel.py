"""The channels over which a link publishes."""

import asyncio
from collections.abc import Callable

import pytest

from crew.amqp.channel import Channel
from crew.amqp.errors import LinkFault
from crew.amqp.publish_channel import Outlet
from tests.support.links import never
from tests.support.pika_channel import an_open_channel


async def no_trial(*, on_closed: Callable[[LinkFault], None]) -> Channel:
    """There is nothing to find out."""
    raise AssertionError("this was not to be called")


@pytest.mark.gen_test
async def test_who_waits_for_a_change_goes_on_over_the_new_channel() -> None:
    outlet = Outlet(no_trial)
    outlet.channel, _, _ = await an_open_channel()
    new, _, _ = await an_open_channel()
    may_open = asyncio.Event()

    async def open_channel() -> Channel:
        await may_open.wait()
        return new

    outlet.change(open_channel, never)
    changed = asyncio.ensure_future(outlet.changed())
    await asyncio.sleep(0)
    assert outlet.channel is not new
    may_open.set()
    await changed
    assert outlet.channel is new
