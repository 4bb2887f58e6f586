"""Name and arguments of every exchange, queue and binding. They stand here and nowhere else.

Clients and workers declare from the same functions, so that their arguments cannot differ. Everything here runs
unchanged on RabbitMQ 3.10 to 4.3: no transient non-exclusive queue, no mirroring, no `x-` binding key.

The functions describe queues without a type. `of_type` adds it: each declaration names its type, because a virtual
host may have another default. RabbitMQ 3.10 to 4.3 take "classic" as equal to a classic queue that was declared without
a type, so older and newer versions of crew can declare the same queue. Quorum queues are kept by a cluster on several
nodes. Either all queues are of that type or none, since a durable classic queue can be neither used nor declared while
the one node that has it is down.
"""

import re
from collections.abc import Iterable
from typing import Any, TypeAlias

import msgspec

from crew.protocol.encoding.foreign import brief

Arguments = dict[str, Any]

PRIORITY_LEVELS = 10  # of a queue; 255 levels cost 3.3 MB and 620 ms a queue, and a tenth of the throughput
REPLY_QUEUE_EXPIRES_MS = 300_000  # replies outlive a gateway's disconnect of up to 5 minutes
SUBSCRIPTION_EXPIRES_MS = 60_000  # events outlive a short one
SUBSCRIPTION_MAX_LENGTH = 10_000  # events; the oldest go first
PARKED_MAX_LENGTH = 100_000
CONTROL_EXPIRES_MS = 60_000  # a cancel outlives a worker's short disconnect
CONTROL_MAX_LENGTH = 10_000  # cancels
CLOCK_EXPIRES_MS = 10_000
# Deliveries, more than any call sees: crew counts crashes itself. Without this argument RabbitMQ 4 gives a message up
# after 20, before 4.3 also one that busy workers gave back, and 3.10 sends what comes back to the end of its queue. The
# -1 that is no limit for RabbitMQ 4 is one delivery for 3.10.
DELIVERY_LIMIT = 1_000_000
DELAY_QUEUE_EXPIRES_MS = 600_000  # after its delay: RabbitMQ deletes a queue that nobody declares, full or not

DEFAULT_EXCHANGE = ""
DEAD_LETTERS = "crew.DLX"
PUBSUB = "crew.PUBSUB"
CONTROL = "crew.control"
RETRY = "crew.retry"
TASK_PREFIX = "crew.tasks."
HOLDING_PREFIX = "crew.moved."  # as long as the one before, so that every task's name fits
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
    """Messages of `exchange` that match go to `queue`."""

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
    """`item` as it is declared where queues are of `queue_type`: "classic", or "quorum".

    A quorum queue refuses levels of priority: RabbitMQ 4.0 has two and 4.3 all of them without being asked, 3.10 none.
    """
    if not isinstance(item, Queue):
        return item
    if queue_type != QUORUM:
        return Queue(item.name, item.arguments | {"x-queue-type": queue_type})
    arguments = {name: value for name, value in item.arguments.items() if name != "x-max-priority"}
    arguments |= {"x-queue-type": QUORUM, "x-delivery-limit": DELIVERY_LIMIT}
    if arguments.get("x-dead-letter-exchange") == DEFAULT_EXCHANGE:  # a call that waits for its retry has no other copy
        arguments |= {"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"}
    return Queue(item.name, arguments)


def shortcoming(queue_type: str, version: str) -> str | None:
    """What queues of this type lack on RabbitMQ `version`, like "3.10.8", in one sentence; None where it is nothing."""
    if queue_type != QUORUM or not (told := re.match(r"(\d+)\.(\d+)", version)):
        return None
    if (release := (int(told[1]), int(told[2]))) >= (4, 3):
        return None
    has = "no priorities" if release < (4, 0) else "two levels of priority, 0 to 127 and 128 to 255, served in turns"
    return f"quorum queues of RabbitMQ {version} have {has}; with 4.3 they have ten"


