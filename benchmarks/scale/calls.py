"""Measures the calls of one client: rate, latency, and the CPU time of each process per call."""

from collections.abc import Sequence
from typing import Final

from process import Process, wake_ups_of
from scale.broker import Broker
from scale.curve import Column

MANY: Final = 64  # calls in flight
RATE: Final = Column(f"calls/s, {MANY} in flight")
P50: Final = Column("p50, one in flight, ms", 2)
CLIENT: Final = Column("client, CPU µs a call", is_cost=True)
WORKER: Final = Column("worker, CPU µs a call", is_cost=True)
BROKER: Final = Column("broker, CPU µs a call", is_cost=True)
WAKE_UPS: Final = Column("wake-ups of client and workers a call", 2)
COSTS: Final = (CLIENT, WORKER, BROKER, WAKE_UPS)


def cost(
    broker: Broker, client: Process, workers: Sequence[Process], seconds: float, in_flight: int
) -> dict[str, float]:
    """Put a client under load: the costs of a call, and the keys "rate" and "p50" (seconds)."""
    wake_ups = wake_ups_of_all([client, *workers])
    of_workers, of_broker = cpu_of_all(workers), broker.cpu()
    measured = client.order(seconds, in_flight)
    calls = measured["calls"]
    return {
        CLIENT.name: measured["cpu"] / calls * 1e6,
        WORKER.name: (cpu_of_all(workers) - of_workers) / calls * 1e6,
        BROKER.name: (broker.cpu() - of_broker) / calls * 1e6,
        WAKE_UPS.name: (wake_ups_of_all([client, *workers]) - wake_ups) / calls,
        "rate": calls / measured["seconds"],
        "p50": measured["p50"],
    }


def turn(broker: Broker, client: Process, workers: Sequence[Process], seconds: float) -> dict[str, float]:
    """The figures of a turn, by the names of the columns: many calls in flight, then one."""
    many = cost(broker, client, workers, seconds, MANY)
    rate, _ = many.pop("rate"), many.pop("p50")
    return {RATE.name: rate, P50.name: client.order(seconds, 1)["p50"] * 1e3, **many}


def cpu_of_all(processes: Sequence[Process]) -> float:
    """CPU seconds that the processes and their children have used."""
    return sum(process.cpu() for process in processes)


def wake_ups_of_all(processes: Sequence[Process]) -> int:
    """Wake-ups of the processes and their children."""
    return sum(wake_ups_of(pid) for process in processes for pid in process.pids)
