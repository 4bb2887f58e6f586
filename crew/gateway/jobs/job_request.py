"""Parses the body of `POST /jobs/`: a JSON object that describes a job. Each refusal names the bad member."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from crew.duration import parse_duration
from crew.errors import SerializationError, TooLarge
from crew.gateway.jobs.job_limits import JobLimits
from crew.gateway.problems import RequestRefused
from crew.jobs.specification import Specification, check_id, check_key, specify
from crew.protocol import properties, topology, user_headers
from crew.protocol.encoding import codec
from crew.protocol.encoding.foreign import BRIEF, brief
from crew.protocol.http_job.request import check_request
from crew.protocol.message import Body

JOB_OPTIONS: Final = {
    *("priority", "timeout", "expiration", "result_ttl", "failure_ttl"),
    *("unique", "unique_key", "key", "id"),
}
TASK_MEMBERS: Final = {"task", "payload", "data", "headers", "wait_for_worker"} | JOB_OPTIONS
URL_MEMBERS: Final = {"url", "method", "headers", "data"} | JOB_OPTIONS
_WITH_DEFAULT: Final = JOB_OPTIONS | {"method", "headers", "wait_for_worker"}  # null means the default
URL_RENAMES: Final = {"key": "unique_key"}  # deprecated names -> names; both are accepted
TASK_RENAMES: Final = {"data": "payload", **URL_RENAMES}  # `data` of a URL job has its name from htq


def parse_job(body: bytes, limits: JobLimits, *, decode: codec.Decode = codec.decode, **options: Any) -> Specification:
    """The job that the body of a request describes.

    Args:
        limits: may lower the usual defaults.
        decode: decodes the body.
        options: arguments of the job that are not in the body.

    Raises:
        RequestRefused: the body is invalid.
        TooLarge: the payload exceeds the maximum message size.
    """
    given = _object(body, decode)
    known = _allowed_members(given)
    members = {name: value for name, value in given.items() if value is not None or name not in _WITH_DEFAULT}
    members = limits.defaults(is_url=is_url_job(members)) | members
    try:
        if known is URL_MEMBERS:
            return _url_job(members, options)
        return specify(**_renamed(_checked(members), TASK_RENAMES), **options)
    except TooLarge:
        raise
    except ValueError as error:
        found = _invalid_member(members, is_http=known is URL_MEMBERS)
        name, detail = (_contradiction(members), str(error)) if found is None else found
        raise RequestRefused(422, detail, name=f"bad-{name}") from None


def is_url_job(members: Mapping[str, Any]) -> bool:
    """Whether a job with these members is a URL job."""
    return "url" in members or members.get("task") == topology.HTTP_TASK


def _object(body: bytes, decode: codec.Decode) -> dict[str, Any]:
    if not body.strip():
        detail = 'the body is empty: send {"task": ..., "payload": ...} or {"url": ...}'
        raise RequestRefused(400, detail, name="no-body")
    try:
        given = decode(Body(body, codec.JSON))
    except SerializationError as error:
        raise RequestRefused(400, str(error), name="bad-json") from None
    if not isinstance(given, dict):
        detail = f"the body must be a JSON object, not {_shown(given)}"
        raise RequestRefused(422, detail, name="not-an-object")
    return given


def _shown(given: Any) -> str:
    """`given` as JSON, shortened if it is a long string."""
    if isinstance(given, list):
        return "an array"
    return brief(given) if isinstance(given, str) and len(given) > BRIEF else msgspec.json.encode(given).decode()


def _allowed_members(given: Mapping[str, Any]) -> set[str]:
    """The members that this job may have: those of a task, or those of a URL."""
    if "task" in given and "url" in given:
        raise RequestRefused(422, "a job has a task or a url, not both: remove one of them", name="task-and-url")
    if "task" not in given and "url" not in given:
        raise RequestRefused(
            422, 'a job needs a task or a url: {"task": ..., "payload": ...} or {"url": ...}', name="no-task"
        )
    known, kind = (TASK_MEMBERS, "task") if "task" in given else (URL_MEMBERS, "url")
    renames = TASK_RENAMES if kind == "task" else URL_RENAMES
    if unknown := sorted(given.keys() - known):
        current = sorted(known - renames.keys())
        detail = f"unknown member {brief(unknown[0])} of a job with a {kind}: use {', '.join(current)}"
        raise RequestRefused(422, detail, name="unknown-member")
    for old, new in renames.items():
        if old in given and new in given:
            detail = f"{old} is the deprecated name of {new}: send only {new}"
            raise RequestRefused(422, detail, name=f"bad-{new}")
    return known


def _url_job(members: Mapping[str, Any], options: Mapping[str, Any]) -> Specification:
    request = {name: value for name, value in members.items() if name not in JOB_OPTIONS}
    given = {name: value for name, value in members.items() if name in JOB_OPTIONS}
    return specify(topology.HTTP_TASK, request, **_renamed(given, URL_RENAMES), **options)


def _renamed(members: Mapping[str, Any], new_names: Mapping[str, str]) -> dict[str, Any]:
    return {new_names.get(name, name): value for name, value in members.items()}


def _checked(members: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(members.get("wait_for_worker", False), bool):
        raise ValueError(f"wait_for_worker must be true or false, not {brief(members['wait_for_worker'])}")
    return members


# --- which member is invalid: checked only after the job was refused --------------------------------------------------


def _duration(name: str) -> Callable[[Any], object]:
    return lambda value: parse_duration(name, value)


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
    "unique_key": lambda value: check_key("unique_key", value),
    "key": lambda value: check_key("key", value),
}
_URL_CHECKS: Final[dict[str, Callable[[Any], object]]] = {
    "url": lambda value: check_request(url=value),
    "method": lambda value: check_request(url="http://h/", method=value),
    "headers": lambda value: check_request(url="http://h/", headers=value),
    **_CHECKS,
    "unique_key": lambda value: check_key("unique_key", value),
    "key": lambda value: check_key("key", value),
}


def _invalid_member(members: Mapping[str, Any], *, is_http: bool) -> tuple[str, str] | None:
    """The first member that is invalid by itself, and the reason."""
    for name, check in (_URL_CHECKS if is_http else _TASK_CHECKS).items():
        try:
            if name in members:
                check(members[name])
        except ValueError as error:
            return name, str(error)
    return None


def _contradiction(members: Mapping[str, Any]) -> str:
    """The member to name if each one is valid by itself: only `unique` and its key can contradict each other."""
    return "unique" if members.keys() & {"unique", "unique_key", "key"} else "data"
