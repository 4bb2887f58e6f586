"""Bodies of requests: received as a stream within a size limit, or discarded. Responses without a body, for `HEAD`."""

from collections.abc import Awaitable

from tornado.web import RequestHandler, stream_request_body

from crew.gateway.problems import RequestRefused


class BodyMixin(RequestHandler):
    """For handlers with `@stream_request_body`: call `expect` in `initialize`, then `body` once."""

    max_body: int

    def expect(self, max_body: int) -> None:
        """Accept a body of at most this many bytes."""
        self.max_body = max_body
        self._received = bytearray()
        self._is_too_large = False

    def data_received(self, chunk: bytes) -> None:
        """Store a part of the body. Beyond the limit the body is read and discarded.

        Reading goes on, because a client that is still sending would not read the response.
        """
        self._is_too_large |= len(self._received) + len(chunk) > self.max_body
        if self._is_too_large:
            self._received.clear()
        else:
            self._received += chunk

    def check_size(self) -> None:
        """Raise RequestRefused if the body is too large."""
        if self._is_too_large:
            detail = f"the body is too large: at most {self.max_body} bytes are accepted here"
            raise RequestRefused(413, detail, name="body-too-large")

    def body(self) -> bytes:
        """The whole body; this handler no longer holds it afterwards.

        Raises:
            RequestRefused: it is too large, or compressed.
        """
        self.check_size()
        encoding = self.request.headers.get("Content-Encoding", "identity")
        if encoding.lower() != "identity":
            detail = (
                f"Content-Encoding {encoding[:80]!r} is not supported: send the body uncompressed, without the header"
            )
            raise RequestRefused(415, detail, name="unsupported-encoding")
        data, self._received = bytes(self._received), bytearray()
        return data


@stream_request_body
class NoBodyMixin(RequestHandler):
    """For handlers that need no body. Without this Tornado would hold up to 100 MB of a body, for any client."""

    def data_received(self, chunk: bytes) -> None:
        """Discard it."""


class HeadMixin(RequestHandler):
    """For handlers whose `HEAD` does the same as `GET`, including any wait; Tornado leaves out the body."""

    def head(self, *path: str) -> Awaitable[None] | None:
        """As `GET`."""
        return self.get(*path)
