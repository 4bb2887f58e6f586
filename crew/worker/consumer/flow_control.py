"""Flow control: how many deliveries of each queue a worker holds, and when consuming is paused or closed."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from crew.amqp import Link
from crew.amqp.delivery import OnDelivery
from crew.worker.consumer.consumption import PAUSED, Consumption
from crew.worker.consumer.prefetch import Prefetch
from crew.worker.execution.held import Held


class FlowControl:
    """Sets how many deliveries of each of `queues` may be held.

    Args:
        on_delivery, on_refused: callbacks of each consumer.
        slots: executions that may run at once.
        fixed: fixed prefetch; None to follow the measured run time.
        rooms: queue -> additional deliveries, which may wait without a slot.

    Attributes:
        is_paused: no new deliveries are accepted until `resume`, as they would only wait here.
        is_closed: no new deliveries are accepted any more.
    """

    def __init__(
        self,
        link: Link,
        queues: Iterable[str],
        on_delivery: OnDelivery,
        *,
        on_refused: OnDelivery,
        held: Held,
        slots: int,
        fixed: int | None,
        rooms: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        self.is_paused = False
        self.is_closed = False
        self._prefetch = {
            queue: Prefetch(slots + (room := rooms.get(queue, 0)), fixed and fixed + room) for queue in queues
        }
        self._held = held
        self._consumption = Consumption(link, self._windows(), on_delivery, on_refused)

    def __repr__(self) -> str:
        state = "closed" if self.is_closed else "paused" if self.is_paused else "open"
        return f"<FlowControl {state}: {self._windows()}>"

    @property
    def is_open(self) -> bool:
        """Whether new deliveries are accepted."""
        return not (self.is_paused or self.is_closed)

    def is_quick(self, queue: str) -> bool:
        """Whether the last executions from `queue` took only some milliseconds."""
        return self._prefetch[queue].is_quick

    # --- prefetch ---------------------------------------------------------------------------------------------------

    def observe(self, queue: str, run_time: float) -> None:
        """Adapt the prefetch of `queue` to an execution that took `run_time` seconds."""
        if self._prefetch[queue].observe(run_time) and self.is_open:
            self._consumption.set_prefetch(queue, self._prefetch[queue].window)

    def pause_again(self, queue: str) -> None:
        """Pause `queue` once more, as it has sent a delivery although consuming is paused or closed."""
        self._consumption.pause_again(queue)

    def pause(self) -> None:
        """Accept no new deliveries; pause each queue whose prefetch is not used up."""
        self.is_paused = True
        for queue, window in self._windows().items():
            if self._held.count(queue) < window:
                self._consumption.set_prefetch(queue, PAUSED)

    def resume(self) -> None:
        """End the pause, if there is one."""
        if self.is_paused:
            self.is_paused = False
            self._set_all()

    async def close(self) -> None:
        """Accept no new deliveries any more, and wait until the broker has paused all queues."""
        self.is_closed = True
        for queue in self._prefetch:
            self._consumption.set_prefetch(queue, PAUSED)
        await self._consumption.wait_applied()

    def _set_all(self) -> None:
        if not self.is_closed:
            for queue, window in self._windows().items():
                self._consumption.set_prefetch(queue, window)

    def _windows(self) -> dict[str, int]:
        return {queue: one.window for queue, one in self._prefetch.items()}
