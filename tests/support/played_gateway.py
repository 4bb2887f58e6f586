"""What a gateway does with jobs, played by the test: it publishes them, takes what is said of them, and cancels."""

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pika

from crew.protocol import properties, topology
from crew.protocol.briefing import BRIEFED, TYPE, briefed_id, to_briefing
from crew.protocol.encoding import codec
from crew.protocol.message import Briefing, Call, Control, Outcome, Reply
from crew.protocol.properties import DeadLetter, Properties
from tests.support import raw
from tests.support.waiting import eventually

STORE = "played"
QUEUE = topology.jobs_queue_name(STORE)
ENDS = [outcome for outcome in Outcome if outcome.is_end]


class PlayedGateway:
    """One gateway on a broker of its own.

    Attributes:
        replies: what was said of jobs so far.
        briefings: what workers have asked so far.
        answers: questions at once; else the test does.
        canceled: ids of the jobs to name in each answer.
    """

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self.replies: list[Reply] = []
        self.dead: list[DeadLetter] = []
        self.briefings: list[Briefing] = []
        self.answers = True
        self.canceled: list[str] = []

    def submit(self, task: str, data: Any = None, **fields: Any) -> str:
        """Publish a job; its id."""
        call = Call(
            id=str(uuid.uuid4()),
            task=task,
            body=codec.encode(data),
            client=QUEUE,
            reply_to=QUEUE,
            is_job=True,
            **fields,
        )
        self._publish("", topology.task_queue_name(task), properties.of_call(call, now=time.time()), call.body.data)
        return call.id

    def cancel(self, id: str, key: str) -> None:
        """Tell the workers of this routing key."""
        self._control(key, Control(id=id, reason="canceled"))

    def answer(self, briefing: Briefing, *canceled: str) -> None:
        """Tell the worker what it has asked."""
        key = topology.control_key_of_worker(briefing.worker)
        for id in canceled:
            self._control(key, Control(id=id, reason="canceled"))
        self._control(key, Control(id=briefed_id(briefing.id, QUEUE), reason=BRIEFED))

    # --- what is said -----------------------------------------------------------------------------------------------

    def hear(self) -> None:
        """Take what is there."""
        while True:
            method, given, body = self._channel.basic_get(QUEUE, auto_ack=True)
            if method is None:
                return
            self._take(_own(given), body)

    def of(self, id: str, *outcomes: Outcome) -> list[Reply]:
        """What was said of one job."""
        return [one for one in self.replies if one.id == id and (not outcomes or one.outcome in outcomes)]

    def hears(self, id: str, *outcomes: Outcome, times: int = 1, timeout: float = 10.0) -> Reply:
        """Wait until one of `outcomes` was said of a job so often; the last of them."""
        self.waits(lambda: len(self.of(id, *outcomes)) >= times, timeout)
        return self.of(id, *outcomes)[-1]

    def end(self, id: str, timeout: float = 10.0) -> Reply:
        """Wait until it has ended."""
        return self.hears(id, *ENDS, timeout=timeout)

    def waits(self, predicate: Callable[[], Any], timeout: float = 10.0) -> Any:
        """Wait until `predicate` holds, and hear what is said meanwhile."""

        def heard() -> Any:
            self.hear()
            return predicate()

        return eventually(heard, timeout)

    def _take(self, given: Properties, body: bytes) -> None:
        if given.type == TYPE:
            self.briefings.append(to_briefing(given, body))
            if self.answers:
                self.answer(self.briefings[-1], *self.canceled)
            return
        reply = properties.to_reply(given, body)
        if isinstance(reply, Reply):
            self.replies.append(reply)
        else:
            self.dead.append(reply)

    def _control(self, key: str, control: Control) -> None:
        self._publish(topology.CONTROL, key, properties.of_control(control), b"")

    def _publish(self, exchange: str, key: str, given: Properties, body: bytes) -> None:
        names = Properties.__struct_fields__
        told = pika.BasicProperties(**{name: getattr(given, name) for name in names})
        self._channel.basic_publish(exchange, key, body, told, mandatory=not exchange)


def _own(given: Any) -> Properties:
    """Properties as crew's own link gives them: pika has a kind of int of its own."""
    found = Properties(**{name: getattr(given, name) for name in Properties.__struct_fields__})
    found.headers = {
        name: int(value) if isinstance(value, int) and not isinstance(value, bool) else value
        for name, value in (given.headers or {}).items()
    }
    return found


@contextmanager
def playing(url: str) -> Iterator[PlayedGateway]:
    """A gateway that ends with the block; its queue is there already, or made here."""
    with raw.channel(url) as channel:
        for exchange in topology.EXCHANGES:
            channel.exchange_declare(exchange.name, exchange.kind, durable=True)
        queue, *bindings = topology.jobs_queue(STORE)
        channel.queue_declare(queue.name, durable=True)
        for binding in bindings:
            channel.queue_bind(queue.name, binding.exchange, binding.key, binding.arguments)
        channel.confirm_delivery()
        yield PlayedGateway(channel)


def value_of(reply: Reply) -> Any:
    """What the task has returned, or said."""
    return codec.decode(reply.body)
