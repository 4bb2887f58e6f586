"""Background processes that tasks leave in a container: the supervisor, as process 1, reaps them."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from crew import Client
from tests.support.processes import Process, Processes

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux has process namespaces and subreapers"),
    pytest.mark.own_interpreters,
]

SCRIPT = """
import ctypes, os, subprocess
from crew.worker import Task, run

if os.environ.get("BE_SUBREAPER"):
    ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER

@Task(os.environ["CREW_TEST_PREFIX"] + "background")
def background(_):
    subprocess.run("sleep 0.1 & setsid sleep 0.1 &", shell=True, check=True)

@Task(os.environ["CREW_TEST_PREFIX"] + "zombies")
def zombies(_):
    found = []
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            state, parent = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if state == "Z" and int(parent) == os.getppid():
            found.append(pid)
    return found

@Task(os.environ["CREW_TEST_PREFIX"] + "supervisor")
def supervisor(_):
    return os.getppid()

run()
"""
NAMESPACE = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
REAPS = """
import ctypes, subprocess, sys, time
from crew.worker.posix import orphans

ctypes.CDLL(None).prctl(36, 1)
assert orphans.are_adopted()
helper = subprocess.Popen(["sh", "-c", "exit 7"])
known = subprocess.Popen(["sh", "-c", "exit 8"], start_new_session=True)
subprocess.run("setsid sleep 0.1 &", shell=True)
until = time.monotonic() + 20
while len(dead := set(orphans._dead_children())) < 2:
    assert time.monotonic() < until, dead
    time.sleep(0.01)
orphans.reap({known.pid})
assert set(orphans._dead_children()) == {known.pid}
assert (helper.wait(), known.wait()) == (7, 8)
"""


@pytest.fixture(params=[True, False], ids=["process 1", "subreaper"])
def is_namespace(request: pytest.FixtureRequest) -> bool:
    """Whether the worker runs in its own process namespace, as in a container."""
    if request.param and subprocess.run([*NAMESPACE, "true"], check=False, capture_output=True).returncode:
        pytest.skip("cannot create a process namespace: that needs root")
    return bool(request.param)


@pytest.mark.gen_test(timeout=60)
async def test_the_supervisor_reaps_processes_that_tasks_leave_behind(
    broker_url: str, prefix: str, processes: Processes, tmp_path: Path, is_namespace: bool
) -> None:
    script = tmp_path / "leaving.py"
    script.write_text(SCRIPT)
    before = NAMESPACE if is_namespace else ()
    environment = {} if is_namespace else {"BE_SUBREAPER": "1"}
    worker = processes.start(*before, sys.executable, script, environment=environment).says("serving")
    async with Client(broker_url) as client:
        assert (await client.call(prefix + "supervisor") == 1) is is_namespace
        for _ in range(5):
            await client.call(prefix + "background")
        zombies: list[str] = ["some"]
        while zombies:
            zombies = await client.call(prefix + "zombies")
    if is_namespace:  # `unshare` itself ignores the signal
        (supervisor,) = _children(worker)
        os.kill(supervisor, signal.SIGTERM)
        assert worker.ends(10) == 0


def test_the_supervisor_does_not_reap_processes_that_a_module_started(processes: Processes) -> None:
    assert processes.start(sys.executable, "-c", REAPS).ends(20) == 0


def _children(process: Process) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
