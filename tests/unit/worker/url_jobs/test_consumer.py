"""URL jobs beyond the limit of their host: they wait without a slot, or are postponed, and none is lost."""

import time
from typing import Any

import msgspec
import pytest

from crew.amqp import ConfirmStatus, Delivery
from crew.amqp.outbox.policy import RETRIES, OutboxPolicy
from crew.errors import SettingsError
from crew.protocol import failure, properties, topology
from crew.protocol.encoding import codec
from crew.protocol.http_job import request
from crew.protocol.http_job.allowed_hosts import AllowedHosts
from crew.protocol.http_job.request import HttpRequest
from crew.protocol.http_job.url import HttpUrl, parse_url
from crew.protocol.message import Body, Call, Control, Outcome
from crew.protocol.topology import HTTP_TASK
from crew.settings import max_requests_per_host
from crew.worker.execution.execution import current_execution
from crew.worker.options import from_flags
from crew.worker.replies.reply_publisher import ReplyPublisher
from crew.worker.replies.retry_publisher import RetryPublisher
from crew.worker.url_jobs import requests
from crew.worker.url_jobs.consumer import HttpConsumer
from crew.worker.url_jobs.task import HttpTask
from tests.support.deliveries import a_task
from tests.support.links import Published
from tests.support.waiting import until
from tests.unit.worker.consumer.test_consumer import Worker

A = "http://a.example/x"
LARGE = "x" * 200_000
HOST_WAIT = 0.03  # seconds


class HttpWorker(Worker):
    """A worker with four slots; one host may have two of them."""

    def __init__(self, *, prefetch: int | None = None, policy: OutboxPolicy = RETRIES) -> None:
        super().__init__(slots=4)
        replies = ReplyPublisher(self.publishing.as_link(), "w")
        self.retries = RetryPublisher(self.publishing.as_link(), replies, policy=policy)
        self.consumer: HttpConsumer = HttpConsumer(
            [a_task(lambda data: None, name=name) for name in (HTTP_TASK, "t")],
            limit=2,
            host_wait=HOST_WAIT,
            link=self.consuming.as_link(),
            replies=replies,
            retries=self.retries,
            held=self.executor.held,
            buffer=self.buffer,
            executor=self.executor,
            shared_state=self.shared_state,
            revoked=self.revoked,
            job_reports=self.jobs,
            grace=5.0,
            zombies=1,
            fixed_prefetch=prefetch,
            on_replacement_needed=self.on_replacement_needed,
        )
        self.executor.on_ended = self.consumer.on_ended

    def receives_url(self, url: object, id: str = "17", *, data: Any = None, **fields: Any) -> Delivery:
        """Deliver a URL job."""
        payload = {"url": url} if data is None else {"url": url, "data": data}
        return self.receives(HTTP_TASK, id=id, body=codec.encode(payload), **fields)

    def running(self) -> list[str]:
        """The ids of the running calls."""
        return [one.call.id for one in self.executor.executions]

    async def postponed(self, count: int = 1) -> list[Published]:
        """Wait until `count` messages were published with a delay; returns them."""

        def found() -> list[Published]:
            return [one for one in self.publishing.published if one.exchange == topology.RETRY]

        await until(lambda: len(found()) >= count)
        return found()

    def fill_host(self, url: str = A) -> None:
        """Start as many requests as the limit of the host of `url`."""
        self.receives_url(url, "1")
        self.receives_url(url, "2")


def call_in(published: Published) -> Call:
    """The call, as the next worker decodes it."""
    return properties.to_call(HTTP_TASK, published.properties, published.body, make_id=lambda: "made-here")


@pytest.mark.gen_test
async def test_a_host_has_its_limit_of_slots_and_the_next_request_starts_when_one_ends() -> None:
    worker = HttpWorker()
    worker.fill_host()
    for id, url in (("3", "http://A.example:81/y"), ("4", A)):
        worker.receives_url(url, id)
    worker.receives_url("http://b.example/", "5")
    worker.receives("t", id="6")
    assert worker.running() == ["1", "2", "5", "6"]
    worker.finish()
    assert worker.running() == ["2", "5", "6", "3"]
    worker.finish()
    assert worker.running() == ["5", "6", "3", "4"]
    assert {reply.id for reply in worker.all_replies()} == {"1", "2"}
    worker.consumer.stop()


