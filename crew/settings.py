"""Settings from flags, else from the environment, else defaults: the broker's address, limits and tokens.

Only this module reads `os.environ`. An empty variable counts as not set.
"""

import importlib.util
import logging
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from crew import broker_url, private_folder
from crew.broker_url import LONGEST_HEARTBEAT, BrokerUrl
from crew.broker_url import redacted as redacted
from crew.duration import seconds_of
from crew.errors import SettingsError

DEFAULT_DATABASE: Final = "sqlite:///.crew/jobs.db"
DEFAULT_URL: Final = "amqp://guest:guest@127.0.0.1:5672/"
PRIVATE_NODE_URL: Final = Path(".crew", "broker", "url")  # written by `crew broker start`
SIGNING_KEY: Final = "CREW_SIGNING_KEY"
SHORTEST_SIGNING_KEY: Final = 32  # characters
_KEY_ADVICE: Final = "make one with: openssl rand -hex 32"
RELOAD: Final = "CREW_WORKER_RELOAD"
MAX_PAYLOAD: Final = 64 * 1024 * 1024  # bytes
MAX_MESSAGE: Final = 16 * 1024 * 1024  # bytes: RabbitMQ 4 closes the channel of a larger message
HTTP_MIN_RATE: Final = 1.0  # bytes per second of a response body
MAX_ELEMENTS: Final = 1_000_000
MAX_DEPTH: Final = 256  # levels
HIGHEST_MAX_DEPTH: Final = 512  # levels: Python 3.11 can decode about 900
MAX_MEMORY: Final = 256 * 1024 * 1024  # bytes
HEARTBEAT: Final = 10  # seconds; a dead peer is detected after 2 to 3 heartbeats
_NEWLINES: Final = "\r\n"
COMPRESSION: Final = ("auto", "always", "never")
_HAS_ISAL: Final = importlib.util.find_spec("isal") is not None
QUEUE_TYPES: Final = ("classic", "quorum")
TLS_FILES: Final = {"cacertfile": "CREW_AMQP_CA", "certfile": "CREW_AMQP_CERT", "keyfile": "CREW_AMQP_KEY"}

_log = logging.getLogger(__name__)


