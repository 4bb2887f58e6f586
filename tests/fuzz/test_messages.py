"""Whatever reaches any queue: nothing dies, sticks, grows, fails with a traceback, or makes the next call wait."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import strategies as st

from crew.cli.broker.node import Node
from crew.client.blocking import BlockingCall
from tests.support.foreign import Foreign
from tests.support.fuzz.batches import OTHER_THREADS, storm
from tests.support.fuzz.fleet import Fleet, fleet
from tests.support.fuzz.mutation import mutated
from tests.support.fuzzing import Message

KEY = "5ec2e7" * 8  # known to the fleet only
LONG = 3_600.0  # seconds: longer than the test

pytestmark = [
    pytest.mark.fuzz,
    pytest.mark.timeout(3_600),
    pytest.mark.filterwarnings("ignore:Generating overly large repr"),
    pytest.mark.filterwarnings(OTHER_THREADS),
]

StartFleet = Callable[..., Fleet]


@pytest.fixture
def start_fleet(
    node: Node, vhost_url: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StartFleet]:
    with contextlib.ExitStack() as stack:

        def start(**environment: str) -> Fleet:
            return stack.enter_context(fleet(node, vhost_url(), tmp_path_factory.mktemp("fuzz"), **environment))

        yield start


def test_mutated_messages_stop_nothing(start_fleet: StartFleet, fuzz_inputs: int) -> None:
    under_fire = start_fleet()
    seeds = under_fire.record()
    call = in_flight(under_fire)
    job = under_fire.submit("idle", "waits", wait_for_worker=True)
    send_mutated(under_fire, mutated(seeds, list(under_fire.queues()), [call.id, id_of(job)]), fuzz_inputs)
    under_fire.drains()


def test_with_signing_no_mutated_message_has_an_effect(
    start_fleet: StartFleet, fuzz_inputs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREW_SIGNING_KEY", KEY)  # of the client, too
    under_fire = start_fleet()
    seeds = under_fire.record()
    call = in_flight(under_fire)
    waiting, ended = under_fire.submit("idle", "waits", wait_for_worker=True), under_fire.submit("echo", "value")
    assert under_fire.program.get(f"{ended}response/").body == b'"value"'
    executions, events = under_fire.executions(), list(under_fire.events)

    ids = [call.id, id_of(waiting), id_of(ended)]
    send_mutated(under_fire, mutated(seeds, list(under_fire.queues()), ids), fuzz_inputs)
    under_fire.drains()
    assert under_fire.executions() == executions
    assert under_fire.events == events
    assert not call.done()
    assert under_fire.program.status(waiting) == "queued"
    assert under_fire.program.get(f"{ended}response/").body == b'"value"'


def in_flight(under_fire: Fleet) -> BlockingCall[Any]:
    """A call that no worker takes."""
    return under_fire.client.call("idle", "waits", expiration=LONG)


def id_of(path: str) -> str:
    """Of a job."""
    return path.split("/")[2]


def send_mutated(under_fire: Fleet, messages: st.SearchStrategy[Message], count: int) -> None:
    """Send so many; most have to arrive."""
    with Foreign(under_fire.url) as foreign:

        def send(message: Message) -> None:
            (exchange, key), header, body = message
            foreign.send(exchange, key, header, body)

        storm(messages, send, under_fire, count=count)
        assert foreign.confirmed > 0.8 * count, "most of it has to arrive to be a test"
