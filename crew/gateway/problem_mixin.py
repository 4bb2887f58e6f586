"""Handlers that answer with a problem document where there is no value."""

import logging
from types import TracebackType
from typing import Any

import msgspec
from tornado.web import HTTPError, RequestHandler

from crew.gateway.problems import BLANK, CONTENT_TYPE, Problem, Refused, kind_of, problem_of

logger = logging.getLogger(__name__)


class ProblemMixin(RequestHandler):
    """For handlers whose clients are programs: what they raise is answered with a problem document."""

    def clear(self) -> None:
        """Begin a response; it does not say which Tornado serves it."""
        super().clear()
        if self._headers.get("Server", "").startswith("TornadoServer/"):  # not a header of a subclass
            self.clear_header("Server")

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Answer with the problem that the error is; one that is not crew's tells its status only."""
        _, error, _ = kwargs.get("exc_info", (None, None, None))
        kind = kind_of(error)
        if error is None or kind is None:
            type, detail = (error.type, error.detail) if isinstance(error, Refused) else (BLANK, None)
            problem = Problem(type=type, title=self._reason, status=status_code, detail=detail)
            if isinstance(error, Refused) and error.retry_after is not None:
                self.set_header("Retry-After", error.retry_after)
        else:
            problem = problem_of(error, kind, with_traceback=bool(self.settings.get("serve_traceback")))
            self.set_status(kind.status)
            if kind.retry_after is not None:
                self.set_header("Retry-After", kind.retry_after)
        if problem.status == 405:
            allowed = ", ".join(self._methods())
            self.set_header("Allow", allowed)
            problem = msgspec.structs.replace(
                problem, detail=f"{self.request.method} is not served here, only {allowed}"
            )
        self.set_header("Content-Type", CONTENT_TYPE)
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Cache-Control", "no-store")
        self.finish(msgspec.json.encode(problem))

    def decode_argument(self, value: bytes, name: str | None = None) -> str:
        """As Tornado does; raises Refused where it is no UTF-8."""
        try:
            return super().decode_argument(value, name)
        except HTTPError:
            told = f"{name or 'the path'} must be UTF-8, percent-encoded"
            raise Refused(400, told, name="bad-encoding") from None

    def log_exception(
        self, typ: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None
    ) -> None:
        """A call that ends without a value is no bug of the handler: one line, and no stack."""
        if kind_of(value) is None:
            super().log_exception(typ, value, tb)
        else:
            id, task = getattr(value, "id", None), getattr(value, "task", None)
            whose = "" if id is None or task is None else f"call {id} of task {task}: "
            logger.info("%s: %s%s", self.request.path, whose, value)

    def _methods(self) -> list[str]:
        """Those that are served here."""
        missing = RequestHandler.post
        return [name for name in self.SUPPORTED_METHODS if getattr(type(self), name.lower()) is not missing]


class RefusingMixin(ProblemMixin):
    """For handlers that serve no method: each is refused once its body is read, as who still sends hears no answer."""

    def refusal(self) -> Exception:
        """Why; one of this request alone, as an exception holds on to where it was raised."""
        raise NotImplementedError

    def send_error(self, status_code: int = 500, **_: Any) -> None:
        """Answer so, where Tornado would with 405."""
        error = self.refusal()
        super().send_error(getattr(error, "status_code", 500), exc_info=(type(error), error, None))
