"""Looking jobs up: some by their ids, pages of them, and what waits."""

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

PAGE: Final = 50  # jobs, unless asked otherwise


class JobQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which jobs are meant.

    Attributes:
        statuses: they have one of these; None: any.
        task: of this one; None: of any.
        limit: how many at most.
        cursor: those after the page that gave it; None: the newest.
    """

    statuses: tuple[JobStatus, ...] | None = (JobStatus.QUEUED,)
    task: str | None = None
    limit: int = PAGE
    cursor: str | None = None


class Page(msgspec.Struct, frozen=True):
    """Some jobs, the newest first.

    Attributes:
        jobs: without their bodies, but for the payloads of URL jobs, up to 32 KiB each.
        cursor: for the next page, or None where this is the last.
    """

    jobs: tuple[Job, ...]
    cursor: str | None


async def check(connection: AsyncConnection) -> None:
    """Read the one row of the table that describes the others."""
    await connection.execute(select(schema.c.version))


async def several(connection: AsyncConnection, ids: Collection[str]) -> list[Job]:
    """Those that there are of the jobs with these ids, without their bodies."""
    return await _several(connection, rows.WITHOUT_BODIES, ids)


async def several_with_results(connection: AsyncConnection, ids: Collection[str]) -> list[Job]:
    """The jobs with these ids, with their results and without their payloads; unknown ids are left out."""
    return await _several(connection, rows.WITHOUT_PAYLOAD, ids)


async def several_with_bodies(connection: AsyncConnection, ids: Collection[str]) -> list[Job]:
    """Those that there are of the jobs with these ids."""
    return await _several(connection, rows.COLUMNS, ids)


async def several_with_requests(connection: AsyncConnection, ids: Collection[str]) -> list[Job]:
    """Those that there are of the jobs with these ids, without their results; of URL jobs with the payload."""
    return await _several(connection, rows.WITH_REQUEST, ids)


async def page(connection: AsyncConnection, query: JobQuery) -> Page:
    """A page of the jobs that are meant; raises ValueError where its cursor or limit cannot be one."""
    limit = check_limit(query.limit)
    asked: dict[str, object] = {"limit": limit + 1}
    if query.task is not None:
        asked["task"] = query.task
    if query.cursor is not None:
        asked["created"], asked["id"] = _place(query.cursor)
    # Each once: each is a SELECT of its own, of which a statement has few, and which would find the same jobs again.
    statuses = tuple(dict.fromkeys(JobStatus if query.statuses is None else query.statuses))
    if not statuses:
        return Page((), None)
    found = await connection.execute(_newest(statuses, frozenset(asked)), asked)
    listed = [rows.to_job(row) for row in found.mappings()]
    is_last = len(listed) <= limit
    return Page(tuple(listed[:limit]), None if is_last else _cursor(listed[limit - 1]))


async def ids_from(connection: AsyncConnection, beginning: str, most: int) -> list[str]:
    """Ids of jobs that begin so."""
    meant = jobs.c.id.startswith(beginning, autoescape=True)
    return list((await connection.execute(select(jobs.c.id).where(meant).order_by(jobs.c.id).limit(most))).scalars())


async def given_up(connection: AsyncConnection, tasks: Iterable[str], most: int) -> list[str]:
    """Ids of the jobs of `tasks` that were ended while their messages may be in a queue, the newest first."""
    meant = GIVEN_UP & jobs.c.task.in_(list(tasks))
    found = await connection.execute(select(jobs.c.id).where(meant).order_by(jobs.c.ended.desc()).limit(most))
    return list(found.scalars())


async def overdue(connection: AsyncConnection, now: float, most: int) -> list[str]:
    """Ids of the queued jobs that no worker took in time."""
    meant = (jobs.c.start_by <= now) & has_status(JobStatus.QUEUED)
    return list((await connection.execute(select(jobs.c.id).where(meant).limit(most))).scalars())


async def silent(connection: AsyncConnection, since: float, most: int) -> list[str]:
    """Ids of the started jobs of which no worker has said anything since then."""
    meant = has_status(JobStatus.STARTED) & (jobs.c.seen < since)
    return list((await connection.execute(select(jobs.c.id).where(meant).limit(most))).scalars())


async def usage(connection: AsyncConnection) -> list[Usage]:
    """How many jobs are queued or running, and the bytes of their payloads, of each token and each host."""
    groups = (jobs.c.submitter, jobs.c.target)
    sums = (func.count().label("jobs"), func.coalesce(func.sum(func.length(jobs.c.body)), 0).label("size"))
    found = await connection.execute(select(*groups, *sums).where(ACTIVE).group_by(*groups))
    return [
        Usage(submitter=row.submitter, target=row.target, jobs=int(row.jobs), size=int(row.size)) for row in found.all()
    ]


def check_limit(value: object, most: int = MAX_PAGE) -> int:
    """Return `value`, a number of jobs for a page; raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise ValueError(f"limit must be an int from 1 to {most}, not {brief(value)}")
    return value


async def _several(
    connection: AsyncConnection, columns: Sequence[ColumnElement[Any]], ids: Collection[str]
) -> list[Job]:
    query = select(*columns).where(jobs.c.id.in_(ids))
    return [rows.to_job(row) for row in (await connection.execute(query)).mappings()]


@functools.lru_cache(maxsize=64)
def _newest(statuses: tuple[JobStatus, ...], asked: frozenset[str]) -> Select[Any]:
    """Select the newest jobs, of a task and after a place in the list where that is asked.

    Each status has its newest jobs at the end of an index, and the newest of those are the page: however many jobs
    there are, nothing is sorted but a page of each. To make the statement takes ten times as long as to run it.
    """
    # A number in the text: PostgreSQL plans a statement anew each time where it must guess how much of it is wanted.
    limit = bindparam("limit", type_=Integer, literal_execute=True)
    of = [bindparam("task", type_=String) + f" {status}" == TASK_AND_STATUS for status in statuses]
    of = of if "task" in asked else [has_status(status) for status in statuses]
    meant: list[ColumnElement[bool]] = []
    if "id" in asked:
        place = bindparam("created", type_=jobs.c.created.type), bindparam("id", type_=jobs.c.id.type)
        meant.append(tuple_(jobs.c.created, jobs.c.id) < tuple_(*place))
    parts = [select(*rows.IN_LIST).where(one, *meant).order_by(*_newest_first(jobs.c)).limit(limit) for one in of]
    if len(parts) == 1:
        return parts[0]
    newest = union_all(*(select(part.subquery()) for part in parts)).subquery()
    return select(newest).order_by(*_newest_first(newest.c)).limit(limit)


def _newest_first(columns: Any) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    return columns.created.desc(), columns.id.desc()


def _cursor(job: Job) -> str:
    return base64.urlsafe_b64encode(f"{job.created!r} {job.id}".encode()).decode().rstrip("=")


def _place(cursor: str) -> tuple[float, str]:
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        created, separator, id = base64.b64decode(padded, altchars=b"-_", validate=True).decode("ascii").partition(" ")
        if not separator or not math.isfinite(float(created)):
            raise ValueError
        return float(created), str(uuid.UUID(id))
    except (ValueError, binascii.Error):
        raise ValueError(f"cursor must be one that a page of jobs has given, not {brief(cursor)}") from None
