"""Translation of pika's exceptions into one sentence each."""

import errno
import os
import socket
import ssl

import pytest
from pika import exceptions
from pika.adapters.utils import connection_workflow as workflow

from crew.amqp.errors import PERMISSIONS, START_BROKER, LinkError, LinkRefused, advice_for, link_error
from crew.errors import ConnectionError, CrewError


def os_error(number: int) -> OSError:
    """An OSError as the operating system raises it."""
    return OSError(number, os.strerror(number))


def tls_error() -> ssl.SSLError:
    """The error of a TLS handshake with a broker that speaks plain AMQP."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    incoming.write(b"AMQP\x00\x00\x09\x01")
    with pytest.raises(ssl.SSLError) as raised:
        ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="broker").do_handshake()
    return raised.value


def failed_attempt(*causes: BaseException) -> BaseException:
    """A failed attempt to connect, as pika reports it."""
    failed: BaseException = exceptions.AMQPConnectionError(workflow.AMQPConnectionWorkflowFailed(causes))
    return failed


@pytest.mark.parametrize(
    "text",
    [
        "PRECONDITION_FAILED - message size 2000000 is larger than configured max size 1000000",
        "PRECONDITION_FAILED - message size 2000000 is larger than max size 1000000",
    ],
)
def test_the_error_for_a_too_large_message_has_the_limit_of_the_broker(text: str) -> None:
    assert link_error(exceptions.ChannelClosedByBroker(406, text)).largest == 1_000_000
    assert (
        link_error(exceptions.ChannelClosedByBroker(406, "PRECONDITION_FAILED - unknown delivery tag 7")).largest
        is None
    )


SENTENCES = [
    (None, "the connection was closed"),
    (exceptions.StreamLostError("Transport indicated EOF"), "the connection broke"),
    (
        exceptions.StreamLostError("Stream connection lost: ConnectionResetError(104, 'Connection reset by peer')"),
        "the connection broke",
    ),
    (exceptions.StreamLostError("Stream connection lost: ValueError('bug in callback')"), "the connection broke"),
    (
        exceptions.ConnectionClosedByBroker(320, "CONNECTION_FORCED - broker forced connection closure"),
        "the broker closed it: CONNECTION_FORCED - broker forced connection closure (320)",
    ),
    (
        exceptions.ChannelClosedByBroker(406, "PRECONDITION_FAILED - inequivalent arg 'x-max-priority'"),
        "the broker closed it: PRECONDITION_FAILED - inequivalent arg 'x-max-priority' (406)",
    ),
    (exceptions.AMQPHeartbeatTimeout("No activity"), "heartbeat timeout: the broker sent nothing for three heartbeats"),
    (
        exceptions.ConnectionOpenAborted(),
        "connection timeout: the broker accepted the connection and then did not answer",
    ),
    (
        failed_attempt(workflow.AMQPConnectorStackTimeout("Timeout during AMQP handshake")),
        "connection timeout: the broker accepted the connection and then did not answer",
    ),
    (
        failed_attempt(workflow.AMQPConnectorSocketConnectError(os_error(errno.ECONNREFUSED))),
        "connection refused",
    ),
    (
        failed_attempt(workflow.AMQPConnectorSocketConnectError(os_error(errno.EHOSTUNREACH))),
        "no route to host",
    ),
    (
        failed_attempt(
            workflow.AMQPConnectorSocketConnectError(socket.gaierror(socket.EAI_NONAME, "Name or service not known"))
        ),
        "the host name cannot be resolved: Name or service not known",
    ),
    (
        failed_attempt(
            workflow.AMQPConnectorTransportSetupError(tls_error()),
        ),
        "TLS failed: the port does not speak TLS; write amqp:// instead of amqps://, or use the TLS port (5671)",
    ),
    (
        failed_attempt(
            workflow.AMQPConnectorAMQPHandshakeError(exceptions.ProbableAuthenticationError("ConnectionClosedByBroker"))
        ),
        "user name or password refused",
    ),
    (
        failed_attempt(
            workflow.AMQPConnectorAMQPHandshakeError(
                exceptions.ProbableAccessDeniedError("NOT_ALLOWED - vhost x not found")
            )
        ),
        "the virtual host does not exist, or this user may not use it",
    ),
]


@pytest.mark.parametrize(("error", "sentence"), SENTENCES, ids=[sentence for _, sentence in SENTENCES])
def test_each_failure_is_one_sentence(error: BaseException | None, sentence: str) -> None:
    fault = link_error(error)
    assert str(fault).lower() == sentence.lower()
    assert "\n" not in str(fault)


@pytest.mark.parametrize(
    "error",
    [
        *(error for error, _ in SENTENCES),
        failed_attempt(workflow.AMQPConnectorSocketConnectError(TimeoutError("TCP connection attempt timed out"))),
        failed_attempt(),
        exceptions.AMQPConnectionError(),
        exceptions.IncompatibleProtocolError("0-8"),
        exceptions.ChannelWrongStateError("Channel is closed."),
        ValueError("line one\nline two"),
        RuntimeError(),
    ],
)
def test_every_error_of_pika_is_a_connection_error_of_crew(error: BaseException | None) -> None:
    fault = link_error(error)
    assert isinstance(fault, ConnectionError)
    assert isinstance(fault, CrewError)
    assert str(fault)
    assert "\n" not in str(fault)


def test_a_host_that_does_not_respond_is_a_timeout() -> None:
    timed_out = TimeoutError("TCP connection attempt timed out: 'example.org'/(...)")
    fault = link_error(failed_attempt(workflow.AMQPConnectorSocketConnectError(timed_out)))
    assert "timed out" in str(fault) or "did not answer" in str(fault)


@pytest.mark.parametrize(
    "error",
    [
        exceptions.AuthenticationError("PLAIN"),
        exceptions.ProbableAuthenticationError(
            exceptions.ConnectionClosedByBroker(403, "ACCESS_REFUSED - Login was refused")
        ),
        exceptions.ProbableAccessDeniedError(
            exceptions.ConnectionClosedByBroker(530, "NOT_ALLOWED - vhost x not found")
        ),
        exceptions.ConnectionClosedByBroker(530, "NOT_ALLOWED - access to vhost 'x' refused for user 'guest'"),
        exceptions.ChannelClosedByBroker(403, "ACCESS_REFUSED - access to queue 'q' refused for user 'guest'"),
    ],
    ids=lambda error: f"{type(error).__name__} {error.args[0]}",
)
def test_a_refusal_that_no_retry_can_fix_is_a_link_refused(error: BaseException) -> None:
    fault = link_error(error)
    assert isinstance(fault, LinkRefused)
    assert fault.code in (403, 530)


@pytest.mark.parametrize(
    "error",
    [
        exceptions.StreamLostError("Transport indicated EOF"),
        exceptions.ConnectionClosedByBroker(320, "CONNECTION_FORCED"),
        # The connection broke during the login, which pika reports as a refusal.
        exceptions.ProbableAuthenticationError(repr(exceptions.StreamLostError("Transport indicated EOF"))),
        exceptions.ProbableAccessDeniedError(repr(exceptions.StreamLostError("Transport indicated EOF"))),
        exceptions.IncompatibleProtocolError(repr(exceptions.StreamLostError("Transport indicated EOF"))),
        exceptions.ProbableAccessDeniedError(
            exceptions.ConnectionClosedByBroker(541, "INTERNAL_ERROR - access to vhost '/' refused: vhost '/' is down")
        ),
        exceptions.ConnectionClosedByBroker(530, "NOT_ALLOWED - access refused: vhost '/' is down"),
        exceptions.ProbableAuthenticationError("StreamLostError: ('Transport indicated EOF',)"),
        exceptions.ProbableAccessDeniedError("StreamLostError: ('Transport indicated EOF',)"),
        failed_attempt(workflow.AMQPConnectorSocketConnectError(os_error(errno.ECONNREFUSED))),
    ],
    ids=lambda error: f"{type(error).__name__} {error.args[0]}",
)
def test_a_temporary_failure_is_not_a_link_refused(error: BaseException) -> None:
    assert not isinstance(link_error(error), LinkRefused)


@pytest.mark.parametrize("text", ["access to", "configure access to"])
def test_the_error_for_a_missing_permission_names_the_permissions_needed(text: str) -> None:
    refused = exceptions.ChannelClosedByBroker(
        403, f"ACCESS_REFUSED - {text} queue 'crew.tasks.x' in vhost '/v' refused for user 'o'dd'"
    )
    assert str(link_error(refused)) == (
        "access refused: user \"o'dd\" may not use queue 'crew.tasks.x' in virtual host '/v'; "
        f"give this user configure, write and read permission for {PERMISSIONS}"
    )


NOT_ALLOWED = "NOT_ALLOWED - "
LIMIT = "a limit of the broker is reached: {}; raise the limit, or close what is not needed"
REPLIES = [  # texts of RabbitMQ 3.10.8, 4.0.5 and 4.3.6, as pika reports them
    (
        exceptions.ProbableAccessDeniedError(
            """ConnectionClosedByBroker: (530) "NOT_ALLOWED - access to vhost 'v' refused for user 'u': """
            """connection limit (1) is reached\""""
        ),
        LIMIT.format("access to vhost 'v' refused for user 'u': connection limit (1) is reached"),
    ),
    (
        exceptions.ProbableAccessDeniedError(
            """ConnectionClosedByBroker: (530) "NOT_ALLOWED - connection refused for user 'u': """
            """user connection limit (1) is reached\""""
        ),
        LIMIT.format("connection refused for user 'u': user connection limit (1) is reached"),
    ),
    (
        exceptions.ConnectionClosedByBroker(
            530,
            "NOT_ALLOWED - number of channels opened for user 'u' has reached the maximum allowed user limit of (1)",
        ),
        LIMIT.format("number of channels opened for user 'u' has reached the maximum allowed user limit of (1)"),
    ),
    (
        exceptions.ChannelClosedByBroker(
            406, "PRECONDITION_FAILED - cannot declare queue 'q': queue limit in vhost 'v' (1) is reached"
        ),
        LIMIT.format("cannot declare queue 'q': queue limit in vhost 'v' (1) is reached"),
    ),
    (
        exceptions.ProbableAccessDeniedError(
            """ConnectionClosedByBroker: (541) "INTERNAL_ERROR - access to vhost 'v' refused for user 'u': """
            """vhost 'v' is down\""""
        ),
        "the broker closed it: INTERNAL_ERROR - access to vhost 'v' refused for user 'u': vhost 'v' is down (541)",
    ),
    (
        exceptions.ConnectionClosedByBroker(530, "NOT_ALLOWED - something new"),
        "the broker closed it: NOT_ALLOWED - something new (530)",
    ),
]


