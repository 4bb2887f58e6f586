"""Several attempts to connect at a time, at brokers that answer, hang or refuse."""

import asyncio
import itertools
from typing import Any, cast

import pytest

from crew.amqp import connect_attempts as attempts_module
from crew.amqp.connect_attempts import AT_ONCE, Attempts
from crew.amqp.connection.connection import Wire
from crew.amqp.errors import LinkFault, LinkRefused
from tests.support.waiting import until

NEXT_AFTER = 0.02  # seconds


class FakeWire:
    """A wire that has opened."""

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
        self.failed: list[tuple[str, LinkFault]] = []
        self.takes_to_give_up = 0.0  # seconds

    def attempts(self, *urls: str) -> Attempts:
        """At these URLs, in turn."""
        return Attempts(itertools.cycle(urls), self.open, on_failed=lambda url, fault: self.failed.append((url, fault)))

    async def open(self, url: str) -> Wire:
        """As open_wire."""
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
        return cast(Wire, FakeWire(url))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Patience for a test."""
    monkeypatch.setattr(attempts_module, "NEXT_AFTER", NEXT_AFTER)


@pytest.fixture
def hung_up(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Wires that were not needed."""
    closed: list[Any] = []

    async def hang_up(wire: Any) -> None:
        closed.append(wire)

    monkeypatch.setattr(attempts_module, "hang_up", hang_up)
    return closed


@pytest.mark.gen_test
async def test_a_broker_that_answers_needs_one_attempt() -> None:
    brokers = Brokers(a=None)
    attempts = brokers.attempts("a", "b")
    wire = cast(FakeWire, await attempts.first())
    assert (wire.url, attempts.url, brokers.begun) == ("a", "a", 1)


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
async def test_a_wire_that_has_opened_is_closed_where_nobody_waits_for_it_any_longer(hung_up: list[Any]) -> None:
    brokers = Brokers()
    brokers.takes_to_give_up = 0.05
    connecting = asyncio.ensure_future(brokers.attempts("a", "b").first())
    await until(lambda: brokers.begun >= 2)
    first = brokers.going[0]
    first[1].set_result(None)
    await until(lambda: first not in brokers.going)
    await _cancel(connecting)
    assert [wire.url for wire in hung_up] == ["a"]


@pytest.mark.gen_test
async def test_a_failure_is_the_answer_where_nothing_else_goes_on() -> None:
    brokers = Brokers(a=LinkFault("connection refused"))
    attempts = brokers.attempts("a", "b")
    with pytest.raises(LinkFault, match="refused"):
        await attempts.first()
    assert (attempts.url, brokers.begun, brokers.failed) == ("a", 1, [])


@pytest.mark.gen_test
async def test_a_failure_beside_one_that_hangs_is_told_and_does_not_end_the_rest() -> None:
    brokers = Brokers(b=LinkFault("connection refused"), c=None)
    attempts = brokers.attempts("a", "b", "c")
    await attempts.first()
    assert (attempts.url, [url for url, _ in brokers.failed]) == ("c", ["b"])


@pytest.mark.gen_test
async def test_failures_beside_one_that_hangs_come_no_faster_than_attempts_do() -> None:
    brokers = Brokers(b=LinkFault("connection refused"))
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
async def test_one_that_opens_too_late_is_closed(hung_up: list[Any]) -> None:
    brokers = Brokers()
    connecting = asyncio.ensure_future(brokers.attempts("a").first())
    await until(lambda: len(brokers.going) == 2)
    for _, hanging in brokers.going:
        hanging.set_result(None)
    wire = await connecting
    assert len(hung_up) == 1
    assert hung_up[0] is not wire


@pytest.mark.gen_test
async def test_an_error_of_our_own_is_raised_as_it_is() -> None:
    brokers = Brokers(a=ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        await brokers.attempts("a").first()


async def _cancel(task: "asyncio.Task[Any]") -> None:
    task.cancel()
    await asyncio.wait([task])
