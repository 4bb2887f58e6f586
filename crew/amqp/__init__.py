"""The connection to RabbitMQ. Only this package imports pika.

`link.py` is one supervised connection, which reconnects. `channel.py` turns pika's callbacks into awaitables.
`connection/` is the connection itself. `errors.py` translates pika's exceptions to one sentence each.
"""

import logging

from crew.amqp.broker_clock import BrokerClock
from crew.amqp.confirms.confirm import Confirm, ConfirmStatus
from crew.amqp.delivery import Delivery
from crew.amqp.link import Link
from crew.amqp.link_state import LinkState
from crew.amqp.outage import Outage
from crew.amqp.remembered.consumers import Consumer
from crew.amqp.signed_channel import Signer

__all__ = ["BrokerClock", "Confirm", "ConfirmStatus", "Consumer", "Delivery", "Link", "LinkState", "Outage", "Signer"]

# pika logs every failed attempt in several lines with tracebacks. The link logs it in one line.
if logging.getLogger("pika").level == logging.NOTSET:
    logging.getLogger("pika").setLevel(logging.CRITICAL)
