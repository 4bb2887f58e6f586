"""Processes of tests: they are stopped at the end, and a test that leaves one running fails."""

import sys
from pathlib import Path

import pytest

from tests.support.processes import Processes
from tests.support.waiting import eventually

LINGERING_CHILD = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
child.returncode = 0  # so that Popen does not warn that it still runs
print("started", flush=True)
"""
IGNORES_SIGTERM = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("started", flush=True)
time.sleep(60)
"""

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="children in other sessions are found by /proc")


@linux_only
def test_a_child_in_another_session_is_found_and_killed(tmp_path: Path) -> None:
    processes = Processes(tmp_path, {}, gone_within=0.2)
    assert processes.start(sys.executable, "-c", LINGERING_CHILD).says("started").ends(timeout=10) == 0
    assert len(processes.alive()) == 1

    with pytest.raises(AssertionError, match="still runs"):
        processes.stop()

    eventually(lambda: not processes.alive())


def test_a_process_that_ignores_sigterm_is_killed_and_reported(tmp_path: Path) -> None:
    processes = Processes(tmp_path, {}, stops_within=0.2)
    ignoring = processes.start(sys.executable, "-c", IGNORES_SIGTERM).says("started")

    with pytest.raises(AssertionError, match="SIGTERM did not stop it"):
        processes.stop()

    assert not ignoring.is_running


def test_waiting_for_output_ends_with_the_process(tmp_path: Path) -> None:
    process = Processes(tmp_path, {}).start(sys.executable, "-c", "print('something else')")

    with pytest.raises(AssertionError, match=r"(?s)never printed 'hello'.*something else"):
        process.says("hello", timeout=10)
