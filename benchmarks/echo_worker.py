"""The worker under test: crew's, with an echo.

`CREW_BENCHMARK_PROFILE=FILE` makes it profile its I/O thread; the task `benchmark.profile` writes what was found so far
to FILE. A profile belongs to one thread, and crew starts the thread: so it begins where any thread begins.
"""

import cProfile
import marshal
import os
import threading
from pathlib import Path
from typing import Any

from crew.worker import Task, run

PROFILE_FILE = os.environ.get("CREW_BENCHMARK_PROFILE")
profiles: list[cProfile.Profile] = []


@Task("benchmark.echo")
def echo(data: Any) -> Any:
    """What came goes back."""
    return data


@Task("benchmark.profile")
def write_profile(_: Any) -> None:
    """Write the profile of the thread that was started first, which is the I/O thread; it goes on."""
    profile: Any = profiles[0]
    profile.snapshot_stats()
    Path(str(PROFILE_FILE)).write_bytes(marshal.dumps(profile.stats))


def _profile_threads() -> None:
    unprofiled = threading.Thread.run

    def profiled(self: threading.Thread) -> None:
        profile = cProfile.Profile()
        profiles.append(profile)
        profile.runcall(unprofiled, self)

    threading.Thread.run = profiled  # type: ignore[method-assign]  # for this process, which does nothing else


if __name__ == "__main__":
    if PROFILE_FILE:
        _profile_threads()
    run()