@pytest.mark.gen_test
async def test_a_job_that_waits_too_long_is_acknowledged_when_its_postponed_copy_is_confirmed() -> None:
    worker = HttpWorker()
    worker.fill_host()
    start_by = round(time.time() + 50, 3)
    job = {"is_job": True, "persistent": True, "start_by": start_by, "attempt": 1, "headers": {"tenant": "x"}}
    waits = worker.receives_url(A, "3", **job)
    (published,) = await worker.postponed()
    call = call_in(published)
    assert (call.id, call.attempt, call.start_by, call.headers) == ("3", 1, start_by, {"tenant": "x"})
    assert (published.key, (published.properties.headers or {})["crew-delay"]) == ("crew.tasks.crew.http", 1000)
    assert worker.channel.acked == []
    worker.publishing.confirm_all()
    await until(lambda: worker.channel.acked == [waits.tag])
    assert worker.all_replies() == []  # it has not started
    worker.receives_url(A, "4")
    at_once = worker.receives_url(A, "5")
    assert worker.channel.acked == [waits.tag]
    assert call_in((await worker.postponed(2))[1]).id == "5"  # the host is slow by now, and one job waits already
    worker.publishing.confirm_all()
    await until(lambda: worker.channel.acked[:2] == [waits.tag, at_once.tag])
    assert worker.running() == ["1", "2"]
    worker.consumer.stop()


@pytest.mark.gen_test
@pytest.mark.parametrize(("prefetch", "window"), [(None, 5), (6, 7)])
async def test_jobs_for_a_slow_host_do_not_block_jobs_that_could_run(prefetch: int | None, window: int) -> None:
    worker = HttpWorker(prefetch=prefetch)
    assert worker.consuming.consumers["crew.tasks.crew.http"].prefetch == window
    assert worker.consuming.consumers["crew.tasks.t"].prefetch == (prefetch or 4)


@pytest.mark.gen_test
async def test_a_delivery_that_may_have_started_before_does_not_expire_by_being_postponed() -> None:
    worker = HttpWorker()
    worker.fill_host()
    worker.receives_url(A, "3", is_job=True, start_by=time.time() + 50, redelivered=True)
    assert call_in((await worker.postponed())[0]).start_by is None
    worker.consumer.stop()


@pytest.mark.gen_test
async def test_a_job_that_was_canceled_or_expired_while_it_waited_gets_its_reply_and_never_starts() -> None:
    worker = HttpWorker()
    worker.fill_host()
    late = round(time.time() + 60, 3)
    worker.receives_url(A, "call", deadline=late)
    worker.revoked.add(Control(id="call", deadline=late, reason="canceled"))
    worker.receives_url(A, "job", is_job=True)
    worker.revoked.add(Control(id="job", reason="canceled", is_job=True))
    deadline = round(time.time() + 0.01, 3)
    worker.receives_url(A, "expired", deadline=deadline)
    worker.receives_url(A, "expired job", is_job=True, start_by=deadline)
    await until(lambda: time.time() > deadline)
    for _ in range(2):
        worker.finish()
    assert worker.running() == []
    outcomes = dict(worker.outcomes())
    assert (outcomes["call"], outcomes["job"]) == (Outcome.CANCELED, Outcome.CANCELED)
    assert (outcomes["expired"], outcomes["expired job"]) == (Outcome.EXPIRED, Outcome.EXPIRED)
    worker.consumer.stop()


@pytest.mark.gen_test
async def test_waiting_jobs_are_requeued_when_the_worker_stops_or_has_no_free_slot() -> None:
    for end in ("drain", "busy"):
        worker = HttpWorker()
        worker.fill_host()
        waits = worker.receives_url(A, "3")
        if end == "drain":
            await worker.consumer.drain()
        else:
            worker.consumer.on_busy()
        assert worker.channel.requeued == [waits.tag]
        worker.finish()
        assert worker.running() == ["2"]
        worker.consumer.stop()


@pytest.mark.gen_test
async def test_waiting_jobs_are_redelivered_after_a_lost_connection() -> None:
    worker = HttpWorker()
    worker.fill_host()
    worker.receives_url(A, "3")
    worker.channel.is_open = False
    worker.consumer.on_lost()
    worker.finish()
    assert worker.running() == ["2"]
    assert not [one for one in worker.publishing.published if one.exchange == topology.RETRY]
    worker.consumer.stop()


@pytest.mark.gen_test
async def test_a_job_with_a_large_body_counts_for_its_host() -> None:
    worker = HttpWorker()
    for id in ("1", "2", "3"):
        worker.receives_url(A, id, data=LARGE)
    await until(lambda: len(worker.running()) == 2)
    await worker.postponed()
    assert worker.running() == ["1", "2"]
    worker.consumer.stop()


@pytest.mark.gen_test
@pytest.mark.parametrize("payload", [b"{", b"[]", b"{}", b'{"url": 1}', b'{"url": "http://a b/"}'])
async def test_an_invalid_request_is_run_and_fails(payload: bytes) -> None:
    worker = HttpWorker()
    worker.fill_host()
    given = properties.of_call(
        Call(id="3", task=HTTP_TASK, body=Body(payload, codec.JSON), reply_to="crew.reply.me"), now=time.time()
    )
    worker.receives_message(given, payload, task=HTTP_TASK)
    assert worker.running() == ["1", "2", "3"]
    worker.consumer.stop()


