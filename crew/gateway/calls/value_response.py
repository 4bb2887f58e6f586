"""The value of a task as an HTTP response."""

from collections.abc import Awaitable
from typing import Any

import msgspec
from tornado.web import RequestHandler

from crew.client import off_loop
from crew.gateway.calls.reply_headers import http_headers
from crew.protocol.encoding import codec
from crew.protocol.encoding.foreign import unreadable
from crew.protocol.message import Body, Headers


class HeadMixin(RequestHandler):
    """For handlers whose `HEAD` is their `GET`, the wait included; Tornado leaves the body out."""

    def head(self, *path: str) -> Awaitable[None] | None:
        """As GET."""
        return self.get(*path)


class AnswerMixin(RequestHandler):
    """For handlers that answer with the values of tasks."""

    def answer(self, value: Any, headers: Headers, *, content_type: str = codec.JSON) -> None:
        """As a worker answers: bytes as they are, a caller that speaks MessagePack in it, anybody else in JSON."""
        for name, text in http_headers(headers).items():
            self.set_header(name, text)
        body = _encoded(value, content_type)
        self.answer_encoded(body.data, body.content_type or codec.BYTES)

    async def answer_body(
        self, body: Body, headers: Headers, *, decode: codec.Decode, content_type: str = codec.JSON
    ) -> None:
        """As `answer`, for a value as it came: what has the wanted type is checked, and not encoded once more.

        Raises:
            SerializationError: it cannot be decoded by `decode`, or JSON has no such value.
        """
        if codec.content_type_of(body) in (codec.BYTES, codec.MSGPACK if content_type == codec.MSGPACK else codec.JSON):
            await off_loop.checked(body, decode)
            body = codec.without_mark(await off_loop.unpacked(body))
        else:
            value = await off_loop.decoded(body, decode)
            body = await off_loop.run(_encoded, value, content_type, is_large=codec.is_large(body))
        for name, text in http_headers(headers).items():
            self.set_header(name, text)
        self.answer_encoded(body.data, codec.content_type_of(body))

    def answer_encoded(self, body: bytes, content_type: str = codec.JSON) -> None:
        """With a body as it is."""
        self.set_header("Content-Type", content_type)
        self.set_header("X-Content-Type-Options", "nosniff")  # whatever bytes a task returns, they are no page
        self.set_header("Cache-Control", "no-store")  # a result may be secret, and a status is soon out of date
        self.finish(body)


def _encoded(value: Any, content_type: str) -> Body:
    """The value of a task for who speaks `content_type`; raises SerializationError where that has no such value."""
    if isinstance(value, bytes):
        return Body(value, codec.BYTES)
    try:
        if content_type == codec.MSGPACK:
            return Body(msgspec.msgpack.encode(value), codec.MSGPACK)
        return Body(msgspec.json.encode(value), codec.JSON)
    except Exception as error:
        raise unreadable(f"the value cannot be written as {content_type}", error) from None
