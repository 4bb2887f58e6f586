"""URL jobs beyond the request limit of their host: jobs of other hosts run meanwhile, and no job is lost."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import crew
from crew import Client
from crew.jobs import Job, JobStatus, JobStore
from crew.protocol.topology import HTTP_TASK
from tests.support.http_site import http_site, saying
from tests.support.processes import Process, Processes, running
from tests.support.waiting import until

OTHER = "127.0.0.2"  # another host; the silent one is 127.0.0.1
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture
def url(vhost_url: Callable[[], str]) -> str:
    """URL of a virtual host for this test only."""
    return vhost_url()


@pytest.fixture
def processes(tmp_path: Path, url: str) -> Iterator[Processes]:
    """Processes on that virtual host; they are stopped after the test."""
    with running(tmp_path, {"CREW_AMQP_URL": url}, preloaded=True) as processes:
        yield processes


@pytest.fixture
def start(processes: Processes) -> Callable[..., Process]:
    """Starts a worker for URL jobs, with these flags."""

    def start(*flags: str) -> Process:
        allowed = (f"--allow-host={host}" for host in ("127.0.0.1", OTHER))
        return processes.crew("worker", "--http", *allowed, *flags).says("serving")

    return start


def perform(client: Client, url: str, *, expiration: float = 20) -> Any:
    """Call the task for URL jobs."""
    return client.call(HTTP_TASK, {"url": url}, expiration=expiration)


async def ended(handle: Any) -> Job:
    """The record of a job, after its end."""
    job: Job = await handle._service.wait(handle.id, 15)
    assert job.status.is_final, job
    return job


class SilentHost:
    """A server that accepts connections and sends nothing until it wakes.

    Attributes:
        seen: connections so far.
        wakes: set by the test.
    """

    def __init__(self) -> None:
        self.seen = 0
        self.wakes = asyncio.Event()
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Send one response as soon as the host wakes."""
        self.seen += 1
        await self.wakes.wait()
        writer.write(OK)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def silent_host() -> AsyncIterator[SilentHost]:
    """A SilentHost that is stopped at the end of the block."""
    host = SilentHost()
    server = await asyncio.start_server(host.serve, "127.0.0.1", 0)
    host.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    try:
        yield host
    finally:
        host.wakes.set()
        server.close()


@pytest.mark.gen_test(timeout=60)
async def test_a_silent_host_takes_only_its_limit_of_slots_and_other_hosts_are_served(
    start: Callable[..., Process], url: str
) -> None:
    worker = start("--concurrency=8")
    async with silent_host() as silent, saying(OK, host=OTHER) as other, Client(url) as client:
        calls = [perform(client, silent.url, expiration=50) for _ in range(40)]
        await until(lambda: silent.seen == 6)
        responses = await asyncio.gather(*(perform(client, other.url("/", host=OTHER)) for _ in range(20)))
        assert {one["code"] for one in responses} == {200}
        with pytest.raises(crew.ExpirationError):
            await perform(client, silent.url, expiration=0.5)
        assert silent.seen == 6
        silent.wakes.set()
        assert {one["code"] for one in await asyncio.gather(*calls)} == {200}
    assert silent.seen == 40
    assert "URL jobs wait for a running request to end host=127.0.0.1 running=6" in worker.output


@pytest.mark.gen_test(timeout=60)
async def test_jobs_that_wait_for_their_host_can_be_canceled_and_outlive_their_process(
    start: Callable[..., Process], url: str, tmp_path: Path
) -> None:
    worker = start("--concurrency=6", "--max-requests-per-host=1")
    store = JobStore(f"sqlite:///{tmp_path}/jobs.db")
    async with http_site() as site, Client(url, store=store) as client:
        first = await client.submit(HTTP_TASK, {"url": site.url("/second")})
        await until(lambda: site.seen)
        waiting = [await client.submit(HTTP_TASK, {"url": site.url("/echo")}) for _ in range(3)]
        canceled = await client.submit(HTTP_TASK, {"url": site.url("/bytes?hex=00")})
        await asyncio.to_thread(worker.says, "host limit reached: URL jobs wait")
        waiting.append(await client.submit(HTTP_TASK, {"url": site.url("/echo")}))
        assert await canceled.cancel()
        assert {await handle.status() for handle in waiting} == {JobStatus.QUEUED}
        pid = int(((await first.job()).host or "").rpartition(":")[2])
        os.kill(pid, signal.SIGKILL)

        jobs = [await ended(handle) for handle in (first, *waiting)]
        assert [(job.status, job.attempts) for job in jobs] == [(JobStatus.SUCCESS, n) for n in (2, 1, 1, 1, 1)]
        assert (await ended(canceled)).status is JobStatus.CANCELED
    assert [one.path for one in site.seen] == ["/second", "/second", *["/echo"] * 4]
