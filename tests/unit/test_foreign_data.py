"""Any foreign data is decoded, or raises the one error type of its decoder."""

import json
import time
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crew.client.calling.reply import result_of_reply
from crew.errors import CrewError, SerializationError
from crew.gateway.jobs.job_limits import JobLimits
from crew.gateway.jobs.job_request import parse_job
from crew.gateway.problems import RequestRefused
from crew.jobs import JobStatus
from crew.jobs.records.event import event_of
from crew.jobs.records.record import full_record, record
from crew.jobs.reports.report import Report, apply, of_reply
from crew.jobs.result import result_of
from crew.jobs.store import rows
from crew.limits import GatewayLimits
from crew.protocol import failure, properties, revocation_request
from crew.protocol.encoding import codec
from crew.protocol.encoding.foreign import brief, read
from crew.protocol.message import Body, Call, Outcome, Reply
from crew.protocol.properties import DeadLetter, MalformedMessage, Properties
from tests.support.a_job import a_specification
from tests.support.pending_calls import a_call

DEEP = [opening * times for opening in (b"[", b'{"a":', b"\x91", b"\x81\xa1a") for times in (300, 2_000, 30_000)]
ODD = [
    b"",
    b"\xff\xfe",
    b'"\xff"',
    b'"\\ud800"',
    b"1e400",
    b"1" * 5_000,
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff",
    b"\xc1",
    b"\xd4\x05\x00",
    b"\xd6\xff\xff\xff\xff\xff",
    b"\xd7\xff" + b"\xff" * 8,
    b"\x81\x90\x00",
    b"\x81\x80\x00",
]
FAILURES = [
    b'{"type_name":"E","message":' + b"[" * 30_000,
    b'{"type_name":"E","x":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
    msgspec.json.encode({"type_name": "E" * 10**6, "message": "\0" * 10**5, "traceback": "t" * 10**6}),
    msgspec.json.encode({"type_name": "E", "attempts": 2**63}),
]

_data = st.sampled_from([*DEEP, *ODD, *FAILURES]) | st.binary(max_size=40) | st.text(max_size=40).map(str.encode)
_types = st.sampled_from([*codec.ALLOWED, None, "", "text/html", "APPLICATION/JSON; x=" + "y" * 300])
_texts = st.text(max_size=20) | st.binary(max_size=20)
_scalars = _texts | st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats()
_any: st.SearchStrategy[Any] = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_OURS = """
    deadline timeout attempt task job clock start-by worker outcome reason host started ended only-one progress-count
    client unreadable
"""
_names = st.sampled_from(
    [*(f"crew-{name}" for name in _OURS.split()), "x-death", "x-first-death-reason", "x-last-death-reason", "own"]
)
_headers = st.none() | st.dictionaries(_names | st.text(max_size=5), _any | st.sampled_from([*Outcome]), max_size=6)
_text = st.none() | st.text(max_size=10) | st.binary(max_size=10)
_properties = st.builds(
    Properties,
    content_type=_types | _text,
    content_encoding=st.sampled_from([None, "", "gzip", "br"]) | _text,
    correlation_id=_text,
    reply_to=_text,
    type=_text,
    message_id=_text,
    timestamp=st.none() | st.integers(0, 2**64 - 1),
    priority=st.none() | st.integers(0, 255),
    expiration=_text,
    delivery_mode=st.none() | st.integers(0, 255),
    headers=_headers,
)
JOB = "0b5e0f3c-7c55-4d7b-9b51-5f4f0d3f7d11"
LIMITS = JobLimits(cast(Any, SimpleNamespace(usage=None)), GatewayLimits())
hard = settings(deadline=None, max_examples=100)


@given(data=_data, content_type=_types, encoding=st.sampled_from([None, "", "gzip", "br"]))
@hard
def test_a_body_is_decoded_or_is_a_serialization_error(data: bytes, content_type: Any, encoding: Any) -> None:
    for padding in (b"", b" " * 40_000):
        try:
            codec.decode(Body(padding + data, content_type, encoding))
        except SerializationError as error:
            assert len(str(error)) < 1_000


