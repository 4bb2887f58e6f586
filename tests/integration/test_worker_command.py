"""`crew worker FILE_OR_MODULE` works like `python FILE`, also for a script without run()."""

import sys
from pathlib import Path

import pytest

from crew.client.blocking import Client
from tests.support.processes import Processes

TASK = """
import os
from crew.worker import Task, context, run

@Task(os.environ["CREW_TEST_PREFIX"] + "{name}")
def task(data):
    return [data, vars(context.settings).get("greeting"), context.settings.options.threads]
"""
MAIN = """
if __name__ == "__main__":
    run(greeting="hello")
"""


def result_of(broker_url: str, task: str) -> object:
    """Call `task` with "x"; returns its result."""
    with Client(broker_url) as client:
        return client.call(task, "x", expiration=5).result()


def test_a_script_that_calls_run_has_its_settings(
    processes: Processes, tmp_path: Path, broker_url: str, prefix: str
) -> None:
    (tmp_path / "worker.py").write_text(TASK.format(name="settings") + MAIN)
    processes.crew("worker", "worker.py", "--processes", "2", "--threads=3").says("serving 1 task", times=2)

    assert result_of(broker_url, prefix + "settings") == ["x", "hello", 3]


def test_a_script_without_run_is_served(processes: Processes, tmp_path: Path, broker_url: str, prefix: str) -> None:
    (tmp_path / "worker.py").write_text(TASK.format(name="plain"))
    processes.crew("worker", "--threads=3", "worker.py").says("serving 1 task")

    assert result_of(broker_url, prefix + "plain") == ["x", None, 3]


def test_a_module_is_served_by_its_dotted_name(
    processes: Processes, tmp_path: Path, broker_url: str, prefix: str
) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").touch()
    (tmp_path / "package" / "tasks.py").write_text(TASK.format(name="module") + MAIN)
    processes.crew("worker", "package.tasks").says("serving 1 task")

    assert result_of(broker_url, prefix + "module") == ["x", "hello", 1]


OTHER = """
from worker import VALUE
import worker

def value():
    return worker.VALUE, VALUE
"""


@pytest.mark.parametrize("command", ["crew worker worker.py", "crew worker ./sub/../worker.py", "python worker.py"])
def test_a_script_may_be_imported_by_its_own_imports(
    processes: Processes, tmp_path: Path, broker_url: str, prefix: str, command: str
) -> None:
    """Even in an import circle: it is loaded a second time under its own name, as Python does."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "worker.py").write_text("import other\nVALUE = 1\n" + TASK.format(name="twice") + MAIN)
    (tmp_path / "other.py").write_text(OTHER)
    program, *arguments = command.split()
    start = processes.crew if program == "crew" else processes.python
    start(*arguments).says("serving 1 task")

    assert result_of(broker_url, prefix + "twice") == ["x", "hello", 1]


def test_a_script_of_a_package_may_import_from_its_package_and_be_imported(
    processes: Processes, tmp_path: Path, broker_url: str, prefix: str
) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "__init__.py").touch()
    (tmp_path / "app" / "worker.py").write_text(
        "from . import other\nimport beside\nVALUE = 1\n" + TASK.format(name="package") + MAIN
    )
    (tmp_path / "app" / "other.py").write_text("import app.worker\nfrom app.worker import VALUE\n")
    (tmp_path / "app" / "beside.py").touch()
    crew = Path(sys.executable).with_name("crew")
    processes.start(crew, "worker", "app/worker.py").says("serving 1 task")

    assert result_of(broker_url, prefix + "package") == ["x", "hello", 1]


def test_a_script_is_the_main_module_while_its_tasks_run(
    processes: Processes, tmp_path: Path, broker_url: str, prefix: str
) -> None:
    """`concurrent.futures` needs this to find its functions in another process."""
    (tmp_path / "worker.py").write_text(
        "import os, pickle\nfrom crew.worker import Task\n\ndef double(number):\n    return 2 * number\n\n"
        '@Task(os.environ["CREW_TEST_PREFIX"] + "pickled")\n'
        "def pickled(number):\n    return pickle.loads(pickle.dumps(double))(number)\n"
    )
    processes.crew("worker", "worker.py").says("serving 1 task")

    with Client(broker_url) as client:
        assert client.call(prefix + "pickled", 4, expiration=5).result() == 8


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("missing.py", "crew: file missing.py does not exist\n"),
        ("missing", "crew: no file and no module is named missing\n"),
        ("missing.tasks", "crew: no file and no module is named missing.tasks\n"),
    ],
)
def test_a_missing_file_or_module_is_one_line_on_stderr(processes: Processes, name: str, sentence: str) -> None:
    worker = processes.crew("worker", name)

    assert worker.ends(timeout=10) == 2
    assert worker.output == sentence


@pytest.mark.parametrize("flag", ["--nonsense", "--processes=0", "--url=http://127.0.0.1/"])
def test_a_wrong_flag_is_an_error_before_the_script_runs(processes: Processes, tmp_path: Path, flag: str) -> None:
    (tmp_path / "worker.py").write_text("print('it ran')")
    worker = processes.crew("worker", "worker.py", flag)

    assert worker.ends(timeout=10) in (2, 78)
    assert "Traceback" not in worker.output


def test_a_script_that_raises_shows_its_own_lines_only(processes: Processes, tmp_path: Path) -> None:
    (tmp_path / "worker.py").write_text("def load():\n    raise ValueError('no model')\n\nload()\n")
    worker = processes.crew("worker", "worker.py")

    assert worker.ends(timeout=10) == 78
    lines = worker.output.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-2:] == [
        "ValueError: no model",
        "crew: worker.py failed with the error above: fix it, and start the worker again",
    ]
    assert worker.output.count("File ") == 2


def test_a_script_without_tasks_is_one_line_on_stderr(processes: Processes, tmp_path: Path) -> None:
    (tmp_path / "worker.py").write_text("")
    worker = processes.crew("worker", "worker.py")

    assert worker.ends(timeout=10) == 78
    assert len(worker.output.splitlines()) == 1
    assert "task" in worker.output


def test_help_lists_the_flags_of_a_worker(processes: Processes) -> None:
    command = processes.crew("worker", "--help")

    assert command.ends(timeout=10) == 0
    assert "--prefetch" in command.output
