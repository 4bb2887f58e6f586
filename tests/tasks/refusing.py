"""A worker that sends messages with an invalid header CC, as an older crew did: the broker refuses them."""

import os

from crew.protocol import properties, user_headers
from crew.worker import Task, context, run

PREFIX = os.environ.get("CREW_TEST_PREFIX", "")

_of_reply, _sendable = properties.of_reply, user_headers.sendable


def of_reply(reply):
    given = _of_reply(reply)
    if given.headers and "refuse-reply" in given.headers:
        given.headers["CC"] = "x"
    return given


def sendable(headers):
    return _sendable(headers) | ({"CC": "x"} if "refuse-again" in headers else {})


properties.of_reply, user_headers.sendable = of_reply, sendable


@Task(PREFIX + "echo")
def echo(data):
    return data


@Task(PREFIX + "refused")
def refused(data):
    context.headers["refuse-reply"] = "yes"
    return data


@Task(PREFIX + "again", retries=3, backoff=(0.01, 0.01))
def again(data):
    raise OSError("it fails")


if __name__ == "__main__":
    run()
