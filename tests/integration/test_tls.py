"""TLS with a real broker that requires client certificates and has a certificate of the tests' own CA."""

import asyncio
import os
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

import crew
from crew import Client
from crew.amqp.connection import tls
from crew.cli.broker.node import Node
from crew.settings import Tuning
from tests.support.certificates import Certificates
from tests.support.paths import TASK_FOLDER
from tests.support.processes import Process, Processes, running
from tests.support.proxy import Proxy
from tests.support.tls_front import fronting

MiB = 1024 * 1024


@pytest.fixture(scope="module")
def certified(certificates: Certificates) -> str:
    """URL parameters with the certificates that the broker accepts."""
    key = certificates.key_of(certificates.client)
    return f"cacertfile={certificates.ca}&certfile={certificates.client}&keyfile={key}"


@pytest.fixture(scope="module")
def bare_url(node: Node, tls_port: int) -> str:
    """URL of the broker's TLS port, without certificates."""
    login = node.url.removeprefix("amqp://").rpartition("@")[0]
    return f"amqps://{login}@localhost:{tls_port}/"


@pytest.fixture(scope="module")
def broker_url(bare_url: str, certified: str) -> str:
    """URL with TLS; replaces the one without TLS also for the worker of this module."""
    return f"{bare_url}?{certified}"


@pytest.mark.gen_test
@pytest.mark.usefixtures("shared_worker")
async def test_calls_go_over_tls(broker_url: str, prefix: str) -> None:
    async with Client(broker_url) as client:
        assert await client.call(prefix + "echo", {"width": 640}) == {"width": 640}


@pytest.mark.gen_test(timeout=60)
@pytest.mark.usefixtures("shared_worker")
@pytest.mark.parametrize("size", [16 * 1024, MiB, 15 * MiB])
async def test_a_large_body_is_sent_and_received_beside_many_small_ones(
    broker_url: str, prefix: str, size: int
) -> None:
    """The largest exceeds the socket buffers: OpenSSL requires that a partial write is repeated with the same bytes."""
    body = os.urandom(size)
    async with Client(broker_url) as client:
        small = [client.call(prefix + "echo", number) for number in range(300)]
        large = [client.call(prefix + "echo", body) for _ in range(2)]
        assert await asyncio.gather(*small) == list(range(300))
        assert await asyncio.gather(*large) == [body, body]


@pytest.mark.gen_test(timeout=60)
@pytest.mark.usefixtures("shared_worker")
async def test_decrypted_bytes_are_processed_without_waiting_for_the_network(broker_url: str, prefix: str) -> None:
    """Polling the socket does not report them. Each read of 100 bytes leaves most of a TLS record in OpenSSL."""
    async with Client(broker_url, tuning=Tuning(read_bytes=100)) as client:
        calls = [client.call(prefix + "echo", "x" * 1000) for _ in range(100)]
        assert await asyncio.gather(*calls) == ["x" * 1000] * 100


