"""A fake gateway for jobs: the test publishes jobs, receives the reports of workers, and cancels jobs."""

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pika

from crew.protocol import properties, topology
from crew.protocol.encoding import codec
from crew.protocol.message import Call, Control, Outcome, Reply, RevocationRequest
from crew.protocol.properties import DeadLetter, Properties
from crew.protocol.revocation_request import ANSWER, TYPE, answer_id, to_request
from tests.support import raw
from tests.support.waiting import eventually

STORE = "played"
QUEUE = topology.jobs_queue_name(STORE)
ENDS = [outcome for outcome in Outcome if outcome.is_end]


class PlayedGateway:
    """A fake gateway on a real broker.

    Attributes:
        replies: reports about jobs so far.
        requests: requests of workers so far.
        answers: whether requests are answered at once; else the test answers them.
        canceled: ids of the jobs that each answer names.
    """

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self.replies: list[Reply] = []
        self.dead: list[DeadLetter] = []
        self.requests: list[RevocationRequest] = []
        self.answers = True
        self.canceled: list[str] = []

    def submit(self, task: str, data: Any = None, **fields: Any) -> str:
        """Publish a job; returns its id."""
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
        """Cancel a job at the workers with this routing key."""
        self._control(key, Control(id=id, reason="canceled"))

    def answer(self, request: RevocationRequest, *canceled: str) -> None:
        """Answer a worker's request with the ids of canceled jobs."""
        key = topology.control_key_of_worker(request.worker)
        for id in canceled:
            self._control(key, Control(id=id, reason="canceled"))
        self._control(key, Control(id=answer_id(request.id, QUEUE), reason=ANSWER))

    # --- reports of workers -----------------------------------------------------------------------------------------

    def receive(self) -> None:
        """Receive all messages that are in the queue."""
        while True:
            method, given, body = self._channel.basic_get(QUEUE, auto_ack=True)
            if method is None:
                return
            self._take(_own(given), body)

    def of(self, id: str, *outcomes: Outcome) -> list[Reply]:
        """The reports about one job, with these outcomes (none: any)."""
        return [one for one in self.replies if one.id == id and (not outcomes or one.outcome in outcomes)]

    def wait_for_report(self, id: str, *outcomes: Outcome, times: int = 1, timeout: float = 10.0) -> Reply:
        """Wait until a job has `times` reports with one of `outcomes`; returns the last one."""
        self.wait_until(lambda: len(self.of(id, *outcomes)) >= times, timeout)
        return self.of(id, *outcomes)[-1]

    def end(self, id: str, timeout: float = 10.0) -> Reply:
        """Wait until the job has ended; returns the last report."""
        return self.wait_for_report(id, *ENDS, timeout=timeout)

    def wait_until(self, predicate: Callable[[], Any], timeout: float = 10.0) -> Any:
        """Wait until `predicate` is true, and receive reports meanwhile."""

        def received() -> Any:
            self.receive()
            return predicate()

        return eventually(received, timeout)

    def _take(self, given: Properties, body: bytes) -> None:
        if given.type == TYPE:
            self.requests.append(to_request(given, body))
            if self.answers:
                self.answer(self.requests[-1], *self.canceled)
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
        sent = pika.BasicProperties(**{name: getattr(given, name) for name in names})
        self._channel.basic_publish(exchange, key, body, sent, mandatory=not exchange)


def _own(given: Any) -> Properties:
    """Properties as crew's own link returns them: pika has its own subclass of int."""
    found = Properties(**{name: getattr(given, name) for name in Properties.__struct_fields__})
    found.headers = {
        name: int(value) if isinstance(value, int) and not isinstance(value, bool) else value
        for name, value in (given.headers or {}).items()
    }
    return found


@contextmanager
def playing(url: str) -> Iterator[PlayedGateway]:
    """A fake gateway for the block; its queue is declared if it does not exist."""
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
    """The value that the task has returned or reported."""
    return codec.decode(reply.body)
