"""The contract of a broker: cases that pass with RabbitMQ and with the in-memory broker of `crew.testing`.

A case is a function whose only argument is a `Bench`. It fails with an AssertionError.
"""

from collections.abc import Callable, Iterator
from types import ModuleType

from tests.support.contract import consuming, declaring, expiring, losing, order, publishing, routing, settling
from tests.support.contract.bench import Bench

Case = Callable[[Bench], None]

MODULES: tuple[ModuleType, ...] = (
    declaring,
    routing,
    publishing,
    order,
    expiring,
    consuming,
    settling,
    losing,
)


def _cases() -> Iterator[Case]:
    for module in MODULES:
        for name, value in vars(module).items():
            if callable(value) and getattr(value, "__module__", "") == module.__name__ and not name.startswith("_"):
                yield value


CASES = tuple(_cases())


def name_of(case: Case) -> str:
    """Module and name of a case."""
    return f"{case.__module__.rpartition('.')[2]}:{case.__name__}"
