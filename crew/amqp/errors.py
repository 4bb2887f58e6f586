"""Errors of the connection to the broker, one sentence each: no exception of pika leaves crew.amqp.

    ConnectionError       crew.errors, public
    └── LinkError         the connection broke or could not be made; a retry may help
        └── LinkRefused   the broker refuses this user or virtual host; a retry does not help

A reply code alone does not show whether a retry may help, so the broker's text is read as well. RabbitMQ answers 530
both for a missing virtual host and for a reached connection limit. It answers 406 for a queue with other arguments, for
a limit on the number of queues, and for an unknown argument. The texts are the same from RabbitMQ 3.10 to 4.3. An
unknown text counts as temporary: a worker that keeps retrying starts by itself later.
"""

import ast
import asyncio
import functools
import ipaddress
import logging
import os
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from errno import ECONNREFUSED
from typing import Final, ParamSpec

from pika import exceptions
from pika.adapters.utils import connection_workflow

from crew import broker_url
from crew.amqp.connection import tls_errors
from crew.errors import ConnectionError
from crew.protocol.encoding.foreign import shortened

logger = logging.getLogger(__name__)

ACCESS_REFUSED = 403  # https://www.rabbitmq.com/amqp-0-9-1-reference#domain.reply-code
NOT_FOUND = 404
PRECONDITION_FAILED = 406
NOT_IMPLEMENTED = 540
NOT_ALLOWED = 530
_NODE_IS_DOWN = re.compile(r"home node '(.+?)' of durable queue '(.+)' in vhost .* is down")
PERMISSIONS = r"^(crew\.|amq\.default$)"  # all names that crew uses, https://www.rabbitmq.com/docs/access-control
_NO_PERMISSION = re.compile(r"access to (\w+ '.*') in vhost '(.*)' refused for user '(.*)'")
_TOO_LARGE = re.compile(r"message size \d+ is larger than (?:configured )?max size (\d+)")  # RabbitMQ 3.8 to 4.3
_ACK_TIMEOUT = re.compile(r"delivery acknowledgement on channel \d+ timed out.*?(\d+) ms", re.DOTALL)
_OTHER_ARGUMENTS = "inequivalent arg"
_LIMIT = re.compile(r"\blimit\b.*\breached\b|\breached\b.*\blimit\b")  # connections, channels, queues, exchanges
_NO_VHOST = re.compile(r"vhost .* not found$|access to vhost '.*' refused for user '.*'$", re.DOTALL)
_QUOTED_REPLY = re.compile(r"ConnectionClosedByBroker: \((\d+)\) (.+)$", re.DOTALL)  # in the text of pika's exception
_REPLY_NAME = re.compile(r"^[A-Z_]+ - ")
_NO_WRITE = re.compile(r"access to (?:topic '(?P<topic>.*)' in )?exchange '(?P<exchange>.*)' in vhost '.*' refused")
DEFAULT_EXCHANGE_NAME = "amq.default"  # the name of the default exchange in the broker's texts
MAX_REASON = 300  # characters of the broker's text, which may quote a message of another program
_STREAM_LOST = "StreamLostError"
_CLOSED = "the broker closed it: "
_STARTING = "is down"  # RabbitMQ refuses a virtual host while it starts in the same way as an unknown virtual host
START_BROKER: Final = "; `crew broker start` starts a broker on this machine"
_REFUSED: Final = os.strerror(ECONNREFUSED).lower()

P = ParamSpec("P")


