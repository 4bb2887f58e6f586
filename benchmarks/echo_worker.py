"""The crew worker of the benchmark, with an echo task.

With `CREW_BENCHMARK_PROFILE=FILE` it profiles its I/O thread; the task `benchmark.profile` writes the profile to FILE.
A profile belongs to one thread, and crew starts that thread: so every thread is profiled from its start.
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
    """Return the payload."""
    return data


@Task("benchmark.profile")
def write_profile(_: Any) -> None:
    """Write the profile of the first thread, which is the I/O thread; profiling continues."""
    profile: Any = profiles[0]
    profile.snapshot_stats()
    Path(str(PROFILE_FILE)).write_bytes(marshal.dumps(profile.stats))


def _profile_threads() -> None:
    unprofiled = threading.Thread.run

    def profiled(self: threading.Thread) -> None:
        profile = cProfile.Profile()
        profiles.append(profile)
        profile.runcall(unprofiled, self)

    threading.Thread.run = profiled  # type: ignore[method-assign]  # this process has no other purpose


if __name__ == "__main__":
    if PROFILE_FILE:
        _profile_threads()
    run()
