"""Formats a job as text: a line, a line of JSON, or a page."""

import json
from typing import Any, Final

from crew.cli.shown import plain, shown, shown_lines
from crew.jobs import Job
from crew.jobs.records import url_job
from crew.jobs.records.record import error, full_record, moment, record, value

ERROR_IN_LINE: Final = 100  # characters; the page has the rest
VALUE_ON_PAGE: Final = 4_000  # characters; --json prints all of it
NOTHING: Final = "-"
_NOT_LISTED: Final = ("uuid", "time", "data", "error")  # members of a record that repeat others, or have a section


def as_line(job: Job) -> str:
    """Id, status, task, time of submission, running time and error in columns; long values shift the columns."""
    columns = (
        job.id,
        f"{job.status.value:<8}",
        f"{shown(job.task):<24}",
        moment(job.created) or NOTHING,
        f"{NOTHING if job.elapsed is None else f'{job.elapsed:.3f} s':>11}",
        NOTHING if job.failure is None else shown(_error_text(job), ERROR_IN_LINE),
    )
    return "  ".join(columns)


def as_json(job: Job) -> str:
    """The job as one line of ASCII JSON, without payload and result."""
    return json.dumps(record(job))


def all_as_json(job: Job) -> str:
    """The job as one line of ASCII JSON, with payload and result."""
    return json.dumps({**full_record(job), "result": _result(job), "result_headers": job.result_headers})


def as_page(job: Job) -> str:
    """The whole job; payload and result are decoded if possible."""
    members = full_record(job)
    values = {name: one for name, one in members.items() if one is not None and name not in _NOT_LISTED}
    lines = [f"{name.replace('_', ' '):<12} {_value_text(one)}" for name, one in values.items()]
    if job.failure is not None:
        lines.append(f"{'error':<12} {shown(_error_text(job))}")
        lines += _traceback(members["error"])
    lines += _section("data", members["data"])
    if job.result is not None:
        lines += _section("result", _result(job))
    return "\n".join(lines)


def _result(job: Job) -> Any:
    result = None if job.result is None else value(job.result)
    return url_job.response_without_secrets(job, result) if job.is_http else result


def _error_text(job: Job) -> str:
    members = error(job)
    return f"{members['type']}: {members['message']}" if members["message"] else str(members["type"])


def _value_text(one: Any) -> str:
    return shown(one if isinstance(one, str) else json.dumps(plain(one)), VALUE_ON_PAGE)


def _traceback(error: dict[str, Any]) -> list[str]:
    return ["traceback", shown_lines(error["traceback"].rstrip())] if "traceback" in error else []


def _section(title: str, one: Any) -> list[str]:
    text = json.dumps(plain(one), indent=2, ensure_ascii=False)
    lines = [title, shown_lines(text[:VALUE_ON_PAGE])]
    if len(text) > VALUE_ON_PAGE:
        lines.append(f"... and {len(text) - VALUE_ON_PAGE} more characters: --json prints all of it")
    return lines
