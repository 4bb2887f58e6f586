"""Two URLs: one starts a handler in the background, the other returns its result. python gateway.py --port=8888"""

import asyncio
import json
import sys
from typing import Any

from tornado.options import define, options, parse_command_line
from tornado.web import RequestHandler

from crew import Client, CrewError, SerializationError, SettingsError, UnknownJob
from crew.gateway import serve
from crew.gateway.serving.auth import GuardedApplication
from crew.jobs import Job, JobStatus, JobStore
from crew.jobs.result import result_of

TASK = "background.handle"
DRAIN = 1.0  # seconds for open requests to finish after SIGTERM

OK = "OK"
BAD_REQUEST = "ERR_MSG_BAD_REQUEST"
NOT_EXIST = "ERR_MSG_NOT_EXIST"
IN_QUEUED = "ERR_MSG_IN_QUEUED"
IN_STARTED = "ERR_MSG_IN_STARTED"
EXE_FAILED = "ERR_MSG_EXE_FAILED"
RESULT_FAILED = "ERR_MSG_RESULT_FAILED"
UNAVAILABLE = "ERR_MSG_UNAVAILABLE"


class Handler(RequestHandler):
    application: "Gateway"

    def answer(self, stat: str, **more: Any) -> None:
        self.finish({"stat": stat, **more})

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        _, error, _ = kwargs.get("exc_info", (None, None, None))
        if isinstance(error, SerializationError):  # params like 1e400, which JSON cannot encode again
            self.set_status(400)
            self.answer(BAD_REQUEST, msg=str(error))
        elif isinstance(error, CrewError):  # the broker or the job store is unavailable
            self.set_status(503)
            self.answer(UNAVAILABLE, msg=str(error))
        else:
            super().write_error(status_code, **kwargs)


class TaskCreate(Handler):
    """Turns `{"handler": path, "params": {...}}` into a job, which waits if no worker is running yet."""

    async def post(self) -> None:
        match _json(self.request.body):
            case {"handler": str() as path, **rest} if isinstance(params := rest.get("params", {}), dict):
                request = {"handler": path, "params": params}
                job = await self.application.crew.submit(TASK, request, wait_for_worker=True)
                self.answer(OK, data={"task_id": job.id})
            case _:
                self.set_status(400)
                self.answer(BAD_REQUEST, msg='the body must be like {"handler": "/demo_api/ping", "params": {}}')


class TaskGet(Handler):
    """Returns the status and the result of a job."""

    async def get(self) -> None:
        try:
            job = await self.application.crew.jobs.get(self.get_query_argument("task_id", ""))
        except (ValueError, UnknownJob):  # not a uuid; no such job
            self.answer(NOT_EXIST)
        else:
            self._answer_with_status(job)

    def _answer_with_status(self, job: Job) -> None:
        match job.status:
            case JobStatus.QUEUED:
                self.answer(IN_QUEUED)
            case JobStatus.STARTED:
                self.answer(IN_STARTED)
            case JobStatus.SUCCESS if job.result is None:  # deleted by a client
                self.answer(RESULT_FAILED, msg="the result was deleted")
            case _:
                self._answer_with_result(job)

    def _answer_with_result(self, job: Job) -> None:
        try:
            self.answer(OK, data=result_of(job))
        except (SerializationError, TypeError) as error:  # the result cannot be decoded, or not be written as JSON
            self.answer(RESULT_FAILED, msg=str(error))
        except CrewError as error:
            self.answer(EXE_FAILED, msg=str(error))


class Gateway(GuardedApplication):  # refuses requests that a page of another site makes through the user's browser
    def __init__(self) -> None:
        super().__init__([("/task_create", TaskCreate), ("/task_get", TaskGet)])
        self.crew = Client(store=JobStore())


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


async def main() -> None:
    gateway = Gateway()
    await serve(
        gateway,
        gateway.crew,
        port=options.port,
        drain=DRAIN,
        on_listening=lambda url: print(url, flush=True),
    )


if __name__ == "__main__":
    define("port", 8888, help="port on 127.0.0.1; 0 takes a free one")
    parse_command_line()
    try:
        asyncio.run(main())
    except SettingsError as error:
        sys.exit(str(error))
