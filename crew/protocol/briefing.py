"""A Briefing as a message, and back."""

from typing import Final

import msgspec

from crew.protocol import foreign
from crew.protocol.codec import JSON
from crew.protocol.message import Briefing
from crew.protocol.properties import APP_ID, MalformedMessage, Properties

TYPE: Final = "briefing"
BRIEFED: Final = "briefed"  # the reason of the Control message that ends the answer
TTL_MS: Final = 5_000  # a question that no gateway has taken by then is not waited for any longer

_TASKS: Final = msgspec.json.Decoder(tuple[str, ...])


def of_briefing(briefing: Briefing) -> tuple[Properties, bytes]:
    """The properties and the body of `briefing`."""
    properties = Properties(
        content_type=JSON,
        correlation_id=briefing.id,
        reply_to=briefing.worker,
        type=TYPE,
        expiration=str(TTL_MS),
        delivery_mode=1,
        app_id=APP_ID,
    )
    return properties, msgspec.json.encode(briefing.tasks)


def briefed_id(briefing: str, queue: str) -> str:
    """The id of the Control message with which the gateways end their answer to `briefing`.

    Args:
        queue: of the store that they answer for; the jobs in it have it as `reply_to`.
    """
    return f"{briefing} {queue}"


def to_briefing(properties: Properties, data: bytes) -> Briefing:
    """What a worker asks.

    Raises:
        MalformedMessage: it does not say who asks, or what about.
    """
    id = foreign.text("correlation_id", properties.correlation_id)
    worker = foreign.text("reply_to", properties.reply_to)
    if not id or not worker:
        raise MalformedMessage("a briefing without correlation_id and reply_to is asked by nobody")
    try:
        return Briefing(id=id, worker=worker, tasks=_TASKS.decode(data))
    except msgspec.MsgspecError as error:
        raise MalformedMessage(f"a briefing does not name its tasks: {error}") from None