@pytest.mark.parametrize(("error", "sentence"), REPLIES, ids=[sentence for _, sentence in REPLIES])
def test_a_temporary_refusal_contains_the_reason_of_the_broker(error: BaseException, sentence: str) -> None:
    fault = link_error(failed_attempt(workflow.AMQPConnectorAMQPHandshakeError(error)))
    assert str(fault) == sentence
    assert not isinstance(fault, LinkRefused)
    assert not fault.has_other_arguments


@pytest.mark.parametrize(
    "reply", ["'NOT_ALLOWED - vhost v not found'", "\"NOT_ALLOWED - access to vhost 'v' refused for user 'u'\""]
)
def test_a_missing_or_forbidden_virtual_host_is_a_link_refused(reply: str) -> None:
    error = exceptions.ProbableAccessDeniedError(f"ConnectionClosedByBroker: (530) {reply}")
    fault = link_error(failed_attempt(workflow.AMQPConnectorAMQPHandshakeError(error)))
    assert isinstance(fault, LinkRefused)
    assert (
        str(fault)
        == f"the virtual host does not exist, or this user may not use it: {reply[1:-1].removeprefix(NOT_ALLOWED)}"
    )


@pytest.mark.parametrize(
    ("text", "is_other"),
    [
        (
            "inequivalent arg 'x-max-priority' for queue 'q' in vhost 'v': received none but current is the value '5'",
            True,
        ),
        ("inequivalent arg 'type' for exchange 'e' in vhost 'v': received 'direct' but current is 'topic'", True),
        ("invalid arg 'x-max-priority' for queue 'q' in vhost 'v' of queue type rabbit_quorum_queue", False),
        ("cannot declare queue 'q': queue limit in vhost 'v' (1) is reached", False),
    ],
)
def test_only_an_inequivalent_argument_means_other_arguments(text: str, is_other: bool) -> None:
    fault = link_error(exceptions.ChannelClosedByBroker(406, f"PRECONDITION_FAILED - {text}"))
    assert fault.code == 406
    assert fault.has_other_arguments is is_other


