"""Inserts new jobs, and finds the existing job that a unique or an idempotency key refers to."""

from collections.abc import Sequence
from typing import Final

import msgspec
from sqlalchemy import delete, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from crew.errors import CrewError, DuplicateCallId, KeyReused
from crew.jobs.job import Job
from crew.jobs.reports import report
from crew.jobs.specification import SKIP, Specification
from crew.jobs.store import rows
from crew.jobs.store.schema import ACTIVE, jobs
from crew.jobs.store.update import write

ATTEMPTS: Final = 5  # to insert a job while other gateways insert and end jobs with its keys


class InsertResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result of inserting one specification.

    Attributes:
        job: the inserted job, or the existing one.
        is_new: whether the job was inserted now.
        replaced: jobs that were canceled for it, as they were before.
    """

    job: Job
    is_new: bool = True
    replaced: tuple[Job, ...] = ()


async def insert_jobs(
    connection: AsyncConnection, specifications: Sequence[Specification]
) -> list[InsertResult | CrewError]:
    """Insert jobs; for each its result, or the error why it cannot be inserted."""
    plain = [one.job for one in specifications if one.is_plain]
    if plain:
        await connection.execute(insert(jobs), [rows.of_job(job) for job in plain])
    with_keys = sorted(
        (specification for specification in specifications if not specification.is_plain), key=_lock_order
    )
    results = {id(one): await _insert_with_keys(connection, one) for one in with_keys}
    return [results.get(id(one)) or InsertResult(job=one.job) for one in specifications]


async def withdraw(connection: AsyncConnection, refused: Sequence[InsertResult]) -> list[tuple[Job, ...]]:
    """Delete jobs that the broker refused; for each the replaced jobs that stay canceled.

    The other replaced jobs are restored, with a higher version: no worker knows of the cancel yet.
    """
    await connection.execute(delete(jobs).where(jobs.c.id.in_([one.job.id for one in refused])))
    return [tuple([was for was in one.replaced if not await _restore(connection, was, by=one.job)]) for one in refused]


async def _restore(connection: AsyncConnection, was: Job, *, by: Job) -> bool:
    """Restore a replaced job; False if its worker has reported its end, or another job has its key by now."""
    found = await _find(connection, jobs.c.id == was.id)
    if found is None or found.version != was.version + 1:
        return False
    if await _find(connection, ACTIVE & (jobs.c.unique_key == by.unique_key)) is not None:
        return False
    await write(connection, [msgspec.structs.replace(was, version=found.version + 1)])
    return True


def _lock_order(specification: Specification) -> tuple[str, str]:
    """One order for all gateways: two that insert jobs with the same keys do not deadlock."""
    return specification.job.idempotency_key or "", specification.job.unique_key or ""


async def _insert_with_keys(connection: AsyncConnection, specification: Specification) -> InsertResult | CrewError:
    replaced: tuple[Job, ...] = ()
    for _ in range(ATTEMPTS):
        if (known := await _known(connection, specification)) is not None:
            return known
        if (active := await _active(connection, specification)) is not None:
            if specification.unique == SKIP:
                await _set_idempotency_key(connection, active, specification.job)
                return InsertResult(job=active, is_new=False)
            replaced += await _cancel(connection, active, specification)
        if await _insert(connection, specification.job):
            return InsertResult(job=specification.job, replaced=replaced)
    return CrewError(
        f"job {specification.job.id} cannot be recorded: other gateways submit and end jobs with its keys too fast; "
        "submit it again"
    )


async def _known(connection: AsyncConnection, specification: Specification) -> InsertResult | CrewError | None:
    """The existing job with the same idempotency key, or the error for a key or an id that is taken."""
    job = specification.job
    if job.idempotency_key is not None:
        found = await _find(connection, jobs.c.idempotency_key == job.idempotency_key)
        if found is not None and found.fingerprint != job.fingerprint:
            return KeyReused(
                f"the Idempotency-Key {job.idempotency_key!r} was used for another request: choose a new key"
            )
        if found is not None:
            return InsertResult(job=found, is_new=False)
    if specification.may_exist and await _find(connection, jobs.c.id == job.id) is not None:
        return DuplicateCallId(f"a job with the id {job.id} exists: choose another id", task=job.task, id=job.id)
    return None


async def _active(connection: AsyncConnection, specification: Specification) -> Job | None:
    if specification.unique is None:
        return None
    return await _find(connection, ACTIVE & (jobs.c.unique_key == specification.job.unique_key))


async def _set_idempotency_key(connection: AsyncConnection, active: Job, skipped: Job) -> None:
    """Give the active job the idempotency key of the skipped one, unless it has its own.

    A repeated submit then returns the same job, also after that job has ended.
    """
    if skipped.idempotency_key is not None:
        key = {"idempotency_key": skipped.idempotency_key, "fingerprint": skipped.fingerprint}
        has_none = (jobs.c.id == active.id) & jobs.c.idempotency_key.is_(None)
        await connection.execute(update(jobs).where(has_none).values(key))


async def _cancel(connection: AsyncConnection, active: Job, specification: Specification) -> tuple[Job, ...]:
    """Cancel the active job; returns it as it was before, or nothing if it had ended."""
    message = f"the job was replaced by job {specification.job.id}"
    changed = report.apply(active, report.canceled(active.id, at=specification.job.created, message=message))
    if changed is None:
        return ()
    await write(connection, [changed])
    return (active,)


async def _insert(connection: AsyncConnection, job: Job) -> bool:
    """Insert `job`; False if another gateway has just inserted one with its keys."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    done = await connection.execute(dialect.insert(jobs).values(rows.of_job(job)).on_conflict_do_nothing())
    return bool(done.rowcount)


async def _find(connection: AsyncConnection, where: object) -> Job | None:
    found = await connection.execute(select(*rows.WITHOUT_BODIES).where(where).with_for_update())  # type: ignore[arg-type]
    row = found.mappings().first()
    return None if row is None else rows.to_job(row)
