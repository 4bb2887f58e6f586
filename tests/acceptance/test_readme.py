"""The way through README.md: its commands and its code run as written, in an empty folder without a broker."""

import signal
import sys
from pathlib import Path

import pytest

from tests.support.pages import README, blocks, commands, write_code
from tests.support.processes import Process, Processes
from tests.support.waiting import eventually
from tests.support.web import Web, free_port, is_listening

pytestmark = pytest.mark.own_interpreters

CREW = (sys.executable, "-m", "crew")  # .venv/bin/crew in the README


def test_the_commands_and_the_code_print_what_the_readme_says(processes: Processes, tmp_path: Path) -> None:
    port = free_port()
    write_code(README, tmp_path, port)

    def run(*command: str) -> Process:
        """A command in the folder, with the broker that `crew dev` starts there."""
        return processes.start(*command, folder=tmp_path, environment={"CREW_AMQP_URL": ""})

    shown = commands(README)
    (everything,) = (words for words, _ in shown if words[1:2] == ["dev"] and "--gateway" in words)
    started = run(*CREW, *everything[1:])
    started.says("serving 2 tasks", timeout=60)

    calls = [(words, output) for words, output in shown if words[1:2] == ["call"]]
    assert calls
    for words, output in calls:
        call = run(*CREW, *words[1:])
        assert call.ends(timeout=10) == 0, call
        assert call.output == output

    script = run(sys.executable, "ask.py")
    assert script.ends(timeout=10) == 0, script
    assert script.output == blocks(README, "text")[0]

    eventually(lambda: is_listening(port), timeout=20)
    (response,) = (output for words, output in shown if words[0] == "curl")
    assert Web(port).get("/").text + "\n" == response
    assert started.stop(signal.SIGINT) == 0


def test_the_first_command_serves_the_tasks_without_a_gateway(
    processes: Processes, tmp_path: Path, broker_url: str
) -> None:
    """With the broker of CREW_AMQP_URL, so that this test needs no node of its own."""
    write_code(README, tmp_path)
    (alone,) = (words for words, _ in commands(README) if words[1:2] == ["dev"] and "--gateway" not in words)
    processes.start(*CREW, *alone[1:], folder=tmp_path).says("serving 2 tasks", timeout=60)
