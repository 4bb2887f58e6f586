"""Random messages to the queues of tasks, replies, cancels and events: no process dies, hangs or floods its log."""

import contextlib
import logging
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from crew.client.blocking import Client
from crew.errors import DuplicateCallId
from crew.protocol import topology
from tests.integration.conftest import TASKS
from tests.support import raw
from tests.support.foreign import Foreign
from tests.support.fuzzing import Message, messages
from tests.support.processes import Process, Processes, running
from tests.support.waiting import eventually

BATCH = 20
FLIGHTS = [f"flight-{number}" for number in range(5)]
# The client's thread draws delays from the module `random`, at times while a strategy is drawn in this one.
OTHER_THREADS = "ignore:Do not use the .random. module:hypothesis.errors.HypothesisDeprecationWarning"
FEW = 300
LOG = 500  # bytes per message, on average


@pytest.fixture(scope="module")
def url(vhost_url: Callable[[], str]) -> str:
    """URL of a virtual host that only this module uses, so that it contains no other queues."""
    return vhost_url()


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory, url: str) -> Iterator[Processes]:
    """Starts processes, and stops them at the end of the module."""
    with running(
        tmp_path_factory.mktemp("fuzz"), {"CREW_AMQP_URL": url, "CREW_TEST_PREFIX": ""}, preloaded=True
    ) as processes:
        yield processes


@pytest.fixture(scope="module")
def worker(processes: Processes) -> Process:
    """One worker process."""
    return processes.python(TASKS).says("serving")


@pytest.mark.filterwarnings("ignore:Generating overly large repr")  # for the values of a failed example
@pytest.mark.filterwarnings(OTHER_THREADS)
@pytest.mark.parametrize(
    "inputs", [FEW, pytest.param(None, marks=[pytest.mark.fuzz, pytest.mark.timeout(3_600)])], ids=["few", "many"]
)
def test_no_message_ends_a_process_blocks_a_queue_or_floods_the_log(
    url: str,
    depths: Callable[[str], dict[str, int]],
    processes: Processes,
    worker: Process,
    caplog: pytest.LogCaptureFixture,
    inputs: int | None,
    request: pytest.FixtureRequest,
) -> None:
    count: int = inputs or request.getfixturevalue("fuzz_inputs")
    caplog.set_level(logging.INFO, logger="crew")
    raw.declare(url, topology.task_queue("idle"))
    before, since = set(processes.alive()), worker.from_now()
    with Client(url) as client, Foreign(url) as foreign:
        client.subscribe("fuzz.#", lambda event: None)
        replies = f"crew.reply.{client.id}"
        targets = [
            ("", "crew.tasks.echo"),
            ("", replies),
            ("crew.control", topology.control_key_of_task("echo")),
            ("crew.PUBSUB", "fuzz.event"),
            ("", f"crew.subscribe.{client.id}"),
        ]

        sound, broken = (
            messages(targets, FLIGHTS, [replies, "crew.parked"], is_sound=is_sound) for is_sound in (True, False)
        )

        @settings(
            max_examples=count // BATCH,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(st.lists(sound, min_size=BATCH - 1, max_size=BATCH - 1), broken)
        def storm(batch: list[Message], one_more: Message) -> None:
            for id in FLIGHTS:
                with contextlib.suppress(DuplicateCallId):  # still pending
                    client.call("idle", id=id, expiration=600)
            for (exchange, key), header, body in [*batch, one_more]:
                foreign.send(exchange, key, header, body)
            assert client.call("echo", foreign.confirmed, expiration=10).result() == foreign.confirmed

        storm()
        with contextlib.suppress(AssertionError):
            eventually(lambda: not _waiting(depths(url)), timeout=20)
        assert _waiting(depths(url)) == {}
    assert foreign.confirmed > 0.9 * count, "too few messages have arrived to prove anything"
    assert set(processes.alive()) == before
    log = since.output + caplog.text
    assert "Traceback" not in log, log[-3_000:]
    assert "no connection to the broker" not in log, log[-3_000:]
    assert len(log) < LOG * foreign.confirmed


def _waiting(depths: dict[str, int]) -> dict[str, int]:
    """The queues that still have messages, except those without a consumer."""
    kinds = ("echo", "reply", "subscribe", "control")
    return {name: depth for name, depth in depths.items() if depth and any(kind in name for kind in kinds)}
