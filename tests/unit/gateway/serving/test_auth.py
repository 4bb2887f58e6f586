"""Access control: tokens, addresses, origins and host names."""

import gc
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tornado.httpclient import AsyncHTTPClient, HTTPResponse
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import RequestHandler
from tornado.web import _has_stream_request_body as has_stream_request_body

from crew.errors import SettingsError
from crew.gateway.serving.auth import (
    CROSS_SITE,
    OTHER_ORIGIN,
    GuardedApplication,
    RefusalHandler,
    check_access,
    is_loopback,
    submitter_of,
)
from tests.support.sender import MUCH, Sender
from tests.support.waiting import until

TOKEN = "0123456789abcdef"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "[::1]", "localhost"])
def test_a_loopback_address_needs_no_token(host: str) -> None:
    check_access(host, None)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "10.0.0.1", "gateway.example", "localhost.example"])
def test_any_other_address_needs_a_token(host: str) -> None:
    with pytest.raises(SettingsError, match="lets other machines call every task"):
        check_access(host, None)

    check_access(host, TOKEN)


@pytest.mark.parametrize("token", ["short", TOKEN + " ", TOKEN + "\n", TOKEN + "ü"])
def test_an_invalid_token_is_refused_and_not_shown(token: str) -> None:
    with pytest.raises(SettingsError, match="CREW_GATEWAY_TOKEN must have 16") as refused:
        check_access("127.0.0.1", token)

    assert token not in str(refused.value)


# --- refusals before routing ------------------------------------------------------------------------------------------


@asynccontextmanager
async def guarded(routes: Sequence[Any] = (), **settings: Any) -> AsyncIterator[int]:
    """Serve these routes; yield the port."""
    server = HTTPServer(GuardedApplication(list(routes), log_function=lambda _: None, **settings))
    (socket, *_) = sockets = bind_sockets(0, "127.0.0.1")
    server.add_sockets(sockets)
    try:
        yield socket.getsockname()[1]
    finally:
        server.stop()
        await server.close_all_connections()


async def request(port: int, line: str, headers: dict[str, str] | None = None) -> HTTPResponse:
    """Make a request, like "GET /path"; return the response."""
    method, path = line.split(" ")
    client = AsyncHTTPClient(force_instance=True)
    try:
        return await client.fetch(
            f"http://127.0.0.1:{port}{path}",
            method=method,
            headers=headers,
            raise_error=False,
            allow_nonstandard_methods=True,
        )
    finally:
        client.close()


@pytest.mark.gen_test
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "BREW"])
async def test_any_method_is_answered_with_401_without_a_token_and_404_for_an_unknown_path(method: str) -> None:
    async with guarded(token=TOKEN) as port:
        refused = await request(port, f"{method} /jobs/")
    assert (refused.code, refused.headers.get("Allow")) == (401, None)
    assert json.loads(refused.body)["status"] == 401
    async with guarded(default_handler_args={"hint": ": look elsewhere"}) as port:
        lost = await request(port, f"{method} /nowhere?x")
    assert (lost.code, lost.headers.get("Allow")) == (404, None)
    assert json.loads(lost.body)["detail"] == "nothing is served at '/nowhere': look elsewhere"


@pytest.mark.gen_test
async def test_refused_requests_leave_nothing_in_memory() -> None:
    async with guarded() as port, guarded(token=TOKEN) as locked:
        for _ in range(3):
            assert (await request(port, "GET /nowhere")).code == 404
            assert (await request(locked, "GET /nowhere")).code == 401
        await until(lambda: gc.collect() >= 0 and not any(type(one) is RefusalHandler for one in gc.get_objects()))


