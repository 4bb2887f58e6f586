"""The specification of a job: checks every argument of `submit`, before anything is recorded."""

import hashlib
import time
import uuid
from typing import Any, Final

import msgspec

from crew.duration import MAX_DURATION, Duration, parse_duration
from crew.jobs.job import LEASE, Job
from crew.protocol import properties, topology, user_headers
from crew.protocol.encoding import codec
from crew.protocol.encoding.foreign import brief
from crew.protocol.http_job.request import HttpRequest, request_of
from crew.protocol.message import Body, Headers
from crew.protocol.topology import HTTP_TASK

TIMEOUT: Final = 600.0  # seconds
REQUEST_MARGIN: Final = 5.0  # seconds beyond the request: it times out before its job, with a better error
RESULT_TTL: Final = 86_400.0  # seconds: a day
FAILURE_TTL: Final = 7 * 86_400.0  # seconds: the people who read failures may be away for a weekend
MAX_KEY: Final = 255  # characters

SKIP: Final = "skip"
REPLACE: Final = "replace"
UNIQUE: Final = (SKIP, REPLACE)


class Specification(msgspec.Struct, frozen=True, kw_only=True):
    """A checked job that is to be recorded.

    Attributes:
        job: the record to insert.
        unique: what to do if a job with its unique key is active: "skip" or "replace"; None: it has no such key.
        may_exist: whether the caller chose its id, so that the id may be taken.
        request: the parsed payload of a new URL job; None: not a URL job, or a retry, whose payload was checked before.
    """

    job: Job
    request: HttpRequest | None = None
    unique: str | None = None
    may_exist: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether it cannot conflict with another job."""
        return self.unique is None and self.job.idempotency_key is None and not self.may_exist


def specify(
    task: str,
    payload: Any = None,
    *,
    priority: int = 0,
    timeout: Duration | None = None,
    expiration: Duration | None = None,
    result_ttl: Duration = RESULT_TTL,
    failure_ttl: Duration = FAILURE_TTL,
    unique: str | None = None,
    unique_key: str | None = None,
    id: str | None = None,
    idempotency_key: str | None = None,
    serializer: str | None = None,
    headers: Headers | None = None,
    wait_for_worker: bool = False,
    origin: str | None = None,
    submitter: str | None = None,
    max_message: int = codec.MAX_BODY,
) -> Specification:
    """Specify a job that runs `task` with `payload`.

    Durations are seconds, or text like "90", "10m", "1h30m" or "500ms".

    Args:
        task: name of the task; "crew.http" makes a URL job.
        payload: value for it; of a URL job an object with the arguments of `http_request.check_request`.
        priority: 0-255, larger first.
        timeout: how long an execution may run; default 10 minutes. With more than 25 minutes, or if the task is `long`,
            the job runs at most once after its start.
        expiration: how long it may wait for its first worker; default: no limit.
        result_ttl: how long its record is kept after a success; default a day.
        failure_ttl: how long its record is kept after any other end; default 7 days.
        unique: "skip": if a job with the same key is queued or running, return that job; "replace": cancel that job.
        unique_key: of `unique`; default: a hash of task and payload.
        id: a uuid; default: a new one.
        idempotency_key: a second submit with this key returns the same job, as long as its record exists.
        serializer, headers: as for `Client.call`.
        wait_for_worker: accept the job even if no worker has ever served the task.
        origin: address of the submitter.
        submitter: name of the token with which the job is submitted.
        max_message: bytes that the encoded payload may have.

    Raises:
        ValueError: an argument is out of its range.
        SerializationError: the serializer cannot encode the payload.
        TooLarge: the encoded payload has more than `max_message` bytes.
    """
    now = time.time()
    request = None
    if task == HTTP_TASK:
        request = _request(payload, timeout)
        payload, timeout = request.payload, min(request.timeout + REQUEST_MARGIN, MAX_DURATION)
    body = codec.encode(payload, serializer, max_size=max_message)
    wait = None if expiration is None else parse_duration("expiration", expiration)
    job = Job(
        id=str(uuid.uuid4()) if id is None else check_id(id),
        task=topology.check_name("task", task),
        body=body,
        headers=user_headers.check(headers),
        priority=properties.check_priority(priority),
        timeout=parse_duration("timeout", TIMEOUT if timeout is None else timeout),
        start_by=None if wait is None else now + wait,
        result_ttl=parse_duration("result_ttl", result_ttl),
        failure_ttl=parse_duration("failure_ttl", failure_ttl),
        unique_key=_unique_key(unique, unique_key, task, body),
        idempotency_key=None if idempotency_key is None else check_key("idempotency_key", idempotency_key),
        wait_for_worker=bool(wait_for_worker) or task == HTTP_TASK,
        origin=origin,
        submitter=submitter,
        target=None if request is None else request.target.host,
        created=now,
        publish_at=now + LEASE,
        submit_until=now + LEASE,
    )
    if idempotency_key is not None:
        job = msgspec.structs.replace(job, fingerprint=_fingerprint(job))
    return Specification(job=job, unique=unique, may_exist=id is not None, request=request)


def _request(payload: Any, timeout: Duration | None) -> HttpRequest:
    """Parse the payload of a URL job. The `timeout` of the job is that of its request, unless the request has its own.

    The execution gets a margin, so that the request times out first.
    """
    request = request_of(payload)
    if timeout is not None and "timeout" not in payload:
        request = msgspec.structs.replace(request, timeout=parse_duration("timeout", timeout))
    return request


def retry_of(job: Job) -> Specification:
    """Specify a new run of `job`: same terms, a new id, times counted from now, no status or result of `job`.

    If a job with its unique key is active, that job is used: a retry replaces no other job.
    """
    copied = Job(
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
    return renew(Specification(job=copied, unique=None if job.unique_key is None else SKIP))


def renew(specification: Specification) -> Specification:
    """Return `specification` with its times counted from now."""
    job, now = specification.job, time.time()
    start_by = None if job.start_by is None else now + job.start_by - job.created
    job = msgspec.structs.replace(job, created=now, start_by=start_by, publish_at=now + LEASE, submit_until=now + LEASE)
    return msgspec.structs.replace(specification, job=job)


def check_id(value: object) -> str:
    """Return the uuid `value` in its canonical form; raises ValueError."""
    try:
        return str(uuid.UUID(value))  # type: ignore[arg-type]  # whatever it is
    except (ValueError, TypeError, AttributeError):
        shown = brief(value if isinstance(value, str) else brief(value))
        raise ValueError(f"the id of a job must be a uuid, not {shown}") from None


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
            raise ValueError(f"unique_key needs unique={' or '.join(UNIQUE)}, but no unique is given")
        return None
    if unique not in UNIQUE:
        raise ValueError(f"unique must be {' or '.join(UNIQUE)}, not {brief(unique)}")
    return _hash(task, body) if key is None else check_key("unique_key", key)


def _hash(task: str, body: Body) -> str:
    parts = (task.encode(), (body.content_type or "").encode(), body.data)
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def _fingerprint(job: Job) -> str:
    """Hash of everything that the submitter gave: two submits with one idempotency key must have the same."""
    assert job.body is not None
    times_and_key = (job.result_ttl, job.failure_ttl, job.unique_key)
    terms = (job.task, job.priority, job.timeout, *times_and_key, job.headers, job.body.content_type)
    return hashlib.sha256(msgspec.json.encode(terms, order="sorted") + b"\0" + job.body.data).hexdigest()