@pytest.mark.gen_test
async def test_a_call_that_is_not_persistent_is_never_published_twice() -> None:
    worker = HttpWorker()
    worker.fill_host()
    waits = worker.receives_url(A, "3", persistent=False)
    await worker.postponed()
    assert waits.tag in worker.channel.acked
    worker.publishing.confirm_all(ConfirmStatus.LOST)
    await until(lambda: "3" in dict(worker.outcomes()))
    assert dict(worker.outcomes())["3"] is Outcome.RAISED
    assert len(await worker.postponed()) == 1
    worker.consumer.stop()


@pytest.mark.gen_test
async def test_a_postponed_call_fails_if_the_broker_refuses_it_and_is_sent_again_if_it_is_lost() -> None:
    worker = HttpWorker()
    worker.fill_host()
    worker.receives_url(A, "3")
    await worker.postponed()
    worker.publishing.confirm_all(ConfirmStatus.LOST)
    await worker.postponed(2)
    worker.publishing.confirm_all(ConfirmStatus.INVALID)
    await until(worker.replies)
    (reply,) = worker.replies()
    assert failure.decode(reply.body.data).type_name.endswith("MessageRefused")
    worker.publishing.confirm_all()
    await until(lambda: not len(worker.retries))
    assert len(worker.channel.acked) == 1
    worker.consumer.stop()


@pytest.mark.gen_test
async def test_a_postponed_call_that_the_broker_does_not_confirm_in_time_waits_again() -> None:
    worker = HttpWorker(policy=msgspec.structs.replace(RETRIES, again_after=0.0, max_attempts=2))
    worker.fill_host()
    waits = worker.receives_url(A, "3")
    for count in (1, 2, 3):
        await worker.postponed(count)
        worker.publishing.confirm_all(ConfirmStatus.REFUSED)
    await worker.postponed(4)
    worker.publishing.confirm_all()
    await until(lambda: worker.channel.acked == [waits.tag])
    assert worker.replies() == []
    worker.consumer.stop()


# --- the setting -----------------------------------------------------------------------------------------------------


def test_the_limit_is_three_quarters_of_the_slots_unless_it_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def limit(**flags: Any) -> int | None:
        given = {"verbose": False, "logging": None, "http": True, **dict.fromkeys(ADDRESS), **flags}
        return from_flags(**given).requests_per_host

    monkeypatch.delenv("CREW_MAX_REQUESTS_PER_HOST", raising=False)
    assert limit() == 75
    assert limit(concurrency=7) == 5
    assert limit(concurrency=1) is None
    assert limit(prefetch=10) == 7
    assert limit(max_requests_per_host=90) == 90
    assert limit(max_requests_per_host=100) is None
    monkeypatch.setenv("CREW_MAX_REQUESTS_PER_HOST", "20")
    assert (limit(), limit(max_requests_per_host=3)) == (20, 3)
    with pytest.raises(SettingsError, match=r"--max-requests-per-host applies only to URL jobs: add --http"):
        limit(http=False, max_requests_per_host=3)
    for text in ("0", "-1", "many"):
        with pytest.raises(SettingsError, match="CREW_MAX_REQUESTS_PER_HOST must be a number of requests"):
            max_requests_per_host(environ={"CREW_MAX_REQUESTS_PER_HOST": text})


ADDRESS = ("url", "host", "port", "username", "password", "vhost", "queue_type")


@pytest.mark.parametrize("data", [None, LARGE], ids=["small", "large"])
@pytest.mark.gen_test
async def test_a_request_is_parsed_once_also_if_it_waits_for_its_host(
    data: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[object] = []

    def parse(url: object) -> HttpUrl:
        parsed.append(url)
        return parse_url(url)

    monkeypatch.setattr(request, "parse_url", parse)
    monkeypatch.setattr(requests, "running", {})  # without those of other tests, which do not end
    performed: list[HttpRequest] = []

    async def perform(request: HttpRequest) -> dict[str, Any]:
        performed.append(request)
        return {}

    task = HttpTask(AllowedHosts())
    monkeypatch.setattr(task._exchange, "perform", perform)
    worker = HttpWorker()
    worker.fill_host()
    worker.receives_url(A, "3", data=data)
    await until(lambda: len(parsed) == 3)
    await until(lambda: "1" in worker.running())
    worker.finish()
    await until(lambda: "3" in worker.running())
    execution = worker.executor.executions[-1]
    current = current_execution.set(execution)
    await task.perform({"url": A, "data": data})
    current_execution.reset(current)
    assert (performed[0].url, performed[0].data) == (A, data)
    assert len(parsed) == 3
    assert set(requests.running) == {"2", "3"}
    worker.finish()
    worker.finish()
    assert not requests.running
