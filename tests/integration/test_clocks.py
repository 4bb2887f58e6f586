"""Hosts with wrong wall clocks: real processes with correct monotonic clocks and timers."""

import sys
import time
from collections.abc import Callable

import pytest

import crew
from crew import Client
from tests.integration.conftest import TASKS
from tests.support.broker import vhost_of
from tests.support.paths import ROOT
from tests.support.processes import Processes
from tests.support.proxy import Proxy
from tests.support.waiting import until

WRONG_CLOCK = ROOT / "tests" / "support" / "wrong_clock"
SKEWS = [120, -120]


def wrong_by(seconds: int) -> dict[str, str]:
    """Environment of a process with a wall clock that is wrong by this many seconds."""
    return {"PYTHONPATH": str(WRONG_CLOCK), "CREW_TEST_CLOCK_WRONG_BY": str(seconds)}


@pytest.mark.gen_test(timeout=60)
@pytest.mark.parametrize("seconds", SKEWS)
async def test_a_worker_with_a_wrong_clock_serves_calls_and_logs_the_offset(
    broker_url: str, prefix: str, processes: Processes, seconds: int
) -> None:
    worker = processes.python(TASKS, "--url", broker_url, environment=wrong_by(seconds)).says("serving")
    worker.says(f"this host's clock is 120 s {'ahead of' if seconds > 0 else 'behind'} the broker's")
    async with Client(broker_url) as client:
        assert await client.call(prefix + "echo", 17) == 17
        assert 55 < await client.call(prefix + "remaining", None, expiration=60) < 63
        began = time.monotonic()
        with pytest.raises(crew.TimeoutError):
            await client.call(prefix + "sleep", 30, expiration=1.5)
        assert 1.4 < time.monotonic() - began < 5
        assert await client.call(prefix + "echo", 18, expiration=10) == 18  # the sleeping task was interrupted


@pytest.mark.gen_test(timeout=60)
@pytest.mark.parametrize("seconds", SKEWS)
async def test_a_worker_with_a_wrong_clock_does_not_start_expired_calls(
    broker_url: str, prefix: str, processes: Processes, seconds: int
) -> None:
    worker = processes.python(TASKS, "--url", broker_url, environment=wrong_by(seconds)).says("serving")
    async with Client(broker_url) as client:
        first = client.call(prefix + "sleep", 4, expiration=20)
        await until(lambda: first.has_started)
        late = client.call(prefix + "note", {"name": "late"}, expiration=1)
        with pytest.raises(crew.ExpirationError):
            await late
        assert await first == 4
        await client.call(prefix + "note", {"name": "next"}, expiration=10)
    assert "STARTED next" in worker.output
    assert "STARTED late" not in worker.output


@pytest.mark.gen_test(timeout=60)
@pytest.mark.parametrize("seconds", SKEWS)
@pytest.mark.parametrize("of_worker", [0, "same"], ids=["right worker", "wrong worker"])
async def test_calls_of_a_client_with_a_wrong_clock_get_their_replies(
    broker_url: str, prefix: str, processes: Processes, seconds: int, of_worker: object
) -> None:
    environment = wrong_by(seconds) if of_worker else {}
    processes.python(TASKS, "--url", broker_url, environment=environment).says("serving")
    script = (
        "import sys\n"
        "from crew.client.blocking import Client\n"
        "with Client(sys.argv[1]) as client:\n"
        f"    print('GOT', client.call({prefix + 'echo'!r}, 17).result())\n"
        f"    print('LEFT', client.call({prefix + 'remaining'!r}).result())\n"
    )
    process = processes.start(sys.executable, "-c", script, broker_url, environment=wrong_by(seconds))
    assert process.ends(30) == 0
    assert "GOT 17" in process.output
    left = float(process.output.partition("LEFT ")[2].split()[0])
    assert 55 < left < 64


@pytest.mark.gen_test(timeout=60)
async def test_nothing_is_logged_if_the_broker_forbids_the_clock_comparison(
    define: Callable[..., None], broker_url: str, unique: str, caplog: pytest.LogCaptureFixture
) -> None:
    user = f"{unique}user"
    allowed = r"^(crew\.(?!clock)|amq\.default$)"
    define(
        users=[{"name": user, "password": "secret", "tags": ""}],
        permissions=[
            {"user": user, "vhost": vhost_of(broker_url), "configure": allowed, "write": allowed, "read": allowed}
        ],
    )
    async with Client(f"amqp://{user}:secret@{broker_url.rpartition('@')[2]}") as client:
        with pytest.raises(crew.UnknownTask):
            await client.call(unique + "missing")
    assert not [record for record in caplog.records if record.levelname != "DEBUG"]


@pytest.mark.gen_test(timeout=60)
async def test_a_client_connects_to_a_slow_broker_within_10_seconds(
    broker_url: str, proxied: Callable[[str], Proxy], unique: str
) -> None:
    proxy = proxied(broker_url)
    proxy.delay(0.1)
    began = time.monotonic()
    async with Client(proxy.url) as client:
        assert time.monotonic() - began < 10
        with pytest.raises(crew.UnknownTask):
            await client.call(unique + "missing")
