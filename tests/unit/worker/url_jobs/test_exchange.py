"""Requests and responses of URL jobs, with real servers on this machine."""

import asyncio
import json
import socket
from typing import Any
from urllib.parse import quote

import pytest

from crew.protocol.encoding import codec
from crew.protocol.http_job.address import ForbiddenAddress
from crew.protocol.http_job.allowed_hosts import AllowedHosts
from crew.protocol.http_job.request import check_request
from crew.protocol.http_job.url import parse_url
from crew.worker.url_jobs import connector
from crew.worker.url_jobs.body import MAX_BODY
from crew.worker.url_jobs.errors import RequestFailed
from crew.worker.url_jobs.exchange import BodyToOtherOrigin, Exchange, Hop
from crew.worker.url_jobs.wire_limits import WireCounter, WireLimits
from tests.support.http_site import gzipped, http_site, saying
from tests.support.waiting import until

LOCAL = AllowedHosts.of(["127.0.0.1"])


async def fetch(url: str, *, exchange: Exchange | None = None, **options: Any) -> Any:
    """The response to a request, as a JSON value."""
    return await (exchange or Exchange(LOCAL)).perform(check_request(url=url, **options))


async def refused(url: str, **options: Any) -> str:
    """The error message of a request without a response."""
    with pytest.raises(RequestFailed) as failed:
        await fetch(url, **options)
    return str(failed.value)


@pytest.mark.gen_test
async def test_a_response_becomes_a_json_value() -> None:
    async with http_site() as site:
        response = await fetch(site.url("/status?code=404&reason=Not+Here&cookie=a%3D1&cookie=b%3D2"))
    assert (response["code"], response["reason"], response["body"], response["encoding"]) == (
        404,
        "Not Here",
        "",
        "text",
    )
    assert [value for name, value in response["headers"] if name == "Set-Cookie"] == ["a=1", "b=2"]
    assert response["redirects"] == 0
    assert 0 <= response["elapsed_ms"] < 5000


@pytest.mark.gen_test
async def test_a_server_gets_the_method_headers_and_body() -> None:
    async with http_site() as site:
        response = await fetch(
            site.url("/echo?q=%2F+%7E"), method="PUT", data={"a": "ü"}, headers={"X-A": "1", "user-agent": "me"}
        )
    echo = json.loads(response["body"])
    assert (echo["method"], echo["uri"], echo["body"]) == ("PUT", "/echo?q=%2F+%7E", '{"a":"ü"}')
    assert echo["headers"]["x-a"] == "1"
    assert echo["headers"]["user-agent"] == "me"
    assert echo["headers"]["content-type"] == "application/json"
    assert echo["headers"]["host"] == f"127.0.0.1:{site.port}"
    assert echo["headers"]["accept-encoding"] == "gzip, deflate"


@pytest.mark.gen_test
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_each_method_is_sent(method: str) -> None:
    async with http_site() as site:
        response = await fetch(site.url("/echo"), method=method)
    assert response["code"] == 200
    assert site.methods() == [method]
    assert bool(response["body"]) is (method != "HEAD")


@pytest.mark.gen_test
@pytest.mark.parametrize(("sent", "reason"), [(b"\xfcbel", "übel"), ("übel".encode(), "übel"), (b"", "")])
async def test_a_reason_phrase_that_is_no_utf_8_is_accepted(sent: bytes, reason: str) -> None:
    async with saying(b"HTTP/1.1 500 " + sent + b"\r\nContent-Length: 0\r\n\r\n") as site:
        response = await fetch(site.url("/"))
    assert response["reason"] == reason
    assert codec.decode(codec.encode(response)) == response


@pytest.mark.gen_test
async def test_a_header_may_be_long_and_the_error_names_one_that_is_too_long() -> None:
    async with saying(b"HTTP/1.1 200 OK\r\nA: " + b"b" * 32_000 + b"\r\nContent-Length: 0\r\n\r\n") as site:
        assert (await fetch(site.url("/")))["headers"][0] == ["A", "b" * 32_000]
    async with saying(b"HTTP/1.1 200 OK\r\nA: " + b"b" * 33_000 + b"\r\nContent-Length: 0\r\n\r\n") as site:
        assert "or one that is too long" in await refused(site.url("/"))


@pytest.mark.gen_test
async def test_compressed_text_and_bytes_are_distinguished() -> None:
    async with http_site() as site:
        text = await fetch(site.url(f"/bytes?hex={gzipped(b'text')}&encoding=gzip&type=text/plain"))
        data = await fetch(site.url("/bytes?hex=ff00"))
    assert (text["body"], text["encoding"]) == ("text", "text")
    assert (data["body"], data["encoding"]) == ("/wA=", "base64")


