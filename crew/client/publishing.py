"""`Client.publish` and `Client.subscribe`: events on topics. How they travel is told in `pubsub.py`."""

from typing import Any, Final

from crew import errors
from crew.client.links import Links, has_running_loop
from crew.client.pubsub import PubSub
from crew.client.subscription import OnEvent, Subscription
from crew.protocol import codec, deadline, topology, user_headers
from crew.protocol.message import Event, Headers

PUBLISH_TIMEOUT: Final = 10.0  # seconds


class Publishing:
    """The part of a client that publishes and subscribes."""

    max_message: int
    _links: Links
    _pubsub: PubSub

    async def publish(
        self,
        topic: str,
        data: Any = None,
        *,
        serializer: str | None = None,
        headers: Headers | None = None,
        persistent: bool = False,
        timeout: float = PUBLISH_TIMEOUT,
        fail_fast: bool | None = None,
    ) -> None:
        """Publish an event; returns when the broker has it. Nobody needs to have subscribed.

        Args:
            topic: words between dots.
            data, serializer, headers: as for `call`.
            persistent: published again where the connection breaks before the broker has confirmed it, so that it may
                arrive twice; else that is a ConnectionError.
            timeout: seconds to wait for the broker.
            fail_fast: as for `call`.

        Raises:
            ValueError, SerializationError, Overloaded: as `call` does.
            ConnectionError: the broker did not take it in time, or, with `fail_fast`, is away.
        """
        event = Event(
            topic=topology.check_topic(topic),
            body=codec.encode(data, serializer, max_size=self.max_message),
            persistent=bool(persistent),
            headers=user_headers.check(headers),
        )
        self.open()
        if self._fails_fast(fail_fast) and not self._links.publishing.is_ready:
            raise errors.ConnectionError(f"the event on {event.topic!r} is not published: {self.obstacle}")
        await self._pubsub.publish(event, deadline.check_duration("timeout", timeout))

    def subscribe(self, topic: str, callback: OnEvent) -> Subscription:
        """Call back with every Event on `topic`, until `unsubscribe`; restored after a reconnect.

        Before any loop runs this is only remembered; the first call, or `connect`, tells the broker.

        Args:
            topic: words between dots; `*` is one word, `#` any number.
            callback: function or coroutine function of one Event.

        Raises:
            ValueError: topic or callback cannot be one.
        """
        subscription = self._pubsub.subscribe(topic, callback)
        if has_running_loop():
            self.open()
        return subscription

    def unsubscribe(self, topic: str, callback: OnEvent | None = None) -> None:
        """Close the subscriptions to `topic`, or only those of `callback`; nothing where there is none."""
        self._pubsub.unsubscribe(topic, callback)

    @property
    def obstacle(self) -> str | None:
        """Why nothing would be on its way at once."""
        raise NotImplementedError

    def open(self) -> None:
        """Begin to connect."""
        raise NotImplementedError

    def _fails_fast(self, told: bool | None) -> bool:
        raise NotImplementedError
