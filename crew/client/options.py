"""Keyword arguments of the public methods of a client, as types: `**options: Unpack[CallOptions]`.

Each is described once, at the method of `crew.Client` that takes it.
"""

from typing import Final, TypedDict

from crew.client.calling.call import OnResult
from crew.duration import Duration
from crew.protocol.message import Headers

CALL_RENAMES: Final = {"data": "payload"}  # deprecated names -> names
SUBMIT_RENAMES: Final = {"data": "payload", "key": "unique_key"}


class CallOptions(TypedDict, total=False):
    """Keyword arguments of `Client.call`."""

    priority: int
    expiration: Duration
    timeout: Duration | None
    persistent: bool
    serializer: str | None
    headers: Headers | None
    callback: OnResult | None
    id: str | None
    fail_fast: bool | None


class PublishOptions(TypedDict, total=False):
    """Keyword arguments of `Client.publish`."""

    serializer: str | None
    headers: Headers | None
    persistent: bool
    timeout: Duration
    fail_fast: bool | None


class SubmitOptions(TypedDict, total=False):
    """Keyword arguments of `Client.submit`."""

    priority: int
    timeout: Duration | None
    expiration: Duration | None
    result_ttl: Duration
    failure_ttl: Duration
    unique: str | None
    unique_key: str | None
    id: str | None
    idempotency_key: str | None
    serializer: str | None
    headers: Headers | None
    wait_for_worker: bool


class TaskOptions(SubmitOptions, total=False):
    """Keyword arguments of `Client.task`: those of `Client.submit` for `TaskRef.submit`, and of `Client.call`."""

    persistent: bool
    callback: OnResult | None
    fail_fast: bool | None
