"""What somebody wants to be done, as a job that is not recorded yet: every argument is checked here."""

import hashlib
import time
import uuid
from typing import Any, Final

import msgspec

from crew.jobs.job import Job
from crew.jobs.publisher import LEASE
from crew.jobs.store.insert import REPLACE, SKIP, Candidate
from crew.protocol import deadline, properties, topology, user_headers
from crew.protocol.encoding import codec
from crew.protocol.encoding.foreign import brief
from crew.protocol.http_job.request import request_of
from crew.protocol.message import Body, Headers
from crew.protocol.topology import HTTP_TASK

TIMEOUT: Final = 600.0  # seconds
REQUEST_MARGIN: Final = 5.0  # seconds that a URL job has beyond its request, whose own timeout says more
RESULT_TTL: Final = 86_400.0  # seconds: a day
FAILURE_TTL: Final = 7 * 86_400.0  # seconds: who looks after failures may be away for a weekend
MAX_KEY: Final = 255  # characters

UNIQUE: Final = (SKIP, REPLACE)


def order(
    task: str,
    data: Any = None,
    *,
    priority: int = 0,
    timeout: float | str | None = None,
    expiration: float | str | None = None,
    result_ttl: float | str = RESULT_TTL,
    failure_ttl: float | str = FAILURE_TTL,
    unique: str | None = None,
    key: str | None = None,
    id: str | None = None,
    idempotency_key: str | None = None,
    serializer: str | None = None,
    headers: Headers | None = None,
    wait_for_worker: bool = False,
    origin: str | None = None,
    submitter: str | None = None,
    max_message: int = codec.MAX_BODY,
) -> Candidate:
    """A job that runs `task` with `data`.

    Durations are seconds, or text like "90", "15m", "2h", "1d".

    Args:
        task: name of the task; "crew.http" makes a URL job.
        data: payload for it; of a URL job an object with the arguments of `http_request.check_request`.
        priority: 0-255, larger first.
        timeout: that an execution may run; default 10 minutes. Above 25 minutes, or where the task is `long`, it is run
            at most once from its start on.
        expiration: that it may wait for its first worker; default: as long as it takes.
        result_ttl: that it is kept after a success; default a day.
        failure_ttl: that it is kept after any other end; default 7 days.
        unique: "skip": where a job with the same key is queued or runs, that one is meant; "replace": it is cancelled.
        key: of `unique`; default: a hash of task and data.
        id: a uuid; default: a new one.
        idempotency_key: who submits the same once more with it gets the same job, as long as there is a record of it.
        serializer, headers: as for `Client.call`.
        wait_for_worker: accept it even where no worker has ever served the task.
        origin: address of who submits it.
        submitter: name of the token with which it is submitted.
        max_message: bytes that the payload may have as it travels.

    Raises:
        ValueError: an argument is out of its range.
        SerializationError: the serializer cannot carry `data`; TooLarge: nor would a message of `max_message`.
    """
    now = time.time()
    target = None
    if task == HTTP_TASK:
        data, timeout, target = _request(data, timeout)
    body = codec.encode(data, serializer, max_size=max_message)
    wait = None if expiration is None else deadline.parse_duration("expiration", expiration)
    job = Job(
        id=str(uuid.uuid4()) if id is None else check_id(id),
        task=topology.check_name("task", task),
        body=body,
        headers=user_headers.check(headers),
        priority=properties.check_priority(priority),
        timeout=deadline.parse_duration("timeout", TIMEOUT if timeout is None else timeout),
        start_by=None if wait is None else now + wait,
        result_ttl=deadline.parse_duration("result_ttl", result_ttl),
        failure_ttl=deadline.parse_duration("failure_ttl", failure_ttl),
        unique_key=_unique_key(unique, key, task, body),
        idempotency_key=None if idempotency_key is None else check_key("idempotency_key", idempotency_key),
        wait_for_worker=bool(wait_for_worker) or task == HTTP_TASK,
        origin=origin,
        submitter=submitter,
        target=target,
        created=now,
        publish_at=now + LEASE,
    )
    if idempotency_key is not None:
        job = msgspec.structs.replace(job, fingerprint=_fingerprint(job))
    return Candidate(job=job, unique=unique, may_exist=id is not None)