# --- allowed addresses -----------------------------------------------------------------------------------------------


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "[::]", "10.0.0.1"]
)
async def test_no_internal_host_is_connected_unless_it_is_allowed(host: str) -> None:
    async with http_site() as site:
        with pytest.raises(ForbiddenAddress, match="which URL jobs may not reach"):
            await fetch(site.url("/echo", host=host), exchange=Exchange(AllowedHosts()))
    assert site.seen == []


@pytest.mark.gen_test
async def test_an_allowed_name_is_connected() -> None:
    async with http_site() as site:
        response = await fetch(site.url("/echo", host="localhost"), exchange=Exchange(AllowedHosts.of(["localhost"])))
    assert response["code"] == 200


@pytest.mark.gen_test
async def test_a_connection_goes_to_the_checked_address_whatever_the_name_server_answers_later() -> None:
    """The name server's second answer is another address: DNS rebinding."""
    answers = [["127.0.0.1"], ["10.0.0.1"], ["10.0.0.1"]]

    async def rebinding(host: str, port: int) -> list[str]:
        return answers.pop(0)

    async with http_site() as site:
        exchange = Exchange(LOCAL, resolve=rebinding)
        response = await fetch(site.url("/echo", host="rebound.example"), exchange=exchange)
        assert response["code"] == 200
        assert site.seen[0].headers["Host"] == f"rebound.example:{site.port}"
        assert len(answers) == 2
        with pytest.raises(ForbiddenAddress, match=r"rebound\.example"):
            await fetch(site.url("/echo", host="rebound.example"), exchange=exchange)


@pytest.mark.gen_test
async def test_of_several_addresses_only_the_allowed_are_tried() -> None:
    tried: list[str] = []

    async def mixed(host: str, port: int) -> list[str]:
        return ["10.0.0.1", "169.254.169.254", "127.0.0.1"]

    async with http_site() as site:
        chosen = LOCAL.choose("mixed.example", site.port, await mixed("mixed.example", site.port))
        to_checked = connector.Connector(chosen, WireCounter(WireLimits()))
        tried += [one["host"] for one in await to_checked.resolve("mixed.example", site.port)]
        response = await fetch(site.url("/echo", host="mixed.example"), exchange=Exchange(LOCAL, resolve=mixed))
    assert response["code"] == 200
    assert tried == ["127.0.0.1"]


def test_no_socket_is_opened_to_an_unchecked_address() -> None:
    to_checked = connector.Connector(["127.0.0.1"], WireCounter(WireLimits()))
    with pytest.raises(ForbiddenAddress, match=r"10\.0\.0\.1 is no checked address"):
        to_checked.open_socket((socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", 80)))
    with to_checked.open_socket((socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 80))) as opened:
        assert opened.family == socket.AF_INET


@pytest.mark.gen_test
async def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with http_site() as site, saying(b"HTTP/1.1 502 Proxy\r\n\r\n") as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert (await fetch(site.url("/echo")))["code"] == 200
    assert proxy.seen == []


@pytest.mark.gen_test
@pytest.mark.parametrize("host", ["[::ffff:127.0.0.1]", "[::ffff:7f00:1]"])
async def test_an_allowed_address_is_reached_in_each_of_its_spellings(host: str) -> None:
    async with http_site() as site:
        assert (await fetch(site.url("/echo", host=host)))["code"] == 200


# --- redirects -------------------------------------------------------------------------------------------------------


def to(url: str, code: int = 302) -> str:
    """The path that redirects to `url`."""
    return f"/status?code={code}&to={quote(url, safe='')}"


@pytest.mark.gen_test
async def test_redirects_are_followed_and_counted() -> None:
    async with http_site() as site:
        response = await fetch(site.url(to(to("/echo?x=1"))))
    assert (response["code"], response["redirects"], response["url"]) == (200, 2, site.url("/echo?x=1"))


@pytest.mark.gen_test
async def test_more_than_five_redirects_are_too_many() -> None:
    async with http_site() as site:
        path = "/echo"
        for _ in range(5):
            path = to(path)
        assert (await fetch(site.url(path)))["redirects"] == 5
        assert "redirected more than 5 times" in await refused(site.url(to(path)))


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "target",
    [
        "http://127.0.0.2/",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::1]/",
        "http://10.0.0.1/",
        "//0.0.0.0/",
    ],
)
async def test_a_redirect_leads_to_no_internal_host(target: str) -> None:
    async with http_site() as site:
        with pytest.raises(ForbiddenAddress):
            await fetch(site.url(to(target)))


