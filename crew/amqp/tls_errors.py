"""What OpenSSL says, in one sentence with the way out."""

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
# What the peer has told us: https://www.rfc-editor.org/rfc/rfc8446#section-6.2
_ALERTS: Final = {
    "CERTIFICATE_REQUIRED": "the broker wants a client certificate: name it by certfile= and keyfile=",
    "HANDSHAKE_FAILURE": "the broker wants a client certificate (certfile=, keyfile=), or no TLS of ours suits it",
    "UNKNOWN_CA": "the broker does not know the CA of our client certificate (certfile=)",
    "CERTIFICATE_EXPIRED": "our client certificate (certfile=) has expired",
    "BAD_CERTIFICATE": "the broker refuses our client certificate (certfile=), or wants one",
    "CERTIFICATE_UNKNOWN": "the broker refuses our client certificate (certfile=)",
    "UNSUPPORTED_CERTIFICATE": "the broker refuses the kind of our client certificate (certfile=)",
    "PROTOCOL_VERSION": "the broker speaks no TLS 1.2 or newer",
}


def sentence_of(error: ssl.SSLError) -> str:
    """What has gone wrong between us and the broker, and what to do."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _unverified(error)
    reason = error.reason or ""
    if reason in _NO_TLS:
        return (
            "TLS failed: the port does not speak TLS; write amqp:// in place of amqps://, or name the TLS port (5671)"
        )
    for alert, sentence in _ALERTS.items():
        if reason.endswith(f"ALERT_{alert}"):
            return f"TLS failed: {sentence}"
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError) or "EOF" in reason:
        return "TLS failed: the host closed the connection meanwhile"
    return f"TLS failed: {reason.replace('_', ' ').lower() or 'the connection broke'}"


def _unverified(error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code in _OTHER_HOST:
        return (
            "the broker's certificate is for another host: name the host in the URL as the certificate does, "
            "or name that one by server_name_indication="
        )
    if error.verify_code in _UNKNOWN_CA:
        return (
            "the broker's certificate is signed by a CA that is unknown here: "
            "name the CA's file by cacertfile= or CREW_AMQP_CA"
        )
    if error.verify_code == _EXPIRED:
        return "the broker's certificate, or its CA's, has expired: it needs a new one"
    if error.verify_code == _NOT_YET:
        return "the broker's certificate is not valid yet: look at the clocks of both hosts"
    return f"the broker's certificate cannot be trusted: {error.verify_message}"
