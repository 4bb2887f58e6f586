"""TLS to a real broker, which wants a certificate of its clients, and shows one that our own CA has signed."""

import asyncio
import os
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

import crew
from crew import Client
from crew.amqp.connection import connection, tls
from crew.cli.broker.node import Node
from tests.support.certificates import Certificates
from tests.support.paths import TASK_FOLDER
from tests.support.processes import Process, Processes, running
from tests.support.proxy import Proxy
from tests.support.tls_front import fronting

MiB = 1024 * 1024


@pytest.fixture(scope="module")
def certified(certificates: Certificates) -> str:
    """The parameters of a URL that the broker lets in."""
    key = certificates.key_of(certificates.client)
    return f"cacertfile={certificates.ca}&certfile={certificates.client}&keyfile={key}"


@pytest.fixture(scope="module")
def bare_url(node: Node, tls_port: int) -> str:
    """The broker's TLS port, without any certificate."""
    login = node.url.removeprefix("amqp://").rpartition("@")[0]
    return f"amqps://{login}@localhost:{tls_port}/"


@pytest.fixture(scope="module")
def broker_url(bare_url: str, certified: str) -> str:
    """In place of the plain one: for the worker of this module, too."""
    return f"{bare_url}?{certified}"


@pytest.mark.gen_test
@pytest.mark.usefixtures("shared_worker")
async def test_calls_go_over_tls(broker_url: str, prefix: str) -> None:
    async with Client(broker_url) as client:
        assert await client.call(prefix + "echo", {"width": 640}) == {"width": 640}


@pytest.mark.gen_test(timeout=60)
@pytest.mark.usefixtures("shared_worker")
@pytest.mark.parametrize("size", [16 * 1024, MiB, 15 * MiB])
async def test_a_large_body_goes_both_ways_beside_many_small_ones(broker_url: str, prefix: str, size: int) -> None:
    """The largest is more than socket buffers hold: OpenSSL wants the rest of a write in the same bytes, and has it."""
    body = os.urandom(size)
    async with Client(broker_url) as client:
        small = [client.call(prefix + "echo", number) for number in range(300)]
        large = [client.call(prefix + "echo", body) for _ in range(2)]
        assert await asyncio.gather(*small) == list(range(300))
        assert await asyncio.gather(*large) == [body, body]


