"""Exit of worker processes and supervisor: output is flushed, `atexit` runs, and the time is bounded."""

import os
import re
import signal
import time
from pathlib import Path

import pytest

from crew import Client
from tests.support.processes import Process, Processes
from tests.support.waiting import eventually, until

SCRIPT = """
import atexit, os, sys, threading, time
from crew.worker import Task, run

PREFIX = os.environ["CREW_TEST_PREFIX"]

@Task(PREFIX + "print")
def prints(seconds):
    print("a line of", os.getpid())
    time.sleep(seconds)
    print("no newline of", os.getpid(), end="")
    atexit.register(print, " atexit of", os.getpid())
    return os.getpid()

@Task(PREFIX + "stubborn")
def stubborn(_):
    print("begun of", os.getpid(), end="")
    atexit.register(print, " atexit of", os.getpid())
    while True:
        try:
            time.sleep(60)
        except SystemExit:
            pass

@Task(PREFIX + "hang at exit")
def hang_at_exit(_):
    print("printed before", end="")
    atexit.register(threading.Event().wait)
"""
RUN = "\nrun()\n"
LEAVES_A_THREAD = "\nthreading.Thread(target=threading.Event().wait, name='never ends').start()\n"
BUFFERED = {"PYTHONUNBUFFERED": ""}  # as in most processes: the setting of the tests would hide lost output


def start(processes: Processes, folder: Path, *flags: str, script: str = SCRIPT) -> Process:
    """Write `script` to a file, and start a worker that serves it."""
    path = folder / "ending.py"
    path.write_text(script + RUN)
    return processes.python(path, *flags, environment=BUFFERED).says("serving")


@pytest.mark.gen_test(timeout=60)
async def test_output_of_a_task_appears_at_once_in_a_file(
    broker_url: str, prefix: str, processes: Processes, tmp_path: Path
) -> None:
    worker = start(processes, tmp_path)
    async with Client(broker_url) as client:
        call = client.call(prefix + "print", 20)
        await until(lambda: "a line of" in worker.output, timeout=15)
        call.cancel()


@pytest.mark.gen_test(timeout=60)
@pytest.mark.parametrize("flags", [(), ("--threads", "2")], ids=["main", "threads"])
async def test_a_drained_process_flushes_output_and_runs_atexit(
    broker_url: str, prefix: str, processes: Processes, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    worker = start(processes, tmp_path, *flags)
    async with Client(broker_url) as client:
        pid = await client.call(prefix + "print", 0)
    assert worker.stop() == 0
    assert f"no newline of {pid} atexit of {pid}\n" in worker.output


@pytest.mark.gen_test(timeout=60)
async def test_a_replaced_process_flushes_output_and_runs_atexit(
    broker_url: str, prefix: str, processes: Processes, tmp_path: Path
) -> None:
    """Also if its main thread hangs in a task."""
    worker = start(processes, tmp_path, "--grace", "0.3")
    async with Client(broker_url) as client:
        call = client.call(prefix + "stubborn", timeout=0.3, persistent=False)
        await until(lambda: re.search(r"begun of (\d+) atexit of \1\n", worker.output))
        call.cancel()


@pytest.mark.gen_test(timeout=60)
async def test_an_atexit_function_that_hangs_does_not_keep_the_process_alive(
    broker_url: str, prefix: str, processes: Processes, tmp_path: Path
) -> None:
    worker = start(processes, tmp_path)
    async with Client(broker_url) as client:
        await client.call(prefix + "hang at exit")
    assert worker.stop() == 0
    assert "printed before" in worker.output
    assert "exit timeout after 5 s: functions registered with atexit still run" in worker.output


def test_a_thread_that_a_module_started_does_not_keep_a_drained_worker_alive(
    processes: Processes, tmp_path: Path
) -> None:
    worker = start(processes, tmp_path, script=SCRIPT + LEAVES_A_THREAD)
    assert worker.stop() == 0
    assert "exit timeout after 5 s: threads still run: never ends" in worker.output


def test_a_second_sigterm_ends_a_drained_worker_at_once(processes: Processes, tmp_path: Path) -> None:
    worker = start(processes, tmp_path, script=SCRIPT + LEAVES_A_THREAD)
    (child,) = Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()
    os.kill(worker.pid, signal.SIGTERM)
    eventually(lambda: not Path(f"/proc/{child}").exists())
    began = time.monotonic()
    while worker.is_running:  # the first signal may arrive before the supervisor has finished draining
        os.kill(worker.pid, signal.SIGTERM)
        time.sleep(0.1)
        assert time.monotonic() - began < 4.0
    assert worker.ends(1) == 0
