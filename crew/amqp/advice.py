"""What a user can do about a connection that was refused: start a broker, where it would be on this machine."""

import ipaddress
import os
from errno import ECONNREFUSED
from typing import Final

from crew import broker_url
from crew.amqp.errors import LinkFault

START_ONE: Final = "; `crew broker start` runs one here"
_REFUSED: Final = os.strerror(ECONNREFUSED).lower()


def advice_on(fault: LinkFault, url: str) -> str:
    """How a sentence about `fault` ends: with the way out, where nothing listens on this machine; else ""."""
    return START_ONE if str(fault).lower() == _REFUSED and _is_here(broker_url.parse(url).host) else ""


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
