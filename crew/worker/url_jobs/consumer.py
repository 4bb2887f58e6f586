"""Consumer of a worker that performs URL jobs: it limits the requests that run at once for one host.

A job beyond the limit is not started: it takes no slot, its run time does not begin, and no start is announced. It
waits here for a moment (see `crew.worker.url_jobs.host_limit`), or it is postponed: published again, as the same
attempt, through a queue of the broker that delays it. Then it passes admission like any other delivery, so that a job
that was canceled or has expired does not run. Its delivery is acknowledged after the broker has confirmed the copy.
"""

import asyncio
import functools
import logging
import time
from collections.abc import Callable
from typing import Any, Final

from crew.amqp import Delivery
from crew.client import off_loop
from crew.errors import SerializationError
from crew.protocol import topology
from crew.protocol.encoding import codec
from crew.protocol.http_job.url import parse_url
from crew.protocol.message import Call
from crew.protocol.topology import HTTP_TASK
from crew.worker.consumer.consumer import TaskConsumer
from crew.worker.execution.execution import Execution
from crew.worker.replies.retry_publisher import RetryPublisher
from crew.worker.task import Task
from crew.worker.url_jobs import host_limit
from crew.worker.url_jobs.host_limit import HostLimit

logger = logging.getLogger(__name__)

LOG_EVERY: Final = 60.0  # seconds between two lines about slow hosts


class HttpConsumer(TaskConsumer):
    """A TaskConsumer among whose tasks is that of URL jobs.

    Args:
        limit: requests that run at once for one host.
        retries: sends what is postponed.
        parts: as TaskConsumer has them.
    """

    def __init__(self, *given: Any, limit: int, retries: RetryPublisher, **parts: Any) -> None:
        rooms = {topology.task_queue_name(HTTP_TASK): host_limit.room_of(limit)}
        super().__init__(*given, retries=retries, rooms=rooms, **parts)
        self._retries = retries
        self._hosts = HostLimit(limit)
        self._reading: set[asyncio.Task[None]] = set()  # those whose body is so large that a thread decodes it
        self._timer: asyncio.TimerHandle | None = None
        self._log_after = 0.0  # time.monotonic()

    # --- deliveries in ----------------------------------------------------------------------------------------------

    def _take(self, delivery: Delivery, call: Call, task: Task, crashes: int) -> Execution | None:
        if task.name != HTTP_TASK:
            return super()._take(delivery, call, task, crashes)
        if codec.is_large(call.body):
            reading = asyncio.get_running_loop().create_task(self._take_large(delivery, call, task, crashes))
            self._reading.add(reading)
            reading.add_done_callback(self._reading.discard)
            return None
        return self._enter(_host_in(call, self._decode), delivery, call, task, crashes)

    async def _take_large(self, delivery: Delivery, call: Call, task: Task, crashes: int) -> None:
        host = await off_loop.start(_host_in, call, self._decode)

        def enter(delivery: Delivery, call: Call, task: Task, run: Callable[..., object]) -> None:
            run(delivery, call, task, crashes)

        self._admission.late(enter, delivery, call, task, functools.partial(self._enter, host))

    def _enter(self, host: str | None, delivery: Delivery, call: Call, task: Task, crashes: int) -> Execution | None:
        """Run a request for `host`, where there is room for it."""
        if host is None:  # it is no request, and fails when it is run
            return super()._take(delivery, call, task, crashes)
        if not self._hosts.has_room(host):
            self._hold(host, delivery, call, task)
            return None
        execution = super()._take(delivery, call, task, crashes)
        if execution is not None:
            self._hosts.begin(host, execution)
        return execution

    # --- beyond the limit -------------------------------------------------------------------------------------------

    def _hold(self, host: str, delivery: Delivery, call: Call, task: Task) -> None:
        if self._hosts.hold(host, delivery, call, task):
            self._look_later()
        else:
            self._postpone(host, delivery, call, task)

    def _look_later(self) -> None:
        seconds = self._hosts.next_look()
        if self._timer is None and seconds is not None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        self._timer = None
        for host, (delivery, call, task, _) in self._hosts.overdue():
            self._tell(host)
            self._postpone(host, delivery, call, task)
        self._look_later()

    def _postpone(self, host: str, delivery: Delivery, call: Call, task: Task) -> None:
        """Have it delivered again later. A call that is not persistent leaves first, as two of it must never be there.

        Where its delivery is lost already, the broker delivers it again.
        """
        release = functools.partial(self._answers.release, delivery)
        if call.persistent or release():
            self._retries.postpone(
                delivery,
                call,
                task,
                delay=self._hosts.delay(host, _remaining(call)),
                on_sent=release if call.persistent else lambda: None,
                on_failed=functools.partial(self._admit, host, delivery, call, task),
            )

    def _admit(self, host: str, delivery: Delivery, call: Call, task: Task) -> None:
        """Look at a delivery again that has waited: it may be cancelled or expired by now."""
        self._admission.late(self._admission.ask, delivery, call, task, functools.partial(self._enter, host))

    def _tell(self, host: str) -> None:
        """Log that jobs wait, at most once in `LOG_EVERY` seconds: hosts may be many."""
        if time.monotonic() >= self._log_after:
            self._log_after = time.monotonic() + LOG_EVERY
            logger.warning(
                "URL jobs wait for host %s: %d requests for it run in this process, as many as --max-requests-per-host "
                "allows; other hosts are not logged for %g s",
                host,
                self._hosts.limit,
                LOG_EVERY,
            )

    # --- ends -------------------------------------------------------------------------------------------------------

    def give_back(self) -> None:
        """Requeue what has not started."""
        for waiting in self._hosts.withdraw():
            self._answers.requeue(waiting.delivery)
        super().give_back()

    def on_lost(self, patience: float | None = None) -> None:
        """The deliveries went with the link: what has not started comes again."""
        self._hosts.withdraw()
        super().on_lost(patience)

    def stop(self) -> None:
        """Watch no more."""
        super().stop()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for reading in self._reading:
            reading.cancel()

    def _let_go(self, execution: Execution) -> None:
        super()._let_go(execution)
        host = self._hosts.end(execution)
        while host is not None and (following := self._hosts.following(host)) is not None:
            self._admit(host, following.delivery, following.call, following.task)  # some are cancelled by now

    def _withdraw(self) -> list[Execution]:
        withdrawn = super()._withdraw()
        for execution in withdrawn:
            self._hosts.end(execution)  # nothing follows: what waits here was withdrawn before
        return withdrawn


def _host_in(call: Call, decode: codec.Decode) -> str | None:
    """The host that `call` names, in lower case; None where it is no request."""
    try:
        payload = decode(call.body)
        return parse_url(payload["url"]).host if isinstance(payload, dict) and "url" in payload else None
    except (SerializationError, ValueError):
        return None


def _remaining(call: Call) -> float | None:
    """Seconds in which `call` has to be started; None: there is no bound."""
    bounds = [bound for bound in (call.deadline, call.start_by) if bound is not None]
    return min(bounds) - call.sender_time(time.time()) if bounds else None
