"""What an HTTP client is told where there is no value for it: problem documents, as RFC 9457 has them.

One table says which status an error of crew has. Its names are for programs, and stay as they are.
https://www.rfc-editor.org/rfc/rfc9457
"""

import re
from typing import Final
from urllib.parse import quote

import msgspec
from tornado.web import HTTPError

from crew import errors

CONTENT_TYPE: Final = "application/problem+json"
BLANK: Final = "about:blank"  # the type where the status says it all
ARGUMENTS: Final = ("task", "priority", "expiration", "timeout")  # of a call
RETRY_AFTER: Final = 2  # seconds: a broker that is back is used within them

# Each takes all that it looks at, so that the time grows with the length alone: the text may be that of a task.
_ADDRESS: Final = re.compile(r"amqps?://\S++ ?")  # of the broker, in front of what it has said
_STORE: Final = re.compile(r"(?<=the job store )(?:postgresql|sqlite)://")  # a file, or a server with its user
_FAULT_OF_STORE: Final = re.compile(r"cannot be used|refuses this|was closed")


def urn(name: str) -> str:
    """The `type` of the documents with that name."""
    return f"urn:crew:problem:{name}"


class Kind(msgspec.Struct, frozen=True):
    """What all errors of one type have in common."""

    status: int
    name: str
    title: str
    retry_after: int | None = None

    @property
    def urn(self) -> str:
        """The `type` of its documents."""
        return urn(self.name)


class NotReady(Exception):
    """This gateway takes no requests now: another one may."""


KINDS: Final[dict[type[BaseException], Kind]] = {
    errors.UnknownTask: Kind(404, "unknown-task", "No worker has ever served a task of this name"),
    errors.DuplicateTaskId: Kind(409, "duplicate-task-id", "A call with this id is still in flight"),
    errors.TaskFailed: Kind(500, "task-failed", "The task raised an exception"),
    # 502, not 503: who tries this again at once, as proxies do, takes more workers down
    errors.WorkerLost: Kind(502, "worker-lost", "The workers that ran the call died"),
    errors.MessageRefused: Kind(502, "message-refused", "The broker does not accept the message"),
    errors.UnknownJob: Kind(404, "unknown-job", "There is no job with this id"),
    errors.KeyReused: Kind(422, "key-reused", "The Idempotency-Key was used for another request"),
    errors.SettingsError: Kind(500, "unusable-setting", "A setting of this gateway cannot work"),
    errors.TooLarge: Kind(413, "too-large", "A message of more bytes than it may have"),
    errors.SerializationError: Kind(502, "unreadable-value", "The value of the task cannot be read"),
    errors.TaskError: Kind(502, "no-value", "The call ended without a value"),
    errors.Overloaded: Kind(503, "overloaded", "Too much is waiting already", RETRY_AFTER),
    NotReady: Kind(503, "not-ready", "This gateway is not ready", RETRY_AFTER),
    errors.ConnectionError: Kind(503, "broker-away", "The broker is away", RETRY_AFTER),
    errors.ExpirationError: Kind(503, "expired", "No worker took the call in time"),
    errors.Canceled: Kind(503, "canceled", "Somebody cancelled the call"),  # whose own client has gone hears nothing
    errors.TimeoutError: Kind(504, "timeout", "A worker took the call and could not finish it in time"),
}

# What ConnectionError.missing names, where that is not the broker.
KINDS_OF_MISSING: Final = {
    "store": Kind(503, "store-away", "The job store is away", RETRY_AFTER),
    "client": KINDS[NotReady],
}


class RemoteError(msgspec.Struct, frozen=True):
    """The exception of a task: see `TaskFailed`."""

    type: str
    message: str
    retryable: bool
    attempts: int


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A problem document; what is None is left out."""

    type: str
    title: str
    status: int
    detail: str | None = None
    instance: str | None = None
    task: str | None = None
    id: str | None = None
    exception: RemoteError | None = None
    traceback: str | None = None


class Refused(HTTPError):
    """A request that cannot be served as it is; `detail` tells its client why, in one sentence.

    Args:
        name: of the `type` of the document, where more than one request has this status.
        retry_after: seconds after which the client may try again, as `Retry-After`; None: it says nothing of that.
    """

    def __init__(self, status: int, detail: str, *, name: str | None = None, retry_after: int | None = None) -> None:
        super().__init__(status)
        self.retry_after = retry_after
        self.detail = detail
        self.type = BLANK if name is None else urn(name)


def bad_argument(error: ValueError) -> Refused:
    """A request with an argument that is out of its range: the sentence begins with its name."""
    culprit, _, _ = str(error).partition(" ")
    return Refused(422, str(error), name=f"bad-{culprit if culprit in ARGUMENTS else 'data'}")


def check_most(name: str, value: float | None, most: float | None) -> None:
    """Raise Refused where a duration is longer than the operator lets it be."""
    if most is not None and value is not None and value > most:
        raise Refused(422, f"{name} must be at most {most:g} seconds here, not {value:g}", name=f"bad-{name}")


def kind_of(error: BaseException | None) -> Kind | None:
    """The row of the table that fits `error` best."""
    if isinstance(error, errors.ConnectionError) and error.missing in KINDS_OF_MISSING:
        return KINDS_OF_MISSING[error.missing]
    return next((KINDS[base] for base in type(error).__mro__ if base in KINDS), None)


def problem_of(error: BaseException, kind: Kind, *, with_traceback: bool) -> Problem:
    """The document for an error of this kind; the traceback, and where broker and job store are, are for developers."""
    id: str | None = getattr(error, "id", None)
    remote = None
    if isinstance(error, errors.TaskFailed):
        remote = RemoteError(error.type_name, error.message, error.retryable, error.attempts)
    return Problem(
        type=kind.urn,
        title=kind.title,
        status=kind.status,
        detail=str(error) if with_traceback else without_addresses(str(error)),
        instance=None if id is None else f"urn:crew:call:{quote(id, safe='')}",
        task=getattr(error, "task", None),
        id=id,
        exception=remote,
        traceback=(getattr(error, "traceback", "") or None) if with_traceback else None,
    )


def without_addresses(text: str) -> str:
    """`text` without the address of the broker, and without the URL of a job store and what may name it once more."""
    text = _ADDRESS.sub(lambda found: "" if found[0].endswith(": ") else found[0], text)
    store = _STORE.search(text)
    fault = None if store is None else _FAULT_OF_STORE.search(text, store.end())
    return text if store is None or fault is None else text[: store.start()] + fault[0]
