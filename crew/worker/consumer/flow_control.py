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
        is_open: whether new deliveries are accepted: neither paused nor closed.
        is_paused: no new deliveries are accepted until `resume`, as they would only wait here.
        is_closed: no new deliveries are accepted any more.
        prefetch: of each queue.
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
        self.is_open = True
        self.is_paused = False
        self.is_closed = False
        self.prefetch = {
            queue: Prefetch(slots + (room := rooms.get(queue, 0)), fixed and fixed + room) for queue in queues
        }
        self._held = held
        self._consumption = Consumption(link, self._windows(), on_delivery, on_refused)

    def __repr__(self) -> str:
        state = "closed" if self.is_closed else "paused" if self.is_paused else "open"
        return f"<FlowControl {state}: {self._windows()}>"

    def apply(self, queue: str) -> None:
        """Apply the prefetch of `queue`, which has changed."""
        if self.is_open:
            self._consumption.set_prefetch(queue, self.prefetch[queue].window)

    def pause_again(self, queue: str) -> None:
        """Pause `queue` once more, as it has sent a delivery although consuming is paused or closed."""
        self._consumption.pause_again(queue)

    def pause(self) -> None:
        """Accept no new deliveries; pause each queue whose prefetch is not used up."""
        self.is_paused, self.is_open = True, False
        for queue, window in self._windows().items():
            if self._held.count(queue) < window:
                self._consumption.set_prefetch(queue, PAUSED)

    def resume(self) -> None:
        """End the pause, if there is one."""
        if not self.is_paused:
            return
        self.is_paused, self.is_open = False, not self.is_closed
        for queue in self.prefetch:
            self.apply(queue)

    def refuse(self) -> None:
        """Accept no new deliveries any more; each queue is paused once it sends one."""
        self.is_closed, self.is_open = True, False

    async def close(self) -> None:
        """Accept no new deliveries any more, and wait until the broker has paused all queues."""
        self.refuse()
        for queue in self.prefetch:
            self._consumption.set_prefetch(queue, PAUSED)
        await self._consumption.wait_applied()

    def _windows(self) -> dict[str, int]:
        return {queue: one.window for queue, one in self.prefetch.items()}
