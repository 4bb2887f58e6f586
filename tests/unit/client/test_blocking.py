"""The client for threads, without a broker."""

import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crew import errors
from crew.client.blocking import Client
from crew.jobs import JobStore
from crew.jobs.tuning import JobTuning
from tests.support.a_job import url_of
from tests.support.broker import unreachable_url
from tests.support.links import ignored


@pytest.fixture
def client() -> Iterator[Client]:
    """A client with a URL at which nothing listens."""
    with unreachable_url() as url, Client(url) as client:
        yield client


def test_a_call_ends_on_time_without_a_broker(client: Client) -> None:
    begin = time.monotonic()
    with pytest.raises(errors.ExpirationError):
        client.call("t", expiration=0.1).result()
    assert 0.1 <= time.monotonic() - begin < 0.6


def test_call_returns_at_once_and_its_result_can_be_read_repeatedly(client: Client) -> None:
    call = client.call("t", expiration=0.2)
    with pytest.raises(TimeoutError) as raised:
        call.result(timeout=0.01)
    assert not isinstance(raised.value, errors.CrewError)
    assert not call.done()
    with pytest.raises(errors.ExpirationError):
        call.result()
    assert call.done()


def test_an_invalid_argument_is_an_error_at_the_call(client: Client) -> None:
    with pytest.raises(ValueError, match="priority"):
        client.call("t", priority=256)
    with pytest.raises(errors.SerializationError):
        client.call("t", {1, 2})


def test_a_call_can_be_canceled_from_any_thread(client: Client) -> None:
    call = client.call("t")
    threading.Timer(0.02, call.cancel).start()
    with pytest.raises(errors.Canceled):
        call.result(timeout=5)
    assert call.cancel() is False


def test_connect_may_have_a_timeout(client: Client) -> None:
    with pytest.raises(errors.ConnectionError, match=r"within 0\.02 s"):
        client.connect(timeout=0.02)


def test_waiting_in_a_callback_for_its_own_thread_is_an_error(client: Client) -> None:
    raised: list[BaseException] = []

    def on_result(value: object, headers: object) -> None:
        for step in (lambda: client.publish("news", 1), running.result, client.close):
            try:
                step()
            except RuntimeError as error:
                raised.append(error)

    running = client.call("t", expiration=0.3)
    ends = client.call("t", callback=on_result, expiration=0.05)
    with pytest.raises(errors.ExpirationError):
        ends.result(timeout=2)
    assert len(raised) == 3
    assert "another thread" in str(raised[0])


def test_threads_may_close_and_call_at_the_same_time(client: Client) -> None:
    client.call("t")
    failed: list[BaseException] = []

    def call_until_closed() -> None:
        try:
            while True:
                client.call("t")
        except BaseException as error:
            failed.append(error)

    def close() -> None:
        try:
            client.close()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=step, daemon=True) for step in (*[call_until_closed] * 3, close, close)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(3)
    assert not any(thread.is_alive() for thread in threads)
    assert [str(error) for error in failed] == ["the client was closed"] * 3


def test_a_closed_client_refuses_calls(client: Client) -> None:
    call = client.call("t", id="17")
    client.close()
    client.close()
    with pytest.raises(errors.ConnectionError, match="closed"):
        call.result(timeout=1)
    with pytest.raises(errors.ConnectionError, match="closed"):
        client.call("t")
    with pytest.raises(errors.ConnectionError, match="closed"):
        client.unsubscribe("news")


def client_threads() -> int:
    """The number of running threads of clients."""
    return sum(thread.name == "crew client" for thread in threading.enumerate())


def test_closing_the_client_ends_its_thread() -> None:
    with unreachable_url() as url:
        client = Client(url)
        client.call("t")
        assert client_threads() == 1
        client.close()
    assert client_threads() == 0


def test_a_client_that_was_never_used_has_no_thread_and_can_be_closed() -> None:
    with unreachable_url() as url:
        client = Client(url)
        assert client_threads() == 0
        client.close()


def test_a_thread_that_waits_for_the_broker_continues_when_the_client_closes() -> None:
    ended: list[BaseException] = []

    def subscribe() -> None:
        try:
            waited_for.subscribe("news", ignored)
        except BaseException as error:
            ended.append(error)

    with unreachable_url() as url:
        waited_for = Client(url)
        waited_for.call("t").cancel()
        thread = threading.Thread(target=subscribe, daemon=True)
        thread.start()
        thread.join(0.05)
        waited_for.close()
        thread.join(0.5)
    assert [type(error) for error in ended] == [errors.ConnectionError]


