"""Names and arguments of all exchanges, queues and bindings; this is the only place that defines them.

Clients and workers use the same functions, so that their arguments cannot differ. Everything here works unchanged on
RabbitMQ 3.10 to 4.3: no transient non-exclusive queue, no mirroring, no `x-` binding key.

The functions describe queues without a type. `of_type` adds the type to each declaration, because a virtual host may
have another default. RabbitMQ 3.10 to 4.3 treat "classic" as equal to a queue that was declared without a type. So
older and newer versions of crew can declare the same queue. A cluster replicates quorum queues on several nodes. All
queues have the same type: a durable classic queue can be neither used nor declared while its only node is down.
"""

import re
from collections.abc import Iterable
from typing import Any, TypeAlias

import msgspec

from crew.protocol.encoding.foreign import brief

Arguments = dict[str, Any]

PRIORITY_LEVELS = 10  # of a queue; 255 levels cost 3.3 MB and 620 ms for each queue, and a tenth of the throughput
REPLY_QUEUE_EXPIRES_MS = 300_000  # replies outlive a gateway's disconnect of up to 5 minutes
SUBSCRIPTION_EXPIRES_MS = 60_000  # events outlive a short disconnect
SUBSCRIPTION_MAX_LENGTH = 10_000  # events; the oldest are discarded first
PARKED_MAX_LENGTH = 100_000
CONTROL_EXPIRES_MS = 60_000  # a cancel outlives a worker's short disconnect
CONTROL_MAX_LENGTH = 10_000  # cancels
CLOCK_EXPIRES_MS = 10_000
# Deliveries, more than any call has: crew counts crashes itself. Without this argument RabbitMQ 4 drops a message after
# 20 deliveries; before 4.3 it also counts messages that busy workers requeue. RabbitMQ 3.10 puts requeued messages at
# the end of the queue without it. The value -1 means no limit for RabbitMQ 4, but one delivery for 3.10.
DELIVERY_LIMIT = 1_000_000
DELAY_QUEUE_EXPIRES_MS = (
    600_000  # after its delay: RabbitMQ deletes a queue that is not declared again, even with messages
)

DEFAULT_EXCHANGE = ""
DEAD_LETTERS = "crew.DLX"
PUBSUB = "crew.PUBSUB"
CONTROL = "crew.control"
RETRY = "crew.retry"
TASK_PREFIX = "crew.tasks."
HOLDING_PREFIX = "crew.moved."  # as long as TASK_PREFIX, so that every task name fits
AGAIN_PREFIX = "crew.again."
PARKED = "crew.parked"
JOBS_PREFIX = "crew.jobs."
REPLY_PREFIX = "crew.reply."
SUBSCRIPTION_PREFIX = "crew.subscribe."
CONTROL_PREFIX = "crew.control."
REVOCATION_REQUEST = "jobs.briefing"  # a routing key
HTTP_TASK = "crew.http"  # performs URL jobs
CLASSIC = "classic"
QUORUM = "quorum"
DELAY_HEADER = "crew-delay"  # milliseconds
CLIENT_HEADER = "crew-client"  # RabbitMQ ignores binding keys that begin with `x-`: such a binding matches everything

NAME_BYTES = 255 - len(TASK_PREFIX)  # AMQP's short string holds 255 bytes
_CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f]")


class Exchange(msgspec.Struct, frozen=True):
    """A durable exchange."""

    name: str
    kind: str


class Queue(msgspec.Struct, frozen=True):
    """A durable queue.

    Attributes:
        arguments: `x-` arguments; every declaration must have the same.
    """

    name: str
    arguments: Arguments = {}


class Binding(msgspec.Struct, frozen=True):
    """Routes matching messages of `exchange` to `queue`."""

    queue: str
    exchange: str
    key: str = ""
    arguments: Arguments = {}


Item: TypeAlias = Exchange | Queue | Binding

EXCHANGES: tuple[Exchange, ...] = (
    Exchange(DEAD_LETTERS, "headers"),
    Exchange(PUBSUB, "topic"),
    Exchange(CONTROL, "topic"),
    Exchange(RETRY, "headers"),
)


