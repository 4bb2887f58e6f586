"""Early check of URL jobs (SSRF protection): refuses URLs whose host has only forbidden addresses.

The worker makes the final check: it uses its own name servers, and connects to the address that it has checked. This
check reports an error to the submitter at once, so a name that cannot be resolved here is accepted. It covers the HTTP
API only. A job submitted by `Client.submit` is checked by the worker alone.
"""

import asyncio
import contextlib
import logging
import socket
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from crew import own_address, settings
from crew.gateway.problems import RequestRefused
from crew.protocol.http_job.address import ForbiddenAddress
from crew.protocol.http_job.allowed_hosts import AllowedHosts
from crew.protocol.http_job.request import request_of
from crew.protocol.http_job.url import HttpUrl
from crew.protocol.topology import HTTP_TASK

if TYPE_CHECKING:
    from crew.jobs.specification import Specification

logger = logging.getLogger(__name__)

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]

LOOKUP_TIMEOUT: Final = 1.0  # seconds for a name server; the worker resolves the name again
MAX_LOOKUPS: Final = 64  # at a time: a name server that does not answer blocks a thread for up to 30 s
LOCALHOST: Final = "127.0.0.1"

_free = threading.Semaphore(MAX_LOOKUPS)


class UrlGuard:
    """Refuses URLs that URL jobs may not request.

    Args:
        allowed: the hosts that may be requested; None: from CREW_ALLOW_HOSTS and CREW_DENY_HOSTS, else all public ones.
        resolve: returns the addresses of a host; raises OSError if the name is unknown.
        timeout: seconds for `resolve`; a name that is not resolved by then is accepted. Default 1.
    """

    def __init__(
        self,
        allowed: AllowedHosts | None = None,
        *,
        resolve: Resolve | None = None,
        timeout: float = LOOKUP_TIMEOUT,
    ) -> None:
        self._allowed = AllowedHosts.of(settings.allow_hosts(), settings.deny_hosts()) if allowed is None else allowed
        self._resolve = look_up if resolve is None else resolve
        self._timeout = timeout

    async def check_job(self, specification: "Specification") -> None:
        """Raise RequestRefused if it specifies a URL job whose URL is forbidden."""
        if specification.request is not None:
            await self.check(specification.request.target)

    async def check_call(self, task: str, payload: object) -> None:
        """Raise RequestRefused if `task` is that of URL jobs, and `payload` is invalid or its URL forbidden."""
        if task == HTTP_TASK:
            try:
                request = request_of(payload)
            except ValueError as error:
                raise RequestRefused(422, str(error), name="bad-data") from None
            await self.check(request.target)

    async def check(self, url: HttpUrl) -> None:
        """Raise RequestRefused if all addresses of the host are forbidden."""
        addresses = await self._addresses_of(url)
        if addresses:
            try:
                self._allowed.choose(url.host, url.port, addresses, own=own_address.own(addresses))
            except ForbiddenAddress as error:
                raise RequestRefused(422, str(error), name="forbidden-address") from None

    async def _addresses_of(self, url: HttpUrl) -> Sequence[str]:
        """The addresses of the host; empty if they cannot be resolved in time."""
        if url.is_address:
            return [url.host]
        if url.host.removesuffix(".").rpartition(".")[2] == "localhost":  # RFC 6761, 6.3: always a loopback address
            return [LOCALHOST]
        try:
            async with asyncio.timeout(self._timeout):
                return await self._resolve(url.host, url.port)
        except (OSError, TimeoutError):
            return []


async def look_up(host: str, port: int) -> list[str]:
    """The addresses of `host`; empty if too many lookups are running, or no thread can be started.

    Each lookup has a daemon thread of its own: if it hangs, it blocks neither the event loop's thread pool nor the exit
    of the process.

    Raises:
        OSError: the name is unknown.
    """
    loop = asyncio.get_running_loop()
    found: asyncio.Future[list[Any] | OSError] = loop.create_future()

    def set_result(result: "list[Any] | OSError") -> None:
        if not found.done():
            found.set_result(result)

    def run() -> None:
        result = _resolve_now(host, port)
        _free.release()
        with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
            loop.call_soon_threadsafe(set_result, result)

    if not _free.acquire(blocking=False):
        return []
    try:
        threading.Thread(target=run, name="crew name lookup", daemon=True).start()
    except (RuntimeError, MemoryError) as error:
        _free.release()
        logger.warning("name lookup failed, leaving the check to the worker: no thread: %s host=%s", error, host)
        return []
    result = await found
    if isinstance(result, OSError):
        raise result
    return list(dict.fromkeys(str(address[0]) for *_, address in result))


def _resolve_now(host: str, port: int) -> "list[Any] | OSError":
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        return error
    except UnicodeError:
        return OSError(f"{host!r} is not a valid host name")
