"""The value of a task as an HTTP response."""

from collections.abc import Awaitable
from typing import Any

import msgspec
from tornado.web import RequestHandler

from crew.gateway.reply_headers import http_headers
from crew.protocol import codec
from crew.protocol.message import Headers


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
        if isinstance(value, bytes):
            self.answer_encoded(value, codec.BYTES)
        elif content_type == codec.MSGPACK:
            self.answer_encoded(msgspec.msgpack.encode(value), codec.MSGPACK)
        else:
            self.answer_encoded(msgspec.json.encode(value), codec.JSON)

    def answer_encoded(self, body: bytes, content_type: str = codec.JSON) -> None:
        """With a body as it is."""
        self.set_header("Content-Type", content_type)
        self.set_header("X-Content-Type-Options", "nosniff")  # whatever bytes a task returns, they are no page
        self.set_header("Cache-Control", "no-store")  # a result may be secret, and a status is soon out of date
        self.finish(body)
