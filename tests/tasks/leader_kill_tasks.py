"""Tasks of `leader_kills.py`. The process prints one line for each step of a message, so that a loss can be traced.

DELIVERED <id> <0 or 1: redelivered> <queue>
STARTED <id>
PUBLISHED <id> <routing key>
SETTLED <id> <status of its confirm>
"""

import os
import time

from crew.amqp.channel import Channel
from crew.amqp.confirms.confirm import Confirm
from crew.worker import Task, context, run

PREFIX = os.environ["CREW_TEST_PREFIX"]
QUEUES = int(os.environ["CREW_TEST_QUEUES"])


def say(*words):
    """Print one line in one write, so that lines do not mix."""
    os.write(1, (f"{time.monotonic():.3f} " + " ".join(map(str, words)) + "\n").encode())


def _trace():
    """Print each delivery and each publish of all channels of this process."""
    on_message, publish, settle = Channel._on_message, Channel.publish, Confirm.settle

    def traced_on_message(self, queue, on_delivery, channel, method, properties, body):
        say("DELIVERED", properties.correlation_id, int(method.redelivered), queue)
        on_message(self, queue, on_delivery, channel, method, properties, body)

    def traced_publish(self, exchange, routing_key, properties, body, *, mandatory):
        say("PUBLISHED", properties.correlation_id, routing_key)
        return publish(self, exchange, routing_key, properties, body, mandatory=mandatory)

    def traced_settle(self, status):
        say("SETTLED", self.key, status.value)
        settle(self, status)

    Channel._on_message = traced_on_message  # type: ignore[method-assign]  # only in this script
    Channel.publish = traced_publish  # type: ignore[method-assign]
    Confirm.settle = traced_settle  # type: ignore[method-assign]


def work(seconds):
    say("STARTED", context.id)
    time.sleep(seconds)
    return context.id


if __name__ == "__main__":
    _trace()
    for number in range(QUEUES):
        Task(f"{PREFIX}{number}")(work)
    run()
