"""A client that causes all errors about a broker's URL, and prints all it can: no output may have the password.

    python secretive.py GOOD_URL TASK

Everything is logged, pika included.
"""

import asyncio
import logging
import sys
import traceback

logging.basicConfig(level=logging.DEBUG)
logging.getLogger("pika").setLevel(logging.DEBUG)  # before crew, which raises the level if none is set

from crew import Client, settings  # noqa: E402
from crew.broker_url import parse, redacted  # noqa: E402
from crew.client import blocking  # noqa: E402
from crew.worker.options import Options  # noqa: E402
from tests.support.proxy import Proxy  # noqa: E402


async def make_a_call(url, task):
    async with Client(url) as client:
        link = client._links.consuming
        print(repr(client), repr(client._links), repr(link), vars(link))  # including connections and channels
        call = client.call(task, "succeeded")
        print(repr(call), await call)


async def lose_the_connection(url, task):
    proxy = Proxy(url)
    try:
        async with Client(proxy.url) as client:
            proxy.cut()
            print(await client.call(task, "came back"))
            proxy.cut(refuse=True)
            await client.call(task, expiration=0.5)
    finally:
        proxy.close()


async def fail_to_log_in(url):
    async with Client(url):
        pass


async def fail_to_connect(url):
    client = Client(url)
    try:
        await client.connect(timeout=0.3)
    finally:
        await client.close()


def show(step, *arguments):
    """Run a step; print its result, or its traceback."""
    try:
        result = step(*arguments)
        if asyncio.iscoroutine(result):
            result = asyncio.run(result)
        print(step.__name__, repr(result))
    except Exception:
        traceback.print_exc()


def mistakes(url):
    """Invalid URLs that contain the password."""
    password = parse(url).password
    yield url.replace("amqp://", "http://")
    yield url.replace("amqp://", "")
    yield url + "?ssl_options=1"
    yield url + f"?password={password}"
    yield url + f"?heartbeat={password}@"
    yield url.replace("amqp://", "amqps://") + "?cacertfile=/nowhere/ca.pem"
    yield f"amqp://me:{password}@host:5672/"
    yield f"amqp://me:{password}"
    yield f"amqp://me:{password}@[::1/"


def main(url, task):
    broker = parse(url)
    show(make_a_call, url, task)
    show(lose_the_connection, url, task)
    show(fail_to_log_in, url.replace("@127", "-wrong@127"))
    show(fail_to_connect, url.replace(f":{broker.port}/", ":1/"))
    show(fail_to_connect, url.replace("127.0.0.1", "unknown.invalid"))
    show(fail_to_connect, url.replace("amqp://", "amqps://"))
    for wrong in mistakes(url):
        show(Client, wrong)
    show(lambda: blocking.Client(url).call("\0"))
    show(lambda: settings.load(url, environ={"CREW_HEARTBEAT": "x"}))
    show(lambda: [settings.load(url), Options(broker=settings.load(url)), broker, redacted((url,))])


if __name__ == "__main__":
    main(*sys.argv[1:])