def of_type(item: Item, queue_type: str) -> Item:
    """Return `item` for a declaration with `queue_type`: "classic" or "quorum".

    A quorum queue does not accept x-max-priority. RabbitMQ 3.10 has no priorities for it, 4.0 two levels, 4.3 all.
    """
    if not isinstance(item, Queue):
        return item
    if queue_type != QUORUM:
        return Queue(item.name, item.arguments | {"x-queue-type": queue_type})
    arguments = {name: value for name, value in item.arguments.items() if name != "x-max-priority"}
    arguments |= {"x-queue-type": QUORUM, "x-delivery-limit": DELIVERY_LIMIT}
    if arguments.get("x-dead-letter-exchange") == DEFAULT_EXCHANGE:  # a call that waits for its retry exists only there
        arguments |= {"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"}
    return Queue(item.name, arguments)


def shortcoming(queue_type: str, version: str) -> str | None:
    """Return what queues of this type lack on RabbitMQ `version`, like "3.10.8", in one sentence; or None."""
    if queue_type != QUORUM or not (found := re.match(r"(\d+)\.(\d+)", version)):
        return None
    if (release := (int(found[1]), int(found[2]))) >= (4, 3):
        return None
    has = "no priorities" if release < (4, 0) else "two levels of priority, 0 to 127 and 128 to 255, served in turns"
    return f"quorum queues of RabbitMQ {version} have {has}; with 4.3 they have ten"


def check_name(kind: str, name: object) -> str:
    """Check that `name` can be part of a queue name or a routing key, and return it.

    Raises:
        ValueError: it is not a string, empty, too long for AMQP, or contains a control character.
    """
    if not isinstance(name, str):
        raise ValueError(f"{kind} must be a string, not {brief(name)}")
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise ValueError(f"{kind} must be valid Unicode, not {brief(name)}") from None
    if not 0 < size <= NAME_BYTES or _CONTROL_CHARACTER.search(name):
        raise ValueError(f"{kind} must have 1 to {NAME_BYTES} bytes and no control characters, not {brief(name)}")
    return name


def task_queue_name(task: str) -> str:
    """Return the name of the queue for calls of `task`."""
    return TASK_PREFIX + task


def again_queue_name(task: str) -> str:
    """Return the name of the queue for retries of a `task` whose queue has a limit."""
    return AGAIN_PREFIX + task


def task_of_queue(queue: str) -> str:
    """Return the task whose calls are in `queue`."""
    prefix = next((prefix for prefix in (AGAIN_PREFIX, HOLDING_PREFIX) if queue.startswith(prefix)), TASK_PREFIX)
    return queue.removeprefix(prefix)


def task_queue(task: str, *, max_queue: int | None = None) -> Queue:
    """Return the queue of `task`, with priority levels and a dead letter exchange.

    Args:
        max_queue: limit of waiting calls, without those that workers hold; further calls are refused. None: no limit.
    """
    arguments: Arguments = {"x-max-priority": PRIORITY_LEVELS - 1, "x-dead-letter-exchange": DEAD_LETTERS}
    if max_queue is not None:
        arguments |= {"x-max-length": max_queue, "x-overflow": "reject-publish"}
    return Queue(task_queue_name(task), arguments)


def again_queue(task: str) -> Queue:
    """Return the queue for retries of a `task` whose queue has a limit.

    It has no limit: its calls were accepted before, and RabbitMQ silently drops a message that it dead-letters into a
    full queue.
    """
    return Queue(again_queue_name(task), task_queue(task).arguments)


def holding_queue(task: str) -> Queue:
    """Return the queue in which the calls of `task` wait in order while its own queue is declared again.

    Calls that expire in it go back to the caller, as from the queue of the task.
    """
    return Queue(HOLDING_PREFIX + task, {"x-dead-letter-exchange": DEAD_LETTERS})


def delay_queue(delay_ms: int) -> tuple[Queue, Binding]:
    """Return the queue in which calls of all tasks wait for `delay_ms` until their retry.

    There is one queue for each delay, because RabbitMQ expires a message only at the head of its queue. After the delay
    a call goes through the default exchange to the queue in its routing key: the queue of its task.
    """
    queue = Queue(
        f"{RETRY}.{delay_ms}",
        {
            "x-message-ttl": delay_ms,
            "x-dead-letter-exchange": DEFAULT_EXCHANGE,
            "x-expires": delay_ms + DELAY_QUEUE_EXPIRES_MS,
        },
    )
    return queue, Binding(queue.name, RETRY, "", {DELAY_HEADER: delay_ms, "x-match": "all"})


