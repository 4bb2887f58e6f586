"""Forks of a process that has imported crew behave like programs of a new interpreter."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import Process, Processes
from tests.support.waiting import eventually

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere all programs are started as usual")

SHOWS = """
import json, os, random, signal, sys
print(json.dumps({
    "argv": sys.argv, "path": sys.path, "main": __name__, "file": __file__, "folder": os.getcwd(),
    "given": os.environ.get("GIVEN"), "leads": os.getsid(0) == os.getpid(), "input": sys.stdin.read(),
    "files": sorted(map(int, os.listdir("/proc/self/fd")))[:-1], "orig": sys.orig_argv,
    "signals": [str(signal.getsignal(number)) for number in range(1, 32)],
    "mask": str(signal.pthread_sigmask(signal.SIG_BLOCK, ())), "unbuffered": sys.stdout.write_through,
}))
print(random.random(), file=sys.stderr)
sys.exit(7)
"""
CHILD = """
import os, time
print("started", flush=True)
os.fork() or os.setsid()
time.sleep(60)
"""


@pytest.fixture
def processes(tmp_path: Path) -> Processes:
    return Processes(tmp_path, {"GIVEN": "a value"}, preloaded=True, stops_within=5, gone_within=0.2)


def script(folder: Path, text: str) -> Path:
    (folder / "program.py").write_text(text)
    return folder / "program.py"


def test_a_fork_finds_what_a_new_interpreter_finds(tmp_path: Path, processes: Processes) -> None:
    program = script(tmp_path, SHOWS)
    fork = processes.python(program, "--flag", "ä b")
    other = Processes(tmp_path / "..", {"GIVEN": "a value"}).python(program, "--flag", "ä b", folder=tmp_path)
    assert (fork.ends(timeout=20), other.ends(timeout=20)) == (7, 7)
    (shown, number), (expected, another) = fork.output.splitlines(), other.output.splitlines()
    assert json.loads(shown) == json.loads(expected)
    assert number != another


def test_two_forks_draw_different_random_numbers(tmp_path: Path, processes: Processes) -> None:
    program = script(tmp_path, "import random; print(random.random())")
    first, second = processes.python(program), processes.python(program)
    assert first.ends(timeout=20) == second.ends(timeout=20) == 0
    assert first.output != second.output


def test_the_crew_command_runs_in_a_fork(processes: Processes) -> None:
    command = processes.crew("--help")
    assert command.ends(timeout=20) == 0
    real = subprocess.run([sys.executable, "-m", "crew", "--help"], capture_output=True, text=True, check=True)
    assert command.output == real.stdout


def test_the_end_of_a_fork_is_reported_as_that_of_a_process(tmp_path: Path, processes: Processes) -> None:
    def of(text: str) -> Process:
        return processes.python(script(tmp_path, text))

    failed = of("raise ValueError('no')")
    assert failed.ends(timeout=20) == 1
    assert failed.output.endswith("ValueError: no\n")
    with pytest.raises(AssertionError, match=r"still running after 0\.1 s"):
        (asleep := of("print('asleep'); import time; time.sleep(60)")).says("asleep").ends(timeout=0.1)
    assert asleep.is_running
    assert asleep.stop(signal.SIGKILL) == -signal.SIGKILL
    assert not asleep.is_running


def test_a_child_of_a_fork_is_found_in_another_session(tmp_path: Path, processes: Processes) -> None:
    fork = processes.python(script(tmp_path, CHILD)).says("started")
    eventually(lambda: len(processes.alive()) == 2)
    fork.kill()
    with pytest.raises(AssertionError, match="still runs"):
        processes.stop()
    eventually(lambda: not processes.alive())


def test_programs_that_a_fork_cannot_be_are_started_as_usual(tmp_path: Path, processes: Processes) -> None:
    program = script(tmp_path, "import os; print(os.environ.get('GIVEN'), open('/proc/self/environ').read())")
    changed = processes.python(program, environment={"PYTHONHASHSEED": "1"})
    assert changed.ends(timeout=20) == 0
    assert "PYTHONHASHSEED=1" in changed.output
    assert processes.start("echo", "hello").says("hello").ends(timeout=20) == 0
