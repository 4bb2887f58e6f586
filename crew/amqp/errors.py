"""What went wrong between us and the broker, in one sentence: pika's exceptions end here.

A reply code alone does not say whether another attempt may help, so the broker's text is read as well. RabbitMQ
answers 530 for a virtual host that does not exist and for a connection limit that is reached, and 406 for a queue with
other arguments, for a limit of the number of queues and for an argument that it does not know. The texts are the same
from RabbitMQ 3.10 to 4.3. An unknown text counts as temporary: a worker that waits starts by itself later.
"""

import ast
import asyncio
import re
import socket
import ssl
from collections.abc import Iterator

from pika import exceptions
from pika.adapters.utils import connection_workflow

from crew.amqp import tls_errors
from crew.errors import ConnectionError
from crew.protocol.encoding.foreign import shortened

ACCESS_REFUSED = 403  # https://www.rabbitmq.com/amqp-0-9-1-reference#domain.reply-code
NOT_FOUND = 404
PRECONDITION_FAILED = 406
NOT_IMPLEMENTED = 540
NOT_ALLOWED = 530
_HOME_IS_DOWN = re.compile(r"home node '(.+?)' of durable queue '(.+)' in vhost .* is down")
PERMISSIONS = r"^(crew\.|amq\.default$)"  # all names that crew uses, https://www.rabbitmq.com/docs/access-control
_NO_PERMISSION = re.compile(r"access to (\w+ '.*') in vhost '(.*)' refused for user '(.*)'")
_TOO_LARGE = re.compile(r"message size \d+ is larger than (?:configured )?max size (\d+)")  # RabbitMQ 3.8 to 4.3
_OVERSTAYED = re.compile(r"delivery acknowledgement on channel \d+ timed out.*?(\d+) ms", re.DOTALL)
_OTHER_ARGUMENTS = "inequivalent arg"
_LIMIT = re.compile(r"\blimit\b.*\breached\b|\breached\b.*\blimit\b")  # connections, channels, queues, exchanges
_NO_VHOST = re.compile(r"vhost .* not found$|access to vhost '.*' refused for user '.*'$", re.DOTALL)
_QUOTED_REPLY = re.compile(r"ConnectionClosedByBroker: \((\d+)\) (.+)$", re.DOTALL)  # in the text of pika's exception
_REPLY_NAME = re.compile(r"^[A-Z_]+ - ")
_NO_WRITE = re.compile(r"access to (?:topic '(?P<topic>.*)' in )?exchange '(?P<exchange>.*)' in vhost '.*' refused")
DEFAULT_EXCHANGE_NAME = "amq.default"  # what the broker's texts call the exchange without a name
MAX_REASON = 300  # characters of the broker's text: it may quote what somebody else has sent
_BROKE = "StreamLostError"
_CLOSED = "the broker closed it: "
_STARTING = "is down"  # a virtual host of a broker that is just starting is refused in the same way as an unknown one


class LinkFault(ConnectionError):
    """The connection to the broker was lost or could not be made; another attempt may help.

    Attributes:
        code: AMQP reply code, or 0.
        largest: bytes that a message may have, where it was lost over a larger one.
        patience: seconds that a delivery may wait for its acknowledgement, where it was lost over one that took longer.
        advice: how a sentence about it may end, for those who run the broker: "; `crew broker start` runs one here".
        has_other_arguments: whether a queue or exchange of this name exists with other arguments than were declared.
        exchange: to which this user may not publish, where that is so; "amq.default" for the one without a name.
        topic: routing key with which it may not, or None where it may not at all.
        has_closed_channel: whether the broker has closed a channel only, for something that was sent over it.
    """

    def __init__(
        self,
        message: str,
        *,
        code: int = 0,
        largest: int | None = None,
        patience: float | None = None,
        has_other_arguments: bool = False,
        advice: str = "",
    ) -> None:
        super().__init__(message)
        self.advice = advice
        self.code = code
        self.has_other_arguments = has_other_arguments
        self.largest = largest
        self.patience = patience
        self.exchange: str | None = None
        self.topic: str | None = None
        self.has_closed_channel = False

    @property
    def is_of_message(self) -> bool:
        """Whether a message that was published may be the cause, and would be again.

        An exchange that is not there (404) is declared anew over the next connection.
        """
        return self.has_closed_channel and self.code != NOT_FOUND


class LinkRefused(LinkFault):
    """The broker refuses us; no further attempt would help."""


def fault_of(error: BaseException | None) -> LinkFault:
    """`error`, as pika reported it, as a LinkFault whose message is one sentence."""
    for cause in _causes(error):
        known = _known(cause)
        if known is not None:
            return known
    return LinkFault(_brief(error) if error else "the connection was closed")