class LinkError(ConnectionError):
    """The connection to the broker broke or could not be made; a retry may help.

    Attributes:
        code: AMQP reply code, or 0.
        largest: the broker's limit for a message in bytes, where a larger message closed the channel; else None.
        ack_timeout: the broker's acknowledgement timeout in seconds, where a delivery exceeded it; else None.
        advice: what the operator can do, as the end of a sentence: "; `crew broker start` starts a broker on this
            machine". Or "".
        has_other_arguments: whether a queue or exchange with this name exists with other arguments.
        exchange: exchange that this user may not publish to, or None; "amq.default" for the default exchange.
        topic: routing key that this user may not publish with; None where it may not publish to `exchange` at all.
        has_closed_channel: whether the broker closed only a channel, because of a frame on that channel.
    """

    def __init__(
        self,
        message: str,
        *,
        code: int = 0,
        largest: int | None = None,
        ack_timeout: float | None = None,
        has_other_arguments: bool = False,
        advice: str = "",
    ) -> None:
        super().__init__(message)
        self.advice = advice
        self.code = code
        self.has_other_arguments = has_other_arguments
        self.largest = largest
        self.ack_timeout = ack_timeout
        self.exchange: str | None = None
        self.topic: str | None = None
        self.has_closed_channel = False

    @property
    def is_of_message(self) -> bool:
        """Whether a published message may be the cause, so that publishing it again would fail again.

        A missing exchange (404) is not such a cause: the next connection declares it again.
        """
        return self.has_closed_channel and self.code != NOT_FOUND


class LinkRefused(LinkError):
    """The broker refuses this user or virtual host; a retry does not help."""


def link_error(error: BaseException | None) -> LinkError:
    """Translate an exception of pika to a LinkError whose message is one sentence."""
    for cause in _causes(error):
        known = _known(cause)
        if known is not None:
            return known
    return LinkError(_brief(error) if error else "the connection was closed")


def settle(ended: "asyncio.Future[LinkError]", error: LinkError) -> None:
    """Set `error` as the reason in `ended`, unless it has a reason already."""
    if not ended.done():
        ended.set_result(error)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the causes of `error`, innermost first: pika wraps the cause of a failed attempt several times."""
    if isinstance(error, connection_workflow.AMQPConnectionWorkflowFailed):
        for inner in reversed(error.exceptions):
            yield from _causes(inner)
    elif isinstance(error, connection_workflow.AMQPConnectorPhaseErrorBase):
        yield from _causes(error.exception)
    elif isinstance(error, exceptions.AMQPConnectionError) and error.args and isinstance(error.args[0], BaseException):
        yield from _causes(error.args[0])
    if error is not None:
        yield error


def _known(error: BaseException) -> LinkError | None:
    if isinstance(error, LinkError):
        return error
    if isinstance(error, exceptions.IncompatibleProtocolError):
        return LinkError(
            "the host closed the connection without a reply: the broker is starting, or another program uses the port"
        )
    if isinstance(error, exceptions.AMQPConnectionError) and _STREAM_LOST in str(error):
        return LinkError("the connection broke")  # during the login, which pika reports as a refused login
    if isinstance(error, exceptions.ProbableAuthenticationError | exceptions.ProbableAccessDeniedError):
        code, text = _quoted_reply(error)
        if code not in (0, ACCESS_REFUSED):
            return _closed_by_broker(code, text)
    if isinstance(error, exceptions.ProbableAuthenticationError | exceptions.AuthenticationError):
        return LinkRefused("user name or password refused", code=ACCESS_REFUSED)
    if isinstance(error, exceptions.ProbableAccessDeniedError) and _STARTING not in str(error):
        return LinkRefused("the virtual host does not exist, or this user may not use it", code=NOT_ALLOWED)
    if isinstance(error, exceptions.ConnectionClosed | exceptions.ChannelClosed):
        closed = _closed_by_broker(error.reply_code, error.reply_text)
        closed.has_closed_channel = isinstance(error, exceptions.ChannelClosedByBroker)
        return closed
    if isinstance(error, exceptions.AMQPHeartbeatTimeout):
        return LinkError("heartbeat timeout: the broker sent nothing for three heartbeats")
    if isinstance(error, socket.gaierror):
        return LinkError(f"the host name cannot be resolved: {error.strerror}")
    if isinstance(error, ssl.SSLError):
        return LinkError(tls_errors.describe(error))
    if isinstance(error, OSError) and error.strerror:
        return LinkError(error.strerror[:1].lower() + error.strerror[1:])
    if isinstance(error, TimeoutError):
        return LinkError("connection timeout: the host did not answer")
    if isinstance(error, exceptions.StreamLostError):
        return LinkError("the connection broke")
    if isinstance(error, connection_workflow.AMQPConnectorStackTimeout | exceptions.ConnectionOpenAborted):
        return LinkError("connection timeout: the broker accepted the connection and then did not answer")
    return None


def _quoted_reply(error: BaseException) -> tuple[int, str]:
    """Return reply code and text that pika quotes in the text of `error`, or (0, "")."""
    found = _QUOTED_REPLY.search(str(error))
    if found is None:
        return 0, ""
    try:
        return int(found[1]), str(ast.literal_eval(found[2]))
    except (SyntaxError, ValueError):
        return int(found[1]), found[2]


def reason_in(text: str) -> str:
    """Return the broker's reason in a reply text, without the name of the reply code in front of it."""
    return _REPLY_NAME.sub("", text)


