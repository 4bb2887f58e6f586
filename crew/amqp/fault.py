"""What went wrong between us and the broker, in one sentence: pika's exceptions end here."""

import socket
import ssl
from collections.abc import Iterator

from pika import exceptions
from pika.adapters.utils import connection_workflow

from crew.errors import ConnectionError

ACCESS_REFUSED = 403  # https://www.rabbitmq.com/amqp-0-9-1-reference#domain.reply-code
NOT_FOUND = 404
PRECONDITION_FAILED = 406
NOT_IMPLEMENTED = 540
NOT_ALLOWED = 530
_STARTING = "is down"  # a virtual host of a broker that is just starting is refused in the same way as an unknown one


class LinkFault(ConnectionError):
    """The connection to the broker was lost or could not be made; another attempt may help.

    Attributes:
        code: AMQP reply code, or 0.
    """

    def __init__(self, message: str, *, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


class LinkRefused(LinkFault):
    """The broker refuses us; no further attempt would help."""


def fault_of(error: BaseException | None) -> LinkFault:
    """`error`, as pika reported it, as a LinkFault whose message is one sentence."""
    for cause in _causes(error):
        known = _known(cause)
        if known is not None:
            return known
    return LinkFault(_brief(error) if error else "the connection was closed")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """pika wraps the cause of a failed attempt several times; innermost first."""
    if isinstance(error, connection_workflow.AMQPConnectionWorkflowFailed):
        for inner in reversed(error.exceptions):
            yield from _causes(inner)
    elif isinstance(error, connection_workflow.AMQPConnectorPhaseErrorBase):
        yield from _causes(error.exception)
    elif isinstance(error, exceptions.AMQPConnectionError) and error.args and isinstance(error.args[0], BaseException):
        yield from _causes(error.args[0])
    if error is not None:
        yield error


def _known(error: BaseException) -> LinkFault | None:
    if isinstance(error, exceptions.ProbableAuthenticationError | exceptions.AuthenticationError):
        return LinkRefused("user name or password refused", code=ACCESS_REFUSED)
    if isinstance(error, exceptions.ProbableAccessDeniedError) and _STARTING not in str(error):
        return LinkRefused("no such virtual host, or this user may not use it", code=NOT_ALLOWED)
    if isinstance(error, exceptions.ConnectionClosed | exceptions.ChannelClosed):
        return _closed_by_broker(error.reply_code, error.reply_text)
    if isinstance(error, exceptions.AMQPHeartbeatTimeout):
        return LinkFault("the broker has not answered for three heartbeats")
    if isinstance(error, exceptions.ConnectionBlockedTimeout):
        return LinkFault("the broker has blocked publishing for too long: it is short of memory or disk")
    if isinstance(error, socket.gaierror):
        return LinkFault(f"the host name cannot be resolved: {error.strerror}")
    if isinstance(error, ssl.SSLError):
        return LinkFault(f"TLS failed: {error.reason or error}")
    if isinstance(error, OSError) and error.strerror:
        return LinkFault(error.strerror[:1].lower() + error.strerror[1:])
    if isinstance(error, TimeoutError):
        return LinkFault("the host did not answer in time")
    if isinstance(error, exceptions.StreamLostError):
        return LinkFault("the connection broke")
    if isinstance(error, connection_workflow.AMQPConnectorStackTimeout | exceptions.ConnectionOpenAborted):
        return LinkFault("the broker accepted the connection and then did not answer")
    return None


def _closed_by_broker(code: int, text: str) -> LinkFault:
    if code in (ACCESS_REFUSED, NOT_ALLOWED) and _STARTING not in text:
        return LinkRefused(f"the broker refuses it: {text}", code=code)
    return LinkFault(f"the broker closed it: {text} ({code})", code=code)


def _brief(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0][:200] or type(error).__name__
