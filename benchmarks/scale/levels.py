"""What priority levels cost the broker: to declare a queue, to keep it, and for each message; and one queue or many."""

from typing import Final

from scale import queues
from scale.broker import private_broker
from scale.curve import Column, Curve
from scale.messages import cpu_of_message
from scale.options import Options

DECLARED: Final = 200  # queues of each kind
SPREADS: Final = (1, DECLARED)  # queues through which the messages go

DECLARE: Final = Column("declare, broker's CPU ms a queue", 2, is_cost=True)
AGAIN: Final = Column("declare again, broker's CPU ms a queue", 2, is_cost=True)
MEMORY: Final = Column("memory, KiB a queue")
MESSAGE: Final = {
    (mode, count): Column(f"a {mode} message through {count}, broker's CPU µs", is_cost=True)
    for mode in ("transient", "persistent")
    for count in SPREADS
}


def measure(options: Options) -> list[Curve]:
    """All kinds of queues in one broker take turns."""
    columns = (DECLARE, AGAIN, MEMORY, *MESSAGE.values())
    curve = Curve("Priority levels of a queue", "queue", columns, is_ordered=False)
    numbers = range(DECLARED)
    with private_broker() as broker:
        for kind in queues.KINDS:
            cpu, memory = broker.cpu(), broker.memory()
            queues.declare(broker, kind, numbers)
            declared, memory = broker.cpu() - cpu, broker.memory() - memory
            cpu = broker.cpu()
            queues.declare(broker, kind, numbers)
            again = broker.cpu() - cpu
            curve.add(kind, {DECLARE.name: declared / DECLARED * 1e3, AGAIN.name: again / DECLARED * 1e3})
            curve.add(kind, {MEMORY.name: memory * 1024 / DECLARED})
        for _ in range(options.rounds):
            for (mode, spread), column in MESSAGE.items():
                for kind in queues.KINDS:
                    names = [queues.name(kind, number) for number in range(spread)]
                    is_persistent = mode == "persistent"
                    cpu = cpu_of_message(broker.url, names, options.seconds, broker.cpu, persistent=is_persistent)
                    curve.add(kind, {column.name: cpu * 1e6})
    return [curve]
