"""Tasks with each kind of result, for the tests of the worker's log."""

import asyncio
import os
import time
from contextvars import ContextVar

from crew.worker import Task, context, run

PREFIX = os.environ["CREW_TEST_PREFIX"]
SECRET = "5ecret"  # in payloads, values and headers only

tenant = ContextVar("tenant", default="nobody")


@Task(PREFIX + "ok")
def ok(data):
    context.headers["answer"] = SECRET
    return data


@Task(PREFIX + "fail", retries=1, backoff=(0.01, 1))
def fail(data):
    helper()


def helper():
    raise ValueError("no route")


@Task(PREFIX + "hang")
def hang(data):
    time.sleep(60)


@Task(PREFIX + "hang.async")
async def hang_async(data):
    await asyncio.sleep(60)


# --- context variables -----------------------------------------------------------------------------------------------


@Task(PREFIX + "tenant")
def previous_tenant(name):
    before = tenant.get()
    tenant.set(name)
    return before


@Task(PREFIX + "tenant.async")
async def previous_tenant_async(name):
    before = tenant.get()
    tenant.set(name)
    return before


@Task(PREFIX + "tenant.nested")
async def nested(name):
    """Return the context variables that its nested calls see; they run in the same process as their caller."""
    tenant.set(name)
    called = [await context.call(PREFIX + which, name) for which in ("tenant.async", "tenant", "tenant.async")]
    return [*called, tenant.get()]


if __name__ == "__main__":
    run()
