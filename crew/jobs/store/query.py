"""Reads jobs: by their ids, page by page, and those that maintenance looks for."""

import base64
import binascii
import functools
import math
import uuid
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, Integer, Select, String, bindparam, func, select, tuple_, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from crew.jobs.job import Job, JobStatus
from crew.jobs.quota import Usage
from crew.jobs.store import rows
from crew.jobs.store.schema import ACTIVE, GIVEN_UP, TASK_AND_STATUS, has_status, jobs, schema
from crew.limits import MAX_PAGE as MAX_PAGE
from crew.protocol.encoding.foreign import brief

PAGE: Final = 50  # jobs, by default


class JobQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Selects jobs for a page.

    Attributes:
        statuses: only jobs with one of these statuses; None: any status.
        task: only jobs of this task; None: any task.
        limit: the maximum number of jobs.
        cursor: of the page before; None: start with the newest job.
    """

    statuses: tuple[JobStatus, ...] | None = (JobStatus.QUEUED,)
    task: str | None = None
    limit: int = PAGE
    cursor: str | None = None


class Page(msgspec.Struct, frozen=True):
    """A page of jobs, the newest first.

    Attributes:
        jobs: without their bodies, but for the payloads of URL jobs, up to 32 KiB each.
        cursor: for the next page; None on the last page.
    """

    jobs: tuple[Job, ...]
    cursor: str | None


async def check(connection: AsyncConnection) -> None:
    """Read the row of the schema table, to check that the database can be used."""
    await connection.execute(select(schema.c.version))


async def several(connection: AsyncConnection, ids: Collection[str]) -> list[Job]:
    """The existing jobs with these ids, without their bodies."""
    return await _several(connection, rows.WITHOUT_BODIES, ids)


async def several_with_results(connection: AsyncConnection, ids: Collection[str]) -> list[Job]:
    """The existing jobs with these ids, with their results and without their payloads."""
    return await _several(connection, rows.WITHOUT_PAYLOAD, ids)


async def several_with_bodies(connection: AsyncConnection, ids: Collection[str]) -> list[Job]:
    """The existing jobs with these ids."""
    return await _several(connection, rows.COLUMNS, ids)


async def several_with_requests(connection: AsyncConnection, ids: Collection[str]) -> list[Job]:
    """The existing jobs with these ids, without their results; URL jobs with their payloads."""
    return await _several(connection, rows.WITH_REQUEST, ids)


async def page(connection: AsyncConnection, query: JobQuery) -> Page:
    """A page of the selected jobs; raises ValueError for a bad cursor or limit."""
    limit = check_limit(query.limit)
    parameters: dict[str, object] = {"limit": limit + 1}
    if query.task is not None:
        parameters["task"] = query.task
    if query.cursor is not None:
        parameters["created"], parameters["id"] = _position(query.cursor)
    # Without duplicates: each status is a SELECT of its own. A second one would find the same jobs again, and a
    # statement may have few.
    statuses = tuple(dict.fromkeys(JobStatus if query.statuses is None else query.statuses))
    if not statuses:
        return Page((), None)
    found = await connection.execute(_newest(statuses, frozenset(parameters)), parameters)
    listed = [rows.to_job(row) for row in found.mappings()]
    is_last = len(listed) <= limit
    return Page(tuple(listed[:limit]), None if is_last else _cursor(listed[limit - 1]))


async def ids_with_prefix(connection: AsyncConnection, prefix: str, most: int) -> list[str]:
    """Ids of jobs that begin with `prefix`."""
    selected = jobs.c.id.startswith(prefix, autoescape=True)
    return list((await connection.execute(select(jobs.c.id).where(selected).order_by(jobs.c.id).limit(most))).scalars())


async def revoked(connection: AsyncConnection, tasks: Iterable[str], most: int) -> list[str]:
    """Ids of the revoked jobs of `tasks`, the newest first: they ended while their messages may be in a queue."""
    selected = GIVEN_UP & jobs.c.task.in_(list(tasks))
    found = await connection.execute(select(jobs.c.id).where(selected).order_by(jobs.c.ended.desc()).limit(most))
    return list(found.scalars())


async def overdue(connection: AsyncConnection, now: float, most: int) -> list[str]:
    """Ids of the queued jobs that no worker took in time."""
    selected = (jobs.c.start_by <= now) & has_status(JobStatus.QUEUED)
    return list((await connection.execute(select(jobs.c.id).where(selected).limit(most))).scalars())


async def without_report(connection: AsyncConnection, since: float, most: int) -> list[str]:
    """Ids of the started jobs without a report of a worker since `since`."""
    selected = has_status(JobStatus.STARTED) & (jobs.c.seen < since)
    return list((await connection.execute(select(jobs.c.id).where(selected).limit(most))).scalars())


async def usage(connection: AsyncConnection) -> list[Usage]:
    """The number of queued and running jobs and the bytes of their payloads, by token and host."""
    groups = (jobs.c.submitter, jobs.c.target)
    sums = (func.count().label("jobs"), func.coalesce(func.sum(func.length(jobs.c.body)), 0).label("size"))
    found = await connection.execute(select(*groups, *sums).where(ACTIVE).group_by(*groups))
    return [
        Usage(submitter=row.submitter, target=row.target, jobs=int(row.jobs), size=int(row.size)) for row in found.all()
    ]


def check_limit(value: object, most: int = MAX_PAGE) -> int:
    """Return `value`, the number of jobs of a page; raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise ValueError(f"limit must be an int from 1 to {most}, not {brief(value)}")
    return value


