"""Jobs: calls that outlive a request, with an id, a status, a result and a cancel."""

try:
    import sqlalchemy  # noqa: F401  # here only to say in one sentence what is missing
except ImportError as error:
    raise ImportError(f'crew.jobs needs {error.name}: pip install "crew[jobs]"', name=error.name) from None

from crew.jobs.handle import JobHandle
from crew.jobs.job import Job, JobStatus
from crew.jobs.service import JobService, JobStore
from crew.jobs.store.query import JobQuery, Page

__all__ = ["Job", "JobHandle", "JobQuery", "JobService", "JobStatus", "JobStore", "Page"]
