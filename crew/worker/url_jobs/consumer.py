"""Consumer of a worker that runs URL jobs: it limits the requests that run at the same time for one host.

A job beyond the limit is not started: it takes no slot, its run time does not begin, and no start is announced. It
waits here for a moment (see `crew.worker.url_jobs.host_limit`), or it is postponed: published again, as the same
attempt, through a queue of the broker that delays it. Then it passes admission like any other delivery, so that a job
that is canceled or expired by then does not run. The delivery is acknowledged after the broker has confirmed the copy.
"""

import asyncio
import functools
import logging
import time
from typing import Any, Final

from crew.amqp import Delivery
from crew.client import off_loop
from crew.errors import SerializationError
from crew.protocol import topology
from crew.protocol.encoding import codec
from crew.protocol.http_job.request import HttpRequest, request_of
from crew.protocol.message import Call
from crew.protocol.topology import HTTP_TASK
from crew.worker.consumer.consumer import TaskConsumer
from crew.worker.execution.execution import Execution
from crew.worker.replies.retry_publisher import RetryPublisher
from crew.worker.task import Task
from crew.worker.url_jobs import host_limit, requests
from crew.worker.url_jobs.host_limit import HostLimit

logger = logging.getLogger(__name__)

LOG_INTERVAL: Final = 60.0  # seconds between two log lines about slow hosts


class HttpConsumer(TaskConsumer):
    """A TaskConsumer that also limits the requests of URL jobs for each host.

    Args:
        limit: requests that may run at the same time for one host.
        retries: publishes postponed calls.
        host_wait: seconds that a delivery beyond the limit may wait here. Default 1.
        parts: as for TaskConsumer.
    """

    def __init__(
        self,
        *given: Any,
        limit: int,
        retries: RetryPublisher,
        host_wait: float = host_limit.WAIT,
        **parts: Any,
    ) -> None:
        rooms = {topology.task_queue_name(HTTP_TASK): host_limit.room_of(limit)}
        super().__init__(*given, retries=retries, rooms=rooms, **parts)
        self._retries = retries
        self._hosts = HostLimit(limit, wait=host_wait)
        self._reading: set[asyncio.Task[None]] = set()  # large calls, which a thread decodes
        self._timer: asyncio.TimerHandle | None = None
        self._log_after = 0.0  # time.monotonic()

    # --- deliveries in ----------------------------------------------------------------------------------------------

    def _enqueue(self, delivery: Delivery, call: Call, task: Task, crashes: int) -> Execution | None:
        if task.name != HTTP_TASK:
            return super()._enqueue(delivery, call, task, crashes)
        self._held.accept(delivery)  # it may wait here, without an execution
        if codec.is_large(call.body):
            reading = asyncio.get_running_loop().create_task(self._enqueue_large(delivery, call, task, crashes))
            self._reading.add(reading)
            reading.add_done_callback(self._reading.discard)
            return None
        return self._enter(_request_in(call, self._decode), delivery, call, task, crashes)

    async def _enqueue_large(self, delivery: Delivery, call: Call, task: Task, crashes: int) -> None:
        request = await off_loop.start(_request_in, call, self._decode)
        self._resume(delivery, functools.partial(self._enter, request, delivery, call, task, crashes))

    def _enter(
        self, request: HttpRequest | None, delivery: Delivery, call: Call, task: Task, crashes: int
    ) -> Execution | None:
        """Run a request if the limit of its host allows it; else let it wait, or postpone it."""
        if request is None:  # no valid request: it fails when it runs
            return super()._enqueue(delivery, call, task, crashes)
        host = request.target.host
        if not self._hosts.has_room(host):
            self._hold(request, delivery, call, task)
            return None
        requests.running[call.key] = request  # first: the task may begin at once, in another thread
        execution = super()._enqueue(delivery, call, task, crashes)
        if execution is None:
            del requests.running[call.key]
        else:
            self._hosts.begin(host, execution)
        return execution

    # --- beyond the limit -------------------------------------------------------------------------------------------

    def _hold(self, request: HttpRequest, delivery: Delivery, call: Call, task: Task) -> None:
        if self._hosts.hold(request, delivery, call, task):
            self._look_later()
        else:
            self._postpone(request, delivery, call, task)

    def _look_later(self) -> None:
        seconds = self._hosts.next_look()
        if self._timer is None and seconds is not None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        self._timer = None
        for host, waiting in self._hosts.overdue():
            self._log_wait(host)
            self._postpone(waiting.request, waiting.delivery, waiting.call, waiting.task)
        self._look_later()

    def _postpone(self, request: HttpRequest, delivery: Delivery, call: Call, task: Task) -> None:
        """Publish it again with a delay. A call that is not persistent is acknowledged first: it must never run twice.

        If its delivery was lost with the channel, the broker redelivers it.
        """
        release = functools.partial(self._held.acknowledge, delivery)
        if call.persistent or release():
            self._retries.postpone(
                delivery,
                call,
                task,
                delay=self._hosts.delay(request.target.host, _remaining(call)),
                on_sent=release if call.persistent else lambda: None,
                on_failed=functools.partial(self._admit_again, request, delivery, call, task),
            )

    def _admit_again(self, request: HttpRequest, delivery: Delivery, call: Call, task: Task) -> None:
        """Pass a delivery that has waited to admission again: it may be canceled or expired by now."""
        run = functools.partial(self._enter, request)
        self._resume(delivery, functools.partial(self._admit, delivery, call, task, run))

    def _log_wait(self, host: str) -> None:
        """Log that jobs wait, at most once per `LOG_INTERVAL`: there may be many hosts."""
        if time.monotonic() >= self._log_after:
            self._log_after = time.monotonic() + LOG_INTERVAL
            logger.warning(
                "host limit reached: URL jobs wait for a running request to end host=%s running=%d "
                "(--max-requests-per-host, per process); other hosts are not logged for %g s",
                host,
                self._hosts.limit,
                LOG_INTERVAL,
            )

    # --- ends -------------------------------------------------------------------------------------------------------

    def requeue_waiting(self) -> None:
        """Requeue all deliveries that have not started."""
        for waiting in self._hosts.withdraw():
            self._held.requeue(waiting.delivery)
        super().requeue_waiting()

    def on_lost(self, patience: float | None = None) -> None:
        """Forget all deliveries that have not started: the connection is lost, and the broker redelivers them."""
        self._hosts.withdraw()
        super().on_lost(patience)

    def stop(self) -> None:
        """Stop all timers."""
        super().stop()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for reading in self._reading:
            reading.cancel()

    def _free(self, execution: Execution) -> None:
        super()._free(execution)
        requests.running.pop(execution.call.key, None)
        host = self._hosts.end(execution)
        while host is not None and (following := self._hosts.following(host)) is not None:
            # Some are canceled by now.
            self._admit_again(following.request, following.delivery, following.call, following.task)

    def _withdraw(self) -> list[Execution]:
        withdrawn = super()._withdraw()
        for execution in withdrawn:
            requests.running.pop(execution.call.key, None)
            self._hosts.end(execution)  # no other starts: all that waited were withdrawn before
        return withdrawn


def _request_in(call: Call, decode: codec.Decode) -> HttpRequest | None:
    """The request in `call`; None if it is not valid."""
    try:
        return request_of(decode(call.body))
    except (SerializationError, ValueError):
        return None


def _remaining(call: Call) -> float | None:
    """Seconds within which `call` has to start; None: no limit."""
    bounds = [bound for bound in (call.deadline, call.start_by) if bound is not None]
    return min(bounds) - call.sender_time(time.time()) if bounds else None
