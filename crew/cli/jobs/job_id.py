"""Ids of jobs on a command line: whole, or only their beginning where no other job has the same."""

import itertools
import re
from typing import Final

from crew.errors import CrewError, UnknownJob
from crew.jobs import JobStore
from crew.jobs.specification import check_id

SHOWN: Final = 3  # ids that are named where several are meant
_BEGINNING: Final = re.compile(r"[0-9a-f]{4,31}")  # as with git, shorter ones are more often a slip than a wish
_ENDS_OF_GROUPS: Final = (8, 12, 16, 20)  # digits of a uuid, after which a hyphen follows


def check_id_or_beginning(value: str) -> str:
    """Return `value` as uuids are written, or as their beginning, with 4 hexadecimal digits at least.

    Raises:
        ValueError: it is neither.
    """
    digits = value.lower().replace("-", "")
    if not _BEGINNING.fullmatch(digits):
        return check_id(value)
    edges = (0, *_ENDS_OF_GROUPS, 32)
    groups = (digits[start:end] for start, end in itertools.pairwise(edges))
    return "-".join(filter(None, groups))


async def whole_id(store: JobStore, beginning: str) -> str:
    """The id of the only job that begins so; a whole id is returned as it is.

    Raises:
        UnknownJob: there is none.
        CrewError: there are several.
    """
    if len(beginning) == 36:
        return beginning
    found = await store.ids_from(beginning, SHOWN + 1)
    if not found:
        raise UnknownJob(f"there is no job whose id begins with {beginning}")
    if len(found) > 1:
        more = ", ..." if len(found) > SHOWN else ""
        raise CrewError(f"several jobs have ids that begin with {beginning}: {', '.join(found[:SHOWN])}{more}")
    return found[0]
