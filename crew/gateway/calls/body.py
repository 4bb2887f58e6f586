"""The body of a request, taken within its bound while it arrives, or dropped."""

from tornado.web import RequestHandler, stream_request_body

from crew.gateway.problems import Refused


class BodyMixin(RequestHandler):
    """For handlers with `@stream_request_body`: `expect` in `initialize`, then `body` once."""

    max_body: int

    def expect(self, max_body: int) -> None:
        """Take at most that many bytes."""
        self.max_body = max_body
        self._received = bytearray()
        self._is_too_large = False

    def data_received(self, chunk: bytes) -> None:
        """Keep the body, within its bound. The rest is read and dropped: who still sends does not hear an answer."""
        self._is_too_large |= len(self._received) + len(chunk) > self.max_body
        if self._is_too_large:
            self._received.clear()
        else:
            self._received += chunk

    def check_size(self) -> None:
        """Raise Refused where the body was too large."""
        if self._is_too_large:
            told = f"the body has more than the {self.max_body} bytes that are accepted here"
            raise Refused(413, told, name="body-too-large")

    def body(self) -> bytes:
        """All of it; nothing of it is kept. Raises Refused where it is encoded."""
        self.check_size()
        encoding = self.request.headers.get("Content-Encoding", "identity")
        if encoding.lower() != "identity":
            told = f"Content-Encoding {encoding[:80]!r} is not accepted here: send the body as it is"
            raise Refused(415, told, name="unsupported-encoding")
        data, self._received = bytes(self._received), bytearray()
        return data


@stream_request_body
class NoBodyMixin(RequestHandler):
    """For handlers that want no body: Tornado would keep 100 MB of it, for anybody who sends them."""

    def data_received(self, chunk: bytes) -> None:
        """Drop it."""
