"""The messages of one channel that the broker has not confirmed yet.

For a message that reaches no queue RabbitMQ sends a return and, later, a confirm. Confirms of other messages may come
between the two. A return does not contain the delivery tag. It contains the exchange, the routing key and the id of the
message. So all unconfirmed messages with the same exchange, routing key and id count as returned. This is wrong only
where the queue was declared between two of them: then a message is published twice. A lost message never counts as
confirmed.
"""

import logging
from typing import Final

from crew.amqp.confirms.confirm import Confirm, ConfirmStatus
from crew.amqp.errors import LinkError, guarded

logger = logging.getLogger(__name__)

SWEEP_ABOVE: Final = 1_000  # remembered returns; with more, those of settled messages are removed


class Unconfirmed:
    """Unconfirmed messages by their number on the channel, which is the delivery tag of the broker's confirm.

    Attributes:
        published: number of the last published message.
    """

    def __init__(self) -> None:
        self.published = 0
        self._confirms: dict[int, Confirm] = {}
        self._returned: dict[
            tuple[str, str, str | None], int
        ] = {}  # see _place -> number of the last message to which it may apply
        self._sweep_above = SWEEP_ABOVE

    def __len__(self) -> int:
        return len(self._confirms)

    def __repr__(self) -> str:
        return f"<Unconfirmed: {len(self)} of {self.published}>"

    def add(self, message: Confirm) -> None:
        """Add the next published message."""
        self.published += 1
        self._confirms[self.published] = message

    def on_return(self, exchange: str, routing_key: str, key: str | None) -> None:
        """The broker has returned a message that no queue takes; its confirm follows."""
        self._returned[exchange, routing_key, key] = self.published
        if len(self._returned) > self._sweep_above:
            self._sweep()

    def on_confirm(self, last: int, is_multiple: bool, is_taken: bool) -> None:
        """The broker has confirmed or refused message `last`, or all messages up to it.

        Args:
            is_multiple: whether it is for all messages up to `last`.
            is_taken: whether the broker has them.
        """
        status = ConfirmStatus.CONFIRMED if is_taken else ConfirmStatus.REFUSED
        if not is_multiple:
            self._settle(last, status)
            return
        for tag in [tag for tag in self._confirms if tag <= last]:
            self._settle(tag, status)

    def has_up_to(self, tag: int) -> bool:
        """Whether message `tag`, or an older one, is unconfirmed."""
        return next(iter(self._confirms), tag + 1) <= tag

    def lose_up_to(self, tag: int) -> int:
        """Settle as LOST all messages up to `tag`; return their number."""
        lost = [one for one in self._confirms if one <= tag]
        for one in lost:
            self._settle(one, ConfirmStatus.LOST)
        return len(lost)

    def take(self) -> list[Confirm]:
        """Remove and return all messages in their order, but settle returned ones. The caller settles the rest."""
        if self._returned:
            came_back = [tag for tag, one in self._confirms.items() if self._returned.get(_place(one), 0) >= tag]
            for tag in came_back:
                self._settle(tag, ConfirmStatus.RETURNED)
        taken, self._confirms = list(self._confirms.values()), {}
        return taken

    def lose(self, error: LinkError) -> None:
        """The channel has closed: settle all messages as LOST, or as TOO_LARGE above the broker's limit."""
        confirms, self._confirms = self._confirms, {}
        for confirm in confirms.values():
            is_too_large = error.largest is not None and len(confirm.body) > error.largest
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
            logger.exception("callback of a confirm failed: %r", confirm)

    def _sweep(self) -> None:
        """Remove returns that concern no unconfirmed message."""
        places = {_place(confirm) for confirm in self._confirms.values()}
        self._returned = {place: tag for place, tag in self._returned.items() if place in places}
        self._sweep_above = max(SWEEP_ABOVE, 2 * len(self._returned))


def _place(confirm: Confirm) -> tuple[str, str, str | None]:
    """Return exchange, routing key and id of a message: all that a return contains of it."""
    return confirm.exchange, confirm.routing_key, confirm.key
