"""Revocation sync: after each connect, asks the job stores which jobs were revoked while this worker was away.

A job may wait in its queue for days, and a worker that was not connected has missed its cancel. So the worker asks the
gateways of all job stores. It holds the jobs of each store until a gateway of that store has answered, through the
worker's control queue, with digests of the revoked jobs. A busy gateway has some time to answer; if a store has no
gateway, its jobs wait that long once per connection. Other calls never wait.
"""

import asyncio
import functools
import logging
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from crew.amqp import ConfirmStatus, Link
from crew.errors import ConnectionError
from crew.protocol import topology
from crew.protocol.message import RevocationRequest, new_id
from crew.protocol.revocation_request import of_request

logger = logging.getLogger(__name__)

ANSWER_TIMEOUT: Final = 2.0  # seconds that jobs wait for the answer of a gateway
MAX_STORES: Final = 100  # stores that a worker remembers


class Answer(NamedTuple):
    """The question that a store has answered, and the queue of that store."""

    question: str
    queue: str


class RevocationSync:
    """Questions of one worker process to the job stores. All methods run on the I/O thread.

    Args:
        worker: id of the worker; the answers are sent to its control queue.
        tasks: names of the tasks that it serves.
        publishing: the link that publishes the question.
        timeout: seconds to wait for an answer.
    """

    def __init__(self, worker: str, tasks: Iterable[str], *, publishing: Link, timeout: float = ANSWER_TIMEOUT) -> None:
        self._worker = worker
        self._tasks = tuple(tasks)
        self._publishing = publishing
        self._timeout = timeout
        # True again as soon as a connection is lost: the first deliveries of the next one arrive before `on_ready`.
        self._is_waiting = True
        self._answered: set[str] = set()  # queues of stores
        self._known: dict[str, None] = {}  # queues of stores that have ever answered, the last `MAX_STORES` of them
        self._question: RevocationRequest | None = None
        self._asked = ""  # id of the last question over this connection, also after its timeout
        self._timer: asyncio.TimerHandle | None = None
        self._held: dict[str, list[Callable[[], None]]] = {}

    def __repr__(self) -> str:
        held = sum(map(len, self._held.values()))
        return f"<RevocationSync: {f'awaited, {held} jobs are held' if self._is_waiting else 'over'}>"

    def is_awaiting(self, queue: str) -> bool:
        """Whether to hold jobs that report to `queue`, as its store has not answered yet."""
        return self._is_waiting and queue not in self._answered

    def hold(self, queue: str, function: Callable[..., None], *args: Any) -> None:
        """Call `function(*args)` when the store of `queue` has answered, or at the timeout."""
        self._held.setdefault(queue, []).append(functools.partial(function, *args))

    def on_ready(self) -> None:
        """Ask, as the control queue is consumed now."""
        self._question = RevocationRequest(id=new_id(), worker=self._worker, tasks=self._tasks)
        self._asked = self._question.id
        self._timer = asyncio.get_running_loop().call_later(self._timeout, self._end)
        self.send_question()

    def send_question(self) -> None:
        """Publish the open question, if there is one; while the broker is away nothing is sent: call it again later."""
        if self._question is None:
            return
        properties, body = of_request(self._question)
        try:
            confirm = self._publishing.publish(
                topology.CONTROL, topology.REVOCATION_REQUEST, properties, body, mandatory=True
            )
        except ConnectionError:
            return
        confirm.then(functools.partial(self._on_confirm, self._question.id))

    def knows_store(self, queue: str) -> bool:
        """Whether `queue` belongs to a job store that has answered, now or over an earlier connection."""
        return queue in self._known

    def parse_answer(self, id: str) -> Answer | None:
        """Parse the id of an answer; None unless a job store answers the last question."""
        question, _, queue = id.partition(" ")
        is_asked = bool(question) and question == self._asked
        return Answer(question, queue) if is_asked and topology.is_jobs_queue(queue) else None

    def on_answer(self, id: str) -> None:
        """Release the jobs of a store that has answered; `id` names the question and the queue of the store."""
        answer = self.parse_answer(id)
        if answer is None or len(self._answered) >= MAX_STORES:
            return
        self._answered.add(answer.queue)
        self._known.pop(answer.queue, None)
        self._known[answer.queue] = None
        while len(self._known) > MAX_STORES:
            del self._known[next(iter(self._known))]
        for resume in self._held.pop(answer.queue, ()):
            resume()

    def on_lost(self) -> None:
        """Forget the held jobs: their deliveries are lost with the consuming link."""
        self._forget()
        self._held.clear()
        self._answered.clear()
        self._asked = ""
        self._is_waiting = True

    def stop(self) -> None:
        """Stop waiting and release all held jobs; idempotent."""
        self._end()

    def _on_confirm(self, id: str, status: ConfirmStatus) -> None:
        if status not in (ConfirmStatus.CONFIRMED, ConfirmStatus.LOST):
            logger.debug("revoked jobs not synchronized: no gateway took the question status=%s", status.value)
            if self._question is not None and self._question.id == id:
                self._end()

    def _end(self) -> None:
        """Release all held jobs."""
        self._forget()
        self._is_waiting = False
        held, self._held = self._held, {}
        for of_store in held.values():
            for resume in of_store:
                resume()

    def _forget(self) -> None:
        self._question = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
