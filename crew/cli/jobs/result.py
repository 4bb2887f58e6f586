"""Waits for a job and prints how it ended: for `crew submit --wait` and `crew jobs wait`."""

from crew.cli.jobs.text import all_as_json
from crew.cli.payload import write_line
from crew.command_line import print_line
from crew.jobs import JobService


async def print_result(service: JobService, id: str, timeout: float | None, *, is_json: bool) -> None:
    """Wait until a job has ended, for `timeout` seconds at most, and print its value, or its whole record as JSON.

    Raises:
        CrewError: the job has no value. Its record is printed before.
    """
    if not is_json:
        write_line(await service.result(id, timeout))
        return
    await service.wait(id, timeout)
    print_line(all_as_json(await service.get(id)))
    await service.result(id, 0)
