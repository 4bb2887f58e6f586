"""The in-memory broker fulfils the contract, and the contract finds a broker that does not."""

from collections import deque
from collections.abc import Iterator, Sequence

import pytest

from crew.testing.broker.broker import Broker
from crew.testing.broker.message import Entry, Message
from crew.testing.broker.queue import Queue
from tests.support.contract import CASES, Case, name_of
from tests.support.contract.bench import Bench
from tests.support.memory_broker import memory_broker

FEWEST = 120  # cases


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    """One connection for all cases."""
    with memory_broker() as url:
        made = Bench(url)
        yield made
        made.close()


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_the_memory_broker_behaves_as_rabbitmq(bench: Bench, case: Case) -> None:
    bench.run(case)


def test_the_contract_has_enough_cases() -> None:
    assert len(CASES) >= FEWEST


class PunctualQueue(Queue):
    """Expires messages behind the head, as one would expect, and RabbitMQ does not."""

    def put(self, message: Message) -> None:
        """Put it, and look at all messages."""
        super().put(message)
        self.drop_expired()

    def drop_expired(self) -> None:
        """Look at all messages."""
        now = self._clock()
        for level in self._levels:
            for entry in [one for one in level if one.is_dead(now)]:
                level.remove(entry)
                self._on_dead(self, entry, "expired")
        self._expiry_at = min((one.expires_at for one in self if one.expires_at is not None), default=None)


class NeverExpiringQueue(Queue):
    """Never expires a message."""

    def drop_expired(self) -> None:
        """Do nothing."""


class LowestFirstQueue(Queue):
    """Delivers the lowest priority first."""

    def _level_of(self, message: Message) -> "deque[Entry]":
        return self._levels[len(self._levels) - 1 - min(message.priority, len(self._levels) - 1)]


class ForgetfulQueue(Queue):
    """Does not mark what comes back."""

    def put_back(self, entry: Entry) -> None:
        """Put it back as if it were new."""
        super().put_back(entry)
        entry.is_redelivered = False


class LosingReturns(Broker):
    """Returns no message."""

    def is_returned(self, queues: Sequence[Queue]) -> bool:
        """Never."""
        return False


def with_queues(kind: type[Queue]) -> type[Broker]:
    """A broker whose queues are of this kind."""
    return type("Faulty", (Broker,), {"queue_class": kind})


@pytest.mark.parametrize(
    ("broker", "suspects"),
    [
        (with_queues(PunctualQueue), ["a_message_expires_only_at_the_head"]),
        (with_queues(NeverExpiringQueue), ["a_life_of_zero_expires_at_once"]),
        (with_queues(LowestFirstQueue), ["larger_priorities_come_first"]),
        (with_queues(ForgetfulQueue), ["a_requeued_message_is_redelivered"]),
        (LosingReturns, ["a_mandatory_message_without_a_queue_is_returned"]),
    ],
    ids=["early ttl", "late ttl", "wrong priority", "lost redelivered flag", "lost return"],
)
def test_a_seeded_fault_is_found(broker: type[Broker], suspects: list[str]) -> None:
    with memory_broker(broker) as url:
        bench = Bench(url, patience=0.3)
        for case in CASES:
            if case.__name__ in suspects:
                with pytest.raises(AssertionError):
                    bench.run(case)
        bench.close()
