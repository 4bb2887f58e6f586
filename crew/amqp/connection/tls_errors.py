"""Translates errors of OpenSSL to one sentence that says what to do."""

import ssl
from typing import Final

_OTHER_HOST: Final = {62, 64}  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH: openssl/x509_vfy.h
_UNKNOWN_CA: Final = {2, 18, 19, 20, 21}  # no issuer, self-signed, self-signed above, no local issuer, cannot verify
_NOT_YET: Final = 9
_EXPIRED: Final = 10
_NO_TLS: Final = {
    "WRONG_VERSION_NUMBER",
    "HTTP_REQUEST",
    "HTTPS_PROXY_REQUEST",
    "RECORD_LAYER_FAILURE",
    "UNKNOWN_PROTOCOL",
}
# Alerts that the broker sends: https://www.rfc-editor.org/rfc/rfc8446#section-6.2
_ALERTS: Final = {
    "CERTIFICATE_REQUIRED": "the broker requires a client certificate: set certfile= and keyfile= in the URL",
    "HANDSHAKE_FAILURE": "the broker requires a client certificate (certfile=), or supports no TLS cipher of ours",
    "UNKNOWN_CA": "the broker does not know the CA of the client certificate (certfile=)",
    "CERTIFICATE_EXPIRED": "the client certificate (certfile=) has expired",
    "BAD_CERTIFICATE": "the broker refuses the client certificate (certfile=), or requires one",
    "CERTIFICATE_UNKNOWN": "the broker refuses the client certificate (certfile=)",
    "UNSUPPORTED_CERTIFICATE": "the broker does not support the type of the client certificate (certfile=)",
    "PROTOCOL_VERSION": "the broker does not support TLS 1.2 or newer",
}


def describe(error: ssl.SSLError) -> str:
    """Return one sentence: what failed, and what to do."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _unverified(error)
    reason = error.reason or ""
    if reason in _NO_TLS:
        return "TLS failed: the port does not speak TLS; write amqp:// instead of amqps://, or use the TLS port (5671)"
    for alert, sentence in _ALERTS.items():
        if reason.endswith(f"ALERT_{alert}"):
            return f"TLS failed: {sentence}"
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError) or "EOF" in reason:
        return "TLS failed: the host closed the connection during the handshake"
    return f"TLS failed: {reason.replace('_', ' ').lower() or 'the connection broke'}"


def _unverified(error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code in _OTHER_HOST:
        return (
            "the broker's certificate is for another host name: use that name in the URL, "
            "or set server_name_indication= to it"
        )
    if error.verify_code in _UNKNOWN_CA:
        return (
            "the broker's certificate is signed by an unknown CA: "
            "set cacertfile= in the URL or CREW_AMQP_CA to the file of the CA"
        )
    if error.verify_code == _EXPIRED:
        return "the certificate of the broker or of its CA has expired: install a new one on the broker"
    if error.verify_code == _NOT_YET:
        return "the broker's certificate is not valid yet: check the clocks of both hosts"
    return f"the broker's certificate cannot be trusted: {error.verify_message}"
