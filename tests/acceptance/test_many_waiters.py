"""Thousands of clients of one gateway, each with its own connection and pending request."""

import asyncio
import json
import os
import re
import resource
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.paths import TASK_FOLDER
from tests.support.processes import Process, Processes
from tests.support.waiting import until
from tests.support.web import Web

pytestmark = pytest.mark.own_interpreters

WORKER = TASK_FOLDER / "jobs_worker.py"
MANY = 5_000
USUAL_FILES = 1_024  # the soft limit of open files on most systems, with which the gateway starts
FEW_FILES = 128  # hard limit
SPARE_FILES = 200  # on both sides, beside the connections of the clients
MEMORY = 300  # MiB
WITHIN = 30.0  # seconds, on a busy machine; five suffice


class Caller(asyncio.Protocol):
    """A client with one connection, and one request at a time."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._response: asyncio.Future[Any] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport."""
        self._transport = transport

    def request(self, method: str, path: str, body: Any = None) -> "asyncio.Future[Any]":
        """Send a request; return a future of the status and the decoded body."""
        data = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(data)}"
        head += "\r\nContent-Type: application/json" if data else ""
        assert isinstance(self._transport, asyncio.WriteTransport)
        self._transport.write(f"{head}\r\n\r\n".encode() + data)
        self._response = asyncio.get_running_loop().create_future()
        return self._response

    def data_received(self, data: bytes) -> None:
        """Receive a part of a response."""
        self._received += data
        head, end, body = bytes(self._received).partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        if end and len(body) >= (int(length[1]) if length else 0) and self._response is not None:
            self._received.clear()
            self._response.set_result((int(head.split()[1]), json.loads(body) if body else None))

    def connection_lost(self, error: Exception | None) -> None:
        """Fail the pending request."""
        if self._response is not None and not self._response.done():
            self._response.set_exception(ConnectionResetError(f"the gateway has closed the connection: {error}"))

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()


@contextmanager
def many_files(count: int) -> Iterator[None]:
    """Let this process open `count` files; skip the test if the system does not allow it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        pytest.skip(f"a process may not open {count} files here, but {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@asynccontextmanager
async def callers(port: int, count: int) -> AsyncIterator[list[Caller]]:
    """`count` clients, connected at once."""
    loop = asyncio.get_running_loop()
    made = await asyncio.gather(*(loop.create_connection(Caller, "127.0.0.1", port) for _ in range(count)))
    try:
        yield [caller for _, caller in made]
    finally:
        for _, caller in made:
            caller.close()


def gateway_of(processes: Processes, limit: str = f"-S -n {USUAL_FILES}") -> Process:
    """Start a gateway with a limit of open files; the default is the usual soft limit, which it may raise."""
    return processes.start("sh", "-c", f"ulimit {limit}; exec {sys.executable} -m crew gateway --port 0")


def files_of(process: Process) -> int:
    """The number of its open files."""
    return sum(1 for _ in Path(f"/proc/{process.pid}/fd").iterdir())


def cpu_of(process: Process) -> float:
    """Its CPU time in seconds."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_of(process: Process) -> float:
    """Its peak memory in MiB."""
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
    assert peak
    return int(peak[1]) / 1024


async def all_of(waiting: Sequence["asyncio.Future[Any]"]) -> list[Any]:
    """All responses, within `WITHIN` seconds."""
    async with asyncio.timeout(WITHIN):
        return list(await asyncio.gather(*waiting))


@pytest.mark.chaos
@pytest.mark.alone
@pytest.mark.gen_test(timeout=60)
async def test_five_thousand_clients_waiting_for_one_job_are_all_answered(processes: Processes) -> None:
    gateway = gateway_of(processes)
    port = Web.of(gateway).port
    with many_files(MANY + SPARE_FILES):
        async with callers(port, MANY) as waiting, callers(port, 1) as [owner]:
            job = {"task": "unserved", "wait_for_worker": True}
            path = f"/jobs/{(await owner.request('POST', '/jobs/', job))[1]['id']}/"
            responses = [caller.request("GET", f"{path}response/") for caller in waiting]
            await until(lambda: files_of(gateway) > MANY, timeout=10)
            assert (await owner.request("GET", "/healthz"))[0] == 200

            assert (await owner.request("DELETE", path))[0] == 204
            assert await all_of(responses) == [(200, {})] * MANY
    assert memory_of(gateway) <= MEMORY


@pytest.mark.chaos
@pytest.mark.alone
@pytest.mark.gen_test(timeout=90)
async def test_five_thousand_clients_waiting_for_their_own_jobs_each_get_their_own_value(processes: Processes) -> None:
    processes.python(WORKER).says("serving").stop()  # now the queue of the task exists
    gateway = gateway_of(processes)
    port = Web.of(gateway).port
    with many_files(MANY + SPARE_FILES):
        async with callers(port, MANY) as waiting:
            jobs = [{"task": "echo", "data": number} for number in range(MANY)]
            submitted = await all_of(
                [caller.request("POST", "/jobs/", job) for caller, job in zip(waiting, jobs, strict=True)]
            )
            assert {status for status, _ in submitted} == {303}
            paths = [f"/jobs/{created['id']}/response/" for _, created in submitted]
            responses = [caller.request("GET", path) for caller, path in zip(waiting, paths, strict=True)]

            processes.python(WORKER)
            assert await all_of(responses) == [(200, number) for number in range(MANY)]
    assert memory_of(gateway) <= MEMORY


@pytest.mark.gen_test(timeout=30)
async def test_connections_beyond_the_limit_of_open_files_wait_until_others_are_closed(processes: Processes) -> None:
    gateway = gateway_of(processes, f"-n {FEW_FILES}")
    port = Web.of(gateway).port
    async with callers(port, FEW_FILES) as waiting:
        responses = [caller.request("GET", "/healthz") for caller in waiting]
        await until(lambda: "new connections wait" in gateway.output, timeout=10)
        before = cpu_of(gateway)
        await asyncio.wait(responses, timeout=0.5)
        assert cpu_of(gateway) - before < 0.2, "it retries without a pause"
        assert 0 < sum(response.done() for response in responses) < FEW_FILES

        for caller, response in zip(waiting, responses, strict=True):
            if response.done():
                caller.close()
        assert {status for status, _ in await all_of(responses)} == {200}
    assert gateway.output.count("new connections wait") == 1
    assert "Traceback" not in gateway.output
