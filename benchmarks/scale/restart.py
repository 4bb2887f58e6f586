"""How long the broker takes to start with many empty queues: after SIGKILL, and after a stop in good order.

Each kind of queue has a broker of its own. A broker gets more and more queues, and is killed with each number of them;
with the fewest and with the most queues it is also stopped.
"""

from collections.abc import Sequence
from typing import Final

from scale import queues
from scale.broker import Restart, private_broker
from scale.curve import Column, Curve
from scale.options import Options

COUNTS: Final = (5, 100, 300, 1000)
ENOUGH: Final = 200  # further queues: the CPU time of a start varies by about a second in any case

DECLARE: Final = Column("declare, broker's CPU ms a queue", 1)
MEMORY: Final = Column("broker after SIGKILL, MiB")
KILLED: Final = Column("start after SIGKILL, s", 1)
KILLED_CPU: Final = Column("CPU s of the start", 1)
RECOVERY: Final = Column("of it, recovery of the queues, s", 2)
KILLED_EACH: Final = Column("CPU ms for each further queue", 1, is_cost=True)
STOPPED: Final = Column("start after a stop, s", 1)
STOPPED_CPU: Final = Column("CPU s of that", 1)
STOPPED_RECOVERY: Final = Column("recovery of the queues, s", 2)
COLUMNS: Final = (
    DECLARE,
    MEMORY,
    KILLED,
    RECOVERY,
    KILLED_CPU,
    KILLED_EACH,
    STOPPED,
    STOPPED_RECOVERY,
    STOPPED_CPU,
)


def measure(options: Options) -> list[Curve]:
    """One restart of each kind at each point."""
    return [of_queues(kind, options.points(COUNTS)) for kind in queues.CLASSIC]


def of_queues(kind: str, points: Sequence[int]) -> Curve:
    """Restart a broker with queues of one kind, and nothing else."""
    curve = Curve(f"Restart, {kind}", "queues", COLUMNS)
    least: Restart | None = None
    with private_broker() as broker:
        for before, count in zip((0, *points), points, strict=False):
            point, cpu = f"{count:,}", broker.cpu()
            queues.declare(broker, kind, range(before, count))
            curve.add(point, {DECLARE.name: (broker.cpu() - cpu) / (count - before) * 1e3})
            broker.kill()
            killed = broker.start()
            queues.check(broker, kind, range(count))
            curve.add(point, {MEMORY.name: broker.memory(), KILLED.name: killed.seconds})
            curve.add(point, {RECOVERY.name: killed.recovery, KILLED_CPU.name: killed.cpu})
            if least and count - points[0] >= ENOUGH:
                curve.add(point, {KILLED_EACH.name: (killed.cpu - least.cpu) / (count - points[0]) * 1e3})
            least = least or killed
            if count in (points[0], points[-1]):
                broker.stop()
                stopped = broker.start()
                curve.add(point, {STOPPED.name: stopped.seconds, STOPPED_CPU.name: stopped.cpu})
                curve.add(point, {STOPPED_RECOVERY.name: stopped.recovery})
    return curve
