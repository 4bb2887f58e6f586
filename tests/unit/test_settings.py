"""The broker's address from flags, else the environment, else the private node, else the default."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from crew import SettingsError
from crew.settings import (
    DEFAULT_URL,
    Settings,
    allow_hosts,
    database_url,
    deny_hosts,
    environment_for_child,
    gateway_token,
    gateway_tokens,
    http_min_rate,
    load,
    rabbitmq_folder,
    redacted,
    signing_key_in,
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, without a private node unless a test creates one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def private_node(folder: Path, url: str) -> None:
    (folder / ".crew" / "broker").mkdir(parents=True)
    (folder / ".crew" / "broker" / "url").write_text(url + "\n")


@pytest.mark.parametrize(
    ("url", "compression", "compresses"),
    [
        ("amqp://127.0.0.1/", None, False),
        ("amqp://localhost/,amqp://[::1]/", None, False),
        ("amqp://127.0.0.1.example.com/", None, True),
        ("amqp://broker/", None, True),
        ("amqp://127.0.0.1/,amqp://broker/", None, True),
        ("amqp://127.0.0.1/", "always", True),
        ("amqp://broker/", "never", False),
    ],
)
def test_large_bodies_are_compressed_unless_the_broker_runs_on_this_machine(
    url: str, compression: str | None, compresses: bool
) -> None:
    environ = {} if compression is None else {"CREW_COMPRESSION": compression}
    assert load(url, environ=environ).compresses is compresses


def test_without_isal_large_bodies_are_compressed_only_where_that_is_set() -> None:
    look = "load('amqp://broker/', environ={}).compresses, load('amqp://broker/', environ=ALWAYS).compresses"
    code = f"ALWAYS = {{'CREW_COMPRESSION': 'always'}}; from crew.settings import load; print({look})"
    command = [sys.executable, "-c", f"import sys; sys.modules['isal'] = None; {code}"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "False True\n"


def test_a_flag_comes_before_the_environment() -> None:
    assert load("amqp://flag/", environ={"CREW_AMQP_URL": "amqp://environment/"}).urls[0].endswith("@flag:5672/%2F")


def test_the_environment_comes_before_the_private_node(folder: Path) -> None:
    private_node(folder, "amqp://private/")

    assert load(environ={"CREW_AMQP_URL": "amqp://environment/"}).urls[0].endswith("@environment:5672/%2F")


def test_the_private_node_of_this_folder_comes_before_the_default(folder: Path) -> None:
    private_node(folder, "amqp://crew:secret@127.0.0.1:21000/")

    assert load(environ={}).urls == ("amqp://crew:secret@127.0.0.1:21000/%2F",)


def test_a_private_node_that_never_started_leaves_the_default(folder: Path) -> None:
    private_node(folder, "")

    assert load(environ={}).urls == load(DEFAULT_URL).urls


def test_the_default_is_rabbitmqs_own() -> None:
    assert load(environ={}).urls == ("amqp://guest:guest@127.0.0.1:5672/%2F",)


def test_every_host_of_a_cluster_has_its_url() -> None:
    urls = load("amqp://a/, amqp://b:5673/", environ={}).urls

    assert urls == ("amqp://guest:guest@a:5672/%2F", "amqp://guest:guest@b:5673/%2F")


def test_a_flag_for_a_part_replaces_it_in_every_url() -> None:
    settings = load("amqp://a/,amqp://b/", host="c", port=1, username="u", password="p", vhost="v", environ={})

    assert settings.urls == ("amqp://u:p@c:1/v",) * 2


def test_special_characters_are_quoted_in_a_url() -> None:
    assert load(username="a@b", password="p/w:d", vhost="/x y", environ={}).urls == (
        "amqp://a%40b:p%2Fw%3Ad@127.0.0.1:5672/%2Fx%20y",
    )


def test_quoted_characters_are_not_quoted_again() -> None:
    url = "amqp://a%40b:p%2Fw@host:5672/%2Fv"

    assert load(url, environ={}).urls == (url,)


def test_the_password_can_come_from_the_environment() -> None:
    environ = {"CREW_AMQP_PASSWORD": "hidden"}

    assert load("amqp://me@host/", environ=environ).urls == ("amqp://me:hidden@host:5672/%2F",)
    assert load("amqp://me@host/", password="flag", environ=environ).urls == ("amqp://me:flag@host:5672/%2F",)


def test_tls_has_its_own_port() -> None:
    assert load("amqps://host/", environ={}).urls == ("amqps://guest:guest@host:5671/%2F",)


def test_an_ipv6_address_and_parameters_survive() -> None:
    assert load("amqp://[::1]/?heartbeat=5", environ={}).urls == ("amqp://guest:guest@[::1]:5672/%2F?heartbeat=5",)


@pytest.mark.parametrize(
    "url",
    ["http://host/", "host:5672", "amqp://", "amqp://host:no-port/", "amqp://host:70000/", "amqp://a/,", "amqp://["],
)
def test_an_error_names_a_url_that_is_not_an_amqp_url(url: str) -> None:
    with pytest.raises(SettingsError, match=r"is not an AMQP URL|is not between"):
        load(url, environ={})


def test_an_invalid_port_is_refused() -> None:
    with pytest.raises(SettingsError, match="port 70000"):
        load(port=70000, environ={})


def test_no_message_shows_a_password() -> None:
    settings = load("amqp://me:secret@host/", environ={})

    assert redacted(settings.urls) == "amqp://me:***@host:5672/%2F"
    assert "secret" not in repr(settings)
    with pytest.raises(SettingsError) as caught:
        load("http://me:secret@host/", environ={})
    assert "secret" not in str(caught.value)


def test_a_child_process_reaches_the_same_broker() -> None:
    settings = load("amqp://me:a%2Fb@x/,amqp://y/", queue_type="quorum", environ={})

    assert load(environ=environment_for_child(settings)) == settings


def test_settings_are_immutable() -> None:
    with pytest.raises(AttributeError):
        Settings(urls=("amqp://host/",)).heartbeat = 1  # type: ignore[misc]  # the assignment must fail


def test_numbers_and_the_type_of_queue_come_from_the_environment() -> None:
    environ = {"CREW_HEARTBEAT": "2", "CREW_MAX_MESSAGE": "1000", "CREW_QUEUE_TYPE": "quorum"}

    settings = load(environ=environ)

    assert (settings.heartbeat, settings.max_message, settings.queue_type) == (2, 1000, "quorum")


def test_a_heartbeat_may_be_text() -> None:
    assert load(environ={"CREW_HEARTBEAT": "1m"}).heartbeat == 60
    assert load(environ={"CREW_HEARTBEAT": "15s"}).heartbeat == 15


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("CREW_HEARTBEAT", "0", "a number of seconds from 1 to 600, not '0'"),
        ("CREW_HEARTBEAT", "500ms", "a number of seconds from 1 to 600, not '500ms'"),
        ("CREW_HEARTBEAT", "601", "a number of seconds from 1 to 600, not '601'"),
        ("CREW_MAX_MESSAGE", "16 MiB", "a number of bytes, not '16 MiB'"),
        ("CREW_COMPRESSION", "gzip", "auto, always or never, not 'gzip'"),
        ("CREW_QUEUE_TYPE", "stream", "classic or quorum, not 'stream'"),
    ],
)
def test_an_error_about_a_variable_names_it_and_its_valid_values(name: str, value: str, rule: str) -> None:
    with pytest.raises(SettingsError, match=f"{name} must be {rule}"):
        load(environ={name: value})


def test_a_given_queue_type_comes_before_the_environment() -> None:
    assert load(queue_type="quorum", environ={"CREW_QUEUE_TYPE": "classic"}).queue_type == "quorum"


@pytest.mark.parametrize("queue_type", ["", "stream"])
def test_an_error_about_a_queue_type_names_it(queue_type: str) -> None:
    with pytest.raises(SettingsError, match=f"queue_type must be classic or quorum, not {queue_type!r}"):
        load(queue_type=queue_type, environ={})


def test_further_tokens_have_client_names() -> None:
    assert gateway_tokens(environ={}) == {}
    environ = {"CREW_GATEWAY_TOKENS": "a=secret=1, b.c-d=2 ,"}
    assert gateway_tokens(environ=environ) == {"a": "secret=1", "b.c-d": "2"}
    for text in ("hush", "=hush", "a b=hush", "a=x,hush", "a=hush,a=x"):
        with pytest.raises(SettingsError, match=r"^CREW_GATEWAY_TOKENS( |: part )") as refused:
            gateway_tokens(environ={"CREW_GATEWAY_TOKENS": text})
        assert "hush" not in str(refused.value)


def test_allowed_hosts_come_from_flags_before_the_environment() -> None:
    environ = {"CREW_ALLOW_HOSTS": " db.local, 10.0.0.0/8 ,"}
    assert allow_hosts(["a", "b"], environ=environ) == ("a", "b")
    assert allow_hosts(environ=environ) == ("db.local", "10.0.0.0/8")
    assert allow_hosts(environ={}) == ()
    rates = [{}, {"CREW_HTTP_MIN_RATE": "0"}, {"CREW_HTTP_MIN_RATE": "2.5"}]
    assert [http_min_rate(environ=environ) for environ in rates] == [1, 0, 2.5]
    with pytest.raises(SettingsError, match=r"CREW_HTTP_MIN_RATE must be a number of bytes per second, .*'-1'"):
        http_min_rate(environ={"CREW_HTTP_MIN_RATE": "-1"})
    assert deny_hosts(["a"], environ={"CREW_DENY_HOSTS": "b"}) == ("a",)
    assert deny_hosts(environ={"CREW_DENY_HOSTS": " b , c"}) == ("b", "c")


VARIABLES = (
    "CREW_AMQP_URL",
    "CREW_AMQP_PASSWORD",
    "CREW_QUEUE_TYPE",
    "CREW_ACCEPT",
    "CREW_MAX_PAYLOAD",
    "CREW_MAX_MESSAGE",
    "CREW_COMPRESSION",
    "CREW_HEARTBEAT",
    "CREW_AMQP_CA",
    "CREW_AMQP_CERT",
    "CREW_AMQP_KEY",
    "CREW_DATABASE",
    "CREW_ALLOW_HOSTS",
    "CREW_GATEWAY_TOKEN",
    "CREW_RABBITMQ",
)


@pytest.mark.parametrize("empty", ["", "\n"])
def test_an_empty_variable_counts_as_one_that_is_not_set(empty: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    unset = everything()
    for name in VARIABLES:
        monkeypatch.setenv(name, empty)

    assert everything() == unset


@pytest.mark.parametrize(("value", "warnings"), [("", 1), ("\n", 1), (None, 0), ("correct-horse-battery", 0)])
def test_an_empty_token_of_a_gateway_is_a_warning(
    value: str | None, warnings: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("CREW_GATEWAY_TOKEN", raising=False)
    if value is not None:
        monkeypatch.setenv("CREW_GATEWAY_TOKEN", value)

    assert gateway_token() == ((value or "").strip() or None)

    assert caplog.text.count("CREW_GATEWAY_TOKEN is empty: requests need no token") == warnings


def everything() -> list[object]:
    return [load(), load("amqps://host/"), database_url(), allow_hosts(), gateway_token(), rabbitmq_folder()]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n"])
def test_a_newline_at_the_end_of_a_secret_or_url_is_removed(
    end: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CREW_AMQP_PASSWORD", "5ecre7" + end)
    monkeypatch.setenv("CREW_AMQP_URL", "amqp://me@host/v" + end)
    monkeypatch.setenv("CREW_GATEWAY_TOKEN", "70ken" + end)
    monkeypatch.setenv("CREW_DATABASE", "sqlite:///jobs.db" + end)
    monkeypatch.setenv("CREW_QUEUE_TYPE", "quorum" + end)

    assert load().urls == ("amqp://me:5ecre7@host:5672/v",)
    assert (gateway_token(), database_url(), load().queue_type) == ("70ken", "sqlite:///jobs.db", "quorum")
    assert load("amqp://host/" + end, username="you" + end, password="0ther" + end).urls == (
        "amqp://you:0ther@host:5672/%2F",
    )
    for name in ("CREW_AMQP_PASSWORD", "CREW_AMQP_URL", "CREW_GATEWAY_TOKEN", "CREW_DATABASE", "password"):
        assert f"{name} ends with a newline, which is ignored" in caplog.text
    assert not any(secret in caplog.text for secret in ("5ecre7", "70ken", "0ther"))


def test_a_quoted_newline_at_the_end_of_a_password_is_removed(caplog: pytest.LogCaptureFixture) -> None:
    assert load("amqp://me:5ecre7%0A@host/", environ={}).urls == ("amqp://me:5ecre7@host:5672/%2F",)
    assert "the password in a broker's URL ends with a newline" in caplog.text
    assert "5ecre7" not in caplog.text


# --- signing keys ----------------------------------------------------------------------------------------------------

KEYS = ("a" * 32, "b" * 64)


def test_messages_are_not_signed_unless_there_is_a_key() -> None:
    assert load(environ={}).signing_keys == ()


def test_the_first_of_several_signing_keys_signs() -> None:
    assert load(environ={"CREW_SIGNING_KEY": f"{KEYS[0]}, {KEYS[1]}\n"}).signing_keys == KEYS
    assert load(signing_key=KEYS[0], environ={"CREW_SIGNING_KEY": KEYS[1]}).signing_keys == KEYS[:1]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("topsecret", "the signing key has 9 characters, but needs 32 or more"),
        (f"{KEYS[0]},topsecret", "signing key 2 of 2 has 9 characters, but needs 32 or more"),
        (" , ", "CREW_SIGNING_KEY contains no signing key"),
    ],
)
def test_a_signing_key_that_is_too_short_is_an_error_that_does_not_show_it(text: str, why: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(why)) as refused:
        load(environ={"CREW_SIGNING_KEY": text})

    assert "topsecret" not in str(refused.value)
    assert "openssl rand -hex 32" in str(refused.value)


def test_an_empty_signing_key_is_none_and_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert load(environ={"CREW_SIGNING_KEY": ""}).signing_keys == ()
    assert "CREW_SIGNING_KEY is empty: messages are neither signed nor checked" in caplog.text

    with pytest.raises(SettingsError, match="signing_key contains no signing key"):
        load(signing_key="", environ={})


def test_a_signing_key_is_not_shown_by_settings_and_reaches_children() -> None:
    settings = load(signing_key=",".join(KEYS), environ={})

    assert KEYS[0] not in repr(settings)
    assert environment_for_child(settings)["CREW_SIGNING_KEY"] == ",".join(KEYS)
    assert "CREW_SIGNING_KEY" not in environment_for_child(load(environ={}))


def test_signing_keys_can_be_read_from_a_file(folder: Path) -> None:
    file = folder / "keys"
    file.write_text("\n".join(KEYS) + "\n")

    assert load(signing_key=signing_key_in(str(file)), environ={}).signing_keys == KEYS
    assert signing_key_in(None) is None

    file.write_text("\n")
    with pytest.raises(SettingsError, match="keys contains no signing key"):
        signing_key_in(str(file))
    with pytest.raises(SettingsError, match="cannot read the signing keys from nowhere: no such file or directory"):
        signing_key_in("nowhere")
