"""Responses with the value of a task."""

from typing import Any

import msgspec
from tornado.web import RequestHandler

from crew.client import off_loop
from crew.gateway.calls.reply_headers import http_headers
from crew.protocol.encoding import codec
from crew.protocol.encoding.foreign import unreadable
from crew.protocol.message import Body, Headers


class ValueResponseMixin(RequestHandler):
    """For handlers that respond with the values of tasks."""

    def respond(self, value: Any, headers: Headers, *, content_type: str = codec.JSON) -> None:
        """Respond with a decoded value: bytes as they are, anything else as JSON or MessagePack, by `content_type`.

        Raises:
            SerializationError: the value cannot be encoded as `content_type`.
        """
        for name, text in http_headers(headers).items():
            self.set_header(name, text)
        body = _encoded(value, content_type)
        self.respond_encoded(body.data, body.content_type or codec.BYTES)

    async def respond_with_body(
        self, body: Body, headers: Headers, *, decode: codec.Decode, content_type: str = codec.JSON
    ) -> None:
        """Respond with an encoded value. If it has the wanted type, it is only checked, not encoded again.

        Raises:
            SerializationError: it cannot be decoded by `decode`, or not be encoded as `content_type`.
        """
        if codec.content_type_of(body) in (codec.BYTES, codec.MSGPACK if content_type == codec.MSGPACK else codec.JSON):
            await off_loop.checked(body, decode)
            body = codec.without_mark(await off_loop.unpacked(body))
        else:
            value = await off_loop.decoded(body, decode)
            body = await off_loop.run(_encoded, value, content_type, is_large=codec.is_large(body))
        for name, text in http_headers(headers).items():
            self.set_header(name, text)
        self.respond_encoded(body.data, codec.content_type_of(body))

    def respond_encoded(self, body: bytes, content_type: str = codec.JSON) -> None:
        """Respond with these bytes."""
        self.set_header("Content-Type", content_type)
        self.set_header("X-Content-Type-Options", "nosniff")  # no browser may take the bytes of a task for a page
        self.set_header("Cache-Control", "no-store")  # a value may be secret, and a status is soon out of date
        self.finish(body)


def _encoded(value: Any, content_type: str) -> Body:
    """`value` as `content_type`, bytes as they are; raises SerializationError if it cannot be encoded."""
    if isinstance(value, bytes):
        return Body(value, codec.BYTES)
    try:
        if content_type == codec.MSGPACK:
            return Body(msgspec.msgpack.encode(value), codec.MSGPACK)
        return Body(msgspec.json.encode(value), codec.JSON)
    except Exception as error:
        raise unreadable(f"the value cannot be encoded as {content_type}", error) from None