@given(given_=_properties, data=_data)
@hard
def test_a_message_is_read_or_is_malformed(given_: Properties, data: bytes) -> None:
    readers: list[Any] = [
        lambda: properties.to_call("t", given_, data, make_id=lambda: "id"),
        lambda: properties.to_reply(given_, data),
        lambda: properties.to_event("topic", given_, data),
        lambda: properties.to_control(given_),
        lambda: revocation_request.to_request(given_, data),
    ]
    for reading in readers:
        try:
            read_ = reading()
        except MalformedMessage as error:
            assert len(str(error)) < 1_000
            continue
        if isinstance(read_, Reply | DeadLetter):
            result_of_reply(a_call(), read_)
            report = of_reply(msgspec.structs.replace(read_, id=JOB), at=time.time(), max_result=1_000)
            assert apply(a_specification().job, report) is not None or report.status is None
        assert isinstance(read_, Call | Reply | DeadLetter) or read_ is not None


@given(data=_data)
@hard
def test_a_failure_is_decoded_or_marked_as_unreadable_and_is_bounded(data: bytes) -> None:
    found = failure.decode(data)
    assert sum(map(len, (found.type_name, found.message, found.traceback, found.note))) < 100_000


@given(data=_data, status=st.sampled_from([*JobStatus]), content_type=_types)
@hard
def test_a_record_can_be_shown_with_any_data_from_a_worker(data: bytes, status: JobStatus, content_type: str) -> None:
    body = Body(data, content_type)
    for task in ("t", "crew.http"):
        job = msgspec.structs.replace(
            a_specification().job, task=task, status=status, body=body, progress=data, failure=data, result=body
        )
        for members in (record(job), full_record(job), event_of(job, "/")):
            msgspec.json.encode(members)
        try:
            result_of(job)
        except CrewError as error:
            assert len(str(error)) < 100_000


TEXTS = ["", "[", "[" * 30_000, '{"a":' + "[" * 30_000, "1", "\udcff", "null", "x" * 2_000_000]


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_a_row_whose_headers_cannot_be_read_does_not_break_its_list(text: str) -> None:
    row: Any = rows.of_job(a_specification().job) | {"headers": text, "result_headers": text}
    assert rows.to_job(row).headers == {}


@given(data=_data | _any.map(lambda value: codec.encode(str(value)).data))
@hard
def test_a_job_specification_is_accepted_or_refused(data: bytes) -> None:
    try:
        parse_job(data, LIMITS)
    except RequestRefused as error:
        assert len(error.detail) < 1_000


LONG: list[Any] = ["\0" * 1_000_000, [["x" * 1_000]] * 1_000, {"\0" * 500_000: 1}, 10**4_000]


@pytest.mark.parametrize(
    "member", ["task", "url", "priority", "timeout", "unique", "key", "id", "headers", "method", "wait_for_worker"]
)
@pytest.mark.parametrize("value", LONG, ids=["text", "array", "object", "number"])
def test_a_refusal_is_short_however_long_the_value_was(member: str, value: Any) -> None:
    job = {"url": "http://h/"} if member == "method" else {"task": "t"} if member != "url" else {}
    data = json.dumps({**job, member: value}).encode()
    with pytest.raises(RequestRefused) as refused:
        parse_job(data, LIMITS)
    assert len(msgspec.json.encode(refused.value.detail)) < 2_000


@given(value=_any)
@hard
def test_a_quoted_value_is_short(value: Any) -> None:
    assert len(brief(value)) < 120


@given(data=_data)
@hard
def test_invalid_data_of_crew_itself_raises_one_type_of_error(data: bytes) -> None:
    try:
        read(msgspec.json.decode, data, "it", most=10_000)
    except SerializationError as error:
        assert str(error).startswith("it cannot be decoded: ")


def test_a_report_with_an_endless_failure_keeps_a_short_one() -> None:
    body = Body(msgspec.json.encode({"type_name": "E" * 2**21}), codec.JSON)
    reply = Reply(id=JOB, outcome=Outcome.RAISED, body=body)
    report: Report = of_reply(reply, at=0.0, max_result=10)
    assert report.failure is not None
    assert len(report.failure) < 10_000
