"""Process hooks, and replacement of processes by --max-tasks and --max-memory."""

import asyncio
import collections
import os
import signal
from pathlib import Path

import pytest

from crew import Client
from tests.integration.conftest import StartWorker
from tests.support.paths import TASK_FOLDER
from tests.support.processes import Process, Processes
from tests.support.waiting import until

SCRIPT = "hooked.py"
HOOKED = TASK_FOLDER / SCRIPT


def pids(worker: Process, word: str) -> list[int]:
    """Pids of the processes that have printed `word`."""
    return [int(line.split()[1]) for line in worker.output.splitlines() if line.startswith(f"{word} ")]


@pytest.mark.gen_test(timeout=90)
async def test_each_process_has_its_own_connection_also_after_a_crash_and_a_reload(
    broker_url: str, prefix: str, processes: Processes, tmp_path: Path
) -> None:
    environment = {"HOOKED_DATABASE": str(tmp_path / "database")}
    worker = processes.python(HOOKED, "--processes", "4", environment=environment).says("serving", times=4)
    async with Client(broker_url) as client:
        values = await asyncio.gather(*(client.call(prefix + "value", number) for number in range(60)))
        assert [number for number, _, _ in values] == list(range(60))
        assert (await client.call(prefix + "loop", 0))[0] is True
        first = pids(worker, "CONNECTED")
        assert len(set(first)) == 4
        assert worker.output.count(" True hello") == 4  # in the main thread, with the settings

        os.kill(first[0], signal.SIGKILL)
        await until(lambda: len(pids(worker, "CONNECTED")) == 5)
        assert pids(worker, "CLOSED") == []
        os.kill(worker.pid, signal.SIGHUP)
        await until(lambda: len(pids(worker, "CLOSED")) == 4, timeout=40)
        assert len(pids(worker, "CONNECTED")) == 9
        assert (await client.call(prefix + "value", 61))[0] == 61
    assert worker.stop() == 0
    assert sorted(pids(worker, "CLOSED")) == sorted(pids(worker, "CONNECTED")[1:])
    assert worker.output.count("SAME LOOP True") == 8
    assert "Traceback" not in worker.output


def test_a_process_whose_start_hook_fails_is_restarted_until_it_succeeds(processes: Processes, tmp_path: Path) -> None:
    fails_while = tmp_path / "fails"
    fails_while.touch()
    worker = processes.python(HOOKED, environment={"HOOKED_FAILS_WHILE": str(fails_while)})
    worker.says("process start hook failed", times=7)  # more than MAX_FAILED_STARTS
    assert "serving" not in worker.output
    fails_while.unlink()
    worker.says("serving")
    assert worker.stop() == 0
    line, traceback, where = worker.output.splitlines()[:3]
    assert "ERROR" in line
    assert f"hook=connect ({HOOKED}:" in line
    assert traceback == "  | Traceback (most recent call last):"
    assert f'File "{HOOKED}", line' in where
    assert worker.output.count("ConnectionRefusedError: no database") == worker.output.count("start hook failed")
    assert "/crew/worker/" not in worker.output
    assert len(pids(worker, "CLOSED")) == 1


@pytest.mark.parametrize("kind", ["start", "stop"])
def test_a_hook_that_hangs_is_interrupted_and_logged(processes: Processes, kind: str) -> None:
    worker = processes.python(HOOKED, environment={"HOOKED_HANGS": kind})
    if kind == "start":
        worker.says("process start hook failed", times=2)
        assert "serving" not in worker.output
    else:
        worker.says("serving")
    assert worker.stop() == 0
    assert f"process {kind} hook failed: hook=hang" in worker.output
    assert "Interrupt: interrupted: timeout" in worker.output
    assert len(pids(worker, "CLOSED")) == (kind == "stop")


@pytest.mark.gen_test(timeout=90)
async def test_processes_are_replaced_after_max_tasks_and_each_call_runs_once(
    broker_url: str, prefix: str, start_worker: StartWorker
) -> None:
    worker = start_worker("--processes", "2", "--max-tasks", "10", script=SCRIPT, count=2)
    async with Client(broker_url) as client:
        calls = [client.call(prefix + "ran", number) for number in range(200)]
        served = collections.Counter(await asyncio.gather(*calls))
        assert max(served.values()) <= 10
        assert len(served) >= 20
        ran = collections.Counter(line for line in worker.output.splitlines() if line.startswith("RAN "))
        assert ran == {f"RAN {call.id}": 1 for call in calls}
        assert "replacing worker process: it has run 10 tasks" in worker.output
        assert await client.call(prefix + "ran")
    assert worker.stop() == 0
    assert sorted(pids(worker, "CLOSED")) == sorted(pids(worker, "CONNECTED"))
    assert "ERROR" not in worker.output


@pytest.mark.gen_test(timeout=60)
async def test_a_replacement_serves_at_once_while_the_replaced_process_finishes_its_tasks(
    broker_url: str, prefix: str, start_worker: StartWorker
) -> None:
    """The replaced process may take longer than `--drain`."""
    worker = start_worker("--max-tasks", "3", "--drain", "0.2", script=SCRIPT)
    async with Client(broker_url) as client:
        long = [client.call(prefix + "loop", 5, persistent=False) for _ in range(3)]
        await until(lambda: "replacing worker process" in worker.output)
        _, other = await client.call(prefix + "loop", 0)
        assert not any(call.done() for call in long)
        ((same, pid), *others) = await asyncio.gather(*long)
        assert others == [[same, pid]] * 2
        assert pid != other
        await until(lambda: pids(worker, "CLOSED") == [pid])
    assert worker.stop() == 0


@pytest.mark.gen_test(timeout=60)
async def test_a_process_above_max_memory_is_replaced_and_no_call_is_lost(
    broker_url: str, prefix: str, start_worker: StartWorker
) -> None:
    worker = start_worker("--max-memory", "200MB", script=SCRIPT)
    async with Client(broker_url) as client:
        served = collections.Counter([await client.call(prefix + "leak", 60_000_000) for _ in range(9)])
        assert len(served) >= 3
        assert max(served.values()) <= 3
    assert worker.stop() == 0
    assert "MB of memory, more than 200 MB" in worker.output
    assert "ERROR" not in worker.output


@pytest.mark.parametrize(
    ("flags", "status", "sentence"),
    [
        (["--max-memory", "200"], 2, "'--max-memory': it must be a number with a unit (kB, MB,"),
        (["--max-memory", "1MB"], 78, "--max-memory is too small: it allows 1 MB, and the worker uses"),
        (["--max-tasks", "0"], 2, "--max-tasks"),
    ],
)
def test_an_invalid_limit_is_one_line(processes: Processes, flags: list[str], status: int, sentence: str) -> None:
    worker = processes.python(HOOKED, *flags)
    assert worker.ends(timeout=15) == status
    assert sentence in worker.output
    assert "Traceback" not in worker.output
