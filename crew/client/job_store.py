"""The job store of a client: the given one, the one at a given URL, or that of the setting CREW_DATABASE."""

from importlib import import_module
from typing import TYPE_CHECKING, Final

from crew import settings
from crew.errors import SettingsError

if TYPE_CHECKING:  # types only: a worker needs no job store
    from crew.jobs.service import JobStore

MISSING: Final = (
    'this client has no job store; make it with Client(store="sqlite:///jobs.db") or a postgresql:// URL, '
    "or set CREW_DATABASE"
)


def store_of(given: "JobStore | str") -> "JobStore":
    """The job store that was given, or the one at the URL that was given.

    Raises:
        SettingsError: the URL cannot be used, or a package that job stores need is missing.
        ValueError: `given` is neither a job store nor a text.
    """
    if isinstance(given, str):
        return _store_at(given)
    if not hasattr(given, "service"):
        raise ValueError(f"store must be a crew.jobs.JobStore or its URL, not {type(given).__name__}")
    return given


def default_store() -> "JobStore":
    """The job store that `CREW_DATABASE` names; raises SettingsError if it names none."""
    if (url := settings.named_database()) is None:
        raise SettingsError(MISSING)
    return _store_at(url)


def _store_at(url: str) -> "JobStore":
    """Loads the job store by its name: it builds on the client, and a client without jobs needs none of it."""
    try:
        store: JobStore = import_module("crew.jobs").JobStore(url)
    except ImportError as error:  # names the missing extra
        raise SettingsError(str(error)) from None
    return store
