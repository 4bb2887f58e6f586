"""Makes and sends calls over two links: checks the arguments, encodes the payload, and receives the replies."""

import time
from typing import Any, Final

from crew.amqp import Consumer, Link
from crew.client.calling.call import OnResult, PendingCall
from crew.client.calling.calls import Calls
from crew.duration import Duration, parse_duration
from crew.protocol import deadline, properties, topology, user_headers
from crew.protocol.encoding import codec
from crew.protocol.message import Call, Headers, new_id

REPLY_PREFETCH: Final = 500  # replies that the broker delivers ahead


class Caller:
    """Calls tasks for the client `client`. It does not open or close the links.

    Args:
        client: id of the client; the queue of the replies is named after it.
        limit: the maximum number of calls in flight.
        publishing, consuming: the links to publish on, and to receive replies from.
        max_message: bytes that an encoded body may have.
        compresses: whether large bodies are compressed.
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
        compresses: bool = True,
        **options: Any,
    ) -> None:
        self.client = client
        self._max_message = max_message
        self._compresses = compresses
        self.calls = Calls(limit, publishing=publishing, consuming=consuming, max_message=max_message, **options)
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
        callback: OnResult | None = None,
        id: str | None = None,
    ) -> PendingCall[Any]:
        """Make a call without sending it; arguments and errors as of `Client.call`. Any thread may do so."""
        message = Call(
            id=new_id() if id is None else topology.check_name("id", id),
            task=topology.check_name("task", task),
            body=codec.encode_on_loop(payload, serializer, max_size=self._max_message, compresses=self._compresses),
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
        """Send the call, on the event loop of the links; raises what `Client.call` raises."""
        self.calls.send(call, self.left(call), fail_fast=fail_fast)

    def left(self, call: PendingCall[Any]) -> float:
        """Seconds until the deadline of `call`."""
        now = time.time()
        return deadline.remaining(call.message.deadline or now, now)
