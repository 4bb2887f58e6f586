"""RabbitMQ fulfils the contract of the in-memory broker: the same cases as tests/unit/testing run here."""

from collections.abc import Iterator

import pytest

from tests.support.contract import CASES, Case, name_of
from tests.support.contract.bench import Bench


@pytest.fixture(scope="module")
def bench(broker_url: str) -> Iterator[Bench]:
    """One connection for all cases."""
    made = Bench(broker_url)
    yield made
    made.close()


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_rabbitmq_behaves_as_the_memory_broker(bench: Bench, case: Case) -> None:
    bench.run(case)
