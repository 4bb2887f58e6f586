"""What each program loads at its start. A module that is loaded without need costs time and memory in every process."""

import subprocess
import sys

import pytest

from tests.support.paths import ROOT

CONNECTION = {"asyncio", "concurrent", "pika", "socket", "ssl", "subprocess"}
COMMAND_LINE = {"argparse", "click", "gettext"}
OTHERS = {"ctypes", "email", "http.client", "importlib.metadata", "sqlalchemy", "tornado", "urllib.request"}
RARE = {"difflib"}

PROGRAMS = {
    "import crew": (CONNECTION | COMMAND_LINE | OTHERS | RARE | {"msgspec"}),
    "import crew.worker": CONNECTION | COMMAND_LINE | OTHERS | RARE,
    "import crew.protocol.message": CONNECTION | COMMAND_LINE | OTHERS | RARE,
    "from crew.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass": CONNECTION
    | OTHERS
    | RARE
    | {"msgspec"},
    "from crew.worker import run": {"asyncio", "pika", "ssl", "sqlalchemy", "tornado"},
    "import crew.worker.process": OTHERS - {"ctypes"} | {"aiohttp", "crew.client.client", "crew.jobs"},
    "import crew.client.client": COMMAND_LINE | {"sqlalchemy", "tornado", "crew.worker", "crew.jobs.store.store"},
    "import crew.gateway, crew.jobs": {"aiohttp", "sqlalchemy", "crew.worker.process"},  # without a job store
}


def run_python(code: str) -> str:
    """The output of `code` in a new interpreter."""
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def loaded_by(code: str) -> set[str]:
    """The modules that a new interpreter has loaded after `code`, beyond those that it loads by itself."""
    before, after = (run_python(f"{one}\nimport sys; print(*sys.modules)") for one in ("pass", code))
    return set(after.split()) - set(before.split())


@pytest.mark.parametrize("code", PROGRAMS)
def test_a_start_loads_nothing_that_it_does_not_need(code: str) -> None:
    assert not loaded_by(code) & PROGRAMS[code]


def test_a_supervisor_loads_the_modules_of_its_processes_before_it_forks() -> None:
    code = """
import sys
from crew.worker import Task, run
from crew.worker.supervisor.supervisor import Supervisor

Supervisor.run = lambda self: print("pika" in sys.modules) or 0
Task("echo")(lambda data: data)
sys.argv = ["worker", "--processes", "1"]
run()
"""
    assert run_python(code).strip() == "True"