# --- parallel calls and jobs ----------------------------------------------------------------------------------------


def test_parallel_calls_have_their_failures_as_values_in_order(client: Client) -> None:
    with client.parallel() as calls:
        calls.call("a", 1, expiration="50ms")
        calls.call("b", expiration=0.1)
    first, second = calls.result()
    assert len(calls) == 2
    assert isinstance(first, errors.ExpirationError)
    assert isinstance(second, errors.ExpirationError)
    assert (first.task, second.task) == ("a", "b")


def test_a_wait_for_parallel_calls_may_end_before_them(client: Client) -> None:
    with client.parallel() as calls:
        call = calls.call("t", expiration=60)
    with pytest.raises(TimeoutError) as raised:
        calls.result(timeout="20ms")
    assert not isinstance(raised.value, errors.CrewError)
    assert not call.done()
    calls.cancel()
    (value,) = calls.result(timeout=5)
    assert isinstance(value, errors.Canceled)


def test_an_exception_in_the_block_cancels_parallel_calls(client: Client) -> None:
    with pytest.raises(ZeroDivisionError), client.parallel() as calls:
        call = calls.call("t", expiration=60)
        raise ZeroDivisionError
    with pytest.raises(errors.Canceled):
        call.result(timeout=5)


def test_jobs_are_submitted_waited_for_and_canceled_without_an_event_loop(tmp_path: Path) -> None:
    with unreachable_url() as url, Client(url, store=JobStore(url_of(tmp_path))) as client:
        job = client.submit("t", {"n": 1}, unique="skip", unique_key="k", timeout="5m")
        again = client.submit("t", unique="skip", unique_key="k")
        assert (job.is_new, again.is_new, again.id) == (True, False, job.id)
        assert repr(job) == f"<BlockingJob {job.id}>"
        assert job.status() == "queued"
        assert job.job().timeout == 300
        with pytest.raises(errors.TimeoutError, match="has not ended in time"):
            job.result(timeout="10ms")
        events = job.events()
        assert next(events).status == "queued"
        assert job.cancel()
        assert [record.status for record in events] == ["canceled"]
        assert job.cancel() is False
        with pytest.raises(errors.Canceled):
            job.result()


@pytest.fixture
def submitted(tmp_path: Path) -> str:
    """The id of a job in the store of the test's folder, which another client has submitted."""
    store = JobStore(url_of(tmp_path), tuning=JobTuning(publish_patience=0.05))
    with unreachable_url() as url, Client(url, store=store) as other:
        return other.submit("t").id


def test_the_handle_of_a_job_needs_only_its_id_and_the_url_of_the_store(submitted: str, tmp_path: Path) -> None:
    with unreachable_url() as url, Client(url, store=url_of(tmp_path)) as client:
        job = client.job(submitted.upper())
        assert (job.id, job.is_new) == (submitted, False)
        assert (job.status(), job.progress(), job.error()) == ("queued", None, None)
        assert job.cancel()
        assert isinstance(job.error(), errors.Canceled)
        with pytest.raises(errors.Canceled):
            job.result(timeout="1s")
        with pytest.raises(errors.UnknownJob):
            client.job(str(uuid.UUID(int=7))).status()
        with pytest.raises(ValueError, match="the id of a job must be a uuid, not 'seven'"):
            client.job("seven")


def test_the_setting_names_the_store_of_a_client_that_was_made_without_one(
    client: Client, submitted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREW_DATABASE", url_of(tmp_path))
    assert client.job(submitted).status() == "queued"


@pytest.mark.parametrize(
    ("store", "error", "match"),
    [
        ("mysql://u:secret@host/x", errors.SettingsError, "a sqlite:// or a postgresql:// database, not mysql://"),
        (7, ValueError, r"store must be a crew\.jobs\.JobStore or its URL, not int"),
    ],
)
def test_a_store_that_cannot_be_used_is_an_error_of_the_client(store: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        Client("amqp://127.0.0.1/", store=store)


def test_a_client_without_a_store_has_no_jobs(client: Client) -> None:
    with pytest.raises(errors.SettingsError, match="this client has no job store; make it with Client"):
        client.submit("t")
    with pytest.raises(errors.SettingsError, match="or set CREW_DATABASE"):
        client.job(str(uuid.UUID(int=7)))
