"""SQL over HTTP: each posted statement becomes a job with its own address. python service.py --port=8888"""

import asyncio
import json
import sys
from typing import Any

from tornado.options import define, options, parse_command_line
from tornado.web import HTTPError, RequestHandler

from crew import Client, CrewError, SerializationError, SettingsError, UnknownTask
from crew.gateway import routes, serve
from crew.gateway.serving.auth import GuardedApplication
from crew.jobs import JobStore

TIMEOUT = "10m"  # maximum running time of a statement
RESULT_TTL = "1h"  # time for which a result is stored
EXPECTED = 'Send {"statement": text, "parameters": list or object}'


class Queries(RequestHandler):
    """POST {"statement": "SELECT %s::int + 1", "parameters": [41]} -> 202 and the addresses of its job."""

    application: "Service"

    async def post(self) -> None:
        query = self.query()
        try:
            job = await self.application.crew.submit("sql", query, timeout=TIMEOUT, result_ttl=RESULT_TTL)
        except UnknownTask:
            raise HTTPError(503, reason="No worker has ever served sql: run python worker.py") from None
        except SerializationError:  # a number like 1e400, which JSON cannot encode again
            raise HTTPError(422, reason=EXPECTED) from None
        except CrewError as error:
            raise HTTPError(503, reason=type(error).__name__) from error
        path = f"/jobs/{job.id}/"
        self.set_status(202)
        self.set_header("Location", path)
        self.write({"job": path, "status": f"{path}status/", "response": f"{path}response/"})

    def query(self) -> dict[str, Any]:
        """The statement and its parameters, which the worker binds: they never become part of the statement."""
        try:
            query = json.loads(self.request.body)
        except ValueError:
            raise HTTPError(400, reason="The body is not JSON") from None
        match query:
            case {"statement": str(statement), **rest} if statement.strip() and rest.keys() <= {"parameters"}:
                if isinstance(rest.get("parameters"), list | dict | None):
                    return {"statement": statement, "parameters": rest.get("parameters")}
        raise HTTPError(422, reason=EXPECTED)

    def write_error(self, status_code: int, **_: Any) -> None:
        self.finish({"error": self._reason})


class Service(GuardedApplication):
    """`/queries`, and crew's routes for jobs: GET status and response, DELETE a job.

    A page of another site in a browser on this machine could send requests to 127.0.0.1: they are refused.
    """

    def __init__(self) -> None:
        self.crew = Client(store=JobStore())  # CREW_DATABASE, else .crew/jobs.db
        super().__init__([("/queries", Queries), *routes(self.crew)])


async def main() -> None:
    service = Service()
    await serve(
        service,
        service.crew,
        port=options.port,
        drain=1.0,
        on_listening=lambda url: print(url, flush=True),
    )


if __name__ == "__main__":
    define("port", 8888, help="port on 127.0.0.1; 0 takes a free one")
    parse_command_line()
    try:
        asyncio.run(main())
    except SettingsError as error:
        sys.exit(str(error))
