"""The built-in task that performs URL jobs: `crew worker --http` serves it.

Its payload has the arguments of `crew.protocol.http_job.request.check_request`. Its value, whatever the status code:

    code, reason      of the response, as in 404, "Not Found"
    url, redirects    where it came from in the end, without user and password, and after how many redirects
    headers           list of [name, value], as they came
    body, encoding    as "text" where it is some, else as "base64"; unpacked where it was packed with gzip or deflate
    elapsed_ms        from the beginning to the last byte

A request is performed at least once, as every persistent call is: it is sent again where its worker dies or is stopped.
"""

import asyncio
import time
from typing import Any, Final

import msgspec

from crew.protocol.http_job.address import ForbiddenAddress
from crew.protocol.http_job.allowed_hosts import AllowedHosts
from crew.protocol.http_job.request import HttpRequest, request_of
from crew.protocol.topology import HTTP_TASK
from crew.worker.context import context
from crew.worker.execution.execution import Execution, current_execution
from crew.worker.execution.interrupt import InterruptReason
from crew.worker.execution.result import timed_out
from crew.worker.task import Task
from crew.worker.url_jobs import resolver
from crew.worker.url_jobs.connector import Resolve
from crew.worker.url_jobs.errors import RequestFailed
from crew.worker.url_jobs.exchange import Exchange, Hop, elapsed_ms, reason_of
from crew.worker.url_jobs.wire_limits import Bounds

DELETE_WITHIN: Final = 4.5  # seconds: within the worker's default grace, at whose end it would give the job up


def serve_http(allowed: AllowedHosts, *, resolve: Resolve = resolver.resolve, min_rate: float = 0.0) -> None:
    """Register the task, which reaches public addresses, and what is `allowed`.

    Args:
        allowed: which hosts may be reached.
        resolve: finds the addresses of a host.
        min_rate: bytes a second, at least, of the body of a response; 0: no bound.
    """
    Task(HTTP_TASK)(HttpTask(allowed, resolve=resolve, bounds=Bounds(rate=min_rate)).perform)


class HttpTask:
    """Performs the requests of URL jobs."""

    def __init__(
        self, allowed: AllowedHosts, *, resolve: Resolve = resolver.resolve, bounds: Bounds | None = None
    ) -> None:
        self._exchange = Exchange(allowed, resolve=resolve, bounds=bounds)

    async def perform(self, payload: object) -> dict[str, Any] | None:
        """One of them; the caller gets TimeoutError where its time is over.

        Raises:
            ValueError: `payload` is no request.
            RequestFailed: there is no response, or it cannot be kept.
            ForbiddenAddress: it leads to where URL jobs may not go.
        """
        request = request_of(payload)
        try:
            async with asyncio.timeout(request.timeout):
                return await self._exchange.perform(request)
        except TimeoutError:
            _time_out(request)
        except asyncio.CancelledError:
            if _execution().reason is InterruptReason.CANCELED:
                with context.shield():  # who cancels does so again every second
                    context.progress({"delete": await self._delete(request)})
            raise
        return None

    async def _delete(self, request: HttpRequest) -> dict[str, Any]:
        """Tell the server, over another connection, as the first one is closed; returns how it has answered."""
        began, first = time.monotonic(), Hop.first(request)
        delete = msgspec.structs.replace(first, method="DELETE", body=None)
        try:
            async with asyncio.timeout(DELETE_WITHIN), self._exchange.send(delete) as response:
                return {"code": response.status, "reason": reason_of(response), "elapsed_ms": elapsed_ms(began)}
        except TimeoutError:
            return {"error": f"DELETE {first.url.redacted} was not answered within {DELETE_WITHIN:g} s"}
        except (RequestFailed, ForbiddenAddress) as error:
            return {"error": str(error)}


def _time_out(request: HttpRequest) -> None:
    """Decide that the execution has timed out: what it returns then comes too late."""
    told = f"{request.method} {request.target.redacted} was not answered within {request.timeout:g} s"
    _execution().decide(timed_out(told))


def _execution() -> Execution:
    execution = current_execution.get()
    if execution is None:
        raise RuntimeError(f"task {HTTP_TASK!r} can be run by a worker only")
    return execution
