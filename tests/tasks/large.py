"""Tasks for the tests of large messages: a worker script. Their values do not compress."""

import os

from crew.worker import Task, context, run

PREFIX = os.environ.get("CREW_TEST_PREFIX", "")


@Task(PREFIX + "make")
def make(size):
    return os.urandom(size)


@Task(PREFIX + "echo")
def echo(data):
    return data


@Task(PREFIX + "size")
async def size(data):  # async: so a slot is free while a plain task waits for the nested call
    return len(data)


@Task(PREFIX + "nested")
def nested(size):
    return context.call(PREFIX + "size", os.urandom(size)).result()


@Task(PREFIX + "publish")
def publish(size):
    context.pubsub.publish("large", os.urandom(size))


@Task(PREFIX + "relay")
def relay(data):
    context.pubsub.publish(PREFIX + "relayed", data)


if __name__ == "__main__":
    run()
