"""`crew dev --memory`: worker and gateway in one command, without RabbitMQ."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from crew.client.blocking import Client
from tests.support.paths import ROOT
from tests.support.waiting import eventually

WORKER = """
from crew.worker import Task

@Task("add")
def add(req):
    return req["a"] + req["b"]
"""
GATEWAY = """
import time
from crew import UnknownTask
from crew.client.blocking import Client

with Client() as client:
    while True:
        try:
            print("gateway:", client.call("add", {"a": 1, "b": 2}).result(), flush=True)
        except UnknownTask:  # the worker is starting
            time.sleep(0.05)
        else:
            time.sleep(600)
"""


class Dev:
    """A running `crew dev`."""

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        self._output = (folder / "output").open("w+")
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "crew", "dev", *arguments],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            stdout=self._output,
            stderr=subprocess.STDOUT,
        )

    @property
    def output(self) -> str:
        """What it has written."""
        return Path(self._output.name).read_text()

    def stop(self) -> int:
        """Stop it; returns its exit status."""
        self._process.send_signal(signal.SIGINT)
        return self._process.wait(timeout=30)

    def close(self) -> None:
        """End it, also where the test has failed."""
        if self._process.poll() is None:
            self._process.terminate()
            self._process.wait(timeout=30)
        self._output.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "worker.py").write_text(WORKER)
    (tmp_path / "gateway.py").write_text(GATEWAY)
    return tmp_path


@pytest.fixture
def dev(folder: Path) -> Iterator[Dev]:
    made = Dev(folder, "--memory", "worker.py", "--gateway", "gateway.py")
    yield made
    made.close()


def test_worker_gateway_and_other_commands_use_the_broker_in_memory(folder: Path, dev: Dev) -> None:
    eventually(lambda: "gateway: 3" in dev.output, timeout=60)
    url = (folder / ".crew" / "broker" / "url").read_text().strip()

    with Client(url) as client:
        assert client.call("add", {"a": 40, "b": 2}).result() == 42

    assert "crew dev: broker: in memory; its messages end with this command" in dev.output
    assert dev.stop() == 0, dev.output
    assert dev.output.splitlines()[-1] == "crew dev: everything stopped"
    assert not (folder / ".crew" / "broker" / "url").exists()
    assert "Traceback" not in dev.output
