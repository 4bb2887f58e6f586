"""Measures the calls of one client: rate, latency, and the CPU time of each process per call."""

from collections.abc import Callable
from typing import Final

from process import Process
from scale.broker import Broker
from scale.curve import Column

MANY: Final = 64  # calls in flight
RATE: Final = Column(f"calls/s, {MANY} in flight")
P50: Final = Column("p50, one in flight, ms", 2)
CLIENT: Final = Column("client, CPU µs a call", is_cost=True)
WORKER: Final = Column("worker, CPU µs a call", is_cost=True)
BROKER: Final = Column("broker, CPU µs a call", is_cost=True)
COSTS: Final = (CLIENT, WORKER, BROKER)

Cpu = Callable[[], float]


def cost(broker: Broker, client: Process, worker_cpu: Cpu, seconds: float, in_flight: int) -> dict[str, float]:
    """Put a client under load: CPU per call, and the keys "rate" and "p50" (seconds)."""
    worker, of_broker = worker_cpu(), broker.cpu()
    measured = client.order(seconds, in_flight)
    calls = measured["calls"]
    return {
        CLIENT.name: measured["cpu"] / calls * 1e6,
        WORKER.name: (worker_cpu() - worker) / calls * 1e6,
        BROKER.name: (broker.cpu() - of_broker) / calls * 1e6,
        "rate": calls / measured["seconds"],
        "p50": measured["p50"],
    }


def turn(broker: Broker, client: Process, worker_cpu: Cpu, seconds: float) -> dict[str, float]:
    """The figures of a turn, by the names of the columns: many calls in flight, then one."""
    many = cost(broker, client, worker_cpu, seconds, MANY)
    rate, _ = many.pop("rate"), many.pop("p50")
    return {RATE.name: rate, P50.name: client.order(seconds, 1)["p50"] * 1e3, **many}
