"""The request of a worker for its revoked jobs, and the answer of a gateway."""

import msgspec
import pytest

from crew.protocol import revocation_request
from crew.protocol.message import RevocationRequest
from crew.protocol.properties import MalformedMessage

REQUEST = RevocationRequest(id="q1", worker="w1", tasks=("resize", "crew.http"))


def test_a_request_is_decoded_as_it_was_encoded() -> None:
    assert revocation_request.to_request(*revocation_request.of_request(REQUEST)) == REQUEST


def test_a_request_that_no_gateway_takes_expires_in_the_queue() -> None:
    properties, _ = revocation_request.of_request(REQUEST)
    assert (properties.expiration, properties.delivery_mode) == (str(revocation_request.TTL_MS), 1)


@pytest.mark.parametrize("change", [{"correlation_id": None}, {"reply_to": ""}, {"reply_to": 3}])
def test_a_request_without_id_or_worker_is_malformed(change: dict[str, object]) -> None:
    properties, data = revocation_request.of_request(REQUEST)
    with pytest.raises(MalformedMessage):
        revocation_request.to_request(msgspec.structs.replace(properties, **change), data)


@pytest.mark.parametrize("data", [b"", b"{}", b'"resize"', b"[1]", b"\xff"])
def test_a_request_without_a_list_of_tasks_is_malformed(data: bytes) -> None:
    properties, _ = revocation_request.of_request(REQUEST)
    with pytest.raises(MalformedMessage):
        revocation_request.to_request(properties, data)


@pytest.mark.parametrize("worker", ["w" * 255, "w\n"])
def test_a_request_of_a_worker_that_cannot_be_addressed_is_malformed(worker: str) -> None:
    properties, data = revocation_request.of_request(REQUEST)
    with pytest.raises(MalformedMessage, match="reply_to of a revocation request"):
        revocation_request.to_request(msgspec.structs.replace(properties, reply_to=worker), data)


def test_a_request_with_too_many_tasks_is_malformed() -> None:
    properties, data = revocation_request.of_request(msgspec.structs.replace(REQUEST, tasks=("t" * 100,) * 1_000))
    with pytest.raises(MalformedMessage, match="more than 65536"):
        revocation_request.to_request(properties, data)


def test_an_answer_contains_digests_of_revoked_ids_instead_of_the_ids() -> None:
    properties, data = revocation_request.of_answer(REQUEST, "crew.jobs.a", ["job-1", "job-2"])
    assert properties.correlation_id == "q1 crew.jobs.a"
    assert b"job" not in data
    revoked, digest = revocation_request.to_revoked(data), revocation_request.digest
    assert [digest("q1", id) in revoked for id in ("job-1", "job-2", "job-3")] == [True, True, False]
    assert digest("q2", "job-1") not in revoked, "the answer to one request does not answer another"


@pytest.mark.parametrize("data", [b"x", b"x" * 9, b"x" * 8 * 10_001])
def test_an_invalid_answer_revokes_no_job(data: bytes) -> None:
    assert revocation_request.to_revoked(data) == frozenset()


def test_the_properties_of_a_request_name_its_id_and_the_queue_of_its_answers() -> None:
    properties, data = revocation_request.of_request(REQUEST)
    assert (properties.correlation_id, properties.reply_to, properties.type) == ("q1", "w1", "briefing")
    assert (properties.content_type, properties.app_id) == ("application/json", "crew")
    assert msgspec.json.decode(data) == ["resize", "crew.http"]


def test_the_answer_is_the_control_message_that_a_worker_recognizes() -> None:
    properties, data = revocation_request.of_answer(REQUEST, "crew.jobs.a", [])
    assert revocation_request.answer_id("q1", "crew.jobs.a") == properties.correlation_id
    assert (properties.headers or {})["crew-reason"] == "briefed"
    assert data == b""


def test_an_answer_may_have_as_many_ids_as_its_limit() -> None:
    _, data = revocation_request.of_answer(REQUEST, "q", (str(number) for number in range(10_000)))
    assert len(revocation_request.to_revoked(data)) == 10_000


@pytest.mark.parametrize(
    ("change", "data", "reason"),
    [
        ({"correlation_id": 3}, None, "property correlation_id must be UTF-8 text"),
        ({"reply_to": 3}, None, "property reply_to must be UTF-8 text"),
        ({"correlation_id": ""}, None, "a revocation request has no correlation_id or no reply_to"),
        ({"reply_to": None}, None, "a revocation request has no correlation_id or no reply_to"),
        ({}, b"{}", "a revocation request has no valid list of tasks: a revocation request cannot be decoded: "),
    ],
)
def test_the_error_says_what_is_wrong_with_a_request(
    change: dict[str, object], data: bytes | None, reason: str
) -> None:
    properties, encoded = revocation_request.of_request(REQUEST)
    with pytest.raises(MalformedMessage, match=f"^{reason}"):
        revocation_request.to_request(msgspec.structs.replace(properties, **change), encoded if data is None else data)


def test_the_names_of_tasks_may_have_as_many_bytes_as_the_limit() -> None:
    properties, _ = revocation_request.of_request(REQUEST)
    data = msgspec.json.encode(["t" * (revocation_request.MAX_TASKS - 4)])
    assert len(data) == revocation_request.MAX_TASKS
    assert len(revocation_request.to_request(properties, data).tasks[0]) == revocation_request.MAX_TASKS - 4
