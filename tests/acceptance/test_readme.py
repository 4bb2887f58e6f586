"""The examples of README.md run as written."""

import http.client
import json
import re
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.processes import Process, Processes
from tests.support.waiting import eventually
from tests.support.web import Web

pytestmark = pytest.mark.own_interpreters

README = Path(__file__).parents[2] / "README.md"
PORT = 8888  # in the README; the test uses a free port instead
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def folder(tmp_path: Path, port: int) -> Path:
    """A folder with the README's code: each file has the name in its first line."""
    for block in BLOCKS:
        named = re.match(r"# (\w+\.py)\n", block)
        (tmp_path / (named[1] if named else "script.py")).write_text(block.replace(str(PORT), str(port)))
    return tmp_path


def python_worker(processes: Processes, folder: Path) -> Process:
    return processes.python("worker.py", folder=folder)


def crew_worker(processes: Processes, folder: Path) -> Process:
    return processes.crew("worker", "worker.py", folder=folder)


@pytest.mark.parametrize("start_worker", [python_worker, crew_worker])
def test_the_first_example_runs_as_written(
    processes: Processes, folder: Path, port: int, start_worker: Callable[[Processes, Path], Process]
) -> None:
    start_worker(processes, folder).says("serving 1 task")
    processes.python("master.py", folder=folder)
    eventually(lambda: is_listening(port), timeout=10)

    response = Web(port).get("/")
    script = processes.python("script.py", folder=folder)

    assert (response.status, response.json) == (200, {"width": 320, "served": 1})
    assert script.ends(timeout=10) == 0, script
    assert script.output.strip() == "{'width': 320, 'served': 2}"


def test_the_commands_below_the_first_example_make_its_first_call(
    processes: Processes, folder: Path, port: int
) -> None:
    """In a folder with only these two files, and with the broker that the commands start."""
    consoles = re.findall(r"```console\n(.*?)```", README.read_text(), re.DOTALL)
    start, call = (next(one for one in consoles if command in one) for command in ("crew dev", "$ curl http"))
    (command,) = re.findall(r"\$ crew (.*?) +#", start)
    own = folder / "fresh"
    own.mkdir()
    for name in ("worker.py", "master.py"):
        (folder / name).rename(own / name)

    everything = processes.start(
        sys.executable, "-m", "crew", *command.split(), folder=own, environment={"CREW_AMQP_URL": ""}
    )
    everything.says("serving 1 task", timeout=60)
    eventually(lambda: is_listening(port), timeout=20)

    assert Web(port).get("/").text == call.splitlines()[1]
    assert everything.stop(signal.SIGINT) == 0


def test_the_calls_over_http_run_as_written(processes: Processes, folder: Path, port: int) -> None:
    python_worker(processes, folder).says("serving 1 task")
    processes.python("call_api.py", folder=folder)
    eventually(lambda: is_listening(port), timeout=10)
    path, body = re.findall(r"-d '(.*?)' 'http://127.0.0.1:8888(.*?)'", README.read_text())[0][::-1]

    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("POST", path, body, {"Content-Type": "application/json"})
    with connection.getresponse() as response:
        assert response.read().decode() == '{"width":320,"served":1}'
    connection.close()


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_task_calls_another_task_as_written(processes: Processes, folder: Path) -> None:
    processes.python("nested.py", folder=folder).says("serving 2 tasks")
    call = processes.crew("call", "resize", '{"width": 640}', folder=folder)
    assert call.ends(timeout=10) == 0, call
    response = json.loads(call.output)
    assert response["width"] == 320
    assert 0 < response["stat"]["seconds left"] < 60


def test_a_process_opens_its_own_database_as_written(processes: Processes, folder: Path) -> None:
    worker = processes.python("database.py", "--processes", "2", folder=folder).says("serving 1 task", times=2)
    call = processes.crew("call", "count", folder=folder)
    assert call.ends(timeout=10) == 0, call
    assert call.output == "0\n"
    assert worker.stop() == 0
    assert "hook failed" not in worker.output
