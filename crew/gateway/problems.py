"""Errors as HTTP responses: problem documents (RFC 9457), and the mixins of the handlers that send them.

`PROBLEM_TYPES` maps each error of crew to a status and to the name in the `type` of its document. Programs rely on
these names, so they must not change. https://www.rfc-editor.org/rfc/rfc9457
"""

import logging
import re
from types import TracebackType
from typing import Any, Final
from urllib.parse import quote

import msgspec
from tornado.web import HTTPError, RequestHandler

from crew import errors
from crew.escape import brief

logger = logging.getLogger(__name__)

CONTENT_TYPE: Final = "application/problem+json"
BLANK: Final = "about:blank"  # the type of a problem that has no more to it than its status
ARGUMENTS: Final = ("task", "priority", "expiration", "timeout")  # of a call
XSRF: Final = "_xsrf"  # the query parameter that Tornado itself reads
RETRY_AFTER: Final = 2  # seconds: the client is connected again so soon after the broker has come back

# Possessive quantifiers keep the search time linear in the length of the text, which a task may have written.
_BROKER_URL: Final = re.compile(r"amqps?://\S++ ?")  # in front of the broker's own message
_STORE: Final = re.compile(r"(?<=the job store )(?:postgresql|sqlite)://")  # a file, or a server with its user
_STORE_FAULT: Final = re.compile(r"cannot be used|refuses this|was closed")


def urn(name: str) -> str:
    """The `type` of the problem documents with this name."""
    return f"urn:crew:problem:{name}"


class ProblemType(msgspec.Struct, frozen=True):
    """What all problem documents for one class of error have in common."""

    status: int
    name: str
    title: str
    retry_after: int | None = None

    @property
    def urn(self) -> str:
        """The `type` of its documents."""
        return urn(self.name)


class NotReady(Exception):
    """This gateway accepts no requests at the moment; another gateway may."""


PROBLEM_TYPES: Final[dict[type[BaseException], ProblemType]] = {
    errors.UnknownTask: ProblemType(404, "unknown-task", "No worker has ever served a task with this name"),
    errors.DuplicateCallId: ProblemType(409, "duplicate-task-id", "Another call with this id is still pending"),
    errors.InvalidArguments: ProblemType(422, "invalid-arguments", "The arguments do not fit the task's parameters"),
    errors.TaskFailed: ProblemType(500, "task-failed", "The task raised an exception"),
    # 502, not 503: proxies retry a 503 at once, and each retry would crash more workers
    errors.WorkerLost: ProblemType(502, "worker-lost", "The worker processes that ran the call died"),
    errors.MessageRefused: ProblemType(502, "message-refused", "The broker does not accept the message"),
    errors.UnknownJob: ProblemType(404, "unknown-job", "There is no job with this id"),
    errors.KeyReused: ProblemType(422, "key-reused", "The Idempotency-Key was already used for a different request"),
    errors.SettingsError: ProblemType(500, "unusable-setting", "A setting of this gateway is invalid"),
    errors.TooLarge: ProblemType(413, "too-large", "The message is too large"),
    errors.SerializationError: ProblemType(502, "unreadable-value", "The result of the task cannot be decoded"),
    errors.TaskError: ProblemType(502, "no-value", "The call ended without a result"),
    errors.Overloaded: ProblemType(503, "overloaded", "Too many calls or jobs are waiting", RETRY_AFTER),
    NotReady: ProblemType(503, "not-ready", "This gateway is not ready", RETRY_AFTER),
    errors.ConnectionError: ProblemType(503, "broker-away", "The broker is unavailable", RETRY_AFTER),
    errors.ExpirationError: ProblemType(503, "expired", "No worker started the call in time"),
    errors.Canceled: ProblemType(503, "canceled", "The call was canceled"),  # not sent to a client that disconnected
    errors.TimeoutError: ProblemType(504, "timeout", "A worker started the call, but it did not finish in time"),
}

# By `ConnectionError.missing`, where it is not the broker.
TYPES_OF_MISSING: Final = {
    "store": ProblemType(503, "store-away", "The job store is unavailable", RETRY_AFTER),
    "client": PROBLEM_TYPES[NotReady],
}


class RemoteError(msgspec.Struct, frozen=True):
    """The exception that a task raised: see `TaskFailed`."""

    type: str
    message: str
    retryable: bool
    attempts: int


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A problem document (RFC 9457). Members that are None are left out."""

    type: str
    title: str
    status: int
    detail: str | None = None
    instance: str | None = None
    task: str | None = None
    id: str | None = None
    exception: RemoteError | None = None
    traceback: str | None = None


class RequestRefused(HTTPError):
    """A request that the gateway does not accept.

    Args:
        detail: tells the HTTP client the reason, in one sentence.
        name: of the document's `type`, where several reasons have the same status.
        retry_after: seconds after which the client may try again, for the header `Retry-After`; None: no such header.
    """

    def __init__(self, status: int, detail: str, *, name: str | None = None, retry_after: int | None = None) -> None:
        super().__init__(status)
        self.retry_after = retry_after
        self.detail = detail
        self.type = BLANK if name is None else urn(name)


def bad_argument(error: ValueError) -> RequestRefused:
    """The refusal of an invalid argument; the text of `error` begins with the argument's name."""
    culprit, _, _ = str(error).partition(" ")
    return RequestRefused(422, str(error), name=f"bad-{culprit if culprit in ARGUMENTS else 'data'}")