@pytest.mark.gen_test
@pytest.mark.parametrize("target", ["file:///etc/passwd", "http://2130706433/", "http://a\\b/", "http://%zz/"])
async def test_a_redirect_leads_to_no_invalid_url(target: str) -> None:
    async with http_site() as site:
        message = await refused(site.url(to(target)))
    assert "redirects to an invalid URL" in message
    assert "passwd" not in message


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("code", "method", "methods", "body"),
    [
        (301, "POST", ["POST", "GET"], ""),
        (302, "POST", ["POST", "GET"], ""),
        (303, "POST", ["POST", "GET"], ""),
        (303, "PUT", ["PUT", "GET"], ""),
        (303, "HEAD", ["HEAD", "HEAD"], None),
        (302, "PUT", ["PUT", "PUT"], "data"),
        (307, "POST", ["POST", "POST"], "data"),
        (308, "POST", ["POST", "POST"], "data"),
    ],
)
async def test_a_redirect_keeps_method_and_body_as_rfc_9110_requires(
    code: int, method: str, methods: list[str], body: str | None
) -> None:
    async with http_site() as site:
        await fetch(site.url(to("/echo", code)), method=method, data=None if body is None else "data")
    assert site.methods() == methods
    assert site.seen[-1].body.decode() == (body or "")
    assert ("Content-Type" in site.seen[-1].headers) is bool(body)


@pytest.mark.gen_test
@pytest.mark.parametrize("code", [200, 300, 304, 302])
async def test_a_response_that_is_no_redirect_is_the_result(code: int) -> None:
    async with http_site() as site:
        path = "/status?code=302" if code == 302 else to("/echo", code)
        assert (await fetch(site.url(path)))["code"] == code
    assert len(site.seen) == 1


@pytest.mark.gen_test
async def test_headers_for_one_origin_are_not_sent_to_another() -> None:
    async with http_site() as site, http_site() as other:
        headers = {"Cookie": "s3cret", "X-Api-Key": "s3cret", "Accept": "text/x"}
        await fetch(site.url(to("/echo"), login="me:s3cret@"), headers=headers)
        await fetch(site.url(to(other.url("/echo")), login="me:s3cret@"), headers=headers)
        secret = dict.fromkeys(("Authorization", "X-Auth-Token", "Signature", "Referer", "Origin"), "s3cret")
        await fetch(site.url(to(other.url("/echo"))), headers={**secret, "Accept": "text/x"})
    for one in site.seen[:2]:
        assert one.headers["Authorization"] == "Basic bWU6czNjcmV0"
        assert one.headers["Cookie"] == one.headers["X-Api-Key"] == "s3cret"
    assert len(other.seen) == 2
    for one in other.seen:
        assert "s3cret" not in str(dict(one.headers))
        assert one.headers["Accept"] == "text/x"


@pytest.mark.gen_test
@pytest.mark.parametrize(("code", "method"), [(307, "POST"), (308, "POST"), (307, "PATCH"), (302, "PUT")])
async def test_a_redirect_of_the_body_to_another_origin_is_not_followed(code: int, method: str) -> None:
    async with http_site() as site, http_site() as other:
        message = await refused(site.url(to(other.url("/echo?t0ken"), code)), method=method, data="s3cret")
    origin = other.url("")
    assert (
        f"its response ({code}) redirects the body of the request to another origin, {origin}, and crew sends bodies"
        in message
    )
    assert "s3cret" not in message
    assert other.seen == []


@pytest.mark.gen_test
async def test_a_redirect_without_a_body_is_followed_to_another_origin_with_its_method() -> None:
    async with http_site() as site, http_site() as other:
        assert (await fetch(site.url(to(other.url("/echo"), 307)), method="DELETE"))["code"] == 200
        assert (await fetch(site.url(to(other.url("/echo"), 303)), method="POST", data="s3cret"))["code"] == 200
    assert other.methods() == ["DELETE", "GET"]
    assert other.seen[1].body == b""


@pytest.mark.parametrize(
    ("before", "after", "keeps"),
    [
        ("http://a.example/", "https://a.example/", True),
        ("https://a.example/", "http://a.example/", False),
        ("http://a.example/", "https://b.example/", False),
        ("http://a.example:8080/", "https://a.example/", False),
        ("http://a.example/", "https://a.example:8443/", False),
        ("https://a.example/", "https://a.example:443/x", True),
    ],
)
def test_the_upgrade_of_a_host_to_https_keeps_body_and_headers(before: str, after: str, keeps: bool) -> None:
    hop = Hop(method="POST", url=parse_url(before), headers={"x-api-key": "1"}, body=b"1")
    if keeps:
        following = hop.redirected(308, after)
        assert (following.headers, following.body) == (hop.headers, hop.body)
    else:
        with pytest.raises(BodyToOtherOrigin):
            hop.redirected(308, after)


