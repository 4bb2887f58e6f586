"""Jobs: calls that outlive a request, with an id, a status, a result and a cancel."""

import importlib
from typing import TYPE_CHECKING, Any, Final

from crew.jobs.job import Job, JobStatus

if TYPE_CHECKING:
    from crew.jobs.handle import JobHandle
    from crew.jobs.service import JobService, JobStore
    from crew.jobs.store.query import JobQuery, Page

__all__ = ["Job", "JobHandle", "JobQuery", "JobService", "JobStatus", "JobStore", "Page"]

# They need SQLAlchemy, which takes longer to import than all else of a gateway. One without a job store never does.
_MODULES: Final = {
    "JobHandle": "crew.jobs.handle",
    "JobService": "crew.jobs.service",
    "JobStore": "crew.jobs.service",
    "JobQuery": "crew.jobs.store.query",
    "Page": "crew.jobs.store.query",
}


def __getattr__(name: str) -> Any:
    """Import the module of `name` when it is first asked for."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        value = globals()[name] = getattr(importlib.import_module(_MODULES[name]), name)
    except ModuleNotFoundError as error:
        raise ImportError(f'crew.jobs needs {error.name}: pip install "crew[jobs]"', name=error.name) from None
    return value
