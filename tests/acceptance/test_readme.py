"""The way through README.md: its commands and its code run as written, in an empty folder without a broker."""

import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.pages import README, blocks, commands, write_code
from tests.support.processes import Process, Processes
from tests.support.waiting import eventually
from tests.support.web import Web, free_port, is_listening

pytestmark = pytest.mark.own_interpreters

CREW = (sys.executable, "-m", "crew")  # .venv/bin/crew in the README

Run = Callable[..., Process]


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def run(processes: Processes, tmp_path: Path, port: int) -> Run:
    """Starts a command in a folder with the README's code, where only `crew dev` starts a broker."""
    write_code(README, tmp_path, port)
    return lambda *command: processes.start(*command, folder=tmp_path, environment={"CREW_AMQP_URL": ""})


def started(run: Run, *, flag: str) -> Process:
    """What the only command of the README with `crew dev` and `flag` starts."""
    (words,) = (words for words, _ in commands(README) if words[1:2] == ["dev"] and flag in words)
    return run(*CREW, *words[1:]).says("serving 2 tasks", timeout=60)


def check_calls(run: Run) -> None:
    """Each `crew call` of the README prints what it says."""
    calls = [(words, output) for words, output in commands(README) if words[1:2] == ["call"]]
    assert calls
    for words, output in calls:
        call = run(*CREW, *words[1:])
        assert call.ends(timeout=10) == 0, call
        assert call.output == output


def test_the_first_commands_and_the_script_print_what_the_readme_says(run: Run) -> None:
    everything = started(run, flag="--memory")

    check_calls(run)

    script = run(sys.executable, "ask.py")
    assert script.ends(timeout=10) == 0, script
    assert script.output == blocks(README, "text")[0]
    assert everything.stop(signal.SIGINT) == 0


def test_the_web_application_answers_with_a_rabbitmq_that_the_command_starts(run: Run, port: int) -> None:
    everything = started(run, flag="--gateway")

    check_calls(run)

    eventually(lambda: is_listening(port), timeout=20)
    (response,) = (output for words, output in commands(README) if words[0] == "curl")
    assert Web(port).get("/").text + "\n" == response
    assert everything.stop(signal.SIGINT) == 0