@pytest.mark.gen_test
async def test_a_cookie_of_one_response_is_not_sent_with_the_next_request() -> None:
    async with http_site() as site:
        exchange = Exchange(LOCAL)
        await fetch(site.url("/status?code=302&to=/echo&cookie=a%3D1"), exchange=exchange)
        await fetch(site.url("/echo"), exchange=exchange)
    assert not any("Cookie" in one.headers for one in site.seen)


def test_a_login_in_a_redirect_is_not_used() -> None:
    hop = Hop(method="GET", url=parse_url("http://a.example/"), headers={}, body=None)
    assert hop.redirected(302, "http://me:s3cret@b.example/").headers == {}


# --- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_body_without_an_end_costs_no_more_than_the_limit() -> None:
    async with http_site() as site:
        message = await refused(site.url("/endless?t0ken"))
        assert (
            message == f"GET {site.url('/endless')}?*** failed: the body of the response has more than {MAX_BODY} bytes"
        )
        await until(lambda: site.left)


@pytest.mark.gen_test
async def test_a_decompression_bomb_costs_no_more_than_the_limit() -> None:
    async with http_site() as site:
        assert f"has more than {MAX_BODY} bytes" in await refused(site.url("/bomb"))


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("sent", "sentence"),
    [
        ([b""], "its host closed the connection without a response"),
        ([b"HTTP/1.1 200"], "its host closed the connection without a response"),
        ([b"SSH-2.0-OpenSSH_9.2\r\n"], "the response of its host is not HTTP"),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort"], "the body of the response is incomplete"),
        ([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"], "the body of the response is incomplete"),
        ([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"], "is not HTTP"),
        ([b"HTTP/1.1 200 OK\r\n", *([b"A: " + b"b" * 1000 + b"\r\n"] * 10_000)], "is not HTTP"),
        ([b"HTTP/1.1 200 OK\r\nA: " + b"b" * 1_000_000], "is not HTTP"),
        (
            [b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\nplain"],
            "the body of the response cannot be decompressed",
        ),
    ],
)
async def test_an_invalid_response_is_an_error_of_one_sentence(sent: list[bytes], sentence: str) -> None:
    async with saying(*sent) as site:
        message = await refused(site.url("/x?t0ken", login="me:s3cret@"))
    assert message.startswith(f"GET {site.url('/x')}?*** failed: ")
    assert sentence in message
    assert "\n" not in message


@pytest.mark.gen_test
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_request_is_sent_once_also_if_its_connection_is_lost(method: str) -> None:
    async with saying() as site:
        await refused(site.url("/x"), method=method)
    assert site.methods() == [method]


@pytest.mark.gen_test
async def test_an_unreachable_host_is_an_error_of_one_sentence() -> None:
    async with saying() as site:
        pass
    assert (
        await refused(site.url("/x")) == f"GET {site.url('/x')} failed: cannot connect to its host: Connection refused"
    )


@pytest.mark.gen_test
async def test_an_unknown_host_is_an_error_of_one_sentence() -> None:
    async def unknown(host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    message = await refused("http://me:s3cret@nobody.example/", exchange=Exchange(LOCAL, resolve=unknown))
    assert message == "GET http://nobody.example/ failed: its host name is unknown (DNS)"


@pytest.mark.gen_test
async def test_a_server_without_tls_is_an_error_of_one_sentence() -> None:
    async with saying(b"HTTP/1.1 400 Bad Request\r\n\r\n") as site:
        message = await refused(site.url("/x").replace("http:", "https:"))
    assert message.endswith("failed: the TLS handshake with its host failed")


# --- closing ---------------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_canceled_request_closes_its_connection_at_once() -> None:
    async with http_site() as site:
        task = asyncio.create_task(fetch(site.url("/slow")))
        await until(lambda: site.seen)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: site.left, timeout=0.5)


@pytest.mark.gen_test
async def test_a_server_that_does_not_read_holds_no_connection_open() -> None:
    """A closed transport keeps sending its buffered data for as long as the server does not read."""
    async with saying(ends=False) as site:
        task = asyncio.create_task(fetch(site.url("/x"), data="x" * 30_000_000))
        await until(lambda: site.seen)
        task.cancel()
        await asyncio.wait({task}, timeout=1)
        assert task.cancelled()  # closing the session waits for the connection
