"""Concurrent attempts to connect, at brokers that answer, hang or refuse; and the order of the hosts."""

import asyncio
import itertools
from typing import Any, cast

import pytest

from crew.amqp.connection import connect_attempts as attempts_module
from crew.amqp.connection.connect_attempts import AT_ONCE, ConnectAttempts, first_host, urls_in_turn
from crew.amqp.connection.connection import BrokerConnection
from crew.amqp.errors import LinkError, LinkRefused
from tests.support.waiting import until

NEXT_AFTER = 0.02  # seconds


class FakeConnection:
    """A connection that has opened."""

    def __init__(self, url: str) -> None:
        self.url = url


class Brokers:
    """Answer attempts as the test says; what is not said hangs.

    Attributes:
        going: attempts that hang now, the oldest first.
        begun: all that ever were.
    """

    def __init__(self, **answers: Exception | None) -> None:
        self.answers = answers
        self.going: list[tuple[str, asyncio.Future[None]]] = []
        self.begun = 0
        self.failed: list[tuple[str, LinkError]] = []
        self.takes_to_give_up = 0.0  # seconds

    def attempts(self, *urls: str) -> ConnectAttempts:
        """At these URLs, in turn."""
        return ConnectAttempts(
            itertools.cycle(urls), self.open, on_failed=lambda url, fault: self.failed.append((url, fault))
        )

    async def open(self, url: str) -> BrokerConnection:
        """As open_connection."""
        self.begun += 1
        answer = self.answers.get(url, self)
        if isinstance(answer, Exception):
            raise answer
        if answer is not None:
            hanging = url, asyncio.get_running_loop().create_future()
            self.going.append(hanging)
            try:
                await hanging[1]
            except asyncio.CancelledError:
                await asyncio.sleep(self.takes_to_give_up)
                raise
            finally:
                self.going.remove(hanging)
        return cast(BrokerConnection, FakeConnection(url))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Patience for a test."""
    monkeypatch.setattr(attempts_module, "NEXT_AFTER", NEXT_AFTER)


@pytest.fixture
def closed_connections(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Wires that were not needed."""
    closed: list[Any] = []

    async def close_connection(connection: Any) -> None:
        closed.append(connection)

    monkeypatch.setattr(attempts_module, "close_connection", close_connection)
    return closed


@pytest.mark.gen_test
async def test_a_broker_that_answers_needs_one_attempt() -> None:
    brokers = Brokers(a=None)
    attempts = brokers.attempts("a", "b")
    connection = cast(FakeConnection, await attempts.first())
    assert (connection.url, attempts.url, brokers.begun) == ("a", "a", 1)


@pytest.mark.gen_test
async def test_a_broker_that_hangs_does_not_keep_us_from_the_next() -> None:
    brokers = Brokers(b=None)
    attempts = brokers.attempts("a", "b")
    await attempts.first()
    assert (attempts.url, brokers.going, brokers.begun) == ("b", [], 2), "the other is given up"


@pytest.mark.parametrize("which", [0, -1], ids=["the first", "the last"])
@pytest.mark.gen_test
async def test_whichever_attempt_is_answered_wins(which: int) -> None:
    brokers = Brokers()
    connecting = asyncio.ensure_future(brokers.attempts("a").first())
    await until(lambda: brokers.begun > 2 * AT_ONCE)
    brokers.going[which][1].set_result(None)
    await connecting
    assert not brokers.going


@pytest.mark.gen_test
async def test_there_are_never_many_at_once_and_the_first_has_the_longest_patience() -> None:
    brokers = Brokers()
    connecting = asyncio.ensure_future(brokers.attempts("a").first())
    await until(lambda: brokers.going)
    first = brokers.going[0]
    await until(lambda: brokers.begun > 3 * AT_ONCE)
    assert len(brokers.going) <= AT_ONCE
    assert brokers.going[0] is first
    await _cancel(connecting)
    assert not brokers.going


@pytest.mark.gen_test
async def test_a_wire_that_has_opened_is_closed_where_nobody_waits_for_it_any_longer(
    closed_connections: list[Any],
) -> None:
    brokers = Brokers()
    brokers.takes_to_give_up = 0.05
    connecting = asyncio.ensure_future(brokers.attempts("a", "b").first())
    await until(lambda: brokers.begun >= 2)
    first = brokers.going[0]
    first[1].set_result(None)
    await until(lambda: first not in brokers.going)
    await _cancel(connecting)
    assert [connection.url for connection in closed_connections] == ["a"]


@pytest.mark.gen_test
async def test_a_failure_is_the_answer_where_nothing_else_goes_on() -> None:
    brokers = Brokers(a=LinkError("connection refused"))
    attempts = brokers.attempts("a", "b")
    with pytest.raises(LinkError, match="refused"):
        await attempts.first()
    assert (attempts.url, brokers.begun, brokers.failed) == ("a", 1, [])


@pytest.mark.gen_test
async def test_a_failure_beside_one_that_hangs_is_told_and_does_not_end_the_rest() -> None:
    brokers = Brokers(b=LinkError("connection refused"), c=None)
    attempts = brokers.attempts("a", "b", "c")
    await attempts.first()
    assert (attempts.url, [url for url, _ in brokers.failed]) == ("c", ["b"])


@pytest.mark.gen_test
async def test_failures_beside_one_that_hangs_come_no_faster_than_attempts_do() -> None:
    brokers = Brokers(b=LinkError("connection refused"))
    connecting = asyncio.ensure_future(brokers.attempts("a", "b", "b", "b", "b").first())
    await asyncio.sleep(5 * NEXT_AFTER)
    assert brokers.begun <= 6
    await _cancel(connecting)


@pytest.mark.gen_test
async def test_a_refusal_ends_all_at_once() -> None:
    brokers = Brokers(b=LinkRefused("user name or password refused"))
    with pytest.raises(LinkRefused):
        await brokers.attempts("a", "b").first()
    assert not brokers.going


@pytest.mark.gen_test
async def test_one_that_opens_too_late_is_closed(closed_connections: list[Any]) -> None:
    brokers = Brokers()
    connecting = asyncio.ensure_future(brokers.attempts("a").first())
    await until(lambda: len(brokers.going) == 2)
    for _, hanging in brokers.going:
        hanging.set_result(None)
    connection = await connecting
    assert len(closed_connections) == 1
    assert closed_connections[0] is not connection


@pytest.mark.gen_test
async def test_an_error_of_our_own_is_raised_as_it_is() -> None:
    brokers = Brokers(a=ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        await brokers.attempts("a").first()


async def _cancel(task: "asyncio.Task[Any]") -> None:
    task.cancel()
    await asyncio.wait([task])


# --- order of the hosts ---------------------------------------------------------------------------------------------


def test_all_hosts_are_tried_in_turn_for_ever() -> None:
    assert list(itertools.islice(urls_in_turn(("a", "b", "c"), first=4), 7)) == ["b", "c", "a", "b", "c", "a", "b"]


def test_one_host_is_tried_again_and_again() -> None:
    assert list(itertools.islice(urls_in_turn(("a",), first=12345), 3)) == ["a", "a", "a"]


def test_processes_that_start_one_after_another_begin_with_different_hosts() -> None:
    first = first_host()
    assert {next(urls_in_turn(("a", "b", "c"), first=host)) for host in range(first, first + 3)} == {"a", "b", "c"}


def test_the_links_of_one_process_begin_with_the_same_host() -> None:
    assert first_host() == first_host()
