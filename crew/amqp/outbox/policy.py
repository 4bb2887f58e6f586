"""Policies of the outbox: how often a message is published again, how long, and what is kept meanwhile.

All constants of "publish until the broker has taken it" stand here.

RabbitMQ refuses a message in the same way for two reasons: its queue is full, or it is a quorum queue without a leader,
as for a moment after a node has died. So a refusal is final only after a time in which a leader would be elected.
"""

import enum
import math
from typing import Final

import msgspec

from crew.amqp.confirms.confirm import Confirm

AGAIN_AFTER: Final = 0.1  # seconds until a refused or lost message is published again; an election takes about 0.2
ELECTION: Final = 5.0  # seconds; an election takes up to one second, on a busy machine up to three
# Seconds, if the queue has taken a message over this connection: then the broker keeps most later messages until there
# is a leader, and a refusal mostly means that the queue is full.
ELECTION_AFTER_CONFIRM: Final = 2.0
REPLY_REFUSED_FOR: Final = 30.0  # seconds: longer than an election; a full bounded queue may refuse for ever
REPLY_RETURNED_DELAYS: Final = (0.3, 0.7, 1.5)  # seconds: a client declares its deleted queue again within that time
MAX_REPLIES: Final = 10_000  # replies that wait for the broker
MAX_REPLY_BYTES: Final = 256 * 1024 * 1024  # of bodies: 16 of the largest; more could exhaust the worker's memory
MAX_RETRY_ATTEMPTS: Final = 50  # of publishing the retry of a call, `AGAIN_AFTER` apart: longer than an election
JOB_KEPT_FOR: Final = 2.0  # seconds that a submit waits for the broker; then the record alone makes the job accepted


class Repeatable(enum.Enum):
    """The messages that are published again after a kind of failure."""

    NONE = "none"
    PERSISTENT = "persistent"  # others would arrive twice if the broker has taken them
    ALL = "all"

    def includes(self, message: Confirm) -> bool:
        """Whether `message` is one of them."""
        return self is Repeatable.ALL or (self is Repeatable.PERSISTENT and message.is_persistent)


class OutboxPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What an outbox does with a message that the broker has not taken.

    A message that is too large or invalid is never published again.

    Attributes:
        name, plural: what the messages are, for the log.
        refused: messages that are published again after a refusal.
        refused_for: seconds after its first refusal in which a message is published again.
        refused_for_after_confirm: the same for a queue that has taken a message over this connection. Then all
            refusals of one queue count as one, and none counts as long as the queue has left a message unconfirmed.
            Default: each message counts for itself.
        refused_if_replicated: publish again only where queues are replicated. Elsewhere a refusing queue is full.
        again_after: seconds until a refused or lost message is published again while the broker is connected.
        returned_delays: seconds until a message is published again whose queue does not exist, one for each return.
            The last one repeats for a message that must arrive. A message that is prepared is prepared at once after
            its first return. Default: it is not published again.
        max_attempts: attempts in all, without those while the broker is away.
        lost: messages that are published again if their confirm was lost.
        resumes: whether the outbox waits for the connection by itself. Else its owner calls `send_waiting`.
        kept_for: seconds that a message waits for the connection. Default: no limit.
        max_messages: number of messages that wait; with more, the oldest are dropped.
        max_bytes: bytes of the bodies of the messages that wait; with more, the oldest are dropped.
    """

    name: str
    plural: str = "messages"
    refused: Repeatable = Repeatable.ALL
    refused_for: float = math.inf
    refused_for_after_confirm: float | None = None
    refused_if_replicated: bool = False
    again_after: float = AGAIN_AFTER
    returned_delays: tuple[float, ...] = ()
    max_attempts: float = math.inf
    lost: Repeatable = Repeatable.PERSISTENT
    resumes: bool = False
    kept_for: float = math.inf
    max_messages: float = math.inf
    max_bytes: float = math.inf


# A full queue is reported to the caller, whose call waits until its deadline otherwise. The number and bytes of the
# calls that wait are bounded by PendingCalls, which counts the published ones, too.
CALLS: Final = OutboxPolicy(
    name="call",
    refused_for=ELECTION,
    refused_for_after_confirm=ELECTION_AFTER_CONFIRM,
    refused_if_replicated=True,
)

# A client takes the first reply to a call and ignores a second one. So any reply may be published twice.
REPLIES: Final = OutboxPolicy(
    name="reply",
    plural="replies",
    refused_for=REPLY_REFUSED_FOR,
    returned_delays=REPLY_RETURNED_DELAYS,
    lost=Repeatable.ALL,
    max_messages=MAX_REPLIES,
    max_bytes=MAX_REPLY_BYTES,
)

# After the last attempt the caller gets the failure instead. The prefetch bounds what waits.
RETRIES: Final = OutboxPolicy(
    name="retry",
    returned_delays=(AGAIN_AFTER,) * MAX_RETRY_ATTEMPTS,  # its delay queue was deleted, and is declared again
    max_attempts=MAX_RETRY_ATTEMPTS,
    resumes=True,
)

# A job whose confirm was lost stays in the store, and any gateway publishes it later. The quota bounds what waits.
JOBS: Final = OutboxPolicy(
    name="job",
    refused_for=ELECTION,
    refused_if_replicated=True,
    lost=Repeatable.NONE,
    resumes=True,
    kept_for=JOB_KEPT_FOR,
)

# The timeout of the publisher ends it. An event may have several queues: if one refuses it, others have taken it.
EVENTS: Final = OutboxPolicy(name="event", refused=Repeatable.PERSISTENT, resumes=True)
