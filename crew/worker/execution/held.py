"""What a group of tasks holds: its unacknowledged deliveries, and its executions, until they have ended."""

from crew.amqp import Delivery
from crew.worker.execution.execution import Execution


class Held:
    """The deliveries and executions of one group of tasks. It is the only record of them: all others ask it.

    The I/O thread changes it, and so does the thread of an executor when it takes an execution. Each change is one
    operation on a dict, which is atomic.
    """

    def __init__(self) -> None:
        self._deliveries: dict[Delivery, None] = {}  # neither acknowledged nor requeued
        self._waiting: dict[Execution, None] = {}  # in the buffer
        self._running: dict[Execution, None] = {}  # with a slot
        self._abandoned: dict[Execution, None] = {}  # without one: their tasks run on after their grace

    def __repr__(self) -> str:
        return (
            f"<Held: {len(self._deliveries)} deliveries, {len(self._waiting)} executions wait, {len(self._running)} "
            f"run, {len(self._abandoned)} are abandoned>"
        )

    # --- deliveries -------------------------------------------------------------------------------------------------

    def accept(self, delivery: Delivery) -> None:
        """Add a delivery that has no execution, or none yet."""
        self._deliveries[delivery] = None

    def acknowledge(self, delivery: Delivery) -> bool:
        """Acknowledge a delivery; False if its channel is gone. Then it stays until `lose_deliveries`."""
        is_acknowledged = delivery.ack()
        if is_acknowledged:
            self._deliveries.pop(delivery, None)
        return is_acknowledged

    def requeue(self, delivery: Delivery) -> bool:
        """Return a delivery to its queue; False if its channel is gone, and the broker returns it."""
        is_requeued = delivery.requeue()
        if is_requeued:
            self._deliveries.pop(delivery, None)
        return is_requeued

    def lose_deliveries(self) -> None:
        """Remove all deliveries: they are lost with the link."""
        self._deliveries.clear()

    def count(self, queue: str) -> int:
        """Number of deliveries from `queue`."""
        return sum(delivery.queue == queue for delivery in list(self._deliveries))

    # --- executions -------------------------------------------------------------------------------------------------

    def add(self, execution: Execution) -> None:
        """Add an execution, which waits for a slot, and its delivery."""
        self._deliveries[execution.delivery] = None
        self._waiting[execution] = None

    def take_slot(self, execution: Execution) -> None:
        """Give `execution` a slot: an executor has taken it."""
        self._running[execution] = None  # first, as `has_work` may be asked at this moment
        self._waiting.pop(execution, None)

    def remove(self, execution: Execution) -> bool:
        """Remove an execution that waits or has a slot; False if it does neither."""
        # Both, as an executor may be taking it at this moment.
        did_wait = self._waiting.pop(execution, self) is None
        return self._running.pop(execution, self) is None or did_wait

    def abandon(self, execution: Execution) -> None:
        """Free the slot of `execution`, though its task runs on."""
        if self.remove(execution):
            self._abandoned[execution] = None

    def remove_abandoned(self, execution: Execution) -> bool:
        """Remove an abandoned execution that has ended; False if it is none."""
        return self._abandoned.pop(execution, self) is None

    def __contains__(self, execution: Execution) -> bool:
        """Whether `execution` waits or has a slot."""
        return execution in self._running or execution in self._waiting

    def executions(self) -> list[Execution]:
        """All that wait or have a slot."""
        return [*self._running, *self._waiting]

    def running(self) -> list[Execution]:
        """Those that have a slot, the oldest first."""
        return list(self._running)

    def abandoned(self) -> list[Execution]:
        """Those that run on without a slot."""
        return list(self._abandoned)

    @property
    def has_work(self) -> bool:
        """Whether an execution waits or has a slot."""
        return bool(self._running or self._waiting)

    def is_full(self, slots: int) -> bool:
        """Whether none of `slots` is free."""
        return len(self._running) >= slots
