"""Where URL jobs would go, as far as this gateway can see: what leads to forbidden addresses only is refused at once.

The worker decides: it has name servers of its own, and connects to the address that it has checked. This is for who
submits, who hears at once what would fail; so a name that nobody knows here is let pass. It belongs to the HTTP API,
whose clients may be anybody; a program that submits by `Client.submit` has the network that it has, and hears of the
worker's refusal.
"""

import asyncio
import contextlib
import logging
import socket
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from crew import own_address, settings
from crew.client import off_loop
from crew.gateway.problems import RequestRefused
from crew.protocol.http_job.address import ForbiddenAddress
from crew.protocol.http_job.allowed_hosts import AllowedHosts
from crew.protocol.http_job.request import request_of
from crew.protocol.http_job.url import HttpUrl
from crew.protocol.topology import HTTP_TASK

if TYPE_CHECKING:
    from crew.jobs import Job

logger = logging.getLogger(__name__)

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]

LOOKUP_TIMEOUT: Final = 1.0  # seconds for a name server: the worker asks again
MAX_LOOKUPS: Final = 64  # at a time: a name server that is silent holds a thread for up to half a minute
LOCALHOST: Final = "127.0.0.1"

_free = threading.Semaphore(MAX_LOOKUPS)


class UrlGuard:
    """Refuses URLs that lead to where URL jobs may not go.

    Args:
        allowed: which hosts may be reached; None: the public ones, by CREW_ALLOW_HOSTS and CREW_DENY_HOSTS.
        resolve: finds the addresses of a host; raises OSError where nobody knows it.
    """

    def __init__(self, allowed: AllowedHosts | None = None, *, resolve: Resolve | None = None) -> None:
        self._allowed = AllowedHosts.of(settings.allow_hosts(), settings.deny_hosts()) if allowed is None else allowed
        self._resolve = look_up if resolve is None else resolve

    async def check_job(self, job: "Job") -> None:
        """Raise RequestRefused where `job` is a URL job that may not go where it leads."""
        if job.is_http and job.body is not None:
            await self.check(request_of(await off_loop.decoded(job.body)).target)

    async def check_call(self, task: str, payload: object) -> None:
        """Raise RequestRefused where `task` performs URL jobs, and `payload` is none, or may not go where it leads."""
        if task == HTTP_TASK:
            try:
                request = request_of(payload)
            except ValueError as error:
                raise RequestRefused(422, str(error), name="bad-data") from None
            await self.check(request.target)

    async def check(self, url: HttpUrl) -> None:
        """Raise RequestRefused where no address of its host may be reached."""
        addresses = await self._addresses_of(url)
        if addresses:
            try:
                self._allowed.choose(url.host, url.port, addresses, own=own_address.own(addresses))
            except ForbiddenAddress as error:
                raise RequestRefused(422, str(error), name="forbidden-address") from None

    async def _addresses_of(self, url: HttpUrl) -> Sequence[str]:
        """None of them where they cannot be known soon."""
        if url.is_address:
            return [url.host]
        if url.host.removesuffix(".").rpartition(".")[2] == "localhost":  # RFC 6761, 6.3: this host, to everybody
            return [LOCALHOST]
        try:
            async with asyncio.timeout(LOOKUP_TIMEOUT):
                return await self._resolve(url.host, url.port)
        except (OSError, TimeoutError):
            return []


async def look_up(host: str, port: int) -> list[str]:
    """The addresses of `host`; none where too many others are looked up, or no thread can be started.

    In a thread of its own, which keeps neither the loop's other threads busy nor, where it hangs, the process from
    its end.

    Raises:
        OSError: nobody knows it.
    """
    loop = asyncio.get_running_loop()
    found: asyncio.Future[list[Any] | OSError] = loop.create_future()

    def tell(result: "list[Any] | OSError") -> None:
        if not found.done():
            found.set_result(result)

    def run() -> None:
        result = _resolve_now(host, port)
        _free.release()
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(tell, result)

    if not _free.acquire(blocking=False):
        return []
    try:
        threading.Thread(target=run, name="crew name lookup", daemon=True).start()
    except (RuntimeError, MemoryError) as error:
        _free.release()
        logger.warning("%s is not looked up here: no thread for it (%s)", host, error)
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
        return OSError(f"{host!r} is no name of a host")