async def _several(
    connection: AsyncConnection, columns: Sequence[ColumnElement[Any]], ids: Collection[str]
) -> list[Job]:
    query = select(*columns).where(jobs.c.id.in_(ids))
    return [rows.to_job(row) for row in (await connection.execute(query)).mappings()]


@functools.lru_cache(maxsize=64)
def _newest(statuses: tuple[JobStatus, ...], parameters: frozenset[str]) -> Select[Any]:
    """Select the newest jobs; only of a task, and only after a position, if `parameters` has them.

    An index ends with the newest jobs of each status, and the page is the newest of those. So only one page a status
    is sorted, regardless of the number of jobs. Building the statement takes ten times as long as running it: hence the
    cache.
    """
    # A literal number: without it PostgreSQL would guess the limit, and plan the statement again each time.
    limit = bindparam("limit", type_=Integer, literal_execute=True)
    of = [bindparam("task", type_=String) + f" {status}" == TASK_AND_STATUS for status in statuses]
    of = of if "task" in parameters else [has_status(status) for status in statuses]
    after: list[ColumnElement[bool]] = []
    if "id" in parameters:
        position = bindparam("created", type_=jobs.c.created.type), bindparam("id", type_=jobs.c.id.type)
        after.append(tuple_(jobs.c.created, jobs.c.id) < tuple_(*position))
    parts = [select(*rows.IN_LIST).where(one, *after).order_by(*_newest_first(jobs.c)).limit(limit) for one in of]
    if len(parts) == 1:
        return parts[0]
    newest = union_all(*(select(part.subquery()) for part in parts)).subquery()
    return select(newest).order_by(*_newest_first(newest.c)).limit(limit)


def _newest_first(columns: Any) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    return columns.created.desc(), columns.id.desc()


def _cursor(job: Job) -> str:
    return base64.urlsafe_b64encode(f"{job.created!r} {job.id}".encode()).decode().rstrip("=")


def _position(cursor: str) -> tuple[float, str]:
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        created, separator, id = base64.b64decode(padded, altchars=b"-_", validate=True).decode("ascii").partition(" ")
        if not separator or not math.isfinite(float(created)):
            raise ValueError
        return float(created), str(uuid.UUID(id))
    except (ValueError, binascii.Error):
        raise ValueError(f"cursor must be the cursor of a page of jobs, not {brief(cursor)}") from None
