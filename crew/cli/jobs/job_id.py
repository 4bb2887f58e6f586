"""Job ids on a command line: a whole id, or its first digits if they identify one job."""

import itertools
import re
from typing import Final

from crew.errors import CrewError, UnknownJob
from crew.jobs import JobStore
from crew.jobs.specification import check_id

SHOWN: Final = 3  # ids that an error names, if several jobs match
_BEGINNING: Final = re.compile(r"[0-9a-f]{4,31}")  # as with git, a shorter one is probably a mistake
_ENDS_OF_GROUPS: Final = (8, 12, 16, 20)  # digits of a uuid before each hyphen


def check_id_or_beginning(value: str) -> str:
    """Return `value`, a uuid or its first digits (4 or more), with hyphens and in lower case.

    Raises:
        ValueError: `value` is neither.
    """
    digits = value.lower().replace("-", "")
    if not _BEGINNING.fullmatch(digits):
        return check_id(value)
    edges = (0, *_ENDS_OF_GROUPS, 32)
    groups = (digits[start:end] for start, end in itertools.pairwise(edges))
    return "-".join(filter(None, groups))


async def whole_id(store: JobStore, beginning: str) -> str:
    """The id of the only job whose id begins with `beginning`; a whole id is returned unchanged.

    Raises:
        UnknownJob: no job matches.
        CrewError: several jobs match.
    """
    if len(beginning) == 36:
        return beginning
    found = await store.ids_with_prefix(beginning, SHOWN + 1)
    if not found:
        raise UnknownJob(f"no job has an id that begins with {beginning}")
    if len(found) > 1:
        more = ", ..." if len(found) > SHOWN else ""
        raise CrewError(
            f"several jobs have an id that begins with {beginning}: give more digits ({', '.join(found[:SHOWN])}{more})"
        )
    return found[0]
