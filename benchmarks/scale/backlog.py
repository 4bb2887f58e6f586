"""Fills a queue of a task with calls, as fast as the broker confirms them.

The frames of one call are encoded once; each copy has its own id. pika would encode every message anew, and need more
time for a million of them than the broker.
"""

import time
from typing import Any, Final
from uuid import uuid4

import pika
from pika import frame, spec
from pika.channel import Channel

BATCH: Final = 500  # messages in one write
IN_FLIGHT: Final = 10_000  # messages that the broker has not confirmed
EXPIRATION: Final = 3_600  # seconds
BODY: Final = b'{"sleep":0.005}'
_ID: Final = uuid4().hex


def fill(url: str, task: str, reply_to: str, count: int) -> None:
    """Publish `count` persistent calls of priority 0 to the queue of `task`, and wait for all confirms."""
    if count:
        _Filler(url, call_frames(task, reply_to), count).run()


def call_frames(task: str, reply_to: str) -> tuple[bytes, str, bytes]:
    """The frames of one call on channel 1: what stands before its id, an id, and what stands after it."""
    deadline = round((time.time() + EXPIRATION) * 1000)
    properties = spec.BasicProperties(
        content_type="application/json",
        correlation_id=_ID,
        reply_to=reply_to,
        type="call",
        priority=0,
        expiration=str(EXPIRATION * 1000),
        delivery_mode=2,
        app_id="crew",
        headers={"crew-task": task, "crew-deadline": deadline},
    )
    frames = [
        frame.Method(1, spec.Basic.Publish(routing_key=f"crew.tasks.{task}")),
        frame.Header(1, len(BODY), properties),
        frame.Body(1, BODY),
    ]
    before, after = b"".join(one.marshal() for one in frames).split(_ID.encode())
    return before, _ID, after


class _Filler:
    """Keeps `IN_FLIGHT` copies of a call unconfirmed until all are sent."""

    def __init__(self, url: str, call: tuple[bytes, str, bytes], count: int) -> None:
        self._before, _, self._after = call
        self._count = count
        self._sent = self._confirmed = 0
        self._connection = pika.SelectConnection(pika.URLParameters(url), on_open_callback=self._on_open)

    def run(self) -> None:
        """Return when the broker has confirmed all of them."""
        self._connection.ioloop.start()

    def _on_open(self, connection: pika.SelectConnection) -> None:
        connection.add_on_close_callback(lambda *_: connection.ioloop.stop())
        connection.channel(channel_number=1, on_open_callback=self._on_channel)

    def _on_channel(self, channel: Channel) -> None:
        channel.confirm_delivery(self._on_confirm, callback=lambda _: self._send())

    def _on_confirm(self, confirm: Any) -> None:
        tag = confirm.method.delivery_tag
        self._confirmed = max(self._confirmed, tag) if confirm.method.multiple else self._confirmed + 1
        if self._confirmed >= self._count:
            self._connection.close()
        else:
            self._send()

    def _send(self) -> None:
        while self._sent < self._count and self._sent - self._confirmed <= IN_FLIGHT - BATCH:
            numbers = range(self._sent, min(self._sent + BATCH, self._count))
            copies = (self._before + f"{number:032x}".encode() + self._after for number in numbers)
            self._connection._output_marshaled_frames([b"".join(copies)])
            self._sent += len(numbers)
