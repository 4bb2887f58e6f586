"""SIGHUP reloads the code without a failed call."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from crew import Client
from tests.support.processes import Processes
from tests.support.waiting import until

pytestmark = pytest.mark.own_interpreters

SCRIPT = """
import os
from crew.worker import Task, run

@Task(os.environ["CREW_TEST_PREFIX"] + "version")
def version(data):
    return {version!r}

run()
"""


@pytest.mark.gen_test(timeout=60)
async def test_a_reload_under_load_loses_no_call_and_broken_code_is_refused(
    broker_url: str, prefix: str, processes: Processes, tmp_path: Path
) -> None:
    script = tmp_path / "reloaded.py"
    script.write_text(SCRIPT.replace("{version!r}", "1"))
    worker = processes.python(script, "--processes", "2").says("serving", times=2)
    values: list[int] = []

    async def keep_calling() -> None:
        while True:
            values.append(await client.call(prefix + "version", expiration=10))

    async with Client(broker_url) as client:
        calling = asyncio.ensure_future(keep_calling())
        await until(lambda: values)

        script.write_text("this is no Python")
        os.kill(worker.pid, signal.SIGHUP)
        await until(lambda: "the old code keeps running" in worker.output, timeout=20)
        assert worker.output.count("serving") == 2

        script.write_text(SCRIPT.replace("{version!r}", "2"))
        os.kill(worker.pid, signal.SIGHUP)
        await until(lambda: worker.output.count("serving") == 4, timeout=20)
        await until(lambda: worker.output.count("draining") == 2, timeout=20)
        before = len(values)
        await until(lambda: len(values) > before + 10, timeout=20)

        assert not calling.done(), calling
        calling.cancel()
    assert set(values[:3]) == {1}
    assert set(values[-3:]) == {2}
    assert worker.stop() == 0


@pytest.mark.gen_test(timeout=60)
async def test_a_worker_that_is_stopped_while_it_loads_new_code_drains(
    broker_url: str, prefix: str, processes: Processes, tmp_path: Path
) -> None:
    """The signal waits until the new supervisor can handle it."""
    script = tmp_path / "stopped.py"
    script.write_text(SCRIPT.replace("{version!r}", "1"))
    worker = processes.python(script).says("serving")
    script.write_text("import time\nprint('loading', flush=True)\ntime.sleep(1)\n" + SCRIPT.replace("{version!r}", "2"))
    os.kill(worker.pid, signal.SIGHUP)
    await until(lambda: worker.output.count("loading") == 2, timeout=20)  # once to try it, once to serve it
    assert worker.stop() == 0
    assert "worker stopping: finishing the running tasks" in worker.output