def check_name(kind: str, name: object) -> str:
    """Return `name` where it can stand in a queue name or a routing key.

    Raises:
        ValueError: it is no string, is empty, too long for AMQP, or holds a control character.
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
    """Name of the queue that carries the calls of `task`."""
    return TASK_PREFIX + task


def again_queue_name(task: str) -> str:
    """Name of the queue over which calls of a `task` with a bounded queue come back."""
    return AGAIN_PREFIX + task


def task_of_queue(queue: str) -> str:
    """The task whose calls `queue` carries."""
    prefix = next((prefix for prefix in (AGAIN_PREFIX, HOLDING_PREFIX) if queue.startswith(prefix)), TASK_PREFIX)
    return queue.removeprefix(prefix)


def task_queue(task: str, *, max_queue: int | None = None) -> Queue:
    """The queue of `task`: its levels of priority, and the exchange for what dies in it.

    Args:
        max_queue: calls that may wait in it, without those that a worker holds; one more is refused. None: no bound.
    """
    arguments: Arguments = {"x-max-priority": PRIORITY_LEVELS - 1, "x-dead-letter-exchange": DEAD_LETTERS}
    if max_queue is not None:
        arguments |= {"x-max-length": max_queue, "x-overflow": "reject-publish"}
    return Queue(task_queue_name(task), arguments)


def again_queue(task: str) -> Queue:
    """The queue over which calls of a `task` with a bounded queue come back, to be run again.

    It has no bound: a call that comes back was accepted long ago, and RabbitMQ drops without a word what it
    dead-letters itself into a queue that is full and refuses.
    """
    return Queue(again_queue_name(task), task_queue(task).arguments)


def holding_queue(task: str) -> Queue:
    """The queue in which the calls of `task` wait while its own is declared anew, in the order in which they come.

    What expires in it goes to its caller, as in the queue of the task.
    """
    return Queue(HOLDING_PREFIX + task, {"x-dead-letter-exchange": DEAD_LETTERS})


def delay_queue(delay_ms: int) -> tuple[Queue, Binding]:
    """The queue in which calls wait for `delay_ms` until they run again, whatever their task.

    One queue a delay, because RabbitMQ expires a message only at the head of its queue. When its time is over, a call
    goes through the default exchange to the queue that its routing key names, which is that of its task.
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
    """The queue for replies to `client` and for its own dead letters.

    It is durable and not exclusive, because an exclusive queue loses every reply of a disconnect and cannot be declared
    again while the broker still believes in the lost connection.
    """
    queue = Queue(REPLY_PREFIX + client, {"x-expires": REPLY_QUEUE_EXPIRES_MS})
    return queue, Binding(queue.name, DEAD_LETTERS, "", {CLIENT_HEADER: client, "x-match": "all"})


def subscription_queue(client: str) -> Queue:
    """The queue for the events that `client` subscribed to; it outlives a short disconnect for the same reason."""
    return Queue(
        SUBSCRIPTION_PREFIX + client,
        {"x-expires": SUBSCRIPTION_EXPIRES_MS, "x-max-length": SUBSCRIPTION_MAX_LENGTH},
    )


def subscription(client: str, topic: str) -> Binding:
    """Brings the events of `topic` to `client`."""
    return Binding(SUBSCRIPTION_PREFIX + client, PUBSUB, topic)


def control_queue(worker: str) -> Queue:
    """The queue for what `worker` is told; not exclusive, for the same reason."""
    return Queue(CONTROL_PREFIX + worker, {"x-expires": CONTROL_EXPIRES_MS, "x-max-length": CONTROL_MAX_LENGTH})


def control_bindings(worker: str, tasks: Iterable[str]) -> list[Binding]:
    """Bring `worker` what is told to it alone, and to all who serve one of its `tasks`.

    A task whose name holds `*` or `#` as a word hears of others too, which does no harm.
    """
    keys = [control_key_of_worker(worker), *map(control_key_of_task, tasks)]
    return [Binding(control_queue(worker).name, CONTROL, key) for key in keys]


def control_key_of_task(task: str) -> str:
    """Reaches every worker that serves `task`."""
    return f"task.{task}"


def control_key_of_worker(worker: str) -> str:
    """Reaches one worker."""
    return f"worker.{worker}"


def clock_queue(id: str) -> Queue:
    """A queue for one comparison of clocks: what is rejected in it comes back to it, with the broker's time.

    Args:
        id: of the comparison; the queue is deleted at its end.
    """
    return Queue(f"crew.clock.{id}", {"x-expires": CLOCK_EXPIRES_MS, "x-dead-letter-exchange": DEFAULT_EXCHANGE})


def parked_queue() -> Queue:
    """The queue of messages that were given up, kept for inspection."""
    return Queue(PARKED, {"x-max-length": PARKED_MAX_LENGTH})


def jobs_queue(store: str) -> tuple[Queue, Binding, Binding]:
    """The queue of what is heard of the jobs in `store`; any gateway with that store takes from it.

    Workers say there what becomes of a job and ask what they have missed, and the broker gives back what died.
    """
    queue = Queue(jobs_queue_name(store))
    dead_letters = Binding(queue.name, DEAD_LETTERS, "", {CLIENT_HEADER: queue.name, "x-match": "all"})
    return queue, dead_letters, Binding(queue.name, CONTROL, REVOCATION_REQUEST)


def jobs_queue_name(store: str) -> str:
    """Name of the queue of the jobs in `store`; also the client that they are of, and the topic of its gateways."""
    return JOBS_PREFIX + store


def is_jobs_queue(queue: str) -> bool:
    """Whether `queue` is that of a job store."""
    return queue.startswith(JOBS_PREFIX)


def check_topic(pattern: object) -> str:
    """Return `pattern` where it can be published on or subscribed to; raises ValueError as `check_name` does."""
    return check_name("topic", pattern)


def topic_matches(pattern: str, topic: str) -> bool:
    """Whether an event on `topic` is one of `pattern`: words between dots, `*` is one word, `#` any number of them.

    As RabbitMQ routes: https://www.rabbitmq.com/tutorials/tutorial-five-python. Its time grows with the product of both
    lengths and no faster, whatever the pattern: it runs on the gateway's loop for every event.
    """
    words = topic.split(".")
    reached = {0}  # how many words may have been matched by the pattern so far
    for wanted in pattern.split("."):
        if wanted == "#":
            reached = set(range(min(reached), len(words) + 1))
        else:
            reached = {at + 1 for at in reached if at < len(words) and wanted in ("*", words[at])}
        if not reached:
            return False
    return len(words) in reached
