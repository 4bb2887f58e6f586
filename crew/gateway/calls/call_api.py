"""`POST /call/<task>`: an HTTP request that calls a task and waits for its value."""

from collections.abc import Callable
from typing import Any, Final

from tornado.web import stream_request_body

from crew.client import Client, PendingCall, off_loop
from crew.errors import SerializationError, TooLarge
from crew.gateway.calls.body import BodyMixin
from crew.gateway.calls.value_response import AnswerMixin
from crew.gateway.jobs.url_guard import UrlGuard
from crew.gateway.problem_mixin import ProblemMixin
from crew.gateway.problems import Refused, bad_argument, check_most
from crew.gateway.serving.request_scope import AbandonMixin
from crew.protocol import deadline
from crew.protocol.encoding import codec
from crew.protocol.message import Body
from crew.protocol.topology import HTTP_TASK

MAX_EXPIRATION: Final = 60.0  # seconds

SERIALIZERS: Final = {content_type: name for name, content_type in codec.SERIALIZERS.items()}
_NULL: Final = Body(b"null", codec.JSON)
_ARGUMENTS: Final[dict[str, Callable[[str], float]]] = {"priority": int, "expiration": float, "timeout": float}


@stream_request_body
class CallHandler(BodyMixin, AnswerMixin, AbandonMixin, ProblemMixin):
    """Calls the task that the path names with the body of the request, and answers with its value.

    The body is JSON, MessagePack (`application/msgpack`), UTF-8 text or bytes, as its Content-Type says; no body is
    null. `priority`, `expiration` and `timeout` are arguments of the query, as `Client.call` has them. Bytes are
    answered as bytes, anything else as JSON, or as MessagePack where the request was; what the task puts into
    `context.headers` comes as `Crew-<Name>`. Where there is no value, a problem document says why. When the HTTP
    client goes, so does the call.

    It asks nobody who he is, and any task can be called. A subclass with a `prepare` of its own can look at
    `self.path_args[0]`, the task, and raise HTTPError(401) or (403) before it returns `super().prepare()`.

    Args:
        client: makes the calls.
        max_expiration: seconds that a request may ask for.
        max_body: bytes of the request's body; None: as many as a message of the client may have.
        fail_fast: while the broker is away answer 503 at once; None: as the client was told.
        guard: refuses URLs that lead to where URL jobs may not go; None: by CREW_ALLOW_HOSTS.
        max_timeout: seconds that a call may ask to run, and gets where it asks for none; None: no limit.
    """

    def initialize(
        self,
        *,
        client: Client,
        max_expiration: float = MAX_EXPIRATION,
        max_body: int | None = None,
        fail_fast: bool | None = None,
        guard: UrlGuard | None = None,
        max_timeout: float | None = None,
    ) -> None:
        """Take what the route gives."""
        self.max_timeout = max_timeout
        self.client, self.max_expiration, self.fail_fast = client, max_expiration, fail_fast
        self.guard = UrlGuard() if guard is None else guard
        self.expect(client.max_message if max_body is None else max_body)

    async def post(self, task: str) -> None:
        """Call `task`, wait, answer."""
        call = await self._call(task)
        body = await call
        try:
            await self.answer_body(body, call.headers, decode=self.client.decode, content_type=self.content_type())
        except SerializationError as error:
            raise SerializationError(f"the value of call {call.id} cannot be read: {error}") from None

    async def _call(self, task: str) -> PendingCall:
        self.check_size()
        body = await self.payload(self.content_type())
        terms = {**self._terms(), "fail_fast": self.fail_fast}
        if task == HTTP_TASK:
            await self.guard.check_call(task, await off_loop.decoded(body))
        try:
            call = self.client.call(task, body, **terms)
            call.keeps_body = True
            return call
        except TooLarge:
            raise
        except ValueError as error:  # it names what is wrong; a SerializationError is one, too
            raise bad_argument(error) from None

    def content_type(self) -> str:
        """That of the body, where it is accepted; no body is JSON, since many clients give it some type."""
        given = self.request.headers.get("Content-Type", "")
        content_type = given.partition(";")[0].strip().lower()
        if content_type in SERIALIZERS:
            return content_type
        if self._received:
            told = f"Content-Type must be one of {', '.join(SERIALIZERS)}, not {given[:80]!r}"
            raise Refused(415, told, name="unsupported-type")
        return codec.JSON

    async def payload(self, content_type: str) -> Body:
        """The body, checked, as it travels; nothing else of it is kept while the task runs."""
        data = self.body()
        if content_type == codec.JSON and not data:
            return _NULL
        body = codec.without_mark(Body(data, content_type))
        try:
            await off_loop.checked(body, self.client.decode)
        except SerializationError as error:
            raise Refused(400, str(error), name="bad-body") from None
        return await off_loop.packed(body)

    def _terms(self) -> dict[str, Any]:
        """What the query says of the call; `Client.call` refuses what is no number."""
        terms = {name: _number(self.get_query_argument(name), kind) for name, kind in self._given_arguments()}
        terms.setdefault("expiration", min(deadline.DEFAULT_EXPIRATION, self.max_expiration))
        if self.max_timeout is not None:
            terms.setdefault("timeout", self.max_timeout)
        for name, most in (("expiration", self.max_expiration), ("timeout", self.max_timeout)):
            if isinstance(value := terms.get(name), float):
                check_most(name, value, most)
        return terms

    def _given_arguments(self) -> list[tuple[str, Callable[[str], float]]]:
        return [(name, kind) for name, kind in _ARGUMENTS.items() if name in self.request.query_arguments]


def _number(text: str, kind: Callable[[str], float]) -> float | str:
    try:
        return kind(text)
    except ValueError:
        return text
