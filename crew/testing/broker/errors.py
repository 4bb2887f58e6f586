"""Errors with which the in-memory broker closes a channel or a connection."""

from typing import Final

NAMES: Final = {
    311: "CONTENT_TOO_LARGE",
    320: "CONNECTION_FORCED",
    403: "ACCESS_REFUSED",
    404: "NOT_FOUND",
    405: "RESOURCE_LOCKED",
    406: "PRECONDITION_FAILED",
    501: "FRAME_ERROR",
    503: "COMMAND_INVALID",
    504: "CHANNEL_ERROR",
    530: "NOT_ALLOWED",
    540: "NOT_IMPLEMENTED",
}


class AmqpError(Exception):
    """The broker closes something, with an AMQP reply code.

    Args:
        code: reply code of AMQP 0-9-1 §1.2.
        text: what follows the name of the code.
    """

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{NAMES[code]} - {text}")
        self.code = code


class ChannelClosed(AmqpError):
    """The broker closes the channel."""


class ConnectionClosed(AmqpError):
    """The broker closes the connection."""
