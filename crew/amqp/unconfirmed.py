"""Messages that were published over one channel and that the broker has not confirmed yet.

For a message that reaches no queue RabbitMQ sends a return, and its confirm later; between the two may be confirms of
other messages, alone or several in one frame. A return names no delivery tag. But it repeats where the message was
sent, exchange and routing key, and a queue that was not there for one message was not there for those that were
published to the same place with the same id and are not confirmed yet: all of them count as returned. Where that is
wrong, as the queue was declared between them, a message is published twice; a message that is lost is never taken for
confirmed.
"""

import logging
from typing import Any, Final

from pika import spec

from crew.amqp.confirm import Confirm, ConfirmStatus
from crew.amqp.errors import LinkError, guarded

logger = logging.getLogger(__name__)

SWEEP_ABOVE: Final = 1_000  # returns that may be remembered before those that are settled are forgotten


class Unconfirmed:
    """Messages by their number on the channel, which is the tag of the broker's confirm.

    Attributes:
        published: number of the last message.
    """

    def __init__(self) -> None:
        self.published = 0
        self._confirms: dict[int, Confirm] = {}
        self._returned: dict[tuple[str, str, str | None], int] = {}  # see _place -> last message that it may be
        self._sweep_above = SWEEP_ABOVE

    def __len__(self) -> int:
        return len(self._confirms)

    def __repr__(self) -> str:
        return f"<Unconfirmed: {len(self)} of {self.published}>"

    def add(self, message: Confirm) -> None:
        """The next message was published."""
        self.published += 1
        self._confirms[self.published] = message

    def on_return(self, exchange: str, routing_key: str, key: str | None) -> None:
        """A message came back, as no queue takes it; its confirm follows."""
        self._returned[exchange, routing_key, key] = self.published
        if len(self._returned) > self._sweep_above:
            self._sweep()

    def on_confirm(self, frame: Any) -> None:
        """The broker confirms, or refuses, one message or all up to one."""
        method = frame.method
        status = ConfirmStatus.CONFIRMED if isinstance(method, spec.Basic.Ack) else ConfirmStatus.REFUSED
        if not method.multiple:
            self._settle(method.delivery_tag, status)
            return
        for tag in [tag for tag in self._confirms if tag <= method.delivery_tag]:
            self._settle(tag, status)

    def has_up_to(self, tag: int) -> bool:
        """Whether message `tag`, or an older one, is unconfirmed."""
        return next(iter(self._confirms), tag + 1) <= tag

    def give_up(self, tag: int) -> int:
        """The broker does not confirm messages up to `tag`: they are LOST; returns how many."""
        given_up = [one for one in self._confirms if one <= tag]
        for one in given_up:
            self._settle(one, ConfirmStatus.LOST)
        return len(given_up)

    def take(self) -> list[Confirm]:
        """All of them, in their order; those that came back are RETURNED instead. What becomes of them is yours."""
        if self._returned:
            came_back = [tag for tag, one in self._confirms.items() if self._returned.get(_place(one), 0) >= tag]
            for tag in came_back:
                self._settle(tag, ConfirmStatus.RETURNED)
        taken, self._confirms = list(self._confirms.values()), {}
        return taken

    def lose(self, fault: LinkError) -> None:
        """The channel has closed before the broker confirmed them."""
        confirms, self._confirms = self._confirms, {}
        for confirm in confirms.values():
            is_too_large = fault.largest is not None and len(confirm.body) > fault.largest
            guarded(confirm.settle)(ConfirmStatus.TOO_LARGE if is_too_large else ConfirmStatus.LOST)

    def _settle(self, tag: int, status: ConfirmStatus) -> None:
        confirm = self._confirms.pop(tag, None)
        if confirm is None:
            return
        if self._returned:
            if self._returned.get(_place(confirm), 0) >= tag:
                status = ConfirmStatus.RETURNED
            if not self._confirms:
                self._returned.clear()
        try:
            confirm.settle(status)
        except Exception:
            logger.exception("%r: what should follow failed", confirm)

    def _sweep(self) -> None:
        """Forget returns that concern no unconfirmed message."""
        places = {_place(confirm) for confirm in self._confirms.values()}
        self._returned = {place: tag for place, tag in self._returned.items() if place in places}
        self._sweep_above = max(SWEEP_ABOVE, 2 * len(self._returned))


def _place(confirm: Confirm) -> tuple[str, str, str | None]:
    """Where a message was sent, and its id: all that a return says of it."""
    return confirm.exchange, confirm.routing_key, confirm.key
