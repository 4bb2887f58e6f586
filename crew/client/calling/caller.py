"""Makes calls over two links: checks the arguments, encodes the payload, sends, and takes the replies."""

import time
from typing import Any, Final

from crew.amqp import Consumer, Link
from crew.client.calling.call import OnAnswer, PendingCall
from crew.client.calling.calls import Calls
from crew.duration import Duration, parse_duration
from crew.protocol import deadline, properties, topology, user_headers
from crew.protocol.encoding import codec
from crew.protocol.message import Call, Headers, new_id

REPLY_PREFETCH: Final = 500  # replies that the broker need not hold back


class Caller:
    """Calls tasks on behalf of `client`; what a Client does without the life of its links.

    Args:
        client: an id; it names the queue of the replies.
        limit: calls that may be in flight.
        publishing, consuming: links to publish on and to take replies from.
        max_message: bytes that the body of a call may have as it travels.
        options: of Calls.
    """

    def __init__(
        self,
        client: str,
        limit: int,
        *,
        publishing: Link,
        consuming: Link,
        max_message: int = codec.MAX_BODY,
        **options: Any,
    ) -> None:
        self.client = client
        self._max_message = max_message
        self.calls = Calls(limit, publishing=publishing, consuming=consuming, **options)
        self.queue, self.binding = topology.reply_queue(client)
        self.consumer = Consumer(
            self.queue.name, self.calls.on_reply, REPLY_PREFETCH, is_only=True, on_refused=self.calls.on_refused
        )

    def make(
        self,
        task: str,
        payload: Any = None,
        *,
        priority: int = 0,
        expiration: Duration = deadline.DEFAULT_EXPIRATION,
        timeout: Duration | None = None,
        persistent: bool = True,
        serializer: str | None = None,
        headers: Headers | None = None,
        callback: OnAnswer | None = None,
        id: str | None = None,
    ) -> PendingCall[Any]:
        """A call that is not sent yet; arguments and errors as `Client.call` has them. Any thread may make it."""
        message = Call(
            id=new_id() if id is None else topology.check_name("id", id),
            task=topology.check_name("task", task),
            body=codec.encode(payload, serializer, max_size=self._max_message),
            priority=properties.check_priority(priority),
            deadline=time.time() + parse_duration("expiration", expiration),
            timeout=None if timeout is None else parse_duration("timeout", timeout),
            persistent=bool(persistent),
            client=self.client,
            reply_to=self.queue.name,
            message_id=None if id is None else new_id(),
            headers=user_headers.check(headers),
        )
        return PendingCall(message, callback=callback, on_canceled=self.calls.cancel)

    def send(self, call: PendingCall[Any], *, fail_fast: bool = False) -> None:
        """Send it, on the loop of the links; raises what `Client.call` does."""
        self.calls.send(call, self.left(call), fail_fast=fail_fast)

    def left(self, call: PendingCall[Any]) -> float:
        """Seconds until the deadline of `call`."""
        now = time.time()
        return deadline.remaining(call.message.deadline or now, now)