def check_most(name: str, value: float | None, most: float | None) -> None:
    """Raise RequestRefused if a duration exceeds the limit that the operator has set."""
    if most is not None and value is not None and value > most:
        raise RequestRefused(422, f"{name} must be at most {most:g} seconds here, not {value:g}", name=f"bad-{name}")


def problem_type_of(error: BaseException | None) -> ProblemType | None:
    """The problem type of the nearest class of `error` in the table; None: not an error of crew."""
    if isinstance(error, errors.ConnectionError) and error.missing in TYPES_OF_MISSING:
        return TYPES_OF_MISSING[error.missing]
    return next((PROBLEM_TYPES[base] for base in type(error).__mro__ if base in PROBLEM_TYPES), None)


def problem_of(error: BaseException, kind: ProblemType, *, with_traceback: bool) -> Problem:
    """The document for an error of this type.

    Args:
        with_traceback: for developers: add the task's traceback, and show the addresses of the broker and the job
            store.
    """
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
    """`text` without the broker's URL, the job store's URL, and the reason of a store error, which may repeat it."""
    text = _BROKER_URL.sub(lambda found: "" if found[0].endswith(": ") else found[0], text)
    store = _STORE.search(text)
    fault = None if store is None else _STORE_FAULT.search(text, store.end())
    return text if store is None or fault is None else text[: store.start()] + fault[0]


class ProblemMixin(RequestHandler):
    """For handlers whose clients are programs: each exception is answered with a problem document."""

    def clear(self) -> None:
        """Reset the response. It does not name the version of Tornado."""
        super().clear()
        if self._headers.get("Server", "").startswith("TornadoServer/"):  # a subclass may set its own
            self.clear_header("Server")

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Respond with the problem document for the error. For a foreign exception it has only the status."""
        _, error, _ = kwargs.get("exc_info", (None, None, None))
        kind = problem_type_of(error)
        if error is None or kind is None:
            type, detail = (error.type, error.detail) if isinstance(error, RequestRefused) else (BLANK, None)
            problem = Problem(type=type, title=self._reason, status=status_code, detail=detail)
            if isinstance(error, RequestRefused) and error.retry_after is not None:
                self.set_header("Retry-After", error.retry_after)
        else:
            problem = problem_of(error, kind, with_traceback=bool(self.settings.get("serve_traceback")))
            self.set_status(kind.status)
            if kind.retry_after is not None:
                self.set_header("Retry-After", kind.retry_after)
        if problem.status == 405:
            allowed = ", ".join(self._methods())
            self.set_header("Allow", allowed)
            detail = f"{self.request.method} is not supported at this path; use {allowed}"
            problem = msgspec.structs.replace(problem, detail=detail)
        self.set_header("Content-Type", CONTENT_TYPE)
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Cache-Control", "no-store")
        self.finish(msgspec.json.encode(problem))

    def decode_argument(self, value: bytes, name: str | None = None) -> str:
        """Decode a part of the path or of the query.

        Raises:
            RequestRefused: it is not UTF-8.
        """
        try:
            return super().decode_argument(value, name)
        except HTTPError:
            detail = f"{name or 'the path'} must be UTF-8, percent-encoded"
            raise RequestRefused(400, detail, name="bad-encoding") from None

    def check_query(self, *known: str) -> None:
        """Raise RequestRefused if the query of the request has a parameter that is not `known`."""
        for name in self.request.query_arguments:
            if name not in known and not (name == XSRF and self.settings.get("xsrf_cookies")):
                expected = f"use {', '.join(known)}" if known else "this route has no query parameters"
                detail = f"unknown query parameter {brief(name)}: {expected}"
                raise RequestRefused(400, detail, name="unknown-parameter")

    def log_exception(
        self, typ: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Log an error of crew in one line, without a traceback: it is not a bug of the handler."""
        if problem_type_of(value) is None:
            super().log_exception(typ, value, tb)
        else:
            id, task = getattr(value, "id", None), getattr(value, "task", None)
            ids = "" if id is None or task is None else f" call_id={id} task={task}"
            logger.info("request failed: %s path=%s%s", value, self.request.path, ids)

    def _methods(self) -> list[str]:
        """The HTTP methods that this handler implements."""
        missing = RequestHandler.post
        return [name for name in self.SUPPORTED_METHODS if getattr(type(self), name.lower()) is not missing]


class RefusalMixin(ProblemMixin):
    """For handlers that refuse every request.

    They respond after the body has been read: a client that is still sending would not read the response.
    """

    def refusal(self) -> Exception:
        """The reason. Make a new exception for each request: it holds references to the place where it was raised."""
        raise NotImplementedError

    def send_error(self, status_code: int = 500, **_: Any) -> None:
        """Respond with the refusal, where Tornado would respond with 405."""
        error = self.refusal()
        super().send_error(getattr(error, "status_code", 500), exc_info=(type(error), error, None))
