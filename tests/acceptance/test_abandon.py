"""Abandoned calls are stopped: browsers disconnect from a real gateway with real workers."""

import re
import time
from pathlib import Path

import pytest

from tests.support.paths import PROGRAM_FOLDER, TASK_FOLDER
from tests.support.processes import Process, Processes
from tests.support.waiting import eventually
from tests.support.web import PendingRequest, Web

BROWSERS = 200
AT_ONCE = 100  # of their calls run at the same time: one for each thread of the workers
MAY_GROW = 4096  # KiB that a process may grow from the first round to the third


class Abandoned:
    """A gateway application and its workers."""

    def __init__(self, processes: Processes, *flags: str, count: int = 1) -> None:
        self.worker = processes.python(TASK_FOLDER / "abandon_worker.py", *flags)
        self.gateway = processes.python(PROGRAM_FOLDER / "abandon_app.py")
        self.web = Web.of(self.gateway)
        self.worker.says("serving 1 task", times=count)

    def begin(self, path: str, name: str, seconds: float = 30) -> PendingRequest:
        """Start a request that calls a task."""
        return self.web.begin(f"{path}?name={name}&seconds={seconds:g}")

    def in_flight(self) -> int:
        """The number of pending calls of the gateway."""
        return int(self.web.get("/in-flight").text)

    def started(self) -> set[str]:
        """Names of the executions that have started."""
        return set(re.findall(r"STARTED (\S+)\n", self.worker.output))

    def running(self) -> set[str]:
        """Names of the executions that have not ended."""
        return self.started() - set(re.findall(r"ENDED (\S+)\n", self.worker.output))

    def interrupted(self, name: str) -> float:
        """The time at which the execution of this name was interrupted, because its call was canceled."""
        found = re.search(rf"INTERRUPTED {name} canceled ([\d.]+)\n", self.worker.output)
        assert found, self.worker
        return float(found[1])

    def assert_nothing_was_logged_as_an_error(self) -> None:
        """Assert that a disconnecting browser is not logged as an error."""
        for process in (self.gateway, self.worker):
            lines = process.output.splitlines()
            assert not [line for line in lines if re.search(r"Traceback|\[E |\[W |ERROR|WARNING|never retrieved", line)]


def rss(process: Process, processes: Processes) -> dict[int, int]:
    """Memory in KiB by pid, of the process and its children."""
    pids = [pid for pid in processes.alive() if pid == process.pid or _parent(pid) == process.pid]
    return {pid: int(_status(pid, "VmRSS")) for pid in pids}


def _parent(pid: int) -> int:
    return int(_status(pid, "PPid"))


def _status(pid: int, key: str) -> str:
    found = re.search(rf"{key}:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert found
    return found[1]


@pytest.mark.parametrize("flags", [(), ("--threads=4",)], ids=["main thread", "threads"])
def test_a_task_is_stopped_within_a_second_after_its_browser_disconnects(
    processes: Processes, flags: tuple[str, ...]
) -> None:
    abandoned = Abandoned(processes, *flags)
    begun = time.monotonic()
    browser = abandoned.begin("/sleep", "a")
    abandoned.worker.says("STARTED a")
    eventually(lambda: time.monotonic() - begun >= 0.5)

    left = time.time()
    browser.disconnect()

    abandoned.worker.says("ENDED a", timeout=5)
    assert 0 <= abandoned.interrupted("a") - left < 1
    assert abandoned.in_flight() == 0
    assert abandoned.begin("/sleep", "b", 0).response(timeout=5).text == "slept as b"
    metrics = abandoned.web.get("/metrics").text
    assert "crew_abandoned_requests_total 1.0" in metrics
    assert 'crew_abandoned_calls_total{state="started"} 1.0' in metrics
    abandoned.assert_nothing_was_logged_as_an_error()


def test_a_queued_call_of_a_disconnected_browser_is_never_started(processes: Processes) -> None:
    abandoned = Abandoned(processes)
    first = abandoned.begin("/sleep", "first", 1)
    abandoned.worker.says("STARTED first")
    second = abandoned.begin("/sleep", "second", 30)
    eventually(lambda: abandoned.in_flight() == 2)

    second.disconnect()

    assert first.response(timeout=5).text == "slept as first"
    assert abandoned.begin("/sleep", "third", 0).response(timeout=5).text == "slept as third"
    assert "STARTED second" not in abandoned.worker.output


def test_hundreds_of_disconnecting_browsers_leak_nothing(processes: Processes) -> None:
    abandoned = Abandoned(processes, "--processes=2", f"--threads={AT_ONCE // 2}", count=2)
    memory = []
    for number in range(3):
        connect_and_disconnect(abandoned, number)
        memory.append(rss(abandoned.gateway, processes) | rss(abandoned.worker, processes))

    assert memory[0].keys() == memory[2].keys(), "a process was replaced"
    grown = {pid: memory[2][pid] - memory[0][pid] for pid in memory[0]}
    assert max(grown.values()) < MAY_GROW, memory
    abandoned.assert_nothing_was_logged_as_an_error()


def connect_and_disconnect(abandoned: Abandoned, number: int) -> None:
    """Connect two hundred browsers, wait until all threads are busy, and disconnect them."""
    before = abandoned.started()
    browsers = [abandoned.begin("/sleep", f"{number}-{browser}") for browser in range(BROWSERS)]
    eventually(lambda: len(abandoned.started() - before) == AT_ONCE, timeout=20)
    eventually(lambda: abandoned.in_flight() == BROWSERS, timeout=10)
    for browser in browsers:
        browser.disconnect()
    eventually(lambda: abandoned.in_flight() == 0, timeout=10)
    eventually(lambda: not abandoned.running(), timeout=10)
    after = f"after-{number}"
    assert abandoned.begin("/sleep", after, 0).response(timeout=5).text == f"slept as {after}"
    # A slot that becomes free may start a call whose cancel arrives a moment later.
    eventually(lambda: not abandoned.running(), timeout=1)


def test_a_call_shared_by_several_requests_is_canceled_with_the_last_of_them(processes: Processes) -> None:
    abandoned = Abandoned(processes)

    browsers = [abandoned.begin("/shared", "kept", 1) for _ in range(2)]
    abandoned.gateway.says("WAITS kept", times=2)
    abandoned.worker.says("STARTED kept")
    browsers[0].disconnect()
    assert browsers[1].response(timeout=5).text == "slept as kept"

    browsers = [abandoned.begin("/shared", "left", 30) for _ in range(2)]
    abandoned.gateway.says("WAITS left", times=2)
    abandoned.worker.says("STARTED left")
    browsers[0].disconnect()
    abandoned.gateway.says("499 GET /shared?name=left", timeout=5)
    assert abandoned.in_flight() == 1
    left = time.time()
    browsers[1].disconnect()
    abandoned.worker.says("ENDED left", timeout=5)
    assert 0 <= abandoned.interrupted("left") - left < 1
    assert abandoned.in_flight() == 0
    abandoned.assert_nothing_was_logged_as_an_error()