class Tuning(msgspec.Struct, frozen=True, kw_only=True):
    """Durations and sizes inside the connections. The defaults suit every network; tests use others.

    Attributes:
        renewal_interval: seconds between two declarations of the same exchanges and bindings, during which events or
            cancels may be lost if one was deleted. A thousand workers make 300 declarations a second with the default.
        confirm_timeout: seconds, twice, for the confirm of a message, see crew/amqp/confirms/confirm_timeout.py. A
            classic queue confirms when the message is on disk; if the queue fails, the broker refuses its messages. So
            this is only a safety net, longer than a slow disk needs.
        quorum_confirm_timeout: the same with quorum queues. One elects a leader within 1 s, on a busy machine within
            3 s, and confirms what waits.
        close_timeout: seconds for the broker to answer connection.close.
        delete_timeout: seconds for a client that closes to delete its queues. A broker that does not answer must not
            keep a process from ending.
        read_bytes: maximum bytes of one read from the socket.
        clock_watch_interval: seconds between two looks whether this host's clock was set.
    """

    renewal_interval: float = 30.0
    confirm_timeout: float = 60.0
    quorum_confirm_timeout: float = 5.0
    close_timeout: float = 2.0
    delete_timeout: float = 2.0
    read_bytes: int = 64 * 1024
    clock_watch_interval: float = 5.0


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of a client or a worker for its broker and its messages.

    Attributes:
        urls: one AMQP URL for each host of the broker, tried in turn.
        heartbeat: seconds between two heartbeats.
        accept: serializers of payloads that are decoded; others are refused.
        max_payload: maximum bytes of a body after decompression.
        max_message: maximum bytes of a body as it is sent; a larger one is refused by its sender.
        compression: of large bodies: "auto": if isal is installed and the broker runs on another machine; "always"; or
            "never".
        queue_type: "classic", or "quorum": queues that a cluster replicates on several nodes.
        signing_keys: the first one signs every message, all of them are accepted; empty: nothing is signed.
        max_elements: maximum number of members of all arrays and objects in a payload.
        max_depth: maximum nesting of arrays and objects.
        max_memory: maximum bytes of a decoded payload, estimated before decoding.
        tuning: durations and sizes inside the connections.
    """

    urls: tuple[str, ...]
    heartbeat: int = HEARTBEAT
    accept: tuple[str, ...] = ("json", "msgpack", "text", "bytes")
    max_payload: int = MAX_PAYLOAD
    max_message: int = MAX_MESSAGE
    compression: str = COMPRESSION[0]
    queue_type: str = QUEUE_TYPES[0]
    signing_keys: tuple[str, ...] = ()
    max_elements: int = MAX_ELEMENTS
    max_depth: int = MAX_DEPTH
    max_memory: int = MAX_MEMORY
    tuning: Tuning = Tuning()

    def __repr__(self) -> str:
        return f"Settings(urls={redacted(self.urls)}, heartbeat={self.heartbeat})"

    @property
    def compresses(self) -> bool:
        """Whether large bodies of calls, replies and events are compressed."""
        if self.compression == "auto":
            return _HAS_ISAL and not all(broker_url.parse(url).is_loopback for url in self.urls)
        return self.compression == "always"


def load(
    url: str | None = None,
    *,
    host: str | None = None,
    port: int | None = None,
    username: str | None = None,
    password: str | None = None,
    vhost: str | None = None,
    queue_type: str | None = None,
    signing_key: str | None = None,
    tuning: Tuning | None = None,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """Load the settings: from the arguments, else the environment, else the private node of this folder, else defaults.

    Args:
        url: AMQP URL, or several separated by commas, with parameters of `crew.broker_url.PARAMETERS`; default
            `CREW_AMQP_URL`, else the node that `crew broker start` runs in this folder, else
            amqp://guest:guest@127.0.0.1:5672/
        host, port, username, password, vhost: replace that part of every URL. Default of the password:
            `CREW_AMQP_PASSWORD`; do not put it on a command line, where other users can read it.
        queue_type: "classic" or "quorum"; default `CREW_QUEUE_TYPE`, else classic.
        signing_key: a key of 32 characters or more, or several separated by commas during a key change: the first one
            signs every message, all of them are accepted. Default `CREW_SIGNING_KEY`, else messages are neither signed
            nor checked.
        tuning: durations and sizes inside the connections; default: those of `Tuning`.

    A newline at the end of a URL, a user name or a password is removed, and a warning is logged.

    Further settings come only from the environment: `CREW_ACCEPT` lists serializers, separated by commas (default
    json,msgpack,text,bytes). `CREW_MAX_PAYLOAD` and `CREW_MAX_MESSAGE` are numbers of bytes (default 64 and 16 MiB).
    `CREW_COMPRESSION` is auto, always or never (default auto: large bodies are
    compressed if isal is installed and the broker runs on another machine).
    `CREW_MAX_ELEMENTS` (default 1000000), `CREW_MAX_DEPTH` (256) and `CREW_MAX_MEMORY` (256 MiB) limit a decoded
    payload. `CREW_HEARTBEAT` is in seconds, or text like "1m" (default 10, unless a URL sets it). `CREW_AMQP_CA`,
    `CREW_AMQP_CERT` and `CREW_AMQP_KEY` are files for amqps:// URLs that name no files themselves.

    Raises:
        SettingsError: a URL, a number, a file, a word or a signing key is invalid.
    """
    environ = os.environ if environ is None else environ
    chosen = _one_line("url", url) or _variable("CREW_AMQP_URL", environ) or _private_node_url() or DEFAULT_URL
    parts = {
        "host": host,
        "port": port,
        "username": _one_line("username", username),
        "password": _one_line("password", password) or _variable("CREW_AMQP_PASSWORD", environ),
        "vhost": vhost,
    }
    files = _tls_files(environ)
    urls = [_without_newline(broker_url.parse(one, parts=parts, files=files)) for one in broker_url.split(chosen)]
    defaults = Settings(urls=tuple(map(str, urls)), tuning=Tuning() if tuning is None else tuning)
    accept = _variable("CREW_ACCEPT", environ)
    return msgspec.structs.replace(
        defaults,
        accept=defaults.accept if accept is None else tuple(filter(None, map(str.strip, accept.split(",")))),
        max_payload=_number("CREW_MAX_PAYLOAD", environ, MAX_PAYLOAD, unit="bytes"),
        max_message=_number("CREW_MAX_MESSAGE", environ, MAX_MESSAGE, unit="bytes"),
        compression=_compression(_variable("CREW_COMPRESSION", environ)),
        max_elements=_number("CREW_MAX_ELEMENTS", environ, MAX_ELEMENTS, unit="elements"),
        max_depth=_number("CREW_MAX_DEPTH", environ, MAX_DEPTH, unit="levels", most=HIGHEST_MAX_DEPTH),
        max_memory=_number("CREW_MAX_MEMORY", environ, MAX_MEMORY, unit="bytes"),
        heartbeat=_heartbeat(urls, environ),
        queue_type=_queue_type(queue_type, _variable("CREW_QUEUE_TYPE", environ)),
        signing_keys=_signing_keys(signing_key, environ),
    )


def database_url(url: str | None = None) -> str:
    """URL of the job store: `url`, else `CREW_DATABASE`, else the file .crew/jobs.db in the current folder."""
    return _one_line("database", url) or named_database() or DEFAULT_DATABASE


def named_database() -> str | None:
    """URL of the job store that `CREW_DATABASE` names, or None."""
    return _variable("CREW_DATABASE")


def allow_hosts(given: Sequence[str] = (), *, environ: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """The internal hosts that URL jobs may reach: those `given`, else `CREW_ALLOW_HOSTS`, else none."""
    return tuple(given) or _listed("CREW_ALLOW_HOSTS", environ)


def deny_hosts(given: Sequence[str] = (), *, environ: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """The public hosts that URL jobs may not reach: those `given`, else `CREW_DENY_HOSTS`, else none."""
    return tuple(given) or _listed("CREW_DENY_HOSTS", environ)


def max_requests_per_host(given: int | None = None, *, environ: Mapping[str, str] | None = None) -> int | None:
    """Requests of URL jobs that a worker process runs at the same time for one host.

    `given`, else `CREW_MAX_REQUESTS_PER_HOST`; None if neither is set. Raises SettingsError if the variable is not a
    number, 1 or more.
    """
    if given is not None:
        return given
    return _number("CREW_MAX_REQUESTS_PER_HOST", os.environ if environ is None else environ, 0, unit="requests") or None


def secret_headers(*, environ: Mapping[str, str] | None = None) -> frozenset[str]:
    """Names of URL job headers, in lower case, whose values are masked in records: `CREW_SECRET_HEADERS`, else none."""
    named = (os.environ if environ is None else environ).get("CREW_SECRET_HEADERS", "")
    return frozenset(filter(None, (name.strip().lower() for name in named.split(","))))


def http_min_rate(*, environ: Mapping[str, str] | None = None) -> float:
    """Minimum bytes per second of a URL job's response body, averaged over five minutes.

    `CREW_HTTP_MIN_RATE`; default 1; 0: no minimum. Raises SettingsError if it is not such a number.
    """
    value = _variable("CREW_HTTP_MIN_RATE", environ)
    if value is None:
        return HTTP_MIN_RATE
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", value, re.ASCII):
        raise SettingsError(
            f"CREW_HTTP_MIN_RATE must be a number of bytes per second, 0 for no minimum, not {value[:80]!r}"
        )
    return float(value)


def gateway_token() -> str | None:
    """The token that every request to `crew gateway` must carry: `CREW_GATEWAY_TOKEN`, or None if that is not set.

    An empty variable counts as not set, and is logged as a warning: it was probably meant to contain a secret.
    """
    token = _variable("CREW_GATEWAY_TOKEN")
    if token is None and "CREW_GATEWAY_TOKEN" in os.environ:
        _log.warning(
            "CREW_GATEWAY_TOKEN is empty: requests need no token, so every program on this machine can run tasks; set "
            "it to a secret, or remove it"
        )
    return token


def gateway_tokens(*, environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Tokens of further clients, by client name: `CREW_GATEWAY_TOKENS`, in the form name=secret,name=secret.

    Raises SettingsError if the variable has another form; the error shows no secret.
    """
    found: dict[str, str] = {}
    for number, text in enumerate(_listed("CREW_GATEWAY_TOKENS", environ), 1):
        name, equals, secret = text.partition("=")
        if not (equals and re.fullmatch(r"[A-Za-z0-9._-]{1,64}", name)):
            raise SettingsError(
                f"CREW_GATEWAY_TOKENS: part {number} is wrong; write name=secret,name=secret, each name with 1 to "
                "64 characters of A-Z a-z 0-9 . _ -"
            )
        if name in found:
            raise SettingsError(f"CREW_GATEWAY_TOKENS has the name {name!r} twice: give each client its own name")
        found[name] = secret
    return found


