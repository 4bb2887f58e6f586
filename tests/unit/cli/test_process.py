"""Processes by their id: command line, end, and killing them with their descendants."""

import subprocess
import sys
from collections.abc import Iterator
from signal import SIGKILL

import pytest

from crew.cli import process
from tests.support.waiting import eventually

# A child in its own session, like the children of a worker, which starts a grandchild.
FAMILY = """
import subprocess, sys, time
child = "import subprocess, time; print(subprocess.Popen(['sleep', '60']).pid, flush=True); time.sleep(60)"
subprocess.Popen([sys.executable, "-c", child], start_new_session=True)
time.sleep(60)
"""


@pytest.fixture
def family() -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process, and the id of its grandchild."""
    with subprocess.Popen([sys.executable, "-c", FAMILY], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        yield parent, int(parent.stdout.readline())
        process.kill_tree(parent.pid)


def test_a_running_process_has_its_command_line(family: tuple[subprocess.Popen[str], int]) -> None:
    _, grandchild = family

    assert eventually(lambda: process.command_line(grandchild)) == "sleep 60"
    assert not process.has_ended(grandchild)
    assert not process.ended_within(grandchild, 0.01)


def test_a_zombie_has_ended() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        process.send(child.pid, SIGKILL)

        assert process.ended_within(child.pid, 5)
        assert process.command_line(child.pid) == ""


def test_a_process_that_does_not_exist_has_ended() -> None:
    with subprocess.Popen(["true"]) as child:
        pass

    assert process.has_ended(child.pid)
    process.send(child.pid, SIGKILL)  # has no effect, and raises no error


def test_killing_a_tree_kills_descendants_in_every_session(family: tuple[subprocess.Popen[str], int]) -> None:
    parent, grandchild = family

    process.kill_tree(parent.pid)

    assert parent.wait() == -SIGKILL
    assert eventually(lambda: process.has_ended(grandchild))


def test_processes_left_in_the_session_of_an_ended_leader_are_killed() -> None:
    command = [sys.executable, "-c", "import subprocess; print(subprocess.Popen(['sleep', '60']).pid)"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as leader:
        assert leader.stdout
        orphan = int(leader.stdout.readline())
    assert not process.has_ended(orphan)

    process.kill_session(leader.pid)

    assert eventually(lambda: process.has_ended(orphan))