def test_the_error_has_the_code_of_the_broker() -> None:
    assert link_error(exceptions.ChannelClosedByBroker(404, "NOT_FOUND - no queue 'q'")).code == 404
    assert link_error(exceptions.StreamLostError("x")).code == 0


def test_a_link_error_keeps_its_text() -> None:
    assert isinstance(link_error(LinkError("the channel is closed")), LinkError)
    assert str(link_error(LinkError("the channel is closed"))) == "the channel is closed"


def test_the_error_for_a_queue_on_a_node_that_is_down_says_what_to_do() -> None:
    text = "NOT_FOUND - home node 'rabbit@a' of durable queue 'crew.tasks.t' in vhost '/' is down or inaccessible"
    fault = link_error(exceptions.ChannelClosedByBroker(404, text))

    assert "queue crew.tasks.t is not available: its only node rabbit@a is down" in str(fault)
    assert "CREW_QUEUE_TYPE=quorum" in str(fault)
    assert not isinstance(fault, LinkRefused)  # the node may come back


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "localhost", "[::1]"])
def test_if_nothing_listens_on_this_host_the_advice_is_to_start_a_broker(host: str) -> None:
    assert advice_for(LinkError("connection refused"), f"amqp://me:secret@{host}:5672/") == START_BROKER


@pytest.mark.parametrize("host", ["10.0.0.1", "broker.example", "[2001:db8::1]"])
def test_there_is_no_advice_about_a_broker_on_another_host(host: str) -> None:
    assert advice_for(LinkError("connection refused"), f"amqp://{host}/") == ""


@pytest.mark.parametrize("error", [LinkError("the connection broke"), LinkRefused("user name or password refused")])
def test_there_is_no_advice_if_something_listens(error: LinkError) -> None:
    assert advice_for(error, "amqp://127.0.0.1/") == ""
