"""Worker scripts that do what scripts do: open many files, close stderr, change the folder, come from stdin."""

import asyncio
import os
import re
import resource
import signal
import sys
from pathlib import Path

import pytest

from crew import Client, UnknownTask
from tests.support.processes import Process, Processes
from tests.support.waiting import until

OPEN_FILES = 1100

HEAD = """
import io, os, sys
{before}
from crew.worker import Task, run

PREFIX = os.environ["CREW_TEST_PREFIX"]

@Task(PREFIX + "folder")
def folder(_):
    return os.getcwd()

@Task(PREFIX + "stderr")
def stderr(how):
    if how == "close":
        sys.stderr.close()
    elif how == "detach":
        sys.stderr.detach()
    elif how == "close the descriptor":
        os.close(2)
    else:
        sys.stderr = None
    return how

run()
"""


def write(path: Path, before: str = "") -> Path:
    path.write_text(HEAD.replace("{before}", before))
    return path


@pytest.mark.gen_test(timeout=60)
async def test_a_worker_serves_though_its_modules_keep_many_files_open(
    broker_url: str, prefix: str, processes: Processes, tmp_path: Path
) -> None:
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 2 * OPEN_FILES:
        pytest.skip("this host limits a process to few open files")
    many = f"""
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (2 * {OPEN_FILES}, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
files = [open(os.devnull) for _ in range({OPEN_FILES})]
"""
    worker = processes.python(write(tmp_path / "many.py", many)).says("serving")
    async with Client(broker_url) as client:
        assert await client.call(prefix + "folder", expiration=10)
    assert worker.stop() == 0


@pytest.mark.gen_test(timeout=60)
@pytest.mark.parametrize("how", ["close", "detach", "close the descriptor", "set to None"])
async def test_log_and_stacks_are_still_written_after_a_task_has_closed_stderr(
    broker_url: str, prefix: str, processes: Processes, tmp_path: Path, how: str
) -> None:
    worker = processes.python(write(tmp_path / "losing.py"), "-v").says("serving")
    (child,) = _children(worker)
    async with Client(broker_url) as client:
        assert await client.call(prefix + "stderr", how, expiration=10) == how
        assert await client.call(prefix + "folder", expiration=10)
        await until(lambda: _sleeps(child))  # CPython may crash while it reads the stack of a thread that runs
        os.kill(child, signal.SIGQUIT)
        await until(lambda: "most recent call first" in worker.output)
        assert await client.call(prefix + "folder", expiration=10)
    assert worker.stop() == 0
    assert f"{child} crew.worker.process: draining" in worker.output


@pytest.mark.gen_test(timeout=60)
async def test_a_module_that_replaces_stderr_can_be_served(
    broker_url: str, prefix: str, processes: Processes, tmp_path: Path
) -> None:
    processes.python(write(tmp_path / "replacing.py", "sys.stderr = io.StringIO()"))
    async with Client(broker_url) as client:
        await client.connect()
        assert await _is_served(client, prefix)


@pytest.mark.own_interpreters
@pytest.mark.gen_test(timeout=60)
@pytest.mark.parametrize(
    "command", [("sub/./moving.py",), ("-m", "sub.moving"), ("-m", "crew", "worker", "sub/moving.py")]
)
async def test_a_worker_can_be_reloaded_though_its_module_changes_the_folder(
    broker_url: str, prefix: str, processes: Processes, tmp_path: Path, command: tuple[str, ...]
) -> None:
    (tmp_path / "sub").mkdir()
    write(tmp_path / "sub" / "moving.py", "os.chdir('/')")
    worker = processes.start(sys.executable, *command, folder=tmp_path).says("serving")
    os.kill(worker.pid, signal.SIGHUP)
    await until(lambda: worker.output.count("serving") == 2 and "draining" in worker.output, timeout=30)
    async with Client(broker_url) as client:
        assert await client.call(prefix + "folder", expiration=10) == "/"
    assert worker.stop() == 0


@pytest.mark.gen_test(timeout=60)
async def test_a_worker_with_code_from_stdin_serves_and_refuses_to_reload(
    broker_url: str, prefix: str, processes: Processes, tmp_path: Path
) -> None:
    write(tmp_path / "piped.py")
    worker = processes.start("sh", "-c", f"exec '{sys.executable}' - < piped.py", folder=tmp_path).says("serving")
    os.kill(worker.pid, signal.SIGHUP)
    await until(lambda: "reload refused: the code came from standard input" in worker.output)
    async with Client(broker_url) as client:
        assert await client.call(prefix + "folder", expiration=10) == str(tmp_path)
    assert len(re.findall("reload|new code", worker.output)) == 1
    assert worker.stop() == 0


@pytest.mark.gen_test(timeout=60)
async def test_a_worker_with_code_from_the_command_line_can_be_reloaded(
    broker_url: str, prefix: str, processes: Processes, tmp_path: Path
) -> None:
    code = write(tmp_path / "code.py").read_text()
    worker = processes.start(sys.executable, "-c", code, folder=tmp_path).says("serving")
    os.kill(worker.pid, signal.SIGHUP)
    await until(lambda: worker.output.count("serving") == 2 and "draining" in worker.output, timeout=30)
    assert worker.stop() == 0


@pytest.mark.gen_test(timeout=60)
async def test_a_worker_can_be_reloaded_though_its_module_leaves_a_thread(processes: Processes, tmp_path: Path) -> None:
    """Python waits for such a thread also in the process that checks the new code."""
    leaves_a_thread = "import threading; threading.Thread(target=threading.Event().wait).start()"
    worker = processes.python(write(tmp_path / "leaving.py", leaves_a_thread)).says("serving")
    os.kill(worker.pid, signal.SIGHUP)
    await until(lambda: worker.output.count("serving") == 2 and "draining" in worker.output, timeout=30)
    os.kill(worker.pid, signal.SIGTERM)
    while worker.is_running:  # this test does not check how long the stop takes
        os.kill(worker.pid, signal.SIGTERM)
        await asyncio.sleep(0.1)


@pytest.mark.gen_test(timeout=60)
async def test_a_reload_is_refused_if_the_new_code_exits_without_serving(
    broker_url: str, prefix: str, processes: Processes, tmp_path: Path
) -> None:
    script = write(tmp_path / "emptied.py")
    worker = processes.python(script).says("serving")
    script.write_text("")
    os.kill(worker.pid, signal.SIGHUP)
    await until(lambda: "the new code exits without serving tasks" in worker.output, timeout=30)
    async with Client(broker_url) as client:
        assert await client.call(prefix + "folder", expiration=10)
    assert worker.stop() == 0


def _sleeps(pid: int) -> bool:
    """Whether no thread of a process runs."""
    stats = [file.read_text() for file in Path(f"/proc/{pid}/task").glob("*/stat")]
    return all(stat.rpartition(")")[2].split()[0] == "S" for stat in stats)


def _children(worker: Process) -> list[int]:
    return [int(child) for child in Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()]


async def _is_served(client: Client, prefix: str) -> bool:
    """Whether a worker serves within about 15 s. Its log cannot show that: its stderr is replaced."""
    for _ in range(150):
        try:
            return bool(await client.call(prefix + "folder", expiration=10))
        except UnknownTask:
            await asyncio.sleep(0.1)
    return False
