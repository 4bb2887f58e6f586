"""A Briefing as a message, and back; and the answer to it.

Anybody who may write to the broker can ask, in the name of any worker. So the answer is one message however many jobs
were given up, and it tells no ids: it has a short digest of each, which only says something to a worker that holds a
job with this id.
"""

import hashlib
from collections.abc import Iterable
from typing import Final

import msgspec

from crew.errors import SerializationError
from crew.protocol import properties, topology
from crew.protocol.encoding import foreign
from crew.protocol.encoding.codec import JSON
from crew.protocol.message import Briefing, Control
from crew.protocol.properties import APP_ID, MalformedMessage, Properties

TYPE: Final = "briefing"
BRIEFED: Final = "briefed"  # the reason of the Control message that ends the answer
TTL_MS: Final = 5_000  # a question that no gateway has taken by then is not waited for any longer

MAX_TASKS: Final = 64 * 1024  # bytes that name the tasks of a worker; one with more gets no answer, and waits for it
MAX_BRIEFED: Final = 10_000  # jobs in an answer: those that were given up last
DIGEST_SIZE: Final = 8  # bytes: of 10,000 jobs, one in 10**15 others would be taken for one of them

_TASKS: Final = msgspec.json.Decoder(tuple[str, ...])


def of_briefing(briefing: Briefing) -> tuple[Properties, bytes]:
    """The properties and the body of `briefing`."""
    properties = Properties(
        content_type=JSON,
        correlation_id=briefing.id,
        reply_to=briefing.worker,
        type=TYPE,
        expiration=str(TTL_MS),
        delivery_mode=1,
        app_id=APP_ID,
    )
    return properties, msgspec.json.encode(briefing.tasks)


def briefed_id(briefing: str, queue: str) -> str:
    """The id of the Control message with which the gateways end their answer to `briefing`.

    Args:
        queue: of the store that they answer for; the jobs in it have it as `reply_to`.
    """
    return f"{briefing} {queue}"


def to_briefing(properties: Properties, data: bytes) -> Briefing:
    """What a worker asks.

    Raises:
        MalformedMessage: it does not say who asks, or what about.
    """
    id = foreign.text("correlation_id", properties.correlation_id)
    worker = foreign.text("reply_to", properties.reply_to)
    if not id or not worker:
        raise MalformedMessage("a briefing without correlation_id and reply_to is asked by nobody")
    if len(data) > MAX_TASKS:
        raise MalformedMessage(f"a briefing names its tasks in {len(data)} bytes, more than {MAX_TASKS}")
    try:
        topology.check_name("the reply_to of a briefing", worker)
    except ValueError as error:
        raise MalformedMessage(str(error)) from None
    try:
        return Briefing(id=id, worker=worker, tasks=foreign.read(_TASKS.decode, data, "a briefing", most=MAX_TASKS))
    except SerializationError as error:
        raise MalformedMessage(f"a briefing does not name its tasks: {error}") from None


def of_briefed(briefing: Briefing, queue: str, given_up: Iterable[str]) -> tuple[Properties, bytes]:
    """The properties and the body of the answer to `briefing`.

    Args:
        queue: of the store that answers.
        given_up: ids of its jobs, the last `MAX_BRIEFED` at most.
    """
    control = Control(id=briefed_id(briefing.id, queue), reason=BRIEFED)
    return properties.of_control(control), b"".join(digest(briefing.id, id) for id in given_up)


def to_given_up(data: bytes) -> frozenset[bytes]:
    """The digests in the body of an answer; none where it is no answer."""
    if len(data) % DIGEST_SIZE or len(data) > MAX_BRIEFED * DIGEST_SIZE:
        return frozenset()
    return frozenset(data[at : at + DIGEST_SIZE] for at in range(0, len(data), DIGEST_SIZE))


def digest(briefing: str, job: str) -> bytes:
    """Stands for the job of that id in the answer to the briefing of that id."""
    return hashlib.blake2b(f"{briefing} {job}".encode(), digest_size=DIGEST_SIZE).digest()
