"""Where the broker is, and what else the environment decides: flags come before the environment, that before defaults.

This is the only reader of `os.environ`.
"""

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote, urlsplit

import msgspec

from crew.errors import SettingsError

DEFAULT_URL: Final = "amqp://guest:guest@127.0.0.1:5672/"
PRIVATE_NODE_URL: Final = Path(".crew", "broker", "url")  # written by `crew broker start`
RELOAD: Final = "CREW_WORKER_RELOAD"
MAX_PAYLOAD: Final = 64 * 1024 * 1024  # bytes
MAX_MESSAGE: Final = 16 * 1024 * 1024  # bytes: RabbitMQ 4 closes the channel of a larger message
HEARTBEAT: Final = 10  # seconds; a dead peer is noticed after 2 to 3 of them
LONGEST_HEARTBEAT: Final = 600  # seconds
QUEUE_TYPES: Final = ("classic", "quorum")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What a client or a worker needs to reach its broker.

    Attributes:
        urls: one AMQP URL for each host of the broker, tried in turn.
        heartbeat: seconds between two heartbeats.
        accept: serializers whose content is decoded here; anything else is refused.
        max_payload: bytes that a body may have once it is decompressed.
        max_message: bytes that a body may have as it travels; more is refused where it is sent.
        queue_type: "classic", or "quorum": queues that a cluster keeps on several nodes.
    """

    urls: tuple[str, ...]
    heartbeat: int = HEARTBEAT
    accept: tuple[str, ...] = ("json", "msgpack", "text", "bytes")
    max_payload: int = MAX_PAYLOAD
    max_message: int = MAX_MESSAGE
    queue_type: str = QUEUE_TYPES[0]

    def __repr__(self) -> str:
        return f"Settings(urls={redacted(self.urls)}, heartbeat={self.heartbeat})"


def load(
    url: str | None = None,
    *,
    host: str | None = None,
    port: int | None = None,
    username: str | None = None,
    password: str | None = None,
    vhost: str | None = None,
    queue_type: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """Settings from flags, then the environment, then the private node below this folder, then defaults.

    Args:
        url: AMQP URL, or several with commas between them; default `CREW_AMQP_URL`, else the node that
            `crew broker start` runs from this folder, else amqp://guest:guest@127.0.0.1:5672/
        host, port, username, password, vhost: replace that part of every URL; `CREW_AMQP_PASSWORD` serves for a
            password, which has no business on a command line.
        queue_type: "classic" or "quorum"; default `CREW_QUEUE_TYPE`, else classic.

    The rest stands in the environment alone: `CREW_ACCEPT` names serializers with commas between them (default
    json,msgpack,text,bytes), `CREW_MAX_PAYLOAD` and `CREW_MAX_MESSAGE` are numbers of bytes (default 64 and 16 MiB),
    `CREW_HEARTBEAT` of seconds (default 10).

    Raises:
        SettingsError: a URL, a number or a type of queue cannot be used.
    """
    environ = os.environ if environ is None else environ
    chosen = url or environ.get("CREW_AMQP_URL") or _private_node_url() or DEFAULT_URL
    parts = {
        "host": host,
        "port": port,
        "username": username,
        "password": password or environ.get("CREW_AMQP_PASSWORD"),
        "vhost": vhost,
    }
    defaults = Settings(urls=tuple(_with_parts(one.strip(), parts) for one in chosen.split(",")))
    accept = environ.get("CREW_ACCEPT")
    return msgspec.structs.replace(
        defaults,
        accept=defaults.accept if accept is None else tuple(filter(None, map(str.strip, accept.split(",")))),
        max_payload=_number("CREW_MAX_PAYLOAD", environ, MAX_PAYLOAD, unit="bytes"),
        max_message=_number("CREW_MAX_MESSAGE", environ, MAX_MESSAGE, unit="bytes"),
        heartbeat=_number("CREW_HEARTBEAT", environ, HEARTBEAT, unit="seconds", most=LONGEST_HEARTBEAT),
        queue_type=_queue_type(queue_type, environ.get("CREW_QUEUE_TYPE")),
    )


def reload_state() -> str | None:
    """What a worker's supervisor hands to itself over a reload, see `crew.worker.reload`; None where there was none."""
    return os.environ.pop(RELOAD, None)


def environment_for_reload(state: str) -> dict[str, str]:
    """The environment that hands `state` on."""
    return {**os.environ, RELOAD: state}


def environment_for_child(settings: Settings) -> dict[str, str]:
    """The environment in which a child process reaches the same broker."""
    return {**os.environ, "CREW_AMQP_URL": ",".join(settings.urls), "CREW_QUEUE_TYPE": settings.queue_type}


def rabbitmq_folder() -> Path | None:
    """`CREW_RABBITMQ`: where the programs of a RabbitMQ stand that is to be taken before the one that is installed."""
    return Path(folder) if (folder := os.environ.get("CREW_RABBITMQ")) else None


def redacted(urls: tuple[str, ...]) -> str:
    """`urls` without passwords: for logs and messages."""
    return ", ".join(re.sub(r"(?<=://)([^:@/]*):[^@/]*@", r"\1:***@", url) for url in urls)


def _private_node_url() -> str | None:
    try:
        return PRIVATE_NODE_URL.read_text().strip() or None
    except OSError:
        return None


def _number(name: str, environ: Mapping[str, str], default: int, *, unit: str, most: int = sys.maxsize) -> int:
    value = environ.get(name)
    if value is None:
        return default
    if not value.isdecimal() or not 1 <= int(value) <= most:
        bounds = "" if most == sys.maxsize else f" from 1 to {most}"
        raise SettingsError(f"{name} must be a number of {unit}{bounds}, not {value!r}")
    return int(value)


def _queue_type(given: str | None, of_environment: str | None) -> str:
    name, value = ("CREW_QUEUE_TYPE", of_environment) if given is None else ("queue_type", given)
    if value is None:
        return QUEUE_TYPES[0]
    if value not in QUEUE_TYPES:
        raise SettingsError(f"{name} must be {' or '.join(QUEUE_TYPES)}, not {value!r}")
    return value


def _with_parts(url: str, parts: Mapping[str, str | int | None]) -> str:
    try:
        split = urlsplit(url)
        found: dict[str, str | int | None] = {
            "host": split.hostname,
            "port": split.port,
            "username": unquote(split.username or "guest"),
            "password": unquote(split.password or "guest"),
            "vhost": unquote(split.path.removeprefix("/")) or "/",
        }
    except ValueError as error:
        raise SettingsError(f"{redacted((url,))!r} is no AMQP URL: {error}") from None
    if split.scheme not in ("amqp", "amqps") or not found["host"]:
        raise SettingsError(f"{redacted((url,))!r} is no AMQP URL: write amqp://user:password@host:port/vhost")
    found |= {name: value for name, value in parts.items() if value is not None}
    port = found["port"] or (5671 if split.scheme == "amqps" else 5672)
    if not 0 < int(port) < 65536:
        raise SettingsError(f"port {port} is not between 1 and 65535")
    host = f"[{found['host']}]" if ":" in str(found["host"]) else found["host"]
    login = f"{_quoted(found['username'])}:{_quoted(found['password'])}"
    query = f"?{split.query}" if split.query else ""
    return f"{split.scheme}://{login}@{host}:{port}/{_quoted(found['vhost'])}{query}"


def _quoted(text: object) -> str:
    return quote(str(text), safe="")
