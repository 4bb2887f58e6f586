"""Broker URLs: their parts and parameters, and that no message contains a password."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crew import SettingsError
from crew.broker_url import BrokerUrl, parse, redacted, split
from crew.settings import environment_for_child, load

FILES = {"cacertfile": "/ca.pem", "certfile": "/cert.pem", "keyfile": "/key.pem"}


@given(st.text(min_size=1), st.text(min_size=1), st.text(min_size=1))
def test_any_password_user_name_and_vhost_survive_a_url(username: str, password: str, vhost: str) -> None:
    written = parse("amqp://host/", parts={"username": username, "password": password, "vhost": vhost})

    again = parse(str(written))

    assert (again.username, again.password, again.vhost) == (username, password, vhost)


def test_several_urls_have_commas_between_them_and_one_may_have_a_comma_inside() -> None:
    assert split("amqp://a/, amqps://me:pa,ss@b/") == ["amqp://a/", "amqps://me:pa,ss@b/"]
    assert parse("amqps://me:pa,ss@b/").password == "pa,ss"


def test_parameters_of_a_url_reach_child_processes_with_flags_applied() -> None:
    url = "amqps://host/?cacertfile=/a%26b/ca.pem&verify=verify_peer&server_name_indication=x.example&heartbeat=7"

    settings = load(url, username="me", password="p&?w", environ={})
    (child,) = load(environ=environment_for_child(settings)).urls

    assert parse(child) == parse(settings.urls[0])
    assert parse(child).parameters == {
        "cacertfile": "/a&b/ca.pem",
        "verify": "verify_peer",
        "server_name_indication": "x.example",
        "heartbeat": "7",
    }


def test_the_environment_names_the_files_of_tls_urls_that_name_none() -> None:
    environ = {"CREW_AMQP_CA": "/ca.pem", "CREW_AMQP_CERT": "/cert.pem", "CREW_AMQP_KEY": "/key.pem"}

    urls = [parse(url) for url in load("amqps://a/,amqps://b/?certfile=/own.pem,amqp://c/", environ=environ).urls]

    assert [url.parameters for url in urls] == [FILES, {"cacertfile": "/ca.pem", "certfile": "/own.pem"}, {}]


def test_a_relative_file_in_a_url_becomes_an_absolute_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("here")
    monkeypatch.chdir(folder)
    assert parse("amqps://host/?cacertfile=ca.pem").parameters["cacertfile"] == str(folder / "ca.pem")


def test_the_heartbeat_of_a_url_comes_before_that_of_the_environment() -> None:
    environ = {"CREW_HEARTBEAT": "3"}

    assert load("amqp://a/?heartbeat=20,amqp://b/?heartbeat=5", environ=environ).heartbeat == 5
    assert load("amqp://a/", environ=environ).heartbeat == 3


def test_a_url_may_name_a_unix_socket_instead_of_a_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    broker = parse("amqp://broker.example/?socket=run/amqp")
    assert broker.socket == str(tmp_path / "run" / "amqp")
    assert broker.is_loopback
    assert parse(str(broker)) == broker
    assert parse("amqp://broker.example/").socket is None


def test_a_unix_socket_has_no_tls() -> None:
    with pytest.raises(SettingsError, match="socket is for a connection without TLS"):
        parse("amqps://broker.example/?socket=/run/amqp")


def test_a_connection_timeout_is_in_milliseconds_as_rabbitmq_has_it() -> None:
    assert parse("amqp://a/?connection_timeout=1500").connection_timeout == 1.5
    assert parse("amqp://a/").connection_timeout is None


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (
            "amqps://host/?ssl_options={'ca_certs':'x'}",
            "unknown parameter 'ssl_options' in a broker's URL: use only heartbeat,",
        ),
        ("amqps://host/?password=secret", "unknown parameter 'password' in a broker's URL"),
        ("amqps://host/?keyfile", "keyfile in a broker's URL is empty"),
        ("amqps://host/?keyfile=a&keyfile=b", "has the parameter keyfile twice"),
        ("amqps://host/?verify=maybe", "verify in a broker's URL must be verify_peer or verify_none, not 'maybe'"),
        ("amqp://host/?cacertfile=/ca.pem", "cacertfile needs TLS, but .* has none: write amqps://"),
        ("amqp://host/?heartbeat=0", "heartbeat .* a number of seconds from 1 to 600, not '0'"),
        ("amqp://host/?connection_timeout=1.5", "connection_timeout .* a number of milliseconds"),
    ],
)
def test_an_error_about_a_parameter_names_the_valid_ones(url: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message) as raised:
        parse(url)
    assert "secret" not in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "odd", ["@", "/", ":", "#", "?", "%", ",", "[", "&", "\N{FULLWIDTH COMMERCIAL AT}", " ", "\n", "//"]
)
@pytest.mark.parametrize("scheme", ["amqp://", "amqps://", "http://", ""])
def test_no_message_contains_an_unquoted_password(scheme: str, odd: str) -> None:
    url = f"{scheme}me:5ecre7{odd}wor1d@host:5672/?cacertfile=x"
    try:
        shown = repr(load(url, environ={}))
    except SettingsError as error:
        shown = f"{error} {error.__cause__} {error.__context__ if not error.__suppress_context__ else ''}"
    for part in ("5ecre7", "wor1d"):
        assert part not in shown + redacted((url,))


def test_no_message_about_an_incomplete_url_contains_the_password() -> None:
    with pytest.raises(SettingsError, match="port is not a number") as raised:
        parse("amqp://me:5ecre7")
    assert "5ecre7" not in str(raised.value)


def test_a_url_shows_neither_its_password_nor_its_parameters() -> None:
    url = BrokerUrl(
        scheme="amqps", host="h", port=1, username="me", password="5ecre7", vhost="v", parameters={"keyfile": "/k.pem"}
    )
    assert repr(url) == "BrokerUrl(amqps://me:***@h:1/v)"
