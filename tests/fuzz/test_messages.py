"""Mutated messages to every queue: no process dies, hangs, grows, logs a traceback, or delays the next call."""

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
    tested = start_fleet()
    seeds = tested.record()
    call = in_flight(tested)
    job = tested.submit("idle", "waits", wait_for_worker=True)
    send_mutated(tested, mutated(seeds, list(tested.queues()), [call.id, id_of(job)]), fuzz_inputs)
    tested.drains()


def test_with_signing_no_mutated_message_has_an_effect(
    start_fleet: StartFleet, fuzz_inputs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREW_SIGNING_KEY", KEY)  # of the client, too
    tested = start_fleet()
    seeds = tested.record()
    call = in_flight(tested)
    waiting, ended = tested.submit("idle", "waits", wait_for_worker=True), tested.submit("echo", "value")
    assert tested.program.get(f"{ended}response/").body == b'"value"'
    executions, events = tested.executions(), list(tested.events)

    ids = [call.id, id_of(waiting), id_of(ended)]
    send_mutated(tested, mutated(seeds, list(tested.queues()), ids), fuzz_inputs)
    tested.drains()
    assert tested.executions() == executions
    assert tested.events == events
    assert not call.done()
    assert tested.program.status(waiting) == "queued"
    assert tested.program.get(f"{ended}response/").body == b'"value"'


def in_flight(tested: Fleet) -> BlockingCall[Any]:
    """A pending call of a task that no worker serves."""
    return tested.client.call("idle", "waits", expiration=LONG)


def id_of(path: str) -> str:
    """The id of the job with this path."""
    return path.split("/")[2]


def send_mutated(tested: Fleet, messages: st.SearchStrategy[Message], count: int) -> None:
    """Send `count` messages; fails unless the broker confirms most of them."""
    with Foreign(tested.url) as foreign:

        def send(message: Message) -> None:
            (exchange, key), header, body = message
            foreign.send(exchange, key, header, body)

        storm(messages, send, tested, count=count)
        assert foreign.confirmed > 0.8 * count, "the broker refused too many messages"
