"""What was published over one channel, and waits for the broker's word."""

import logging
from typing import Any

from pika import spec

from crew.amqp.confirm import Confirm, ConfirmStatus
from crew.amqp.fault import LinkFault
from crew.amqp.guard import guarded

logger = logging.getLogger(__name__)


class Unconfirmed:
    """Messages by their number on the channel, which is the tag of the broker's confirm."""

    def __init__(self) -> None:
        self._published = 0
        self._confirms: dict[int, Confirm] = {}
        self._returned: set[str | None] = set()  # None: of a message without an id, whose confirm comes next

    def __len__(self) -> int:
        return len(self._confirms)

    def __repr__(self) -> str:
        return f"<Unconfirmed: {len(self)} of {self._published}>"

    def add(self, key: str | None, size: int) -> Confirm:
        """The next message, with its id and the bytes of its body, was published."""
        self._published += 1
        confirm = self._confirms[self._published] = Confirm(key, size)
        return confirm

    def on_return(self, key: str | None) -> None:
        """No queue takes the message; its confirm follows."""
        self._returned.add(key)

    def on_confirm(self, frame: Any) -> None:
        """The broker has taken one message, or all up to one; unroutable ones came back just before."""
        method = frame.method
        status = ConfirmStatus.CONFIRMED if isinstance(method, spec.Basic.Ack) else ConfirmStatus.REFUSED
        if not method.multiple:
            self._settle(self._confirms.pop(method.delivery_tag, None), status)
            return
        for tag in [tag for tag in self._confirms if tag <= method.delivery_tag]:
            self._settle(self._confirms.pop(tag), status)

    def lose(self, fault: LinkFault) -> None:
        """The channel has closed before the broker said anything."""
        confirms, self._confirms = self._confirms, {}
        for confirm in confirms.values():
            is_too_large = fault.largest is not None and confirm.size > fault.largest
            guarded(confirm.settle)(ConfirmStatus.TOO_LARGE if is_too_large else ConfirmStatus.LOST)

    def _settle(self, confirm: Confirm | None, status: ConfirmStatus) -> None:
        if confirm is None:
            return
        if self._returned and confirm.key in self._returned:
            self._returned.discard(confirm.key)
            status = ConfirmStatus.RETURNED
        try:
            confirm.settle(status)
        except Exception:
            logger.exception("%r: what should follow failed", confirm)
