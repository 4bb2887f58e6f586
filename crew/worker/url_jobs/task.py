"""The built-in task that runs URL jobs; `crew worker --http` serves it.

Its payload has the arguments of `crew.protocol.http_job.request.check_request`. Its value, for any status code:

    code, reason      of the response, as in 404, "Not Found"
    url, redirects    the final URL, without user and password, and the number of redirects
    headers           list of [name, value], as received
    body, encoding    encoding "text" if the body is text, else "base64"; gzip and deflate are decompressed
    elapsed_ms        from the start to the last byte

A request is sent at least once, as each persistent call is: it is sent again if its worker dies or is stopped.
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
from crew.worker.url_jobs import requests, resolver
from crew.worker.url_jobs.connector import Resolve
from crew.worker.url_jobs.errors import RequestFailed
from crew.worker.url_jobs.exchange import Exchange, Hop, elapsed_ms, reason_of
from crew.worker.url_jobs.wire_limits import WireLimits

DELETE_WITHIN: Final = 4.5  # seconds; less than the worker's default grace, after which it would stop the task


def serve_http(allowed: AllowedHosts, *, resolve: Resolve = resolver.resolve, min_rate: float = 0.0) -> None:
    """Register the task. It reaches public addresses, and the hosts in `allowed`.

    Args:
        allowed: hosts that may be reached although they have no public address.
        resolve: returns the addresses of a host.
        min_rate: minimum bytes per second of the body of a response; 0: no minimum.
    """
    Task(HTTP_TASK)(HttpTask(allowed, resolve=resolve, limits=WireLimits(rate=min_rate)).perform)


class HttpTask:
    """Sends the requests of URL jobs."""

    def __init__(
        self, allowed: AllowedHosts, *, resolve: Resolve = resolver.resolve, limits: WireLimits | None = None
    ) -> None:
        self._exchange = Exchange(allowed, resolve=resolve, limits=limits)

    async def perform(self, payload: object) -> dict[str, Any] | None:
        """Send the request in `payload`, and return its response. After a timeout the caller gets TimeoutError.

        Raises:
            ValueError: `payload` is no valid request.
            RequestFailed: there is no response, or crew does not accept it.
            ForbiddenAddress: the request or a redirect leads to an address that URL jobs must not reach.
        """
        execution = current_execution.get()
        parsed = None if execution is None else requests.running.get(execution.call.key)
        request = request_of(payload) if parsed is None else parsed
        try:
            async with asyncio.timeout(request.timeout):
                return await self._exchange.perform(request)
        except TimeoutError:
            _time_out(request)
        except asyncio.CancelledError:
            if _execution().reason is InterruptReason.CANCELED:
                with context.shield():  # the cancel is repeated every second
                    context.progress({"delete": await self._delete(request)})
            raise
        return None

    async def _delete(self, request: HttpRequest) -> dict[str, Any]:
        """Send DELETE to the same URL, over a new connection; return the server's response."""
        began, first = time.monotonic(), Hop.first(request)
        delete = msgspec.structs.replace(first, method="DELETE", body=None)
        try:
            async with asyncio.timeout(DELETE_WITHIN), self._exchange.send(delete) as response:
                return {"code": response.status, "reason": reason_of(response), "elapsed_ms": elapsed_ms(began)}
        except TimeoutError:
            return {"error": f"DELETE {first.url.redacted} timed out: no response within {DELETE_WITHIN:g} s"}
        except (RequestFailed, ForbiddenAddress) as error:
            return {"error": str(error)}


def _time_out(request: HttpRequest) -> None:
    """Decide that the execution has timed out; the value that it returns later is ignored."""
    message = f"{request.method} {request.target.redacted} timed out: no complete response within {request.timeout:g} s"
    _execution().decide(timed_out(message))


def _execution() -> Execution:
    execution = current_execution.get()
    if execution is None:
        raise RuntimeError(f"task {HTTP_TASK!r} runs only in a worker: start one with `crew worker --http`")
    return execution
