"""What `POST /jobs/` is sent: an object of JSON, as the order of a job. Each refusal names its reason for programs."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from crew.errors import SerializationError, TooLarge
from crew.gateway.jobs.job_limits import JobLimits
from crew.gateway.problems import RequestRefused
from crew.jobs.specification import check_id, check_key, order
from crew.jobs.store.insert import Candidate
from crew.protocol import deadline, properties, topology, user_headers
from crew.protocol.encoding import codec
from crew.protocol.encoding.foreign import BRIEF, brief
from crew.protocol.http_job.request import check_request
from crew.protocol.message import Body

TERMS: Final = {"priority", "timeout", "expiration", "result_ttl", "failure_ttl", "unique", "key", "id"}
TASK_MEMBERS: Final = {"task", "data", "headers", "wait_for_worker"} | TERMS
URL_MEMBERS: Final = {"url", "method", "headers", "data"} | TERMS
_WITH_DEFAULT: Final = TERMS | {"method", "headers", "wait_for_worker"}  # where null is as good as nothing


def parse_job(body: bytes, limits: JobLimits, *, decode: codec.Decode = codec.decode, **terms: Any) -> Candidate:
    """The order in the body of a request.

    Args:
        limits: which may shorten crew's defaults.
        decode: what this gateway accepts.
        terms: what the request says outside of its body.

    Raises:
        RequestRefused: it is none.
        TooLarge: the payload has more bytes than a message may have.
    """
    given = _object(body, decode)
    known = _known(given)
    said = {name: value for name, value in given.items() if value is not None or name not in _WITH_DEFAULT}
    said = limits.defaults(is_url=is_url_job(said)) | said
    try:
        if known is URL_MEMBERS:
            return _http_order(said, terms)
        return order(**_checked(said), **terms)
    except TooLarge:
        raise
    except ValueError as error:
        culprit, told = _culprit(said, is_http=known is URL_MEMBERS) or (_of_several(said), str(error))
        raise RequestRefused(422, told, name=f"bad-{culprit}") from None


def is_url_job(said: Mapping[str, Any]) -> bool:
    """Whether a job with these members makes a request."""
    return "url" in said or said.get("task") == topology.HTTP_TASK


def _object(body: bytes, decode: codec.Decode) -> dict[str, Any]:
    if not body.strip():
        raise RequestRefused(400, 'a job needs a body: {"task": ..., "data": ...} or {"url": ...}', name="no-body")
    try:
        given = decode(Body(body, codec.JSON))
    except SerializationError as error:
        raise RequestRefused(400, str(error), name="bad-json") from None
    if not isinstance(given, dict):
        told = f"a job is an object of JSON, not {_shown(given)}"
        raise RequestRefused(422, told, name="not-an-object")
    return given


def _shown(given: Any) -> str:
    """The beginning of `given`, as JSON where it is short."""
    if isinstance(given, list):
        return "an array"
    return brief(given) if isinstance(given, str) and len(given) > BRIEF else msgspec.json.encode(given).decode()


def _known(given: Mapping[str, Any]) -> set[str]:
    """The members that it may have; what it is about stands in one of two."""
    if "task" in given and "url" in given:
        raise RequestRefused(422, "a job has a task or a url, not both", name="task-and-url")
    if "task" not in given and "url" not in given:
        raise RequestRefused(
            422, 'a job needs a task or a url: {"task": ..., "data": ...} or {"url": ...}', name="no-task"
        )
    known, kind = (TASK_MEMBERS, "task") if "task" in given else (URL_MEMBERS, "url")
    if unknown := sorted(given.keys() - known):
        told = f"a job with a {kind} has no {brief(unknown[0])}, only {', '.join(sorted(known))}"
        raise RequestRefused(422, told, name="unknown-member")
    return known


def _http_order(said: Mapping[str, Any], terms: Mapping[str, Any]) -> Candidate:
    request = {name: value for name, value in said.items() if name not in TERMS}
    return order(topology.HTTP_TASK, request, **{name: said[name] for name in said.keys() & TERMS}, **terms)


def _checked(said: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(said.get("wait_for_worker", False), bool):
        raise ValueError(f"wait_for_worker must be true or false, not {brief(said['wait_for_worker'])}")
    return said


# --- whose fault it is: asked only where something is wrong ----------------------------------------------------------


def _duration(name: str) -> Callable[[Any], object]:
    return lambda value: deadline.parse_duration(name, value)


_CHECKS: Final[dict[str, Callable[[Any], object]]] = {
    "priority": properties.check_priority,
    "timeout": _duration("timeout"),
    "expiration": _duration("expiration"),
    "result_ttl": _duration("result_ttl"),
    "failure_ttl": _duration("failure_ttl"),
    "id": check_id,
}
_TASK_CHECKS: Final[dict[str, Callable[[Any], object]]] = {
    "task": lambda value: topology.check_name("task", value),
    "headers": user_headers.check,
    "wait_for_worker": lambda value: _checked({"wait_for_worker": value}),
    **_CHECKS,
    "key": lambda value: check_key("key", value),
}
_URL_CHECKS: Final[dict[str, Callable[[Any], object]]] = {
    "url": lambda value: check_request(url=value),
    "method": lambda value: check_request(url="http://h/", method=value),
    "headers": lambda value: check_request(url="http://h/", headers=value),
    **_CHECKS,
    "key": lambda value: check_key("key", value),
}


def _culprit(said: Mapping[str, Any], *, is_http: bool) -> tuple[str, str] | None:
    """The first member that cannot be, whatever the others are; and why not."""
    for name, check in (_URL_CHECKS if is_http else _TASK_CHECKS).items():
        try:
            if name in said:
                check(said[name])
        except ValueError as error:
            return name, str(error)
    return None


def _of_several(said: Mapping[str, Any]) -> str:
    """What is wrong where each member could be: `unique` and `key` are wrong together, if anything is."""
    return "unique" if "unique" in said or "key" in said else "data"
