"""A link that cannot reach a broker."""

import asyncio
import re
from collections.abc import Iterator

import pytest

from crew.amqp import Link, LinkState, Outage
from crew.errors import ConnectionError
from crew.protocol.properties import Properties
from crew.protocol.topology import Exchange
from crew.settings import Settings
from tests.support.broker import unreachable_url
from tests.support.waiting import until


@pytest.fixture
def unreachable() -> Iterator[Settings]:
    """Settings with a URL at which nothing listens."""
    with unreachable_url() as url:
        yield Settings(urls=(url,))


@pytest.mark.gen_test
async def test_an_unreachable_broker_is_logged_once_for_many_attempts(
    unreachable: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    outage = Outage()
    links = [Link(unreachable, name=f"gateway {name}", outage=outage) for name in ("publish", "consume")]
    for link in links:
        link.open()
    await until(lambda: re.search(r"[1-9]\d attempts", repr(outage)))
    for link in links:
        await link.close()
    assert len(caplog.records) == 1
    for record in caplog.records:
        message = record.getMessage()
        assert "gateway " in message
        assert "connection refused" in message
        assert "retrying in" in message
        assert "secret" not in message
        assert "\n" not in message
        assert record.exc_info is None


@pytest.mark.gen_test
async def test_a_wait_for_a_link_fails_when_the_link_is_closed(unreachable: Settings) -> None:
    link = Link(unreachable, name="l")
    link.open()
    waiting = asyncio.ensure_future(link.ready())
    await until(lambda: link.state is LinkState.LOST)
    await link.close()
    with pytest.raises(ConnectionError, match="closed"):
        await waiting


@pytest.mark.gen_test
async def test_a_link_may_be_closed_twice_and_before_it_is_opened(unreachable: Settings) -> None:
    link = Link(unreachable, name="l")
    await link.close()
    await link.close()
    assert link.state is LinkState.CLOSED


@pytest.mark.gen_test
async def test_a_link_may_be_opened_twice(unreachable: Settings) -> None:
    link = Link(unreachable, name="l")
    link.open()
    link.open()
    assert link.state is LinkState.CONNECTING
    await link.close()


@pytest.mark.gen_test
async def test_publishing_without_a_broker_is_a_connection_error(unreachable: Settings) -> None:
    link = Link(unreachable, name="l")
    with pytest.raises(ConnectionError, match="closed"):
        link.publish("", "q", Properties(), b"", mandatory=True)


@pytest.mark.gen_test
async def test_the_traceback_of_the_last_error_does_not_grow_with_each_publish(unreachable: Settings) -> None:
    link = Link(unreachable, name="l")
    link.open()
    await until(lambda: link.last_error is not None)
    for _ in range(2):
        with pytest.raises(ConnectionError, match="refused") as raised:
            link.publish("", "q", Properties(), b"", mandatory=True)
        assert len(raised.traceback) == 2, "one frame of the test, one of the link"
    await link.close()


@pytest.mark.gen_test
async def test_declaring_once_without_a_broker_is_a_connection_error(unreachable: Settings) -> None:
    link = Link(unreachable, name="l")
    with pytest.raises(ConnectionError, match="closed"):
        await link.declare_once(Exchange("e", "topic"))


def test_a_link_may_be_created_before_an_event_loop_runs(unreachable: Settings) -> None:
    link = Link(unreachable, name="l")
    assert "secret" not in repr(link)
    assert repr(link).endswith("closed>")