def gateway_certificate(
    certfile: str | None = None, keyfile: str | None = None, *, environ: Mapping[str, str] | None = None
) -> tuple[str | None, str | None]:
    """Files of the gateway's certificate and key: those given, else `CREW_GATEWAY_CERT` and `CREW_GATEWAY_KEY`.

    A given certificate is never combined with the key from the environment.
    """
    if certfile is not None or keyfile is not None:
        return certfile, keyfile
    return _variable("CREW_GATEWAY_CERT", environ), _variable("CREW_GATEWAY_KEY", environ)


def gateway_limit(variable: str, *, environ: Mapping[str, str] | None = None) -> str | None:
    """The text of a limit, or None if the variable is not set; see `crew.limits`."""
    return _variable(variable, environ)


def reload_state() -> str | None:
    """State that a worker's supervisor passes to itself across a reload, or None. See crew.worker.supervisor.reload."""
    return os.environ.pop(RELOAD, None)


def environment_for_reload(state: str) -> dict[str, str]:
    """The environment that passes `state` to the next supervisor; see `reload_state`."""
    return {**os.environ, RELOAD: state}


def environment_for_child(settings: Settings) -> dict[str, str]:
    """The environment with which a child process connects to the same broker."""
    keys = {SIGNING_KEY: ",".join(settings.signing_keys)} if settings.signing_keys else {}
    return {**os.environ, "CREW_AMQP_URL": ",".join(settings.urls), "CREW_QUEUE_TYPE": settings.queue_type, **keys}


