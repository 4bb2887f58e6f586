"""Logging that an application configures after it has imported crew."""

import os
import signal
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.processes import Processes

WORKER = """
import logging.config, os
from crew.worker import Task, run

logging.config.dictConfig({{
    "version": 1,
    "handlers": {{"all": {{"class": "logging.StreamHandler"}}}},
    "root": {{"handlers": ["all"], "level": "INFO"}},
    {more}
}})

@Task(os.environ["CREW_TEST_PREFIX"] + "ok")
def ok(data):
    return data

run()
"""


def script(folder: Path, more: str = "") -> Path:
    path = folder / "configured.py"
    path.write_text(WORKER.format(more=more))
    return path


def with_wrong_password(url: str) -> dict[str, str]:
    return {"CREW_AMQP_URL": url.replace(f":{urlsplit(url).password}@", ":wrong@")}


def test_a_worker_still_logs_a_refused_password_and_a_dead_process(
    processes: Processes, tmp_path: Path, broker_url: str
) -> None:
    path = script(tmp_path)
    refused = processes.python(path, environment=with_wrong_password(broker_url))
    assert refused.ends(timeout=15) == 78
    assert "password refused" in refused.output

    worker = processes.python(path).says("serving 1 task")
    (child,) = Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()
    os.kill(int(child), signal.SIGKILL)
    worker.says("was killed by SIGKILL")


def test_an_application_can_silence_the_log_of_a_worker(processes: Processes, tmp_path: Path, broker_url: str) -> None:
    path = script(tmp_path, '"loggers": {"crew": {"level": "CRITICAL"}}')
    worker = processes.python(path, environment=with_wrong_password(broker_url))
    assert worker.ends(timeout=15) == 78
    assert worker.output == ""
