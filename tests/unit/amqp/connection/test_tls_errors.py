"""Errors of OpenSSL are described in one sentence that says what to do."""

import ssl

import pytest

from crew.amqp.connection.tls_errors import describe
from crew.amqp.errors import LinkRefused, link_error


def tls_error(reason: str, kind: type[ssl.SSLError] = ssl.SSLError) -> ssl.SSLError:
    """An error as Python raises it."""
    error = kind(1, f"[SSL: {reason}] {reason.lower()} (_ssl.c:1000)")
    error.reason = reason
    return error


def unverified(code: int) -> ssl.SSLCertVerificationError:
    """The error for a certificate that is not trusted."""
    error = ssl.SSLCertVerificationError(1, "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed")
    error.reason, error.verify_code, error.verify_message = "CERTIFICATE_VERIFY_FAILED", code, "something else"
    return error


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (unverified(62), "for another host name"),
        (unverified(64), "for another host name"),
        (unverified(19), "an unknown CA: set cacertfile= in the URL or CREW_AMQP_CA to the file of the CA"),
        (unverified(20), "an unknown CA"),
        (unverified(10), "has expired"),
        (unverified(9), "not valid yet"),
        (unverified(26), "cannot be trusted: something else"),
        (tls_error("TLSV13_ALERT_CERTIFICATE_REQUIRED"), "requires a client certificate: set certfile="),
        (tls_error("SSLV3_ALERT_HANDSHAKE_FAILURE"), "requires a client certificate"),
        (tls_error("TLSV1_ALERT_UNKNOWN_CA"), "does not know the CA of the client certificate"),
        (tls_error("SSLV3_ALERT_CERTIFICATE_EXPIRED"), "the client certificate (certfile=) has expired"),
        (tls_error("SSLV3_ALERT_BAD_CERTIFICATE"), "refuses the client certificate"),
        (tls_error("TLSV1_ALERT_PROTOCOL_VERSION"), "does not support TLS 1.2 or newer"),
        (tls_error("WRONG_VERSION_NUMBER"), "does not speak TLS; write amqp://"),
        (tls_error("UNEXPECTED_EOF_WHILE_READING", ssl.SSLEOFError), "closed the connection during the handshake"),
        (tls_error("NO_CIPHERS_AVAILABLE"), "TLS failed: no ciphers available"),
    ],
    ids=lambda value: str(value) if isinstance(value, str) else "",
)
def test_each_tls_error_is_one_sentence_and_is_retried(error: ssl.SSLError, sentence: str) -> None:
    assert sentence in describe(error)
    assert "\n" not in describe(error)
    assert not isinstance(link_error(error), LinkRefused)