def rabbitmq_folder() -> Path | None:
    """`CREW_RABBITMQ`: the folder with the programs of another RabbitMQ than the installed one, or None."""
    return Path(folder) if (folder := _variable("CREW_RABBITMQ")) else None


def _variable(name: str, environ: Mapping[str, str] | None = None) -> str | None:
    """The value of the variable `name`, or None if it is empty or not set."""
    value = _one_line(name, (os.environ if environ is None else environ).get(name))
    return value or None


def _listed(name: str, environ: Mapping[str, str] | None) -> tuple[str, ...]:
    """The values of a variable that are separated by commas."""
    return tuple(filter(None, map(str.strip, (_variable(name, environ) or "").split(","))))


def _without_newline(url: BrokerUrl) -> BrokerUrl:
    """`url` without a newline at the end of its password, which may have been quoted with it: `secret%0A`."""
    password = _one_line("the password in a broker's URL", url.password) or ""
    return url if password == url.password else msgspec.structs.replace(url, password=password)


def _one_line(name: str, value: str | None) -> str | None:
    """`value` without a newline at its end: it comes from a file; no password ends with a newline."""
    if value is None or value == (line := value.rstrip(_NEWLINES)):
        return value
    _log.warning("%s ends with a newline, which is ignored: remove it at the source of the value", name)
    return line


