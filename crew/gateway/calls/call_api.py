"""`POST /call/<task>`: calls a task, waits, and responds with its value."""

from collections.abc import Callable
from typing import Any, ClassVar, Final

from tornado.web import stream_request_body

from crew.client import Client, PendingCall, off_loop
from crew.duration import parse_duration
from crew.errors import SerializationError, TooLarge
from crew.gateway.body import BodyMixin
from crew.gateway.calls.value_response import ValueResponseMixin
from crew.gateway.problems import ProblemMixin, RequestRefused, bad_argument, check_most
from crew.gateway.serving.request_scope import AbandonMixin
from crew.gateway.url_guard import UrlGuard
from crew.protocol import deadline
from crew.protocol.encoding import codec
from crew.protocol.message import Body
from crew.protocol.topology import HTTP_TASK

MAX_EXPIRATION: Final = 60.0  # seconds

SERIALIZERS: Final = {content_type: name for name, content_type in codec.SERIALIZERS.items()}
_NULL: Final = Body(b"null", codec.JSON)
_ARGUMENTS: Final[dict[str, Callable[[str], float]]] = {"priority": int, "expiration": float, "timeout": float}
_DURATIONS: Final = ("expiration", "timeout")


@stream_request_body
class CallHandler(BodyMixin, ValueResponseMixin, AbandonMixin, ProblemMixin):
    """Calls the task named in the path with the request's body, and responds with the task's value.

    The Content-Type of the body is JSON, MessagePack (`application/msgpack`), UTF-8 text or bytes; an empty body is
    null. The query may have `priority`, `expiration` and `timeout`, as in `Client.call`. A value of type bytes is sent
    as bytes, any other as JSON, or as MessagePack if the request's body was MessagePack. Headers that the task has set
    in `context.headers` are sent as `Crew-<Name>`. If the call fails, the response is a problem document. If the HTTP
    client disconnects, the call is canceled.

    This handler does not authenticate callers, and any task can be called. A subclass can define `prepare`, check
    `self.path_args[0]`, the name of the task, and raise HTTPError(401) or (403) before it returns `super().prepare()`.
    A subclass that reads other parameters of the query adds their names to `parameters`; unknown ones are refused.

    Args:
        client: makes the calls.
        max_expiration: seconds; the maximum of `expiration`.
        max_body: maximum bytes of the body; None: the client's maximum message size.
        fail_fast: respond with 503 at once while the broker is unavailable; None: the setting of the client.
        guard: refuses URLs that URL jobs may not request; None: one that uses CREW_ALLOW_HOSTS.
        max_timeout: seconds; the maximum of `timeout`, and its default; None: no limit.
    """

    parameters: ClassVar[tuple[str, ...]] = tuple(_ARGUMENTS)

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
        """Set the arguments of the route."""
        self.max_timeout = max_timeout
        self.client, self.max_expiration, self.fail_fast = client, max_expiration, fail_fast
        self.guard = UrlGuard() if guard is None else guard
        self.expect(client.max_message if max_body is None else max_body)

    async def post(self, task: str) -> None:
        """Call `task`, wait, and respond with its value."""
        call = await self._call(task)
        body = await call
        try:
            await self.respond_with_body(
                body, call.headers, decode=self.client.decode, content_type=self.content_type()
            )
        except SerializationError as error:
            raise SerializationError(f"the value of call {call.id} cannot be decoded: {error}") from None

    async def _call(self, task: str) -> PendingCall[Any]:
        self.check_size()
        self.check_query(*self.parameters)
        body = await self.payload(self.content_type())
        options = {**self._call_options(), "fail_fast": self.fail_fast}
        if task == HTTP_TASK:
            await self.guard.check_call(task, await off_loop.decoded(body))
        try:
            call = self.client.call(task, body, **options)
            call.keeps_body = True
            return call
        except TooLarge:
            raise
        except ValueError as error:  # its text names the argument; a SerializationError is a ValueError, too
            raise bad_argument(error) from None

    def content_type(self) -> str:
        """The content type of the body. An empty body is JSON, because many clients send it with any type.

        Raises:
            RequestRefused: the type is not supported.
        """
        given = self.request.headers.get("Content-Type", "")
        content_type = given.partition(";")[0].strip().lower()
        if content_type in SERIALIZERS:
            return content_type
        if self._received:
            detail = f"Content-Type must be one of {', '.join(SERIALIZERS)}, not {given[:80]!r}"
            raise RequestRefused(415, detail, name="unsupported-type")
        return codec.JSON

    async def payload(self, content_type: str) -> Body:
        """The checked body, ready to be published. No other copy of it is held while the task runs."""
        data = self.body()
        if content_type == codec.JSON and not data:
            return _NULL
        body = codec.without_mark(Body(data, content_type))
        try:
            await off_loop.checked(body, self.client.decode)
        except SerializationError as error:
            raise RequestRefused(400, str(error), name="bad-body") from None
        return await off_loop.packed(body, self.client.max_message, compresses=self.client.compresses)

    def _call_options(self) -> dict[str, Any]:
        """The options of the call, from the query."""
        options = {name: _number(self.get_query_argument(name), kind) for name, kind in self._given_arguments()}
        for name in _DURATIONS:
            if isinstance(text := options.get(name), str):
                options[name] = _duration(name, text)
        options.setdefault("expiration", min(deadline.DEFAULT_EXPIRATION, self.max_expiration))
        if self.max_timeout is not None:
            options.setdefault("timeout", self.max_timeout)
        for name, most in (("expiration", self.max_expiration), ("timeout", self.max_timeout)):
            if isinstance(value := options.get(name), float):
                check_most(name, value, most)
        return options

    def _given_arguments(self) -> list[tuple[str, Callable[[str], float]]]:
        return [(name, kind) for name, kind in _ARGUMENTS.items() if name in self.request.query_arguments]


def _duration(name: str, text: str) -> float:
    try:
        return parse_duration(name, text)
    except ValueError as error:
        raise bad_argument(error) from None


def _number(text: str, kind: Callable[[str], float]) -> float | str:
    try:
        return kind(text)
    except ValueError:
        return text
