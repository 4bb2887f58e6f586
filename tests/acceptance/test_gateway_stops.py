"""SIGHUP to a gateway: `crew gateway` and an application that uses `serve` drain as on SIGTERM."""

import os
import signal

import pytest

from tests.acceptance.test_jobs_api import Program, read_response
from tests.support.paths import PROGRAM_FOLDER, TASK_FOLDER
from tests.support.processes import Processes
from tests.support.waiting import eventually
from tests.support.web import Web

pytestmark = pytest.mark.own_interpreters

UNIGNORED = """
import os, signal, sys
signal.signal(signal.SIGHUP, signal.SIG_DFL)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""  # the tests themselves may run under nohup


@pytest.mark.parametrize("command", [("-m", "crew", "gateway", "--port", "0"), (str(PROGRAM_FOLDER / "drain_app.py"),)])
def test_a_gateway_drains_on_sighup_as_on_sigterm(processes: Processes, command: tuple[str, ...]) -> None:
    worker = processes.python(TASK_FOLDER / "drain_worker.py")
    gateway = processes.python("-c", UNIGNORED, *command)
    worker.says("serving")
    program = Program(Web.of(gateway).port)
    eventually(lambda: program.get("/readyz").status == 200)
    call = program.begin("POST", "/call/nap", 1.0)
    eventually(lambda: program.get("/healthz").status == 200)  # by then the call has arrived

    for _ in range(2):  # a closing terminal may send it twice
        os.kill(gateway.pid, signal.SIGHUP)

    response = read_response(call)
    assert (response.status, response.json) == (200, 1.0)
    assert gateway.ends(10) == 0
    assert "Traceback" not in gateway.output


def test_a_gateway_under_nohup_is_not_stopped_by_sighup(processes: Processes) -> None:
    ignoring = UNIGNORED.replace("SIG_DFL", "SIG_IGN")
    gateway = processes.python("-c", ignoring, "-m", "crew", "gateway", "--port", "0")
    program = Program(Web.of(gateway).port)

    os.kill(gateway.pid, signal.SIGHUP)

    assert program.get("/healthz").status == 200
    eventually(lambda: program.get("/readyz").status == 200)
    assert gateway.is_running
    assert gateway.stop() == 0