def _closed_by_broker(code: int, text: str) -> LinkError:
    if code in (NOT_ALLOWED, PRECONDITION_FAILED) and _LIMIT.search(text):
        return LinkError(
            f"a limit of the broker is reached: {reason_in(text)}; raise the limit, or close what is not needed",
            code=code,
        )
    if code == NOT_ALLOWED and _NO_VHOST.search(text):
        return LinkRefused(
            f"the virtual host does not exist, or this user may not use it: {reason_in(text)}", code=code
        )
    if code == ACCESS_REFUSED and (found := _NO_PERMISSION.search(text)):
        what, vhost, user = found.groups()
        refused = LinkRefused(
            f"access refused: user {user!r} may not use {what} in virtual host {vhost!r}; "
            f"give this user configure, write and read permission for {PERMISSIONS}",
            code=code,
        )
        if place := _NO_WRITE.search(text):
            refused.exchange, refused.topic = place["exchange"], place["topic"]
        return refused
    if code == ACCESS_REFUSED and _STARTING not in text:
        return LinkRefused(f"access refused by the broker: {text}", code=code)
    if code == NOT_FOUND and (home := _NODE_IS_DOWN.search(text)):
        node, queue = home.groups()
        return LinkError(
            f"queue {queue} is not available: its only node {node} is down; start the node, "
            "or set CREW_QUEUE_TYPE=quorum for workers and clients to replicate queues",
            code=code,
        )
    too_large = _TOO_LARGE.search(text) if code == PRECONDITION_FAILED else None
    largest = None if too_large is None else int(too_large[1])
    waited = _ACK_TIMEOUT.search(text) if code == PRECONDITION_FAILED else None
    ack_timeout = None if waited is None else int(waited[1]) / 1000
    return LinkError(
        f"{_CLOSED}{text} ({code})",
        code=code,
        largest=largest,
        ack_timeout=ack_timeout,
        has_other_arguments=code == PRECONDITION_FAILED and _OTHER_ARGUMENTS in text,
    )


def brief_reason(error: LinkError) -> str:
    """Return `error` as the reason why a message was refused: one line of limited length."""
    return shortened(" ".join(str(error).removeprefix(_CLOSED).split()), MAX_REASON)


def advice_for(error: LinkError, url: str) -> str:
    """Return the end of a sentence about `error`: how to start a broker, where none listens on this machine; or ""."""
    return START_BROKER if str(error).lower() == _REFUSED and _is_local(broker_url.parse(url).host) else ""


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def guarded(callback: Callable[P, None]) -> Callable[P, None]:
    """Wrap `callback` so that its exceptions are logged: an exception in a callback of pika closes the connection."""

    @functools.wraps(callback)
    def guard(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            callback(*args, **kwargs)
        except Exception:
            logger.exception("callback failed: %r", callback)

    return guard


def _brief(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0][:200] or type(error).__name__
