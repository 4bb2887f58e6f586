"""A message in the in-memory broker, and its place in a queue."""

import datetime
from collections.abc import Sequence
from typing import Any

import msgspec

from crew.testing.broker.errors import ChannelClosed


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A published message.

    Attributes:
        properties: AMQP properties that are set, by their names in pika; `headers` is a dictionary.
    """

    exchange: str
    routing_key: str
    properties: dict[str, Any] = {}
    body: bytes = b""

    @property
    def headers(self) -> dict[str, Any]:
        """The headers; empty where there are none."""
        return self.properties.get("headers") or {}

    @property
    def priority(self) -> int:
        """The priority, 0 where it is not set."""
        return int(self.properties.get("priority") or 0)

    @property
    def expiration(self) -> float | None:
        """Time to live in seconds; None if it is not set.

        Raises:
            ChannelClosed: the property is no number of milliseconds.
        """
        text = self.properties.get("expiration")
        if text is None:
            return None
        if not str(text).isdecimal() or int(text) >= 2**32:
            raise ChannelClosed(406, f"invalid expiration '{text}'")
        return int(text) / 1000

    def with_properties(self, **changed: Any) -> "Message":
        """Return a copy with `changed` properties; None removes one."""
        merged = {**self.properties, **changed}
        return msgspec.structs.replace(
            self, properties={name: value for name, value in merged.items() if value is not None}
        )


class Entry(msgspec.Struct, kw_only=True, eq=False):
    """A message in a queue.

    Attributes:
        position: its order among all messages that were ever put into the queue.
        expires_at: time of the broker's clock at which it is dead; None: never.
        is_redelivered: whether it was delivered before, and came back.
        returns: how often it came back.
    """

    message: Message
    position: int
    expires_at: float | None = None
    is_redelivered: bool = False
    returns: int = 0

    def is_dead(self, now: float) -> bool:
        """Whether its time to live is over."""
        return self.expires_at is not None and self.expires_at <= now


def dead_letter(message: Message, *, queue: str, reason: str, routing_key: str | None, wall: float) -> Message:
    """Return `message` as `queue` sends it to its dead letter exchange, with its history in `x-death`.

    Args:
        reason: "expired", "rejected", "maxlen" or "delivery_limit".
        routing_key: of the dead letter; None: that of the message.
        wall: epoch seconds.

    See https://www.rabbitmq.com/docs/dlx#effects
    """
    headers = dict(message.headers)
    deaths = [dict(death) for death in headers.get("x-death") or ()]
    same = next((one for one in deaths if one["queue"] == queue and one["reason"] == reason), None)
    if same is not None:
        deaths.remove(same)
        same["count"] += 1
    else:
        same = {
            "count": 1,
            "reason": reason,
            "queue": queue,
            "time": datetime.datetime.fromtimestamp(int(wall), datetime.UTC),
            "exchange": message.exchange,
            "routing-keys": [message.routing_key],
        }
        if "expiration" in message.properties:
            same["original-expiration"] = str(message.properties["expiration"])
    for name, value in (("reason", reason), ("queue", queue), ("exchange", message.exchange)):
        headers.setdefault(f"x-first-death-{name}", value)
    headers["x-death"] = [same, *deaths]
    moved = message.with_properties(headers=headers, expiration=None)
    return moved if routing_key is None else msgspec.structs.replace(moved, routing_key=routing_key)


def is_cycle(message: Message, queue: str) -> bool:
    """Whether a dead letter would come back to `queue` although no client rejected it: RabbitMQ drops it then."""
    deaths: Sequence[dict[str, Any]] = message.headers.get("x-death") or ()
    since = next((number for number, death in enumerate(deaths) if death["queue"] == queue), None)
    return since is not None and all(death["reason"] != "rejected" for death in deaths[: since + 1])
