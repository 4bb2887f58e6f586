"""Limits of a gateway that its operator can set. The defaults are generous, or there is no limit."""

import functools
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from crew import settings
from crew.duration import parse_duration
from crew.errors import SettingsError
from crew.protocol.encoding.foreign import brief

MAX_PAGE: Final = 500  # jobs on one page of a list
_SIZE: Final = re.compile(r"([0-9]{1,15})(|kB|MB|GB|KiB|MiB|GiB)", re.ASCII)
_UNITS: Final = {"": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


class GatewayLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of a gateway; None: only crew's built-in limits apply.

    Attributes:
        max_connections: open at the same time; more get 503, except on the health routes.
        max_connections_per_peer: open at the same time from one address; more get 429. Behind a proxy all connections
            have the proxy's address.
        head_timeout: seconds until the headers of a connection's first request have arrived.
        idle_timeout: seconds from a response until the headers of the next request have arrived.
        stall_timeout: seconds in which a client must send at least one byte of a request body, or read at least one
            byte of a response.
        min_rate: bytes per second of a request body, on average.
        max_expiration: seconds that a call may wait for its result (an argument of `routes` overrides it).
        max_timeout: seconds that a call or a job may request as its running time.
        max_ttl: seconds for which the record of a job may be stored after its end.
        max_jobs: queued and running in the job store; more are refused with 503.
        max_jobs_per_token: the same for the jobs that one token has submitted; more are refused with 429.
        max_jobs_per_host: the same for the URL jobs for one host; more are refused with 429.
        max_job_bytes: total payload of the jobs that are queued and running in the job store.
        max_job_bytes_per_token: the same for the jobs that one token has submitted.
        max_job_bytes_per_host: the same for the URL jobs for one host.
        max_page: jobs on one page of a list.
    """

    max_connections: int | None = None
    max_connections_per_peer: int | None = None
    head_timeout: float = 20.0
    idle_timeout: float = 75.0
    stall_timeout: float = 60.0
    min_rate: float = 1024.0
    max_expiration: float = 60.0
    max_timeout: float | None = None
    max_ttl: float | None = None
    max_jobs: int | None = None
    max_jobs_per_token: int | None = None
    max_jobs_per_host: int | None = None
    max_job_bytes: int | None = None
    max_job_bytes_per_token: int | None = None
    max_job_bytes_per_host: int | None = None
    max_page: int = MAX_PAGE


def load(given: Mapping[str, str | None] | None = None, *, environ: Mapping[str, str] | None = None) -> GatewayLimits:
    """The limits from `given`, else from the environment, else the defaults.

    `max_jobs` is `CREW_GATEWAY_MAX_JOBS` in the environment and `--max-jobs` on the command line; the other names
    follow the same pattern. Durations are seconds, or text like "15m"; sizes are bytes, or text like "100MB".

    Raises:
        SettingsError: a limit is invalid.
    """
    found: dict[str, Any] = {}
    for name, parse in _PARSERS.items():
        flag, variable = f"--{name.replace('_', '-')}", f"CREW_GATEWAY_{name.upper()}"
        text, source = (given or {}).get(name), flag
        if text is None:
            text, source = settings.gateway_limit(variable, environ=environ), variable
        if text is not None:
            found[name] = parse(source, text)
    return GatewayLimits(**found)


def _count(name: str, text: str, most: int | None = None) -> int:
    is_number = text.isascii() and text.isdecimal() and len(text) < 16
    if not is_number or int(text) < 1 or (most is not None and int(text) > most):
        bounds = ", 1 or more" if most is None else f" from 1 to {most}"
        raise SettingsError(f"{name} must be a whole number{bounds}, not {brief(text)}")
    return int(text)


def _size(name: str, text: str) -> int:
    match = _SIZE.fullmatch(text)
    if match is None or int(match[1]) == 0:
        raise SettingsError(f"{name} must be a number of bytes, or text like 100MB, 1GiB, not {brief(text)}")
    return int(match[1]) * _UNITS[match[2]]


def _duration(name: str, text: str) -> float:
    try:
        return parse_duration(name, text)
    except ValueError as error:
        raise SettingsError(str(error)) from None


_PARSERS: Final[dict[str, Callable[[str, str], Any]]] = {
    **dict.fromkeys(("max_connections", "max_connections_per_peer"), _count),
    **dict.fromkeys(("head_timeout", "idle_timeout", "stall_timeout"), _duration),
    "min_rate": _size,
    **dict.fromkeys(("max_expiration", "max_timeout", "max_ttl"), _duration),
    **dict.fromkeys(("max_jobs", "max_jobs_per_token", "max_jobs_per_host"), _count),
    **dict.fromkeys(("max_job_bytes", "max_job_bytes_per_token", "max_job_bytes_per_host"), _size),
    "max_page": functools.partial(_count, most=MAX_PAGE),
}
