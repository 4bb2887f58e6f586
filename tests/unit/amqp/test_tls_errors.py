"""What OpenSSL says, as a sentence with the way out."""

import ssl

import pytest

from crew.amqp.errors import LinkRefused, fault_of
from crew.amqp.tls_errors import sentence_of


def tls_error(reason: str, kind: type[ssl.SSLError] = ssl.SSLError) -> ssl.SSLError:
    """As Python raises it."""
    error = kind(1, f"[SSL: {reason}] {reason.lower()} (_ssl.c:1000)")
    error.reason = reason
    return error


def unverified(code: int) -> ssl.SSLCertVerificationError:
    """A certificate that was not trusted."""
    error = ssl.SSLCertVerificationError(1, "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed")
    error.reason, error.verify_code, error.verify_message = "CERTIFICATE_VERIFY_FAILED", code, "something else"
    return error


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (unverified(62), "for another host"),
        (unverified(64), "for another host"),
        (unverified(19), "a CA that is unknown here: name the CA's file by cacertfile= or CREW_AMQP_CA"),
        (unverified(20), "a CA that is unknown here"),
        (unverified(10), "has expired"),
        (unverified(9), "not valid yet"),
        (unverified(26), "cannot be trusted: something else"),
        (tls_error("TLSV13_ALERT_CERTIFICATE_REQUIRED"), "wants a client certificate: name it by certfile="),
        (tls_error("SSLV3_ALERT_HANDSHAKE_FAILURE"), "wants a client certificate"),
        (tls_error("TLSV1_ALERT_UNKNOWN_CA"), "does not know the CA of our client certificate"),
        (tls_error("SSLV3_ALERT_CERTIFICATE_EXPIRED"), "our client certificate (certfile=) has expired"),
        (tls_error("SSLV3_ALERT_BAD_CERTIFICATE"), "refuses our client certificate"),
        (tls_error("TLSV1_ALERT_PROTOCOL_VERSION"), "no TLS 1.2 or newer"),
        (tls_error("WRONG_VERSION_NUMBER"), "does not speak TLS; write amqp://"),
        (tls_error("UNEXPECTED_EOF_WHILE_READING", ssl.SSLEOFError), "closed the connection meanwhile"),
        (tls_error("NO_CIPHERS_AVAILABLE"), "TLS failed: no ciphers available"),
    ],
    ids=lambda value: str(value) if isinstance(value, str) else "",
)
def test_each_failure_is_one_sentence_and_is_tried_again(error: ssl.SSLError, told: str) -> None:
    assert told in sentence_of(error)
    assert "\n" not in sentence_of(error)
    assert not isinstance(fault_of(error), LinkRefused)
