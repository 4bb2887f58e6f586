"""The system for fuzz tests: a gateway with jobs, a worker with two processes, and a client in the test process."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crew.cli.broker.node import Node
from crew.client.blocking import Client
from crew.protocol import topology
from tests.acceptance.test_jobs_api import Program
from tests.support import raw
from tests.support.broker import vhost_of
from tests.support.fuzz.recording import Recorded, few_of_each_kind, recording
from tests.support.paths import TASK_FOLDER
from tests.support.processes import Process, Processes, running
from tests.support.waiting import eventually
from tests.support.web import Web

PROBE = Path(__file__).with_name("probe")
RSS = 400 * 2**20  # maximum bytes of memory of a process, which starts with about 60 MiB
LOG = 700  # maximum bytes that a process may log per input, on average
SERVED_WITHIN = 10.0  # seconds, on a busy machine
DRAINED_WITHIN = 60.0
FORGED = ("\n2026-01-01", "\x1b", "\u202e", "\x9b")  # parts of sent texts that would falsify a log
MINE = "mine"  # prefix of the payloads that the fleet itself sends
TASKS = ("echo", "fail", "flaky", "steps", "few")


@dataclass(frozen=True)
class Fleet:
    """All processes and the client.

    Attributes:
        late: file to which the event loops of all processes write late timers.
        executed: file with a line for each execution.
        events: payloads of the events that the client has received.
    """

    node: Node
    url: str
    processes: Processes
    gateway: Process
    worker: Process
    client: Client
    program: Program
    late: Path
    executed: Path
    events: list[Any]

    def queues(self) -> dict[str, tuple[int, int]]:
        """Number of messages and consumers of every queue."""
        vhost = vhost_of(self.url)
        lines = self.node.ctl("list_queues", "-p", vhost, "--quiet", "name", "messages", "consumers").splitlines()[1:]
        return {name: (int(depth), int(consumers)) for name, depth, consumers in (line.split("\t") for line in lines)}

    def record(self) -> list[Recorded]:
        """Use every function once; returns the published messages."""
        raw.declare(self.url, topology.task_queue("idle"))
        with recording(self.node, self.url) as found:
            for task in TASKS:
                for payload in ({"recorded": 1}, "x" * 40_000):
                    assert self.call(task, payload) in (200, 500)
                self.program.get(self.submit(task, {"recorded": 2}) + "response/")
            call = self.client.call("echo", {"recorded": b"\x00"}, serializer="msgpack", expiration=2)
            assert call.result() == {"recorded": b"\x00"}
            self.client.call("idle", {"recorded": 3}, expiration=1).cancel()
            job = self.submit("idle", {"recorded": 4}, wait_for_worker=True)
            self.program.request("DELETE", job)
            self.client.publish("fuzz.event", {"recorded": 5})
            self.serves()
        eventually(lambda: {"recorded": 5} in self.events)
        self.late.write_text("")  # the imports of starting processes delay timers
        return few_of_each_kind(found)

    def call(self, task: str, payload: object) -> int:
        """Call a task over HTTP; returns the status of the response."""
        return self.program.request("POST", f"/call/{task}?expiration=5", payload).status

    def submit(self, task: str, payload: object, **members: object) -> str:
        """Submit a job; returns its path."""
        return self.program.submit({"task": task, "data": payload, **members})

    def serves(self) -> None:
        """Assert that a call over HTTP, a call of the client, and a job are served."""
        token = f"{MINE} {time.monotonic_ns()}"
        response = self.program.request("POST", f"/call/echo?expiration={SERVED_WITHIN}", token)
        assert (response.status, response.body) == (200, json.dumps(token).encode()), response
        assert self.client.call("echo", token, expiration=SERVED_WITHIN).result() == token
        response = self.program.get(self.submit("echo", token) + "response/")
        assert (response.status, response.body) == (200, json.dumps(token).encode()), response

    def executions(self) -> list[str]:
        """A line for each execution, except those of `serves`."""
        return [line for line in self.executed.read_text().splitlines() if MINE not in line]

    def check(self, inputs: int) -> None:
        """Assert that no timer was late, and that memory and logs are within their limits and not forged."""
        late = self.late.read_text()
        assert not late, late
        for pid, command in self.processes.alive().items():
            assert (size := rss(pid)) < RSS, f"{command} has {size >> 20} MiB"
        for process in (self.gateway, self.worker):
            log = process.own_output
            assert "Traceback" not in log, log[log.index("Traceback") - 2_000 :][:6_000]
            for forged in FORGED:
                assert forged not in log, log[log.index(forged) - 500 :][:1_000]
            assert len(log) < 50_000 + LOG * inputs, log[-3_000:]

    def drains(self) -> None:
        """Assert that every queue with a consumer becomes empty."""

        def left() -> dict[str, int]:
            return {name: depth for name, (depth, consumers) in self.queues().items() if depth and consumers}

        with suppress(AssertionError):
            eventually(lambda: not left(), timeout=DRAINED_WITHIN)
        assert not (remaining := left()), remaining


@contextmanager
def fleet(node: Node, url: str, folder: Path, **environment: str) -> Iterator[Fleet]:
    """Start the fleet; all processes get this `environment`."""
    late, executed = folder / "late", folder / "executed"
    late.touch()
    executed.touch()
    watched = {"CREW_FUZZ_LATE": str(late), "CREW_FUZZ_EXECUTED": str(executed), "PYTHONPATH": f"{PROBE}"}
    with running(folder, {"CREW_AMQP_URL": url, **watched, **environment}) as processes:
        worker = processes.python(TASK_FOLDER / "fuzz_worker.py", "--processes", "2", folder=folder)
        gateway = processes.crew("gateway", "--port", "0", folder=folder)
        worker.says("serving", times=2)
        program = Program(Web.of(gateway).port)
        with Client(url) as client:
            events: list[Any] = []
            client.subscribe("fuzz.#", lambda event: events.append(event.payload))
            yield Fleet(node, url, processes, gateway, worker, client, program, late, executed, events)


def rss(pid: int) -> int:
    """Resident memory in bytes; 0 if the process has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS")), 0)