@pytest.mark.gen_test(timeout=60)
@pytest.mark.usefixtures("shared_worker")
async def test_a_client_reconnects_over_tls(
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
async def test_certificate_files_can_be_set_in_the_environment(
    broker_url: str, bare_url: str, prefix: str, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREW_AMQP_CA", str(certificates.ca))
    monkeypatch.setenv("CREW_AMQP_CERT", str(certificates.client))
    monkeypatch.setenv("CREW_AMQP_KEY", str(certificates.key_of(certificates.client)))
    async with Client(bare_url) as client:
        assert await client.call(prefix + "echo", "from the environment") == "from the environment"


@pytest.mark.gen_test
@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_ca_suffices_if_the_broker_requires_no_client_certificate(
    node: Node, certificates: Certificates, newest: ssl.TLSVersion
) -> None:
    with fronting(node.url, certificates.server, newest=newest) as url:
        async with Client(f"{url}?cacertfile={certificates.ca}") as client:
            with pytest.raises(crew.UnknownTask):
                await client.call("unserved over TLS")


@pytest.mark.gen_test
async def test_verify_none_accepts_any_certificate_and_logs_one_warning(
    node: Node, certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    tls._warn_once.cache_clear()  # it warns once per process: an earlier test may have warned
    with fronting(node.url, certificates.elsewhere) as url:
        for _ in range(2):
            async with Client(f"{url}?verify=verify_none") as client:
                assert client.is_ready
    assert caplog.text.count("is not verified (verify=verify_none)") == 1


def test_worker_and_shell_use_certificates_from_url_and_environment(
    broker_url: str, bare_url: str, prefix: str, certified: str, certificates: Certificates, tmp_path: Path
) -> None:
    environment = {
        "CREW_TEST_PREFIX": prefix,
        "CREW_AMQP_CA": str(certificates.ca),
        "CREW_AMQP_CERT": str(certificates.client),
        "CREW_AMQP_KEY": str(certificates.key_of(certificates.client)),
    }
    with running(tmp_path, environment, preloaded=True) as processes:
        worker = processes.python(TASK_FOLDER / "tasks.py", "--url", bare_url).says("serving")
        call = processes.crew("call", prefix + "echo", "17", "--url", broker_url)
        assert call.ends(20) == 0, call
        assert call.output.strip() == "17"
        assert "Traceback" not in worker.output


# --- errors ---------------------------------------------------------------------------------------------------------


async def connection_error(url: str) -> str:
    """The error of a client that cannot connect to `url`: one line, without the password."""
    client = Client(url)
    try:
        message = ""
        while "***@" not in message:  # the address is in the error after the first failed attempt
            with pytest.raises(crew.ConnectionError, match="was not reached within") as raised:
                await client.connect(timeout=0.1)
            message = str(raised.value)
        assert "\n" not in message
        return message
    finally:
        await client.close()


@pytest.mark.gen_test
async def test_a_missing_client_certificate_is_named_in_the_error(
    bare_url: str, certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    message = await connection_error(f"{bare_url}?cacertfile={certificates.ca}")
    assert "client certificate" in message
    assert "certfile=" in message
    assert "Traceback" not in caplog.text


@pytest.mark.gen_test
async def test_a_certificate_of_an_unknown_ca_is_refused(bare_url: str, certificates: Certificates) -> None:
    for parameters in (f"?cacertfile={certificates.other_ca}", ""):
        message = await connection_error(bare_url + parameters)
        assert "signed by an unknown CA: set cacertfile= in the URL or CREW_AMQP_CA to the file of the CA" in message


@pytest.mark.gen_test
async def test_a_certificate_for_another_host_is_refused(bare_url: str, broker_url: str, certified: str) -> None:
    message = await connection_error(f"{broker_url}&server_name_indication=elsewhere.example")
    assert "is for another host" in message
    assert "server_name_indication=" in message


@pytest.mark.gen_test
async def test_an_expired_certificate_is_refused(node: Node, certificates: Certificates) -> None:
    with fronting(node.url, certificates.expired) as url:
        assert "has expired" in await connection_error(f"{url}?cacertfile={certificates.ca}")


@pytest.mark.gen_test
async def test_the_error_at_a_port_without_tls_suggests_amqp(node: Node, certificates: Certificates) -> None:
    message = await connection_error(f"amqps{node.url.removeprefix('amqp')}?cacertfile={certificates.ca}")
    assert "does not speak TLS; write amqp:// instead of amqps://" in message


@pytest.mark.gen_test
async def test_the_error_at_a_port_with_tls_suggests_amqps(bare_url: str) -> None:
    message = await connection_error(f"amqp{bare_url.removeprefix('amqps')}")
    assert "speaks TLS: write amqps:// instead of amqp://" in message


def test_a_worker_keeps_retrying_while_it_does_not_trust_the_broker_certificate(
    bare_url: str, certificates: Certificates, processes: Processes
) -> None:
    worker = start_worker_at(f"{bare_url}?cacertfile={certificates.other_ca}", processes)
    worker.says("signed by an unknown CA")
    assert all("retrying in" in line for line in worker.output.splitlines())
    assert worker.stop() == 0


def test_a_worker_with_an_invalid_certificate_file_exits_with_one_line(
    bare_url: str, certificates: Certificates, processes: Processes, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("no certificate")
    worker = start_worker_at(f"{bare_url}?cacertfile={wrong}", processes)
    assert worker.ends(20) == 78
    assert worker.output == f"crew: {wrong} does not contain a CA certificate in PEM format\n"


def start_worker_at(url: str, processes: Processes) -> Process:
    """Start a worker with this URL; it may not be able to connect."""
    return processes.python(TASK_FOLDER / "tasks.py", "--url", url)
