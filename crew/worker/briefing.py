"""Jobs wait for an answer of the gateways, after each connect: which of them were given up meanwhile?

A job may wait in its queue for days, and a worker that was not there has heard of no cancel. So it asks, over the queue
of what gateways take, and holds the jobs that come until it is answered: over its control queue, as any cancel, and at
last the word that this was all. A gateway that is busy has some time for that; where there is none, jobs wait so long
once a connection. Other calls never wait.
"""

import asyncio
import functools
import logging
from collections.abc import Callable, Iterable
from typing import Any, Final

from crew.amqp import ConfirmStatus, Link
from crew.errors import ConnectionError
from crew.protocol import topology
from crew.protocol.briefing import of_briefing
from crew.protocol.message import Briefing, new_id

logger = logging.getLogger(__name__)

PATIENCE: Final = 2.0  # seconds that jobs wait for a gateway which is busy, or is none


class Briefings:
    """What one worker process asks. All of it on the I/O thread.

    Args:
        worker: id of the worker; the answer comes to it alone.
        tasks: what it serves.
        publishing: the link over which it asks.
        patience: seconds to wait for an answer.

    Attributes:
        is_awaited: jobs are to be held. So it is from the loss of the connection on: deliveries come before anybody is
            told that the next one is ready.
    """

    def __init__(self, worker: str, tasks: Iterable[str], *, publishing: Link, patience: float = PATIENCE) -> None:
        self._worker = worker
        self._tasks = tuple(tasks)
        self._publishing = publishing
        self._patience = patience
        self.is_awaited = True
        self._question: Briefing | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._held: list[Callable[[], None]] = []

    def __repr__(self) -> str:
        state = f"awaited, {len(self._held)} jobs are held" if self.is_awaited else "over"
        return f"<Briefings: {state}>"

    def hold(self, function: Callable[..., None], *args: Any) -> None:
        """Call `function(*args)` when the answer is there, or is waited for no longer."""
        self._held.append(functools.partial(function, *args))

    def on_ready(self) -> None:
        """The control queue is consumed: ask."""
        self._question = Briefing(id=new_id(), worker=self._worker, tasks=self._tasks)
        self._timer = asyncio.get_running_loop().call_later(self._patience, self._end)
        self.ask()

    def ask(self) -> None:
        """Publish what is to be asked; where the broker cannot be told, `ask` is called again when it can."""
        if self._question is None:
            return
        properties, body = of_briefing(self._question)
        try:
            confirm = self._publishing.publish(
                topology.DEFAULT_EXCHANGE, topology.JOBS, properties, body, mandatory=True
            )
        except ConnectionError:
            return
        confirm.then(functools.partial(self._on_confirm, self._question.id))

    def on_answer(self, id: str) -> None:
        """A gateway has said all that it knows on the question `id`."""
        if self._question is not None and self._question.id == id:
            self._end()

    def on_lost(self) -> None:
        """The consuming link is lost, and with it the deliveries that are held."""
        self._forget()
        self._held.clear()
        self.is_awaited = True

    def stop(self) -> None:
        """Wait no longer; idempotent."""
        self._end()

    def _on_confirm(self, id: str, status: ConfirmStatus) -> None:
        if status not in (ConfirmStatus.CONFIRMED, ConfirmStatus.LOST):
            logger.debug("no gateway can be asked about jobs: the question was %s", status.value)
            self.on_answer(id)

    def _end(self) -> None:
        """Let the jobs go on."""
        self._forget()
        self.is_awaited = False
        held, self._held = self._held, []
        for go_on in held:
            go_on()

    def _forget(self) -> None:
        self._question = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
