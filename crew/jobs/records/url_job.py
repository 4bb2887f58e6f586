"""The request and the response of a URL job as JSON, with the members of the HTTP Task Queue (htq).

The members of htq: https://github.com/chop-dbhi/htq. crew adds its own members beside them.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from crew import settings
from crew.jobs.job import Job
from crew.jobs.records.json_values import milliseconds, value
from crew.jobs.specification import REQUEST_MARGIN
from crew.protocol.http_job.url import redacted_url, without_login

MASK: Final = "..."  # in place of the value of a header
_SECRET: Final = frozenset(("authorization", "cookie", "proxy-authorization", "set-cookie"))


def request(job: Job, *, shows_query: bool) -> dict[str, Any]:
    """`url`, `method`, `headers`, `data` and `timeout` of the request; the first four are None without a payload.

    The URL is shown without user and password, and with its query only if `shows_query`. The values of secret headers
    are masked.
    """
    payload = None if job.body is None else value(job.body)
    if not isinstance(payload, dict) or "url" not in payload:
        timeout = None if job.timeout is None else round(job.timeout - REQUEST_MARGIN, 3)
        return {"url": None, "method": None, "headers": None, "data": None, "timeout": timeout}
    url = str(payload["url"])
    headers = payload.get("headers")
    return {
        "url": without_login(url) if shows_query else redacted_url(url),
        "method": payload.get("method"),
        "headers": masked(headers) if isinstance(headers, dict) else {},
        "data": payload.get("data"),
        "timeout": payload.get("timeout"),
    }


def response(job: Job, result: Any) -> Any:
    """The value of a URL job, with the members of htq added.

    `uuid`, `status`, `time` (when the job ended, milliseconds since 1970), `elapsed` (milliseconds), `headers` as an
    object, `data`: the body as text, or in base64 if `encoding` says so. `header_list` has the headers as received. A
    value of a foreign worker that is no response is returned unchanged.
    """
    if not isinstance(result, dict) or not _is_list_of_pairs(result.get("headers")):
        return result
    ended = job.ended
    return {
        **result,
        "uuid": job.id,
        "status": job.status.value,
        "time": None if ended is None or not math.isfinite(ended) else milliseconds(ended),
        "elapsed": result.get("elapsed_ms"),
        "headers": as_object(result["headers"]),
        "header_list": result["headers"],
        "data": result.get("body"),
    }


def response_without_secrets(job: Job, result: Any) -> Any:
    """As `response`, with the values of secret headers masked: for a terminal."""
    members = response(job, result)
    if members is result:
        return result
    secret = _secret_names()
    hidden = [[name, MASK if name.lower() in secret else text] for name, text in members["header_list"]]
    return {**members, "headers": as_object(hidden), "header_list": hidden}


def masked(headers: Mapping[str, Any]) -> dict[str, Any]:
    """`headers` with masked values of secret headers: those with credentials, and those in CREW_SECRET_HEADERS."""
    secret = _secret_names()
    return {name: MASK if name.lower() in secret else text for name, text in headers.items()}


def as_object(headers: Iterable[Sequence[str]]) -> dict[str, str]:
    """Headers by name; the values of a repeated header are joined by commas, as in RFC 9110, 5.3."""
    found: dict[str, str] = {}
    names: dict[str, str] = {}  # lower case -> as received first
    for name, text in headers:
        name = names.setdefault(name.lower(), name)
        found[name] = f"{found[name]}, {text}" if name in found else text
    return found


def _secret_names() -> frozenset[str]:
    return _SECRET | settings.secret_headers()


def _is_list_of_pairs(headers: object) -> bool:
    return isinstance(headers, list) and all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) for text in pair) for pair in headers
    )
