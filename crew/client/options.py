"""Keyword arguments of the public methods of a client, as types: `**options: Unpack[CallOptions]`.

Each is described once, at the method of `crew.Client` that takes it.
"""

from typing import TypedDict

from crew.client.calling.call import OnAnswer
from crew.protocol.message import Headers


class CallOptions(TypedDict, total=False):
    """Keyword arguments of `Client.call`."""

    priority: int
    expiration: float
    timeout: float | None
    persistent: bool
    serializer: str | None
    headers: Headers | None
    callback: OnAnswer | None
    id: str | None
    fail_fast: bool | None


class PublishOptions(TypedDict, total=False):
    """Keyword arguments of `Client.publish`."""

    serializer: str | None
    headers: Headers | None
    persistent: bool
    timeout: float
    fail_fast: bool | None


class SubmitOptions(TypedDict, total=False):
    """Keyword arguments of `Client.submit`."""

    priority: int
    timeout: float | str | None
    expiration: float | str | None
    result_ttl: float | str
    failure_ttl: float | str
    unique: str | None
    key: str | None
    id: str | None
    idempotency_key: str | None
    serializer: str | None
    headers: Headers | None
    wait_for_worker: bool
