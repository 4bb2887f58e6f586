"""Very many calls leave nothing behind, in the client and in the worker."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from crew.protocol import topology
from tests.integration.conftest import TASKS
from tests.support import raw
from tests.support.paths import PROGRAM_FOLDER
from tests.support.processes import running

COUNT = 100_000  # calls
WARM_UP = 5_000  # of them, until caches and arenas have reached their final size
GROWTH = 5 * 1024  # KiB


@pytest.mark.chaos
@pytest.mark.timeout(400)
def test_100_000_calls_leave_nothing_behind(vhost_url: Callable[[], str], tmp_path: Path) -> None:
    """Some of the calls fail, time out, are canceled, or have no worker."""
    url = vhost_url()
    raw.declare(url, topology.task_queue("idle"))
    with running(tmp_path, {"CREW_AMQP_URL": url, "CREW_TEST_PREFIX": ""}) as processes:
        worker = processes.python(TASKS).says("serving")
        client = processes.python(PROGRAM_FOLDER / "endurance.py", str(COUNT), str(WARM_UP))
        assert client.ends(timeout=380) == 0, client.output
        before, after = map(json.loads, client.output.splitlines())
        assert "Traceback" not in worker.own_output
    for program in ("client", "worker"):
        assert after.pop(f"{program} KiB") - before.pop(f"{program} KiB") < GROWTH, f"the {program} uses more memory"
    assert "0 calls in flight" in after["client"]
    assert after == before
