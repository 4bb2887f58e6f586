"""The tables of the job store, and their migrations from version to version."""

import secrets
from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import (
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    func,
    insert,
    inspect,
    literal_column,
    select,
    true,
    update,
)

from crew.errors import SettingsError

metadata: Final = MetaData()

jobs: Final = Table(
    "crew_jobs",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("task", String(255), nullable=False),
    Column("status", String(8), nullable=False),
    Column("priority", Integer, nullable=False),
    Column("timeout", Float(53)),
    Column("start_by", Float(53)),
    Column("result_ttl", Float(53), nullable=False),
    Column("failure_ttl", Float(53), nullable=False),
    Column("unique_key", String(255)),
    Column("idempotency_key", String(255)),
    Column("fingerprint", String(64)),
    Column("wait_for_worker", Boolean, nullable=False),
    Column("origin", String(255)),
    Column("created", Float(53), nullable=False),
    Column("enqueued", Float(53)),
    Column("started", Float(53)),
    Column("ended", Float(53)),
    Column("seen", Float(53)),
    Column("attempts", Integer, nullable=False),
    Column("host", String(255)),
    Column("publish_at", Float(53)),
    Column("is_given_up", Boolean, nullable=False),
    Column("purge_at", Float(53)),
    Column("version", Integer, nullable=False),
    Column("headers", Text, nullable=False),  # JSON
    Column("result_headers", Text, nullable=False),  # JSON
    Column("progress", LargeBinary),  # JSON
    Column("progress_run", String(320)),  # since version 2
    Column("progress_count", Integer),  # since version 2
    Column("failure", LargeBinary),  # JSON
    Column("body", LargeBinary),
    Column("body_type", String(255)),
    Column("body_encoding", String(32)),
    Column("result", LargeBinary),
    Column("result_type", String(255)),
    Column("result_encoding", String(32)),
    Column("submitter", String(255)),  # since version 3
    Column("target", String(255)),  # since version 3
    Column("submit_until", Float(53)),  # since version 4
)
schema: Final = Table(
    "crew_schema",
    metadata,
    Column("version", Integer, nullable=False),
    Column("store", String(32), nullable=False),  # its id
)


def has_status(*statuses: str) -> ColumnElement[bool]:
    """The status is one of these, as literals: with parameters a planner could not choose a partial index."""
    literals: list[ColumnElement[str]] = [literal_column(f"'{status}'") for status in statuses]
    return jobs.c.status.in_(literals) if len(literals) > 1 else jobs.c.status == literals[0]


ACTIVE: Final[ColumnElement[bool]] = has_status("queued", "started")
# One expression: with two conditions PostgreSQL may choose the index of the status, and scan all of it for a rare task.
TASK_AND_STATUS: Final[ColumnElement[str]] = jobs.c.task + literal_column("' '", String) + jobs.c.status
GIVEN_UP: Final[ColumnElement[bool]] = jobs.c.is_given_up == true()  # the index and the queries need the same text


def _partial(name: str, *columns: Column[Any], where: ColumnElement[bool], unique: bool = False) -> None:
    """Define an index of only the rows that queries look for: other rows cost nothing."""
    Index(name, *columns, unique=unique, sqlite_where=where, postgresql_where=where)


# Pages are read from these two, one SELECT a status. They cost a little at every change of a status.
Index("crew_jobs_by_status", jobs.c.status, jobs.c.created, jobs.c.id)
Index("crew_jobs_by_task", TASK_AND_STATUS, jobs.c.created, jobs.c.id)
_partial("crew_jobs_to_publish", jobs.c.publish_at, where=jobs.c.publish_at.is_not(None))
_partial("crew_jobs_to_purge", jobs.c.purge_at, where=jobs.c.purge_at.is_not(None))
_partial("crew_jobs_to_start", jobs.c.status, jobs.c.start_by, where=jobs.c.start_by.is_not(None))
_partial("crew_jobs_given_up", jobs.c.task, where=GIVEN_UP)
_partial("crew_jobs_unique", jobs.c.unique_key, where=jobs.c.unique_key.is_not(None) & ACTIVE, unique=True)
_partial("crew_jobs_idempotency", jobs.c.idempotency_key, where=jobs.c.idempotency_key.is_not(None), unique=True)


def _number_progress(connection: Connection) -> None:
    """Version 2: the execution that sent the progress, and the number of the value in it."""
    for column in ("progress_run VARCHAR(320)", "progress_count INTEGER"):
        connection.exec_driver_sql(f"ALTER TABLE crew_jobs ADD COLUMN {column}")


def _name_submitters(connection: Connection) -> None:
    """Version 3: the token that submitted a job, and the host of a URL job: both have limits."""
    for column in ("submitter VARCHAR(255)", "target VARCHAR(255)"):
        connection.exec_driver_sql(f"ALTER TABLE crew_jobs ADD COLUMN {column}")


def _mark_submits(connection: Connection) -> None:
    """Version 4: whether the submit of a job is under way."""
    connection.exec_driver_sql("ALTER TABLE crew_jobs ADD COLUMN submit_until DOUBLE PRECISION")


# One step a version: it migrates the tables from the version before. Never change a released step. The first step is an
# exception: it creates the newest tables from `metadata`, so that no other step follows it.
STEPS: Final[tuple[Callable[[Connection], None], ...]] = (
    metadata.create_all,
    _number_progress,
    _name_submitters,
    _mark_submits,
)

_MIGRATION_LOCK: Final = 0x63726577  # "crew" as a number, for PostgreSQL's advisory lock


def migrate(connection: Connection) -> str:
    """Migrate the tables to the newest version, in the transaction of `connection`. Concurrent gateways may do so.

    Returns:
        The id of the store.

    Raises:
        SettingsError: a newer crew has made the tables.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
    version = _version(connection)
    if version > len(STEPS):
        raise SettingsError(
            f"the job store has version {version}, made by a newer crew; this crew supports {len(STEPS)}: "
            "upgrade crew, or use another database"
        )
    for step in STEPS[version:] if version else STEPS[:1]:
        step(connection)
    if version == 0:
        connection.execute(insert(schema).values(version=len(STEPS), store=secrets.token_hex(8)))
    elif version < len(STEPS):
        connection.execute(update(schema).values(version=len(STEPS)))
    return str(connection.execute(select(schema.c.store)).scalar_one())


def _version(connection: Connection) -> int:
    if not inspect(connection).has_table(schema.name):
        return 0
    return connection.execute(select(schema.c.version)).scalar() or 0
