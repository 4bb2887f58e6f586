"""How much a worker holds of each queue: as much as its run time makes sensible, and nothing new while it rests."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from crew.amqp import Link
from crew.amqp.delivery import OnDelivery
from crew.worker.consumer.consumption import PAUSED, Consumption
from crew.worker.consumer.prefetch import Prefetch


class FlowControl:
    """The deliveries of `queues` that a worker may hold, and those that it does.

    Args:
        on_delivery, on_refused: of each Consumer.
        slots: executions that may run at once.
        fixed: a window that does not follow anything; None to follow the measured run time.
        rooms: queue -> deliveries besides, which wait without a slot.

    Attributes:
        rests: nothing new is taken, as what comes would wait here; until `go_on`.
        is_closed: nothing new is taken any more.
    """

    def __init__(
        self,
        link: Link,
        queues: Iterable[str],
        on_delivery: OnDelivery,
        *,
        on_refused: OnDelivery,
        slots: int,
        fixed: int | None,
        rooms: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        self.rests = False
        self.is_closed = False
        self._prefetch = {
            queue: Prefetch(slots + (room := rooms.get(queue, 0)), fixed and fixed + room) for queue in queues
        }
        self._held = dict.fromkeys(self._prefetch, 0)
        self._consumption = Consumption(link, self._wanted(), on_delivery, on_refused)

    def __repr__(self) -> str:
        state = "closed" if self.is_closed else "rests" if self.rests else "open"
        return f"<FlowControl {state}: {self._held}>"

    @property
    def takes(self) -> bool:
        """Whether what comes is to be kept."""
        return not (self.rests or self.is_closed)

    def is_quick(self, queue: str) -> bool:
        """Whether executions of its task are known to end within some milliseconds."""
        return self._prefetch[queue].is_quick

    # --- what is held -----------------------------------------------------------------------------------------------

    def take(self, queue: str) -> None:
        """One more of `queue` is held."""
        self._held[queue] += 1

    def drop(self, queue: str) -> None:
        """One of `queue` was acknowledged, or went back."""
        self._held[queue] -= 1

    def forget(self) -> None:
        """All of them went with the link."""
        self._held = dict.fromkeys(self._held, 0)

    # --- what is wanted ---------------------------------------------------------------------------------------------

    def learn(self, queue: str, run_time: float) -> None:
        """An execution took `run_time` seconds."""
        if self._prefetch[queue].observe(run_time) and self.takes:
            self._consumption.want(queue, self._prefetch[queue].window)

    def refuse(self, queue: str) -> None:
        """Something came from `queue` that was not wanted: let it send no more."""
        self._consumption.pause_again(queue)

    def rest(self) -> None:
        """What comes would wait here: take nothing more of the queues that have something to send."""
        self.rests = True
        for queue, window in self._wanted().items():
            if self._held[queue] < window:
                self._consumption.want(queue, PAUSED)

    def go_on(self) -> None:
        """Take again, where it was a rest."""
        if self.rests:
            self.rests = False
            self._want_all()

    async def close(self) -> None:
        """Take nothing more, and wait until the broker has it so."""
        self.is_closed = True
        for queue in self._held:
            self._consumption.want(queue, PAUSED)
        await self._consumption.settled()

    def _want_all(self) -> None:
        if not self.is_closed:
            for queue, window in self._wanted().items():
                self._consumption.want(queue, window)

    def _wanted(self) -> dict[str, int]:
        return {queue: one.window for queue, one in self._prefetch.items()}
