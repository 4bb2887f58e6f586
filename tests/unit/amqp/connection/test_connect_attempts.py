"""Concurrent attempts to connect to brokers that accept, hang or refuse, and the order of the hosts."""

import asyncio
import itertools
from typing import Any, cast

import pytest

from crew.amqp.connection.connect_attempts import AT_ONCE, ConnectAttempts, first_host, urls_in_turn
from crew.amqp.connection.connection import BrokerConnection
from crew.amqp.errors import LinkError, LinkRefused
from tests.support.waiting import until

NEXT_AFTER = 0.02  # seconds


class FakeConnection:
    """An open connection."""

    def __init__(self, url: str) -> None:
        self.url = url


class Brokers:
    """Brokers by URL: None accepts a connection, an exception is raised; attempts to other URLs hang.

    Attributes:
        hanging: attempts that hang now, the oldest first.
        begun: number of all attempts.
    """

    def __init__(self, **outcomes: Exception | None) -> None:
        self.outcomes = outcomes
        self.hanging: list[tuple[str, asyncio.Future[None]]] = []
        self.begun = 0
        self.failed: list[tuple[str, LinkError]] = []
        self.cancel_time = 0.0  # seconds
        self.closed: list[Any] = []  # connections that were closed because they were not needed

    def attempts(self, *urls: str) -> ConnectAttempts:
        """Attempts to connect to these URLs in turn."""
        return ConnectAttempts(
            itertools.cycle(urls),
            self.open,
            on_failed=lambda url, fault: self.failed.append((url, fault)),
            next_after=NEXT_AFTER,
            close=self.close,
        )

    async def close(self, connection: Any) -> None:
        """A fake `close_connection`."""
        self.closed.append(connection)

    async def open(self, url: str) -> BrokerConnection:
        """A fake `open_connection`."""
        self.begun += 1
        outcome = self.outcomes.get(url, self)
        if isinstance(outcome, Exception):
            raise outcome
        if outcome is not None:
            attempt = url, asyncio.get_running_loop().create_future()
            self.hanging.append(attempt)
            try:
                await attempt[1]
            except asyncio.CancelledError:
                await asyncio.sleep(self.cancel_time)
                raise
            finally:
                self.hanging.remove(attempt)
        return cast(BrokerConnection, FakeConnection(url))


@pytest.mark.gen_test
async def test_a_broker_that_accepts_needs_one_attempt() -> None:
    brokers = Brokers(a=None)
    attempts = brokers.attempts("a", "b")
    connection = cast(FakeConnection, await attempts.first())
    assert (connection.url, attempts.url, brokers.begun) == ("a", "a", 1)


@pytest.mark.gen_test
async def test_a_broker_that_hangs_does_not_delay_the_next_one_for_long() -> None:
    brokers = Brokers(b=None)
    attempts = brokers.attempts("a", "b")
    await attempts.first()
    assert (attempts.url, brokers.hanging, brokers.begun) == ("b", [], 2), "the other attempt is canceled"


@pytest.mark.parametrize("which", [0, -1], ids=["the first", "the last"])
@pytest.mark.gen_test
async def test_the_first_attempt_that_succeeds_is_used(which: int) -> None:
    brokers = Brokers()
    connecting = asyncio.ensure_future(brokers.attempts("a").first())
    await until(lambda: brokers.begun > 2 * AT_ONCE)
    brokers.hanging[which][1].set_result(None)
    await connecting
    assert not brokers.hanging


@pytest.mark.gen_test
async def test_the_number_of_attempts_is_limited_and_the_first_one_stays() -> None:
    brokers = Brokers()
    connecting = asyncio.ensure_future(brokers.attempts("a").first())
    await until(lambda: brokers.hanging)
    first = brokers.hanging[0]
    await until(lambda: brokers.begun > 3 * AT_ONCE)
    assert len(brokers.hanging) <= AT_ONCE
    assert brokers.hanging[0] is first
    await _cancel(connecting)
    assert not brokers.hanging


@pytest.mark.gen_test
async def test_a_connection_that_opens_after_a_cancel_is_closed() -> None:
    brokers = Brokers()
    brokers.cancel_time = 0.05
    connecting = asyncio.ensure_future(brokers.attempts("a", "b").first())
    await until(lambda: brokers.begun >= 2)
    first = brokers.hanging[0]
    first[1].set_result(None)
    await until(lambda: first not in brokers.hanging)
    await _cancel(connecting)
    assert [connection.url for connection in brokers.closed] == ["a"]


@pytest.mark.gen_test
async def test_a_failure_of_the_only_attempt_is_raised() -> None:
    brokers = Brokers(a=LinkError("connection refused"))
    attempts = brokers.attempts("a", "b")
    with pytest.raises(LinkError, match="refused"):
        await attempts.first()
    assert (attempts.url, brokers.begun, brokers.failed) == ("a", 1, [])


@pytest.mark.gen_test
async def test_a_failure_is_reported_and_does_not_end_other_attempts() -> None:
    brokers = Brokers(b=LinkError("connection refused"), c=None)
    attempts = brokers.attempts("a", "b", "c")
    await attempts.first()
    assert (attempts.url, [url for url, _ in brokers.failed]) == ("c", ["b"])


@pytest.mark.gen_test
async def test_failures_do_not_make_attempts_more_frequent() -> None:
    brokers = Brokers(b=LinkError("connection refused"))
    connecting = asyncio.ensure_future(brokers.attempts("a", "b", "b", "b", "b").first())
    await asyncio.sleep(5 * NEXT_AFTER)
    assert brokers.begun <= 6
    await _cancel(connecting)


@pytest.mark.gen_test
async def test_a_refusal_ends_all_attempts_at_once() -> None:
    brokers = Brokers(b=LinkRefused("user name or password refused"))
    with pytest.raises(LinkRefused):
        await brokers.attempts("a", "b").first()
    assert not brokers.hanging


@pytest.mark.gen_test
async def test_a_second_connection_that_opens_is_closed() -> None:
    brokers = Brokers()
    connecting = asyncio.ensure_future(brokers.attempts("a").first())
    await until(lambda: len(brokers.hanging) == 2)
    for _, future in brokers.hanging:
        future.set_result(None)
    connection = await connecting
    assert len(brokers.closed) == 1
    assert brokers.closed[0] is not connection


@pytest.mark.gen_test
async def test_any_other_exception_is_raised_unchanged() -> None:
    brokers = Brokers(a=ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        await brokers.attempts("a").first()


async def _cancel(task: "asyncio.Task[Any]") -> None:
    task.cancel()
    await asyncio.wait([task])


# --- order of the hosts ---------------------------------------------------------------------------------------------


def test_all_hosts_are_tried_in_turn_without_end() -> None:
    assert list(itertools.islice(urls_in_turn(("a", "b", "c"), first=4), 7)) == ["b", "c", "a", "b", "c", "a", "b"]


def test_a_single_host_is_tried_without_end() -> None:
    assert list(itertools.islice(urls_in_turn(("a",), first=12345), 3)) == ["a", "a", "a"]


def test_processes_that_start_one_after_another_begin_with_different_hosts() -> None:
    first = first_host()
    assert {next(urls_in_turn(("a", "b", "c"), first=host)) for host in range(first, first + 3)} == {"a", "b", "c"}


def test_the_links_of_one_process_begin_with_the_same_host() -> None:
    assert first_host() == first_host()
