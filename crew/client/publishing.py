"""`Client.publish` and `Client.subscribe`: events on topics. How they travel is told in `pubsub.py`."""

from typing import Any, Final

from crew import errors
from crew.client.events.pubsub import PubSub
from crew.client.events.subscription import OnEvent, Subscription
from crew.client.links import Links, has_running_loop
from crew.client.started import PendingEvent
from crew.protocol import deadline, topology, user_headers
from crew.protocol.encoding import codec
from crew.protocol.message import Event, Headers

PUBLISH_TIMEOUT: Final = 10.0  # seconds


class Publishing:
    """The part of a client that publishes and subscribes."""

    max_message: int
    _links: Links
    _pubsub: PubSub

    def publish(
        self,
        topic: str,
        data: Any = None,
        *,
        serializer: str | None = None,
        headers: Headers | None = None,
        persistent: bool = False,
        timeout: float = PUBLISH_TIMEOUT,
        fail_fast: bool | None = None,
    ) -> PendingEvent:
        """Publish an event. Returns at once; await what it returns to know that the broker has the event.

        Nobody needs to have subscribed. The event is published whether or not anything awaits it; a failure that
        nothing awaits is logged.

        Args:
            topic: words between dots.
            data, serializer, headers: as for `call`.
            persistent: published again where the connection breaks before the broker has confirmed it, so that it may
                arrive twice; else that is a ConnectionError.
            timeout: seconds to wait for the broker.
            fail_fast: as for `call`.

        Raises:
            ValueError: an argument is out of its range.
            SerializationError, TooLarge: as `call` does.
            Overloaded: the broker has blocked publishing.
            ConnectionError: the client was closed, or, with `fail_fast`, the broker is away.
            RuntimeError: no event loop runs here.

        What awaiting it raises:
            ConnectionError: the broker did not take it in time.
            Overloaded, TooLarge: the broker refuses it.
        """
        event = Event(
            topic=topology.check_topic(topic),
            body=codec.encode(data, serializer, max_size=self.max_message),
            persistent=bool(persistent),
            headers=user_headers.check(headers),
        )
        within = deadline.check_duration("timeout", timeout)
        self.open()
        if self._fails_fast(fail_fast) and not self._links.publishing.is_ready:
            raise errors.ConnectionError(f"the event on {event.topic!r} is not published: {self.obstacle}")
        return self._pubsub.start(event, within)

    def subscribe(self, topic: str, callback: OnEvent) -> Subscription:
        """Call back with every Event on `topic`, until `unsubscribe`; restored after a reconnect.

        Before an event loop runs it is remembered, and begins when one does, or with the first call.

        Args:
            topic: words between dots; `*` is one word, `#` any number.
            callback: function or coroutine function of one Event.

        Raises:
            ValueError: topic or callback cannot be one.
        """
        is_running = has_running_loop()
        if is_running:
            self._join_loop()
        subscription = self._pubsub.subscribe(topic, callback)
        if is_running:
            self.open()
        else:
            self.open_later()
        return subscription

    def unsubscribe(self, topic: str, callback: OnEvent | None = None) -> None:
        """Close the subscriptions to `topic`, or only those of `callback`; nothing where there is none."""
        if has_running_loop():
            self._join_loop()
        self._pubsub.unsubscribe(topic, callback)

    @property
    def obstacle(self) -> str | None:
        """Why nothing would be on its way at once."""
        raise NotImplementedError

    def open(self) -> None:
        """Begin to connect."""
        raise NotImplementedError

    def open_later(self) -> None:
        """Begin to connect as soon as an event loop runs."""
        raise NotImplementedError

    def _join_loop(self) -> None:
        raise NotImplementedError

    def _fails_fast(self, told: bool | None) -> bool:
        raise NotImplementedError