def settle(ended: "asyncio.Future[LinkFault]", fault: LinkFault) -> None:
    """Something has ended for `fault`; what else ends it later says nothing new."""
    if not ended.done():
        ended.set_result(fault)


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
    if isinstance(error, LinkFault):
        return error
    if isinstance(error, exceptions.IncompatibleProtocolError):
        return LinkFault(
            "the host closed the connection before it said anything: it is starting, or the port is another program's"
        )
    if isinstance(error, exceptions.AMQPConnectionError) and _BROKE in str(error):
        return LinkFault("the connection broke")  # while logging in, say, which pika takes for a refused login
    if isinstance(error, exceptions.ProbableAuthenticationError | exceptions.ProbableAccessDeniedError):
        code, text = _quoted_reply(error)
        if code not in (0, ACCESS_REFUSED):
            return _closed_by_broker(code, text)
    if isinstance(error, exceptions.ProbableAuthenticationError | exceptions.AuthenticationError):
        return LinkRefused("user name or password refused", code=ACCESS_REFUSED)
    if isinstance(error, exceptions.ProbableAccessDeniedError) and _STARTING not in str(error):
        return LinkRefused("no such virtual host, or this user may not use it", code=NOT_ALLOWED)
    if isinstance(error, exceptions.ConnectionClosed | exceptions.ChannelClosed):
        fault = _closed_by_broker(error.reply_code, error.reply_text)
        fault.has_closed_channel = isinstance(error, exceptions.ChannelClosedByBroker)
        return fault
    if isinstance(error, exceptions.AMQPHeartbeatTimeout):
        return LinkFault("the broker has not answered for three heartbeats")
    if isinstance(error, socket.gaierror):
        return LinkFault(f"the host name cannot be resolved: {error.strerror}")
    if isinstance(error, ssl.SSLError):
        return LinkFault(tls_errors.sentence_of(error))
    if isinstance(error, OSError) and error.strerror:
        return LinkFault(error.strerror[:1].lower() + error.strerror[1:])
    if isinstance(error, TimeoutError):
        return LinkFault("the host did not answer in time")
    if isinstance(error, exceptions.StreamLostError):
        return LinkFault("the connection broke")
    if isinstance(error, connection_workflow.AMQPConnectorStackTimeout | exceptions.ConnectionOpenAborted):
        return LinkFault("the broker accepted the connection and then did not answer")
    return None


def _quoted_reply(error: BaseException) -> tuple[int, str]:
    """Reply code and text that pika quotes in the text of `error`; (0, "") where it quotes none."""
    found = _QUOTED_REPLY.search(str(error))
    if found is None:
        return 0, ""
    try:
        return int(found[1]), str(ast.literal_eval(found[2]))
    except (SyntaxError, ValueError):
        return int(found[1]), found[2]


def reason_in(text: str) -> str:
    """The broker's reason in a reply text, without the name of the reply code before it."""
    return _REPLY_NAME.sub("", text)


def _closed_by_broker(code: int, text: str) -> LinkFault:
    if code in (NOT_ALLOWED, PRECONDITION_FAILED) and _LIMIT.search(text):
        return LinkFault(f"a limit of the broker is reached: {reason_in(text)}; raise it, or free some", code=code)
    if code == NOT_ALLOWED and _NO_VHOST.search(text):
        return LinkRefused(f"no such virtual host, or this user may not use it: {reason_in(text)}", code=code)
    if code == ACCESS_REFUSED and (found := _NO_PERMISSION.search(text)):
        what, vhost, user = found.groups()
        refused = LinkRefused(
            f"user {user!r} may not use {what} in virtual host {vhost!r}: "
            f"give it configure, write and read permission for {PERMISSIONS}",
            code=code,
        )
        if place := _NO_WRITE.search(text):
            refused.exchange, refused.topic = place["exchange"], place["topic"]
        return refused
    if code == ACCESS_REFUSED and _STARTING not in text:
        return LinkRefused(f"the broker refuses it: {text}", code=code)
    if code == NOT_FOUND and (home := _HOME_IS_DOWN.search(text)):
        node, queue = home.groups()
        return LinkFault(
            f"queue {queue} is on node {node} alone, which is down: it comes back with that node, and "
            "CREW_QUEUE_TYPE=quorum, for workers and clients, keeps queues on several nodes",
            code=code,
        )
    too_large = _TOO_LARGE.search(text) if code == PRECONDITION_FAILED else None
    largest = None if too_large is None else int(too_large[1])
    overstayed = _OVERSTAYED.search(text) if code == PRECONDITION_FAILED else None
    patience = None if overstayed is None else int(overstayed[1]) / 1000
    return LinkFault(
        f"{_CLOSED}{text} ({code})",
        code=code,
        largest=largest,
        patience=patience,
        has_other_arguments=code == PRECONDITION_FAILED and _OTHER_ARGUMENTS in text,
    )


def told_reason(fault: LinkFault) -> str:
    """`fault` as the reason for which a message is refused, in one line of bounded length."""
    return shortened(" ".join(str(fault).removeprefix(_CLOSED).split()), MAX_REASON)


def _brief(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0][:200] or type(error).__name__