def reply_queue(client: str) -> tuple[Queue, Binding]:
    """Return the queue for replies to `client` and for its dead letters.

    It is durable and not exclusive. An exclusive queue would lose all replies during a disconnect, and could not be
    declared again while the broker has not noticed the lost connection.
    """
    queue = Queue(REPLY_PREFIX + client, {"x-expires": REPLY_QUEUE_EXPIRES_MS})
    return queue, Binding(queue.name, DEAD_LETTERS, "", {CLIENT_HEADER: client, "x-match": "all"})


def subscription_queue(client: str) -> Queue:
    """Return the queue for the events of `client`; not exclusive, so that it outlives a short disconnect."""
    return Queue(
        SUBSCRIPTION_PREFIX + client,
        {"x-expires": SUBSCRIPTION_EXPIRES_MS, "x-max-length": SUBSCRIPTION_MAX_LENGTH},
    )


def subscription(client: str, topic: str) -> Binding:
    """Return the binding that routes the events of `topic` to `client`."""
    return Binding(SUBSCRIPTION_PREFIX + client, PUBSUB, topic)


def control_queue(worker: str) -> Queue:
    """Return the queue for control messages to `worker`; not exclusive, so that it outlives a short disconnect."""
    return Queue(CONTROL_PREFIX + worker, {"x-expires": CONTROL_EXPIRES_MS, "x-max-length": CONTROL_MAX_LENGTH})


def control_bindings(worker: str, tasks: Iterable[str]) -> list[Binding]:
    """Return the bindings for control messages to `worker` alone and to all workers of its `tasks`.

    A task with `*` or `#` as a word of its name also gets messages for other tasks, which does no harm.
    """
    keys = [control_key_of_worker(worker), *map(control_key_of_task, tasks)]
    return [Binding(control_queue(worker).name, CONTROL, key) for key in keys]


def control_key_of_task(task: str) -> str:
    """Return the routing key for all workers that serve `task`."""
    return f"task.{task}"


def control_key_of_worker(worker: str) -> str:
    """Return the routing key for one worker."""
    return f"worker.{worker}"


def clock_queue(id: str) -> Queue:
    """Return a queue for one clock comparison: rejected messages return to it with the broker's time.

    Args:
        id: id of the comparison; the queue is deleted at its end.
    """
    return Queue(f"crew.clock.{id}", {"x-expires": CLOCK_EXPIRES_MS, "x-dead-letter-exchange": DEFAULT_EXCHANGE})


def parked_queue() -> Queue:
    """Return the queue of parked messages, which are kept for inspection."""
    return Queue(PARKED, {"x-max-length": PARKED_MAX_LENGTH})


def jobs_queue(store: str) -> tuple[Queue, Binding, Binding]:
    """Return the queue for the jobs in `store`, which all gateways with this store consume.

    It gets the reports and the revocation requests of workers, and the dead letters of the broker.
    """
    queue = Queue(jobs_queue_name(store))
    dead_letters = Binding(queue.name, DEAD_LETTERS, "", {CLIENT_HEADER: queue.name, "x-match": "all"})
    return queue, dead_letters, Binding(queue.name, CONTROL, REVOCATION_REQUEST)


def jobs_queue_name(store: str) -> str:
    """Return the name of the queue for `store`; also the client id of its jobs and the topic of its gateways."""
    return JOBS_PREFIX + store


def is_jobs_queue(queue: str) -> bool:
    """Whether `queue` is the queue of a job store."""
    return queue.startswith(JOBS_PREFIX)


def check_topic(pattern: object) -> str:
    """Check a topic or a pattern and return it; raise ValueError as `check_name` does."""
    return check_name("topic", pattern)


def topic_matches(pattern: str, topic: str) -> bool:
    """Whether `topic` matches `pattern`: words between dots, `*` is one word, `#` is any number of words.

    As RabbitMQ routes: https://www.rabbitmq.com/tutorials/tutorial-five-python. It runs on the gateway's event loop for
    every event. So its time grows at most with the product of both lengths, for every pattern.
    """
    words = topic.split(".")
    reached = {0}  # possible numbers of words that the pattern has matched so far
    for wanted in pattern.split("."):
        if wanted == "#":
            reached = set(range(min(reached), len(words) + 1))
        else:
            reached = {at + 1 for at in reached if at < len(words) and wanted in ("*", words[at])}
        if not reached:
            return False
    return len(words) in reached
