"""Two gateways on one PostgreSQL: what is submitted at one is waited for and canceled at the other."""

import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.conftest import StartWorker
from tests.support.paths import PROGRAM_FOLDER
from tests.support.processes import Process
from tests.support.waiting import eventually

WOKEN_WITHIN = 0.5  # seconds after the end of the job, at the other gateway
ANSWERS_WITHIN = 20.0  # seconds, on a busy machine


class Gateway:
    """A process that runs `gateway.py`."""

    def __init__(self, broker: str, database: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(PROGRAM_FOLDER / "gateway.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "CREW_AMQP_URL": broker, "CREW_DATABASE": database},
            text=True,
        )

    def tell(self, *command: object) -> None:
        """Give it a command, whose `answer` may take a while."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()

    def answer(self) -> Any:
        """To the oldest command."""
        assert self._process.stdout
        assert select.select([self._process.stdout], [], [], ANSWERS_WITHIN)[0], "no answer"
        return json.loads(self._process.stdout.readline())

    def ask(self, *command: object) -> Any:
        """Give it a command; its answer."""
        self.tell(*command)
        return self.answer()

    def end(self) -> None:
        """Wait until it has ended by itself; kill it where it does not."""
        try:
            self._process.communicate(timeout=ANSWERS_WITHIN)
        finally:
            self._process.kill()
            self._process.wait()
        assert self._process.returncode == 0


@pytest.fixture
def gateways(broker_url: str, postgresql_url: str) -> Iterator[list[Gateway]]:
    """Two of them, which make their tables at the same time."""
    gateways = [Gateway(broker_url, postgresql_url) for _ in range(2)]
    try:
        assert [gateway.answer() for gateway in gateways] == ["ready", "ready"]
        yield gateways
    finally:
        for gateway in gateways:
            gateway.end()


def test_a_job_that_was_submitted_at_one_gateway_is_waited_for_at_the_other(
    gateways: list[Gateway], shared_worker: Process, prefix: str
) -> None:
    one, two = gateways
    for seconds in (0.0, 0.3, 0.6):
        id = one.ask("submit", prefix + "sleep", seconds)
        two.tell("wait", id)
        ended = two.answer()
        assert ended["status"] == "success"
        assert ended["woken"] - ended["ended"] < WOKEN_WITHIN
        assert [gateway.ask("result", id) for gateway in gateways] == [seconds, seconds]


def test_a_job_that_was_submitted_at_one_gateway_is_canceled_at_the_other(
    gateways: list[Gateway], start_worker: StartWorker, prefix: str
) -> None:
    one, two = gateways
    worker = start_worker()
    id = one.ask("submit", prefix + "note", {"name": "long", "seconds": 60})
    worker.says("STARTED long")
    one.tell("wait", id)
    assert two.ask("cancel", id) is True
    ended = one.answer()
    assert ended["status"] == "canceled"
    assert ended["woken"] - ended["ended"] < WOKEN_WITHIN
    assert two.ask("cancel", id) is False

    after = two.ask("submit", prefix + "note", {"name": "next"})  # the worker is free again
    assert one.ask("wait", after)["status"] == "success"
    assert eventually(lambda: two.ask("status", after) == "success")


def test_the_last_progress_of_a_job_is_recorded_whichever_gateway_takes_its_end(
    gateways: list[Gateway], start_worker: StartWorker, prefix: str
) -> None:
    start_worker("--threads", "4", script="jobbing.py")
    one, two = gateways
    ids = [gateway.ask("submit", prefix + "count", {"to": 4, "pause": 0.04}) for gateway in gateways * 12]
    for id in ids:
        assert one.ask("wait", id)["status"] == "success"

    def wrong() -> dict[str, object]:
        told = {id: two.ask("progress", id) for id in ids}
        return {id: value for id, value in told.items() if value != {"at": 3}}

    assert eventually(lambda: not wrong())  # a progress may be committed after the end, by the other gateway
