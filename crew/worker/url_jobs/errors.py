"""Errors of the request of a URL job, each in one sentence; translates the errors of aiohttp and of the system."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp

from crew.protocol.http_job.url import HttpUrl
from crew.worker.url_jobs.interim_responses import TooManyInterim
from crew.worker.url_jobs.resolver import WITHIN, NameTimeout
from crew.worker.url_jobs.wire_limits import MAX_INTERIM, WireCounter


class RequestFailed(Exception):
    """The request of a URL job has no response, or one that crew does not accept."""


@contextmanager
def translated(method: str, url: HttpUrl, counter: WireCounter) -> Iterator[None]:
    """Raise RequestFailed for each error of aiohttp and of the system; their own messages may quote a secret.

    If `counter` has ended the connection, its fault is the reason.
    """
    try:
        yield
    except (aiohttp.ClientError, OSError) as error:
        reason = _reason(error) if counter.fault is None else f"the response {counter.fault}"
        raise request_failed(method, url, reason) from None


def request_failed(method: str, url: HttpUrl, reason: str) -> RequestFailed:
    """The error of a request, with this reason."""
    return RequestFailed(f"{method} {url.redacted} failed: {reason}")


def _reason(error: Exception) -> str:
    match error:
        case NameTimeout():
            return f"DNS timeout: no name server resolved its host within {WITHIN:g} s"
        case TooManyInterim():
            return f"its host sent more than {MAX_INTERIM} informational responses (1xx) before the response"
        case socket.gaierror():
            return "its host name is unknown (DNS)"
        case aiohttp.ClientConnectorCertificateError():
            return f"the TLS certificate of its host is not valid: {_verify_message(error.certificate_error)}"
        case aiohttp.ClientConnectorSSLError():
            return "the TLS handshake with its host failed"
        case aiohttp.ClientConnectorError():
            return f"cannot connect to its host: {_system_message(error.os_error)}"
        case aiohttp.ClientResponseError():
            return "the response of its host is not HTTP, or has too many headers, or one that is too long"
        case aiohttp.ClientPayloadError():
            return "the body of the response is incomplete, or is not HTTP"
        case aiohttp.ClientConnectionError() | OSError():
            return "its host closed the connection without a response"
        case _:
            return type(error).__name__


def _verify_message(error: Exception) -> str:
    return getattr(error, "verify_message", "") or "it cannot be verified"


def _system_message(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else "none of its addresses is reachable"
