"""Messages of an outbox that wait for the broker, in order, bounded in number and bytes.

Usually their senders bound them, unless connections break again and again. When they are too many, the oldest are
dropped. For replies that is not the end of the call: if the delivery is still unacknowledged it is requeued and the
call runs again; otherwise the broker has taken it back already.
"""

import logging

from crew.amqp.outbox.outgoing import Outgoing
from crew.amqp.outbox.policy import OutboxPolicy

logger = logging.getLogger(__name__)


class WaitingMessages:
    """Waiting messages, by number: the order in which they were first sent.

    Attributes:
        bytes: size of all bodies.
    """

    def __init__(self, policy: OutboxPolicy) -> None:
        self._policy = policy
        self._messages: dict[int, Outgoing] = {}
        self._dropped = 0  # since the last `take`
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._messages)

    def __repr__(self) -> str:
        return f"<WaitingMessages: {len(self)} of kind {self._policy.name}, {self.bytes} bytes>"

    def add(self, message: Outgoing) -> None:
        """Add a message that does not wait yet; if there are too many, drop the oldest ones."""
        self._messages[message.number] = message
        self.bytes += message.size
        while len(self._messages) > self._policy.max_messages or self.bytes > self._policy.max_bytes:
            self._drop(self._messages[min(self._messages)])

    def remove(self, message: Outgoing) -> bool:
        """Remove `message`; return False where it does not wait."""
        if self._messages.get(message.number) is not message:
            return False
        del self._messages[message.number]
        self.bytes -= message.size
        return True

    def take(self) -> list[Outgoing]:
        """Remove and return all messages, the oldest first."""
        messages, self._messages, self.bytes = self._messages, {}, 0
        if self._dropped:
            text = "%s backlog sent: %d %s were discarded while the broker was away"
            logger.error(text, self._policy.name, self._dropped, self._policy.plural)
            self._dropped = 0
        return [messages[number] for number in sorted(messages)]

    def _drop(self, message: Outgoing) -> None:
        self.remove(message)
        if not self._dropped:
            logger.error(
                "%s backlog full: discarding the oldest %s until the broker is back (limits: %.0f %s, %.0f bytes) "
                "call_id=%s",
                self._policy.name,
                self._policy.plural,
                self._policy.max_messages,
                self._policy.plural,
                self._policy.max_bytes,
                message.id,
            )
        self._dropped += 1
        message.on_dropped()
