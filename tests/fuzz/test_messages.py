"""Whatever reaches any queue: nothing dies, sticks, grows, fails with a traceback, or makes the next call wait."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from crew.cli.node import Node
from tests.fuzz.fleet import Fleet, fleet
from tests.fuzz.mutation import mutated
from tests.integration.foreign import Foreign
from tests.integration.fuzzing import Message

BATCH = 50

pytestmark = [pytest.mark.fuzz, pytest.mark.timeout(3_600)]


@pytest.fixture(scope="module")
def under_fire(node: Node, vhost_url: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with fleet(node, vhost_url(), tmp_path_factory.mktemp("fuzz")) as all_of_it:
        yield all_of_it


@pytest.mark.filterwarnings("ignore:Generating overly large repr")
def test_mutated_messages_stop_nothing(under_fire: Fleet, fuzz_inputs: int, tmp_path: Path) -> None:
    seeds = under_fire.record()
    alive = set(under_fire.processes.alive())
    sent = 0

    @settings(
        max_examples=max(fuzz_inputs // BATCH, 1),
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(mutated(seeds, list(under_fire.queues())), min_size=BATCH, max_size=BATCH))
    def storm(batch: list[Message]) -> None:
        nonlocal sent
        for (exchange, key), header, body in batch:
            foreign.send(exchange, key, header, body)
        sent += len(batch)
        under_fire.serves()
        under_fire.check(sent)

    with Foreign(under_fire.url) as foreign:
        storm()
    assert foreign.confirmed > 0.8 * sent, "most of it has to arrive to be a test"
    under_fire.drains()
    assert set(under_fire.processes.alive()) == alive
