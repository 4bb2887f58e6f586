"""Jobs wait for an answer of the gateways, after each connect: which of them were given up meanwhile?

A job may wait in its queue for days, and a worker that was not there has heard of no cancel. So it asks the gateways of
all job stores, and holds the jobs of each store until that one has answered, over its control queue, with digests of
the jobs that were given up. A gateway that is busy has some time for that; where a store has none, its jobs wait so
long once a connection. Other calls never wait.
"""

import asyncio
import functools
import logging
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from crew.amqp import ConfirmStatus, Link
from crew.errors import ConnectionError
from crew.protocol import topology
from crew.protocol.briefing import of_briefing
from crew.protocol.message import Briefing, new_id

logger = logging.getLogger(__name__)

PATIENCE: Final = 2.0  # seconds that jobs wait for a gateway which is busy, or is none
MAX_STORES: Final = 100  # that a worker knows


class Answer(NamedTuple):
    """Which question was answered, and the queue of the store that did."""

    question: str
    queue: str


class RevocationSync:
    """What one worker process asks. All of it on the I/O thread.

    Args:
        worker: id of the worker; the answer comes to it alone.
        tasks: what it serves.
        publishing: the link over which it asks.
        patience: seconds to wait for an answer.
    """

    def __init__(self, worker: str, tasks: Iterable[str], *, publishing: Link, patience: float = PATIENCE) -> None:
        self._worker = worker
        self._tasks = tuple(tasks)
        self._publishing = publishing
        self._patience = patience
        # So it is from the loss of a connection on: deliveries come before anybody is told that the next one is ready.
        self._is_waiting = True
        self._answered: set[str] = set()  # queues of stores
        self._known: dict[str, None] = {}  # queues of stores that have ever answered, the last `MAX_STORES` of them
        self._question: Briefing | None = None
        self._asked = ""  # id of the last question over this connection, also when it is waited for no longer
        self._timer: asyncio.TimerHandle | None = None
        self._held: dict[str, list[Callable[[], None]]] = {}

    def __repr__(self) -> str:
        held = sum(map(len, self._held.values()))
        return f"<RevocationSync: {f'awaited, {held} jobs are held' if self._is_waiting else 'over'}>"

    def awaits(self, queue: str) -> bool:
        """Whether jobs that report to `queue` are to be held."""
        return self._is_waiting and queue not in self._answered

    def hold(self, queue: str, function: Callable[..., None], *args: Any) -> None:
        """Call `function(*args)` when the store of `queue` has answered, or is waited for no longer."""
        self._held.setdefault(queue, []).append(functools.partial(function, *args))

    def on_ready(self) -> None:
        """The control queue is consumed: ask."""
        self._question = Briefing(id=new_id(), worker=self._worker, tasks=self._tasks)
        self._asked = self._question.id
        self._timer = asyncio.get_running_loop().call_later(self._patience, self._end)
        self.ask()

    def ask(self) -> None:
        """Publish what is to be asked; where the broker cannot be told, `ask` is called again when it can."""
        if self._question is None:
            return
        properties, body = of_briefing(self._question)
        try:
            confirm = self._publishing.publish(topology.CONTROL, topology.BRIEFING, properties, body, mandatory=True)
        except ConnectionError:
            return
        confirm.then(functools.partial(self._on_confirm, self._question.id))

    def knows_store(self, queue: str) -> bool:
        """Whether `queue` is that of a job store which has answered, now or over an earlier connection."""
        return queue in self._known

    def to_answer(self, id: str) -> Answer | None:
        """What `id` names, where it is the answer to the last question and comes from a job store; else None."""
        question, _, queue = id.partition(" ")
        is_asked = bool(question) and question == self._asked
        return Answer(question, queue) if is_asked and topology.is_jobs_queue(queue) else None

    def on_answer(self, id: str) -> None:
        """A gateway has said all that it knows: `id` names the question and the queue of its store."""
        answer = self.to_answer(id)
        if answer is None or len(self._answered) >= MAX_STORES:
            return
        self._answered.add(answer.queue)
        self._known.pop(answer.queue, None)
        self._known[answer.queue] = None
        while len(self._known) > MAX_STORES:
            del self._known[next(iter(self._known))]
        for go_on in self._held.pop(answer.queue, ()):
            go_on()

    def on_lost(self) -> None:
        """The consuming link is lost, and with it the deliveries that are held."""
        self._forget()
        self._held.clear()
        self._answered.clear()
        self._asked = ""
        self._is_waiting = True

    def stop(self) -> None:
        """Wait no longer; idempotent."""
        self._end()

    def _on_confirm(self, id: str, status: ConfirmStatus) -> None:
        if status not in (ConfirmStatus.CONFIRMED, ConfirmStatus.LOST):
            logger.debug("no gateway can be asked about jobs: the question was %s", status.value)
            if self._question is not None and self._question.id == id:
                self._end()

    def _end(self) -> None:
        """Let the jobs go on."""
        self._forget()
        self._is_waiting = False
        held, self._held = self._held, {}
        for of_store in held.values():
            for go_on in of_store:
                go_on()

    def _forget(self) -> None:
        self._question = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
