"""New jobs on their way into the store: which are recorded, and which are another job that is there already."""

from collections.abc import Sequence
from typing import Final

import msgspec
from sqlalchemy import delete, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from crew.errors import CrewError, DuplicateTaskId, KeyReused
from crew.jobs import report
from crew.jobs.job import Job
from crew.jobs.store import rows
from crew.jobs.store.schema import ACTIVE, jobs
from crew.jobs.store.update import write

ATTEMPTS: Final = 5  # to record a job while others with its keys come and go

SKIP: Final = "skip"
REPLACE: Final = "replace"


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A job that is to be recorded.

    Attributes:
        job: it.
        unique: what becomes of it where a job with its unique key is active: "skip" or "replace"; None: it has none.
        may_exist: its id was chosen by somebody else.
    """

    job: Job
    unique: str | None = None
    may_exist: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether nothing can be in its way."""
        return self.unique is None and self.job.idempotency_key is None and not self.may_exist


class Admitted(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a candidate.

    Attributes:
        job: the one that was recorded, or the one that is there already.
        is_new: whether it was recorded now.
        replaced: jobs that were given up for it, as they were before.
    """

    job: Job
    is_new: bool = True
    replaced: tuple[Job, ...] = ()


async def admit(connection: AsyncConnection, candidates: Sequence[Candidate]) -> list[Admitted | CrewError]:
    """Record `candidates`; for each what became of it, or why it cannot be recorded."""
    plain = [candidate.job for candidate in candidates if candidate.is_plain]
    if plain:
        await connection.execute(insert(jobs), [rows.of_job(job) for job in plain])
    careful = sorted((candidate for candidate in candidates if not candidate.is_plain), key=_turn)
    answers = {id(candidate): await _admit_carefully(connection, candidate) for candidate in careful}
    return [answers.get(id(candidate)) or Admitted(job=candidate.job) for candidate in candidates]


async def withdraw(connection: AsyncConnection, refused: Sequence[Admitted]) -> list[tuple[Job, ...]]:
    """Delete jobs that were not accepted after all; for each the jobs that stay given up for it.

    The others are as they were before, but for their version: nobody was told, and nothing has happened to them yet.
    """
    await connection.execute(delete(jobs).where(jobs.c.id.in_([one.job.id for one in refused])))
    return [tuple([was for was in one.replaced if not await _restore(connection, was, by=one.job)]) for one in refused]


async def _restore(connection: AsyncConnection, was: Job, *, by: Job) -> bool:
    """Whether nothing was in its way: its worker has said no end of it, and no other job has its key by now."""
    found = await _find(connection, jobs.c.id == was.id)
    if found is None or found.version != was.version + 1:
        return False
    if await _find(connection, ACTIVE & (jobs.c.unique_key == by.unique_key)) is not None:
        return False
    await write(connection, [msgspec.structs.replace(was, version=found.version + 1)])
    return True


def _turn(candidate: Candidate) -> tuple[str, str]:
    """In one order, so that two gateways that record jobs with the same keys do not wait for each other."""
    return candidate.job.idempotency_key or "", candidate.job.unique_key or ""


async def _admit_carefully(connection: AsyncConnection, candidate: Candidate) -> Admitted | CrewError:
    replaced: tuple[Job, ...] = ()
    for _ in range(ATTEMPTS):
        if (known := await _known(connection, candidate)) is not None:
            return known
        if (active := await _active(connection, candidate)) is not None:
            if candidate.unique == SKIP:
                await _lend_key(connection, active, candidate.job)
                return Admitted(job=active, is_new=False)
            replaced += await _give_up(connection, active, candidate)
        if await _insert(connection, candidate.job):
            return Admitted(job=candidate.job, replaced=replaced)
    return CrewError(f"job {candidate.job.id} cannot be recorded: others with its keys come and go too fast")


async def _known(connection: AsyncConnection, candidate: Candidate) -> Admitted | CrewError | None:
    """The job that was submitted before with the same idempotency key or id."""
    job = candidate.job
    if job.idempotency_key is not None:
        found = await _find(connection, jobs.c.idempotency_key == job.idempotency_key)
        if found is not None and found.fingerprint != job.fingerprint:
            return KeyReused(f"the Idempotency-Key {job.idempotency_key!r} was used for another request")
        if found is not None:
            return Admitted(job=found, is_new=False)
    if candidate.may_exist and await _find(connection, jobs.c.id == job.id) is not None:
        return DuplicateTaskId(f"there is a job with the id {job.id}", task=job.task, id=job.id)
    return None


async def _active(connection: AsyncConnection, candidate: Candidate) -> Job | None:
    if candidate.unique is None:
        return None
    return await _find(connection, ACTIVE & (jobs.c.unique_key == candidate.job.unique_key))


async def _lend_key(connection: AsyncConnection, active: Job, skipped: Job) -> None:
    """Who asks again for what was skipped gets the same answer, also when that job has ended; unless it has a key."""
    if skipped.idempotency_key is not None:
        key = {"idempotency_key": skipped.idempotency_key, "fingerprint": skipped.fingerprint}
        has_none = (jobs.c.id == active.id) & jobs.c.idempotency_key.is_(None)
        await connection.execute(update(jobs).where(has_none).values(key))


async def _give_up(connection: AsyncConnection, active: Job, candidate: Candidate) -> tuple[Job, ...]:
    """The job as it was, where it was given up."""
    told = f"it was replaced by job {candidate.job.id}"
    changed = report.apply(active, report.canceled(active.id, at=candidate.job.created, message=told))
    if changed is None:
        return ()
    await write(connection, [changed])
    return (active,)


async def _insert(connection: AsyncConnection, job: Job) -> bool:
    """Whether nothing was in its way: somebody else may have recorded one with its keys just now."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    done = await connection.execute(dialect.insert(jobs).values(rows.of_job(job)).on_conflict_do_nothing())
    return bool(done.rowcount)


async def _find(connection: AsyncConnection, where: object) -> Job | None:
    found = await connection.execute(select(*rows.WITHOUT_BODIES).where(where).with_for_update())  # type: ignore[arg-type]
    row = found.mappings().first()
    return None if row is None else rows.to_job(row)
