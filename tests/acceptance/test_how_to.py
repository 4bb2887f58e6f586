"""The code of the how-to pages runs as written."""

import http.client
import json
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.pages import HOW_TO, PORT, README, commands, write_code
from tests.support.processes import Process, Processes
from tests.support.waiting import eventually
from tests.support.web import Web, free_port, is_listening

TORNADO = HOW_TO / "call-from-tornado.md"
SOON = 10.0  # seconds, on a busy machine


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Of scripts that submit jobs."""
    return {"CREW_DATABASE": f"sqlite:///{tmp_path}/jobs.db"}


# --- Tornado --------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, port: int) -> Path:
    """A folder with the code of the page about Tornado."""
    write_code(TORNADO, tmp_path, port)
    return tmp_path


def python_worker(processes: Processes, folder: Path) -> Process:
    return processes.python("worker.py", folder=folder)


def crew_worker(processes: Processes, folder: Path) -> Process:
    return processes.crew("worker", "worker.py", folder=folder)


@pytest.mark.own_interpreters
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


@pytest.mark.own_interpreters
def test_the_commands_below_the_first_example_make_its_first_call(
    processes: Processes, folder: Path, port: int
) -> None:
    """In a folder with only these two files."""
    shown = commands(TORNADO)
    (command,) = (words for words, _ in shown if words[:2] == ["crew", "dev"])
    (response,) = (output for words, output in shown if words[0] == "curl" and words[1].endswith(f":{PORT}/"))
    own = folder / "fresh"
    own.mkdir()
    for name in ("worker.py", "master.py"):
        (folder / name).rename(own / name)

    everything = processes.start(sys.executable, "-m", "crew", *command[1:], folder=own)
    everything.says("serving 1 task", timeout=60)
    eventually(lambda: is_listening(port), timeout=20)

    assert Web(port).get("/").text == response.rstrip("\n")
    assert everything.stop(signal.SIGINT) == 0


def test_the_calls_over_http_run_as_written(processes: Processes, folder: Path, port: int) -> None:
    python_worker(processes, folder).says("serving 1 task")
    processes.python("call_api.py", folder=folder)
    eventually(lambda: is_listening(port), timeout=10)
    path, body = re.findall(r"-d '(.*?)' 'http://127.0.0.1:8888(.*?)'", TORNADO.read_text())[0][::-1]

    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("POST", path, body, {"Content-Type": "application/json"})
    with connection.getresponse() as response:
        assert response.read().decode() == '{"width":320,"served":1}'
    connection.close()


# --- workers --------------------------------------------------------------------------------------------------------


def test_a_task_calls_another_task_as_written(processes: Processes, tmp_path: Path) -> None:
    write_code(HOW_TO / "write-worker-scripts.md", tmp_path)
    processes.python("nested.py", folder=tmp_path).says("serving 2 tasks")
    call = processes.crew("call", "resize", '{"width": 640}', folder=tmp_path)
    assert call.ends(timeout=10) == 0, call
    response = json.loads(call.output)
    assert response["width"] == 320
    assert 0 < response["stat"]["seconds left"] < 60


def test_a_process_opens_its_own_database_as_written(processes: Processes, tmp_path: Path) -> None:
    write_code(HOW_TO / "per-process-set-up.md", tmp_path)
    worker = processes.python("database.py", "--processes", "2", folder=tmp_path).says("serving 1 task", times=2)
    call = processes.crew("call", "count", folder=tmp_path)
    assert call.ends(timeout=10) == 0, call
    assert call.output == "0\n"
    assert worker.stop() == 0
    assert "hook failed" not in worker.output


# --- scripts and jobs -------------------------------------------------------------------------------------------------


def output_of(processes: Processes, script: str, folder: Path, environment: dict[str, str]) -> str:
    """What a script of a page prints."""
    run = processes.python(script, folder=folder, environment=environment)
    assert run.ends(timeout=SOON) == 0, run
    return run.output


def test_a_script_calls_in_parallel_and_submits_a_job(
    processes: Processes, tmp_path: Path, environment: dict[str, str]
) -> None:
    write_code(README, tmp_path)
    write_code(HOW_TO / "call-from-scripts.md", tmp_path)
    processes.crew("worker", "hello.py", folder=tmp_path).says("serving 2 tasks")
    assert output_of(processes, "script.py", tmp_path, environment).split() == ["3", "3", "InvalidArguments", "7"]


def test_a_job_is_submitted_by_one_client_and_read_by_another(
    processes: Processes, tmp_path: Path, environment: dict[str, str]
) -> None:
    write_code(TORNADO, tmp_path)
    write_code(HOW_TO / "submit-jobs.md", tmp_path)
    processes.python("worker.py", folder=tmp_path).says("serving 1 task")
    assert output_of(processes, "jobs.py", tmp_path, environment) == "{'width': 320, 'served': 1} success\n"


def test_progress_is_followed_to_the_end(processes: Processes, tmp_path: Path, environment: dict[str, str]) -> None:
    write_code(HOW_TO / "progress-and-cancel.md", tmp_path)
    processes.python("worker.py", folder=tmp_path).says("serving 1 task")
    lines = output_of(processes, "follow.py", tmp_path, environment).splitlines()
    assert lines[-2:] == ["success {'row': 5, 'of': 5}", "5 rows"]


def test_a_canceled_task_runs_its_clean_up(processes: Processes, tmp_path: Path) -> None:
    write_code(HOW_TO / "progress-and-cancel.md", tmp_path)
    worker = processes.python("careful.py", folder=tmp_path).says("serving 1 task")
    call = processes.crew("call", "import_rows", "1000", "--expiration", "1", folder=tmp_path)
    assert call.ends(timeout=SOON) == 5, call
    worker.says("rows imported:", timeout=SOON)


@pytest.mark.parametrize(
    ("page", "script", "printed"),
    [("coming-from-celery.md", "shop.py", "3\n7\n"), ("coming-from-rq.md", "enqueue.py", "3 success\n")],
)
def test_the_code_for_those_who_come_from_elsewhere_runs(
    processes: Processes, tmp_path: Path, page: str, script: str, printed: str
) -> None:
    write_code(HOW_TO / page, tmp_path)
    processes.python("tasks.py", folder=tmp_path).says("serving 1 task")
    assert output_of(processes, script, tmp_path, {}) == printed
