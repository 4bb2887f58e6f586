"""A FastAPI application: a route calls a task, another submits a job, a third polls it or cancels it.

uvicorn fastapi_app:app
"""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, HTTPException, Query, Response

from crew import Client, ExpirationError, TimeoutError, UnknownJob
from crew.jobs import JobStatus

crew = Client()


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    crew.connect()  # begins to connect; a call waits for the broker within its own time
    yield
    await crew.drain()


app = FastAPI(lifespan=lifespan)


@app.get("/add")
async def add(n: list[float] = Query()) -> dict[str, float]:  # noqa: B008  # as FastAPI documents it
    try:
        return {"sum": await crew.call("add", n, expiration=3)}
    except ExpirationError:
        raise HTTPException(503, "no worker took the call in time") from None
    except TimeoutError:
        raise HTTPException(504, "a worker took the call and could not finish") from None


@app.post("/reports/", status_code=202)
async def submit(order: dict[str, Any], response: Response) -> dict[str, str]:
    job = await crew.submit("report", order)
    response.headers["Location"] = f"/reports/{job.id}"
    return {"id": job.id}


@app.get("/reports/{id}")
async def poll(id: uuid.UUID) -> dict[str, Any]:
    job = crew.job(str(id))
    try:
        status = await job.status()
        answer = {"status": status, "progress": await job.progress()}
        if status is JobStatus.SUCCESS:
            answer["result"] = await job.result()
        elif status.is_final:
            answer["error"] = str(await job.error())
        return answer
    except UnknownJob as error:
        raise HTTPException(404, str(error)) from None


@app.delete("/reports/{id}")
async def cancel(id: uuid.UUID) -> dict[str, bool]:
    try:
        return {"canceled": await crew.job(str(id)).cancel()}
    except UnknownJob as error:
        raise HTTPException(404, str(error)) from None
