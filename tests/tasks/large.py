"""The tasks of the tests of large messages: a worker script. What they make does not compress."""

import os

from crew.worker import Task, context, run

PREFIX = os.environ.get("CREW_TEST_PREFIX", "")


@Task(PREFIX + "make")
def make(size):
    return os.urandom(size)


@Task(PREFIX + "size")
async def size(data):  # so that it has a slot beside those who wait for it
    return len(data)


@Task(PREFIX + "nested")
def nested(size):
    return context.call(PREFIX + "size", os.urandom(size)).result()


@Task(PREFIX + "publish")
def publish(size):
    context.pubsub.publish("large", os.urandom(size))


if __name__ == "__main__":
    run()