def _request(data: Any, timeout: float | str | None) -> tuple[dict[str, Any], float, str]:
    """The payload of a URL job, checked; the timeout of its execution, as the request's own ends first; and its host.

    The `timeout` of the job is that of its request, unless the request has one.
    """
    request = request_of(data)
    if timeout is not None and "timeout" not in data:
        request = msgspec.structs.replace(request, timeout=deadline.parse_duration("timeout", timeout))
    longest = min(request.timeout + REQUEST_MARGIN, deadline.MAX_DURATION)
    return msgspec.structs.asdict(request), longest, request.target.host


def again(job: Job) -> Candidate:
    """The same once more, with its times counted from now; what was told of `job` is not told of it.

    Where a job with its unique key is active, that one is meant: a retry takes nobody's place.
    """
    kept = Job(
        id=str(uuid.uuid4()),
        task=job.task,
        body=job.body,
        headers=job.headers,
        priority=job.priority,
        timeout=job.timeout,
        start_by=job.start_by,
        result_ttl=job.result_ttl,
        failure_ttl=job.failure_ttl,
        unique_key=job.unique_key,
        wait_for_worker=job.wait_for_worker,
        origin=job.origin,
        submitter=job.submitter,
        target=job.target,
        created=job.created,
    )
    return renewed(Candidate(job=kept, unique=None if job.unique_key is None else SKIP))


def renewed(candidate: Candidate) -> Candidate:
    """The same, with its times counted from now."""
    job, now = candidate.job, time.time()
    start_by = None if job.start_by is None else now + job.start_by - job.created
    job = msgspec.structs.replace(job, created=now, publish_at=now + LEASE, start_by=start_by)
    return msgspec.structs.replace(candidate, job=job)


def check_id(value: object) -> str:
    """Return the uuid `value` as it is written usually; raises ValueError."""
    try:
        return str(uuid.UUID(value))  # type: ignore[arg-type]  # whatever it is
    except (ValueError, TypeError, AttributeError):
        shown = brief(value if isinstance(value, str) else brief(value))
        raise ValueError(f"the id of a job is a uuid, not {shown}") from None


def check_key(name: str, value: object) -> str:
    """Return `value`, 1 to 255 printable characters; raises ValueError."""
    if not isinstance(value, str):
        raise ValueError(f"{name} must be a string, not {type(value).__name__}")
    if not 0 < len(value) <= MAX_KEY or not value.isprintable():
        raise ValueError(f"{name} must have 1 to {MAX_KEY} printable characters, not {brief(value)}")
    return value


def _unique_key(unique: str | None, key: str | None, task: str, body: Body) -> str | None:
    if unique is None:
        if key is not None:
            raise ValueError(f"key is for jobs with unique={' or '.join(UNIQUE)}, and there is no unique")
        return None
    if unique not in UNIQUE:
        raise ValueError(f"unique must be {' or '.join(UNIQUE)}, not {brief(unique)}")
    return _hash(task, body) if key is None else check_key("key", key)


def _hash(task: str, body: Body) -> str:
    parts = (task.encode(), (body.content_type or "").encode(), body.data)
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def _fingerprint(job: Job) -> str:
    """Of what makes two orders the same: all that their sender says of them."""
    assert job.body is not None
    kept = (job.result_ttl, job.failure_ttl, job.unique_key)
    terms = (job.task, job.priority, job.timeout, *kept, job.headers, job.body.content_type)
    return hashlib.sha256(msgspec.json.encode(terms, order="sorted") + b"\0" + job.body.data).hexdigest()
