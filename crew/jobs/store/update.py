"""Updates records: reads the jobs, applies reports with `report.apply`, and writes the changed columns."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import Update, bindparam, delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from crew.client import off_loop
from crew.jobs.job import Job, JobStatus
from crew.jobs.reports.report import Report, apply
from crew.jobs.store import rows
from crew.jobs.store.errors import Rejected
from crew.jobs.store.schema import ACTIVE, jobs
from crew.protocol.encoding import codec

MAX_PURGED: Final = 1_000  # records a transaction: other writers wait for it


def _update_of(columns: Sequence[str]) -> Update:
    return update(jobs).where(jobs.c.id == bindparam("b_id")).values({name: bindparam(f"b_{name}") for name in columns})


_UPDATE: Final = _update_of(rows.CHANGING)
_UPDATE_WITH_RESULT: Final = _update_of((*rows.CHANGING, *rows.RESULT))


class AppliedReport(msgspec.Struct, frozen=True):
    """The result of applying one report.

    Attributes:
        job: the record afterwards, without its bodies; None if there is no record.
        was: the status before; None if the report changed nothing.
    """

    report: Report
    job: Job | None
    was: JobStatus | None = None

    @property
    def is_late(self) -> bool:
        """Whether the report came too late to change the record, or repeats another report."""
        return self.was is None


async def apply_reports(connection: AsyncConnection, reports: Sequence[Report]) -> list[AppliedReport]:
    """Apply `reports` to the records, in their order; several may be about one job."""
    known = await _read(connection, {report.id for report in reports})
    changed: dict[str, dict[str, Any]] = {}
    results = []
    for report in reports:
        job = known.get(report.id)
        applied = None if job is None else await _applied(job, report)
        if job is None or applied is None:
            results.append(AppliedReport(report, job))
        else:
            known[job.id], changed[job.id] = applied
            results.append(AppliedReport(report, known[job.id], job.status))
    await _update(connection, list(changed.values()))
    return results


async def _applied(job: Job, report: Report) -> tuple[Job, dict[str, Any]] | None:
    """The record after `report`, also as a row; None if the report changes nothing."""
    try:
        decodes_large = job.is_http and report.result is not None and codec.is_large(report.result)
        then = await off_loop.run(apply, job, report, is_large=decodes_large)
        return None if then is None else (then, rows.of_job(then))
    except Exception as error:  # any error is about this report, and the next attempt would fail alike
        raise Rejected(f"{error}") from error


async def write(connection: AsyncConnection, changed: Iterable[Job]) -> None:
    """Write the changed columns of these records, which this transaction has read."""
    await _update(connection, [rows.of_job(job) for job in changed])


async def _update(connection: AsyncConnection, changed: Sequence[dict[str, Any]]) -> None:
    """Write rows of records that were read without their bodies: a result in the database stays, if a row has none."""
    without = [_bound(row, rows.CHANGING) for row in changed if row["result"] is None]
    with_result = [_bound(row, (*rows.CHANGING, *rows.RESULT)) for row in changed if row["result"] is not None]
    for statement, values in ((_UPDATE, without), (_UPDATE_WITH_RESULT, with_result)):
        if values:
            await connection.execute(statement, values)


async def mark_enqueued(connection: AsyncConnection, marks: Sequence[tuple[str, float]]) -> list[None]:
    """Mark (id, instant) pairs: the broker has the job since that instant, so it is not published again."""
    await connection.execute(_MARK, [{"b_id": id, "b_at": at} for id, at in marks])
    return [None] * len(marks)


async def postpone(connection: AsyncConnection, until: Sequence[tuple[str, float]]) -> list[None]:
    """For (id, instant) pairs: the job is accepted, and no gateway publishes it before that instant."""
    await connection.execute(_POSTPONE, [{"b_id": id, "b_at": at} for id, at in until])
    return [None] * len(until)


async def make_due(connection: AsyncConnection, requests: Sequence[tuple[tuple[str, ...], float, float]]) -> list[int]:
    """For each of (tasks, now, before): make jobs due that wait for a worker and are due until `before`; the count."""
    return [(await connection.execute(_made_due(*one))).rowcount for one in requests]


async def claim(connection: AsyncConnection, claims: Sequence[tuple[float, float, int]]) -> list[list[Job]]:
    """For each of (now, until, most): claim jobs that are due; no other gateway publishes them before `until`."""
    return [await _claim(connection, *one) for one in claims]


async def purge(connection: AsyncConnection, purges: Sequence[tuple[float, int]]) -> list[int]:
    """For each of (now, most): delete at most this many records that are to be purged by then; the count."""
    counts = []
    for now, most in purges:
        due = select(jobs.c.id).where(jobs.c.purge_at <= now).limit(most)
        counts.append((await connection.execute(delete(jobs).where(jobs.c.id.in_(due)))).rowcount)
    return counts


async def delete_ended(connection: AsyncConnection, ids: Sequence[str]) -> list[bool]:
    """For each job: delete its record if it has ended and no queue has its message; whether it was deleted."""
    may_go = jobs.c.id.in_(ids) & ~ACTIVE & ~jobs.c.is_given_up
    deleted = set((await connection.execute(delete(jobs).where(may_go).returning(jobs.c.id))).scalars())
    return [id in deleted for id in ids]


async def delete_results(connection: AsyncConnection, ids: Sequence[str]) -> list[bool]:
    """For each job: delete its result; whether there was one."""
    empty = {"result": None, "result_type": None, "result_encoding": None, "failure": None, "result_headers": "{}"}
    has_one = jobs.c.result.is_not(None) | jobs.c.failure.is_not(None)
    return [
        bool((await connection.execute(update(jobs).where((jobs.c.id == id) & has_one).values(empty))).rowcount)
        for id in ids
    ]


_MARK: Final = (
    update(jobs)
    .where((jobs.c.id == bindparam("b_id")) & jobs.c.publish_at.is_not(None))
    .values(publish_at=None, submit_until=None, enqueued=bindparam("b_at"))
)
_POSTPONE: Final = (
    update(jobs)
    .where((jobs.c.id == bindparam("b_id")) & jobs.c.publish_at.is_not(None))
    .values(publish_at=bindparam("b_at"), submit_until=None)
)


def _made_due(tasks: tuple[str, ...], now: float, before: float) -> Update:
    waits = jobs.c.wait_for_worker & (jobs.c.status == JobStatus.QUEUED.value) & jobs.c.task.in_(tasks)
    return (
        update(jobs)
        .where(waits & (jobs.c.publish_at > now) & (jobs.c.publish_at <= before))
        .values(publish_at=now, submit_until=None)
    )


async def _read(connection: AsyncConnection, ids: Iterable[str]) -> dict[str, Job]:
    """Read and lock in one order: two gateways that write the same records do not deadlock."""
    query = select(*rows.WITHOUT_BODIES).where(jobs.c.id.in_(sorted(ids))).order_by(jobs.c.id).with_for_update()
    return {row["id"]: rows.to_job(row) for row in (await connection.execute(query)).mappings()}


async def _claim(connection: AsyncConnection, now: float, until: float, most: int) -> list[Job]:
    due = (
        select(*rows.COLUMNS)
        .where(jobs.c.publish_at <= now)  # queued jobs only: `publish_at` of a started job is NULL
        .order_by(jobs.c.publish_at)
        .limit(most)
        .with_for_update(skip_locked=True)
    )
    claimed = [rows.to_job(row) for row in (await connection.execute(due)).mappings()]
    await postpone(connection, [(job.id, until) for job in claimed]) if claimed else None
    return [msgspec.structs.replace(job, publish_at=until, submit_until=None) for job in claimed]


def _bound(row: dict[str, Any], columns: Sequence[str]) -> dict[str, Any]:
    return {"b_id": row["id"], **{f"b_{name}": row[name] for name in columns}}