@pytest.mark.gen_test
async def test_a_refused_client_that_sends_a_large_body_gets_its_response_and_keeps_its_connection() -> None:
    """If the connection were closed before the whole body is sent, the client would see only that."""
    async with guarded(token=TOKEN) as port:
        sender = await Sender.of(port)
        for _ in range(2):
            assert (await sender.post(MUCH)).split()[1] == b"401"
        await sender.disconnect()


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Origin": "http://127.0.0.1:PORT"}, 404),
        ({"Origin": "http://localhost:PORT", "Host": "localhost:PORT"}, 404),
        ({"Origin": "http://localhost", "Host": "localhost"}, 404),
        ({"Origin": "https://localhost", "Host": "LOCALHOST:443"}, 404),
        ({"Origin": "http://[::1]:PORT", "Host": "[::1]:PORT"}, 404),
        ({"Sec-Fetch-Site": "same-origin"}, 404),
        ({"Sec-Fetch-Site": "none"}, 404),
        ({"Origin": "http://localhost:3000"}, 403),
        ({"Origin": "http://127.0.0.1:3000"}, 403),
        ({"Origin": "http://localhost:PORT"}, 403),
        ({"Origin": "http://127.0.0.1"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({"Origin": "file://"}, 403),
        ({"Origin": "http://127.0.0.1:PORT", "Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "new-word"}, 403),
        ({"Sec-WebSocket-Origin": "http://localhost:3000", "Upgrade": "websocket", "Connection": "Upgrade"}, 403),
        ({"Origin": "http://localhost:3000", "Upgrade": "websocket", "Connection": "Upgrade"}, 403),
    ],
)
async def test_without_a_token_only_pages_of_this_gateway_may_make_requests(headers: dict[str, str], code: int) -> None:
    async with guarded() as port:
        given = {name: value.replace("PORT", str(port)) for name, value in headers.items()}
        response = await request(port, "GET /nowhere", given)
    assert response.code == code
    assert code == 404 or json.loads(response.body)["type"] == "urn:crew:problem:cross-site"


@pytest.mark.gen_test
async def test_a_page_of_another_port_with_the_token_may_make_requests() -> None:
    async with guarded(token=TOKEN) as port:
        page = {"Origin": "http://localhost:3000", "Sec-Fetch-Site": "same-site"}
        assert (await request(port, "GET /nowhere", page)).code == 401
        assert (await request(port, "GET /nowhere", {**page, "Authorization": f"Bearer {TOKEN}"})).code == 404


@pytest.mark.gen_test
async def test_each_token_is_accepted_and_identified_by_its_name() -> None:
    seen: list[str | None] = []

    class Submitter(RequestHandler):
        def get(self) -> None:
            seen.append(submitter_of(self.request))

    routes = [("/name", Submitter)]
    async with guarded(routes, token=TOKEN, tokens={"a": "a" * 16, "b": "b" * 16}) as port:
        for given in (TOKEN, "a" * 16, "b" * 16):
            assert (await request(port, "GET /name", {"Authorization": f"Bearer {given}"})).code == 200
        for given in ("c" * 16, "", "a", "a" * 16 + "b" * 16, "a=" + "a" * 16):
            assert (await request(port, "GET /name", {"Authorization": f"Bearer {given}"})).code == 401
        assert (await request(port, "GET /name", {"Authorization": "Basic " + "a" * 16})).code == 401
    async with guarded(routes) as port:
        assert (await request(port, "GET /name")).code == 200
    assert seen == ["CREW_GATEWAY_TOKEN", "a", "b", None]


def test_named_tokens_are_checked_too_and_not_shown() -> None:
    check_access("0.0.0.0", None, {"a": TOKEN})
    with pytest.raises(SettingsError, match="token 'a' of CREW_GATEWAY_TOKENS must have 16") as refused:
        check_access("127.0.0.1", None, {"a": "hush"})
    assert "hush" not in str(refused.value)


@pytest.mark.gen_test
async def test_a_refusal_is_not_cached_not_sniffed_and_names_no_version() -> None:
    async with guarded() as port:
        headers = (await request(port, "GET /nowhere")).headers
    assert (headers["Cache-Control"], headers["X-Content-Type-Options"]) == ("no-store", "nosniff")
    assert "Server" not in headers


def test_the_body_of_a_refused_request_is_discarded() -> None:
    assert has_stream_request_body(RefusalHandler)


async def refused(port: int, headers: dict[str, str] | None = None, path: str = "/nowhere") -> tuple[int, str, str]:
    """Make a request; return the code, the type of the problem without its prefix, and the detail."""
    response = await request(port, f"GET {path}", headers)
    problem = json.loads(response.body)
    return response.code, problem["type"].removeprefix("urn:crew:problem:"), problem["detail"]


@pytest.mark.gen_test
@pytest.mark.parametrize("site", ["cross-site", "Cross-Site"])
async def test_a_page_of_another_site_is_refused_even_with_the_token(site: str) -> None:
    page = {"Sec-Fetch-Site": site, "Authorization": f"Bearer {TOKEN}"}
    async with guarded(token=TOKEN) as port:
        assert await refused(port, page) == (403, "cross-site", CROSS_SITE)


@pytest.mark.gen_test
async def test_the_refusal_of_a_page_of_another_port_says_that_a_token_helps() -> None:
    async with guarded() as port:
        assert await refused(port, {"Origin": "http://localhost:3000"}) == (403, "cross-site", OTHER_ORIGIN)


@pytest.mark.gen_test
async def test_the_refusal_of_a_missing_token_says_how_to_send_it() -> None:
    async with guarded(token=TOKEN) as port:
        detail = "the token is missing or wrong: send Authorization: Bearer <token>"
        assert await refused(port) == (401, "no-token", detail)
        headers = (await request(port, "GET /nowhere")).headers
        assert headers["WWW-Authenticate"] == 'Bearer realm="crew"'
        known = await request(port, "GET /nowhere", {"Authorization": f"bearer  {TOKEN} "})
        assert (known.code, "WWW-Authenticate" in known.headers) == (404, False)


@pytest.mark.gen_test
@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_a_load_balancer_needs_no_token_and_no_host_name(path: str) -> None:
    for settings in ({"token": TOKEN}, {}):
        async with guarded(**settings) as port:
            assert (await refused(port, {"Host": "gateway.example"}, path))[:2] == (404, "unknown-path")


@pytest.mark.gen_test
async def test_an_unknown_host_name_is_refused_without_a_token() -> None:
    async with guarded() as port:
        code, kind, detail = await refused(port, {"Host": "x" * 90})
    assert (code, kind) == (421, "unknown-host")
    assert detail == (
        f"Host {'x' * 80!r} is not allowed without a token: use 127.0.0.1, [::1] or localhost, or set "
        "CREW_GATEWAY_TOKEN for this gateway"
    )


@pytest.mark.gen_test
async def test_an_unknown_path_is_named_up_to_200_characters() -> None:
    async with guarded() as port:
        path = "/" + "p" * 300
        assert await refused(port, path=path) == (404, "unknown-path", f"nothing is served at {path[:200]!r}")


@pytest.mark.parametrize(
    ("settings", "has_token"),
    [({}, False), ({"token": TOKEN}, True), ({"tokens": {"a": TOKEN}}, True), ({"tokens": {}}, False)],
)
def test_a_gateway_has_a_token_if_one_is_set(settings: dict[str, Any], has_token: bool) -> None:
    assert GuardedApplication([], **settings).has_token is has_token


def test_one_named_token_is_enough_for_another_address_and_each_must_be_long() -> None:
    check_access("0.0.0.0", None, {"a": TOKEN, "b": TOKEN})
    with pytest.raises(SettingsError, match="lets other machines call every task, and there is no token"):
        check_access("0.0.0.0", None, {})
    for weak in (TOKEN[1:], "0123456 89abcdef0", "0123456789abcde\t", "0123456789abcdeü"):
        with pytest.raises(SettingsError, match="ASCII characters and no spaces"):
            check_access("127.0.0.1", weak)
        with pytest.raises(SettingsError, match="token 'b' of CREW_GATEWAY_TOKENS"):
            check_access("127.0.0.1", TOKEN, {"a": TOKEN, "b": weak})


@pytest.mark.parametrize("host", ["LOCALHOST", "[127.0.0.1]", "127.255.255.255"])
def test_only_this_machine_can_reach_a_loopback_host(host: str) -> None:
    assert is_loopback(host)
    assert not is_loopback(f"{host}.example")
    assert not is_loopback(f"X{host}")