def _private_node_url() -> str | None:
    """The URL that `crew broker start` has written; raises SettingsError if another user may have written it."""
    try:
        PRIVATE_NODE_URL.lstat()
    except PermissionError:
        pass  # the error below names the owner of the folder
    except OSError:
        return None
    try:
        return private_folder.read_text(PRIVATE_NODE_URL).strip() or None
    except SettingsError as error:
        raise SettingsError(f"{error}; or set CREW_AMQP_URL to the URL of your broker") from None
    except OSError:
        return None


def _number(name: str, environ: Mapping[str, str], default: int, *, unit: str, most: int = sys.maxsize) -> int:
    value = _variable(name, environ)
    if value is None:
        return default
    if not value.isdecimal() or not 1 <= int(value) <= most:
        bounds = "" if most == sys.maxsize else f" from 1 to {most}"
        raise SettingsError(f"{name} must be a number of {unit}{bounds}, not {value!r}")
    return int(value)


def _compression(value: str | None) -> str:
    if value is None:
        return COMPRESSION[0]
    if value not in COMPRESSION:
        raise SettingsError(f"CREW_COMPRESSION must be auto, always or never, not {value[:80]!r}")
    return value


def _queue_type(given: str | None, of_environment: str | None) -> str:
    name, value = ("CREW_QUEUE_TYPE", of_environment) if given is None else ("queue_type", given)
    if value is None:
        return QUEUE_TYPES[0]
    if value not in QUEUE_TYPES:
        raise SettingsError(f"{name} must be {' or '.join(QUEUE_TYPES)}, not {value!r}")
    return value


def signing_key_in(file: str | None) -> str | None:
    """The signing keys in `file`, separated by commas or white space; None if `file` is None.

    Raises:
        SettingsError: the file cannot be read, or is empty.
    """
    if file is None:
        return None
    try:
        text = Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = (error.strerror or str(error)).lower() if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SettingsError(f"cannot read the signing keys from {file}: {why}") from None
    if not (keys := ",".join(text.split())):
        raise SettingsError(f"{file} contains no signing key; {_KEY_ADVICE}")
    return keys


def _signing_keys(given: str | None, environ: Mapping[str, str]) -> tuple[str, ...]:
    """The given signing keys, else those of the environment; an error shows no part of a key."""
    name, value = (SIGNING_KEY, environ.get(SIGNING_KEY)) if given is None else ("signing_key", given)
    if value is None:
        return ()
    if not value and given is None:
        _log.warning("%s is empty: messages are neither signed nor checked; set a key, or remove it", SIGNING_KEY)
        return ()
    keys = tuple(value.replace(",", " ").split())
    if not keys:
        raise SettingsError(f"{name} contains no signing key; {_KEY_ADVICE}")
    for number, key in enumerate(keys, start=1):
        if len(key) < SHORTEST_SIGNING_KEY:
            which = "the signing key" if len(keys) == 1 else f"signing key {number} of {len(keys)}"
            raise SettingsError(
                f"{name}: {which} has {len(key)} characters, but needs {SHORTEST_SIGNING_KEY} or more; {_KEY_ADVICE}"
            )
    return keys


def _in_seconds(name: str, environ: Mapping[str, str]) -> Mapping[str, str]:
    """`environ` with the variable `name`, which may be text like "1m", as a number of seconds."""
    seconds = seconds_of(environ.get(name, ""))
    return environ if seconds is None or not seconds.is_integer() else {**environ, name: str(int(seconds))}


def _heartbeat(urls: Sequence[BrokerUrl], environ: Mapping[str, str]) -> int:
    """The shortest heartbeat in a URL, else that of the environment."""
    named = [url.heartbeat for url in urls if url.heartbeat is not None]
    environ = _in_seconds("CREW_HEARTBEAT", environ)
    fallback = _number("CREW_HEARTBEAT", environ, HEARTBEAT, unit="seconds", most=LONGEST_HEARTBEAT)
    return min(named, default=fallback)


def _tls_files(environ: Mapping[str, str]) -> dict[str, str]:
    return {parameter: path for parameter, name in TLS_FILES.items() if (path := _variable(name, environ))}
