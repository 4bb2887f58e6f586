"""One client on several event loops, and calls in flight when it closes."""

import asyncio
import gc
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crew import errors
from crew.amqp import LinkState
from crew.client import Client, blocking
from crew.client.calling.call import PendingCall
from crew.jobs import JobStore
from tests.support.broker import unreachable_url
from tests.support.links import ignored
from tests.support.waiting import until


@pytest.fixture
def unreachable() -> Iterator[str]:
    """A URL at which nothing listens."""
    with unreachable_url() as url:
        yield url


def unawaited(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Log lines about calls and events that were not awaited."""
    gc.collect()
    return [message for message in caplog.messages if "await" in message]


# --- calls and events in flight when a client closes ----------------------------------------------------------------


@pytest.mark.gen_test
async def test_unawaited_calls_are_counted_in_one_log_line_when_their_client_closes(
    unreachable: str, caplog: pytest.LogCaptureFixture
) -> None:
    client = Client(unreachable)
    for task in ("resize", "stat", "resize"):
        client.call(task)
    awaited = client.call("awaited")
    waiting = asyncio.ensure_future(awaited)
    client.call("called back", callback=ignored)
    await until(lambda: awaited.is_awaited)
    await client.close()
    with pytest.raises(errors.ConnectionError):
        await waiting
    assert unawaited(caplog) == [
        "the client was closed: canceled 3 calls in flight that nothing awaits: resize (2), stat (1)"
    ]


@pytest.mark.gen_test
async def test_a_client_that_closes_without_unawaited_calls_logs_nothing(
    unreachable: str, caplog: pytest.LogCaptureFixture
) -> None:
    client = Client(unreachable)
    client.call("t").cancel()
    await client.close()
    assert unawaited(caplog) == []


def test_unawaited_calls_of_a_blocking_client_are_counted(unreachable: str, caplog: pytest.LogCaptureFixture) -> None:
    with blocking.Client(unreachable) as client:
        client.call("left")
        looked_at = client.call("wanted")
        with pytest.raises(TimeoutError):
            looked_at.result(timeout=0.01)
    assert unawaited(caplog) == ["the client was closed: canceled 1 call in flight that nothing awaits: left (1)"]


# --- a second loop --------------------------------------------------------------------------------------------------


def test_a_client_works_on_a_new_loop_after_its_own_closed(unreachable: str, caplog: pytest.LogCaptureFixture) -> None:
    client = Client(unreachable)
    subscription = client.subscribe("news", ignored)
    kept: list[PendingCall[Any]] = []

    async def first() -> str:
        kept.append(client.call("t"))
        return client.id

    async def second() -> str:
        with pytest.raises(errors.ExpirationError):
            await client.call("t", expiration=0.05)
        with pytest.raises(errors.ConnectionError, match="'t' has no result: its event loop was closed before"):
            await kept[0]
        assert client.links.consuming.state is not LinkState.CLOSED
        assert list(client._subscriptions) == [subscription]
        id = client.id
        await client.close()
        return id

    assert asyncio.run(first()) != asyncio.run(second())
    assert unawaited(caplog) == [
        "the event loop of the client was closed: canceled 1 call in flight that nothing awaits: t (1)"
    ]


def test_a_client_that_was_left_open_may_be_closed_on_another_loop(unreachable: str) -> None:
    client = Client(unreachable)

    async def first() -> None:
        client.connect()

    asyncio.run(first())
    asyncio.run(client.close())
    assert client.obstacle == "the client was closed"


def test_a_client_of_a_running_loop_raises_on_another_loop(unreachable: str) -> None:
    client = Client(unreachable)
    own, other = asyncio.new_event_loop(), asyncio.new_event_loop()

    async def use() -> None:
        client.call("t").cancel()

    own.run_until_complete(use())
    with pytest.raises(RuntimeError, match=r"belongs to another event loop, which is still open; .*blocking"):
        other.run_until_complete(use())
    own.run_until_complete(client.close())
    for loop in (own, other):
        loop.close()


# --- a close that fails ---------------------------------------------------------------------------------------------


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "step",
    ["_waiters.close", "_submissions.close", "_maintenance.stop", "_inbox.close", "_publisher.drain", "store.close"],
)
async def test_a_close_step_that_fails_does_not_stop_the_others(
    unreachable: str, step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client(unreachable, store=JobStore(f"sqlite:///{tmp_path}/jobs.db"))
    client.open()
    call = client.call("t")
    await client.jobs.ready()
    await until(lambda: client.jobs._link.state is not LinkState.CLOSED)
    name, method = step.split(".")
    part, closes = getattr(client.jobs, name), getattr(getattr(client.jobs, name), method)

    async def fails() -> None:
        if asyncio.iscoroutine(closed := closes()):
            await closed
        raise ZeroDivisionError

    monkeypatch.setattr(part, method, fails)
    with pytest.raises(ZeroDivisionError):
        await client.close()
    links = [client.links.publishing, client.links.consuming, client.jobs._link]
    assert [link.state for link in links] == [LinkState.CLOSED] * 3
    assert client.jobs.store._database._engine is None
    with pytest.raises(errors.ConnectionError, match="closed"):
        await call


@pytest.mark.gen_test
async def test_the_first_error_of_a_close_is_raised_and_a_second_one_is_logged(
    unreachable: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: Any) -> None:
        raise ZeroDivisionError("calls")

    async def fails_later(*_: Any) -> None:
        raise KeyError("links")

    client = Client(unreachable)
    closes = client.links.close
    monkeypatch.setattr(client._calls, "close", fails)
    monkeypatch.setattr(client.links, "close", fails_later)
    with caplog.at_level(logging.ERROR), pytest.raises(ZeroDivisionError):
        await client.close()
    assert caplog.messages == ["another step of the close failed: KeyError: 'links'"]
    await closes()
