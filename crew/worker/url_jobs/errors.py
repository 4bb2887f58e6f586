"""Why a request of a URL job has no response, in one sentence, whatever aiohttp calls it."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp

from crew.protocol.http_job.url import HttpUrl
from crew.worker.url_jobs.interim_responses import TooManyInterim
from crew.worker.url_jobs.resolver import WITHIN, NameTimeout
from crew.worker.url_jobs.wire_limits import MAX_INTERIM, Wire


class RequestFailed(Exception):
    """A URL job has no response, or none that can be kept."""


@contextmanager
def told(method: str, url: HttpUrl, wire: Wire) -> Iterator[None]:
    """Turn what aiohttp and the system raise into RequestFailed; what they say themselves may quote a secret.

    Where `wire` has broken the connection off, its fault is the reason.
    """
    try:
        yield
    except (aiohttp.ClientError, OSError) as error:
        reason = _reason(error) if wire.fault is None else f"the response {wire.fault}"
        raise failed(method, url, reason) from None


def failed(method: str, url: HttpUrl, reason: str) -> RequestFailed:
    """The failure of a request, for this reason."""
    return RequestFailed(f"{method} {url.redacted} has failed: {reason}")


def _reason(error: Exception) -> str:
    match error:
        case NameTimeout():
            return f"no name server has told the address of its host within {WITHIN:g} s"
        case TooManyInterim():
            return f"its host has sent more than {MAX_INTERIM} informational responses (1xx) before the response"
        case socket.gaierror():
            return "its host is not known"
        case aiohttp.ClientConnectorCertificateError():
            return f"the certificate of its host is refused: {_verify_message(error.certificate_error)}"
        case aiohttp.ClientConnectorSSLError():
            return "there is no TLS connection with its host"
        case aiohttp.ClientConnectorError():
            return f"its host cannot be reached: {_system_message(error.os_error)}"
        case aiohttp.ClientResponseError():
            return "the answer of its host is not HTTP, or has too many headers, or one that is too long"
        case aiohttp.ClientPayloadError():
            return "the body of the response is broken off, or is not HTTP"
        case aiohttp.ClientConnectionError() | OSError():
            return "its host has closed the connection without an answer"
        case _:
            return type(error).__name__


def _verify_message(error: Exception) -> str:
    return getattr(error, "verify_message", "") or "it cannot be verified"


def _system_message(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else "no address of it answers"
