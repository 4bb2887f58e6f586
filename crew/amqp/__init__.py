"""RabbitMQ by way of pika, whose names appear in this package only.

`link.py` is one supervised connection; `channel.py` makes awaitables of pika's callbacks; `wire.py` is the connection
itself; `fault.py` says in one sentence what pika's exceptions mean.
"""

import logging

from crew.amqp.broker_clock import BrokerClock
from crew.amqp.confirm import Confirm, ConfirmStatus
from crew.amqp.delivery import Delivery
from crew.amqp.link import Link
from crew.amqp.link_state import LinkState
from crew.amqp.outage import Outage
from crew.amqp.remembered.consumers import Consumer
from crew.amqp.signed_channel import Signer

__all__ = ["BrokerClock", "Confirm", "ConfirmStatus", "Consumer", "Delivery", "Link", "LinkState", "Outage", "Signer"]

# pika reports every failed attempt in several lines with tracebacks; the link says the same in one sentence.
if logging.getLogger("pika").level == logging.NOTSET:
    logging.getLogger("pika").setLevel(logging.CRITICAL)
