"""Encodes and decodes a RevocationRequest and its answer.

Every program with access to the broker can send a request in the name of any worker. So the answer is one message for
any number of jobs, and it contains no ids. It contains a short digest of each id, which only helps a worker that
already has the job.
"""

import hashlib
from collections.abc import Iterable
from typing import Final

import msgspec

from crew.errors import SerializationError
from crew.protocol import properties, topology
from crew.protocol.encoding import foreign
from crew.protocol.encoding.codec import JSON
from crew.protocol.message import Control, RevocationRequest
from crew.protocol.properties import APP_ID, MalformedMessage, Properties

TYPE: Final = "briefing"
ANSWER: Final = "briefed"  # the reason of the Control message that is the answer
TTL_MS: Final = 5_000  # after that the worker does not wait for an answer any more

MAX_TASKS: Final = 64 * 1024  # bytes for the names of the tasks; a worker with more gets no answer, and waits for it
MAX_REVOKED: Final = 10_000  # jobs in an answer: the last revoked ones
DIGEST_SIZE: Final = 8  # bytes: one job in 10**15 would match one of 10,000 others by chance

_TASKS: Final = msgspec.json.Decoder(tuple[str, ...])


def of_request(request: RevocationRequest) -> tuple[Properties, bytes]:
    """Return the properties and the body of `request`."""
    properties = Properties(
        content_type=JSON,
        correlation_id=request.id,
        reply_to=request.worker,
        type=TYPE,
        expiration=str(TTL_MS),
        delivery_mode=1,
        app_id=APP_ID,
    )
    return properties, msgspec.json.encode(request.tasks)


def answer_id(request: str, queue: str) -> str:
    """Return the id of the Control message that answers the request with the id `request`.

    Args:
        queue: queue of the job store; its jobs have it as `reply_to`.
    """
    return f"{request} {queue}"


def to_request(properties: Properties, data: bytes) -> RevocationRequest:
    """Decode the request of a worker.

    Raises:
        MalformedMessage: the id, the worker or the tasks are missing or invalid.
    """
    id = foreign.text("correlation_id", properties.correlation_id)
    worker = foreign.text("reply_to", properties.reply_to)
    if not id or not worker:
        raise MalformedMessage("a revocation request has no correlation_id or no reply_to")
    if len(data) > MAX_TASKS:
        raise MalformedMessage(f"the task names of a revocation request have {len(data)} bytes, more than {MAX_TASKS}")
    try:
        topology.check_name("the reply_to of a revocation request", worker)
    except ValueError as error:
        raise MalformedMessage(str(error)) from None
    try:
        tasks = foreign.read(_TASKS.decode, data, "a revocation request", most=MAX_TASKS)
    except SerializationError as error:
        raise MalformedMessage(f"a revocation request has no valid list of tasks: {error}") from None
    return RevocationRequest(id=id, worker=worker, tasks=tasks)


def of_answer(request: RevocationRequest, queue: str, revoked: Iterable[str]) -> tuple[Properties, bytes]:
    """Return the properties and the body of the answer to `request`.

    Args:
        queue: queue of the job store that answers.
        revoked: ids of its revoked jobs, at most the last `MAX_REVOKED`.
    """
    control = Control(id=answer_id(request.id, queue), reason=ANSWER)
    return properties.of_control(control), b"".join(digest(request.id, id) for id in revoked)


def to_revoked(data: bytes) -> frozenset[bytes]:
    """Decode the digests in the body of an answer; return none where it is invalid."""
    if len(data) % DIGEST_SIZE or len(data) > MAX_REVOKED * DIGEST_SIZE:
        return frozenset()
    return frozenset(data[at : at + DIGEST_SIZE] for at in range(0, len(data), DIGEST_SIZE))


def digest(request: str, job: str) -> bytes:
    """Return the digest of a job's id in the answer to a request, both given by their ids."""
    return hashlib.blake2b(f"{request} {job}".encode(), digest_size=DIGEST_SIZE).digest()