@pytest.mark.gen_test(timeout=60)
@pytest.mark.usefixtures("shared_worker")
async def test_what_is_decrypted_already_is_not_left_waiting_for_more_from_the_network(
    broker_url: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A poll says nothing of it. Reads of 100 bytes leave most of each TLS record behind every time."""
    monkeypatch.setattr(connection, "READ_BYTES", 100)
    async with Client(broker_url) as client:
        calls = [client.call(prefix + "echo", "x" * 1000) for _ in range(100)]
        assert await asyncio.gather(*calls) == ["x" * 1000] * 100


@pytest.mark.gen_test(timeout=60)
@pytest.mark.usefixtures("shared_worker")
async def test_a_connection_that_is_cut_comes_back(
    broker_url: str, prefix: str, proxied: Callable[[str], Proxy], caplog: pytest.LogCaptureFixture
) -> None:
    proxy = proxied(broker_url)
    async with Client(f"{proxy.url}&server_name_indication=localhost") as client:
        running = [client.call(prefix + "sleep", 0.05) for _ in range(5)]
        proxy.cut()
        assert await asyncio.gather(*running) == [0.05] * 5
        assert await client.call(prefix + "echo", "again", expiration=5) == "again"
    assert "the connection broke" in caplog.text
    assert "Traceback" not in caplog.text


@pytest.mark.gen_test
@pytest.mark.usefixtures("shared_worker")
async def test_the_environment_names_the_files_for_every_url(
    broker_url: str, bare_url: str, prefix: str, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREW_AMQP_CA", str(certificates.ca))
    monkeypatch.setenv("CREW_AMQP_CERT", str(certificates.client))
    monkeypatch.setenv("CREW_AMQP_KEY", str(certificates.key_of(certificates.client)))
    async with Client(bare_url) as client:
        assert await client.call(prefix + "echo", "by the environment") == "by the environment"


@pytest.mark.gen_test
@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_ca_is_enough_where_the_broker_wants_no_certificate(
    node: Node, certificates: Certificates, newest: ssl.TLSVersion
) -> None:
    with fronting(node.url, certificates.server, newest=newest) as url:
        async with Client(f"{url}?cacertfile={certificates.ca}") as client:
            with pytest.raises(crew.UnknownTask):
                await client.call("nobody has this")


@pytest.mark.gen_test
async def test_a_certificate_of_no_matter_whom_will_do_where_the_url_says_so(
    node: Node, certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    tls._warn_once.cache_clear()  # a process of its own would say it, whoever said it before
    with fronting(node.url, certificates.elsewhere) as url:
        for _ in range(2):
            async with Client(f"{url}?verify=verify_none") as client:
                assert client.is_ready
    assert caplog.text.count("is not verified (verify=verify_none)") == 1


def test_worker_and_shell_take_flags_and_environment(
    broker_url: str, bare_url: str, prefix: str, certified: str, certificates: Certificates, tmp_path: Path
) -> None:
    environment = {
        "CREW_TEST_PREFIX": prefix,
        "CREW_AMQP_CA": str(certificates.ca),
        "CREW_AMQP_CERT": str(certificates.client),
        "CREW_AMQP_KEY": str(certificates.key_of(certificates.client)),
    }
    with running(tmp_path, environment) as processes:
        worker = processes.python(TASK_FOLDER / "tasks.py", "--url", bare_url).says("serving")
        call = processes.crew("call", prefix + "echo", "17", "--url", broker_url)
        assert call.ends(20) == 0, call
        assert call.output.strip() == "17"
        assert "Traceback" not in worker.output


# --- refused --------------------------------------------------------------------------------------------------------


async def why_not(url: str) -> str:
    """What a client says that cannot connect to `url`: one sentence, without the password."""
    client = Client(url)
    try:
        told = ""
        while "***@" not in told:  # not before an attempt has failed
            with pytest.raises(crew.ConnectionError, match="was not reached within") as raised:
                await client.connect(timeout=0.1)
            told = str(raised.value)
        assert "\n" not in told
        return told
    finally:
        await client.close()


@pytest.mark.gen_test
async def test_without_a_certificate_the_broker_says_that_it_wants_one(
    bare_url: str, certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    told = await why_not(f"{bare_url}?cacertfile={certificates.ca}")
    assert "client certificate" in told
    assert "certfile=" in told
    assert "Traceback" not in caplog.text


@pytest.mark.gen_test
async def test_a_ca_that_has_not_signed_it_is_unknown(bare_url: str, certificates: Certificates) -> None:
    for parameters in (f"?cacertfile={certificates.other_ca}", ""):
        told = await why_not(bare_url + parameters)
        assert "signed by an unknown CA: set cacertfile= in the URL or CREW_AMQP_CA to the file of the CA" in told


@pytest.mark.gen_test
async def test_a_certificate_for_another_host_is_refused(bare_url: str, broker_url: str, certified: str) -> None:
    told = await why_not(f"{broker_url}&server_name_indication=elsewhere.example")
    assert "is for another host" in told
    assert "server_name_indication=" in told


@pytest.mark.gen_test
async def test_an_expired_certificate_is_refused(node: Node, certificates: Certificates) -> None:
    with fronting(node.url, certificates.expired) as url:
        assert "has expired" in await why_not(f"{url}?cacertfile={certificates.ca}")


@pytest.mark.gen_test
async def test_a_port_without_tls_is_told_apart(node: Node, certificates: Certificates) -> None:
    told = await why_not(f"amqps{node.url.removeprefix('amqp')}?cacertfile={certificates.ca}")
    assert "does not speak TLS; write amqp:// instead of amqps://" in told


@pytest.mark.gen_test
async def test_a_port_with_tls_is_told_apart(bare_url: str) -> None:
    assert "speaks TLS: write amqps:// instead of amqp://" in await why_not(f"amqp{bare_url.removeprefix('amqps')}")


def test_a_worker_goes_on_trying_where_the_broker_may_be_mended(
    bare_url: str, certificates: Certificates, processes: Processes
) -> None:
    worker = worker_at(f"{bare_url}?cacertfile={certificates.other_ca}", processes)
    worker.says("signed by an unknown CA")
    assert all("retrying in" in line for line in worker.output.splitlines())
    assert worker.stop() == 0


def test_a_wrong_file_ends_a_worker_with_one_sentence(
    bare_url: str, certificates: Certificates, processes: Processes, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("no certificate")
    worker = worker_at(f"{bare_url}?cacertfile={wrong}", processes)
    assert worker.ends(20) == 78
    assert worker.output == f"crew: {wrong} does not contain a CA certificate in PEM format\n"


def worker_at(url: str, processes: Processes) -> Process:
    """A worker that may not get as far as to serve."""
    return processes.python(TASK_FOLDER / "tasks.py", "--url", url)
