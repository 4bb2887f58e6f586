"""Where the broker is, and what else the environment decides: flags come before the environment, that before defaults.

This is the only reader of `os.environ`.
"""

import os
import re
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
HEARTBEAT: Final = 10  # seconds; a dead peer is noticed after 2 to 3 of them


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What a client or a worker needs to reach its broker.

    Attributes:
        urls: one AMQP URL for each host of the broker, tried in turn.
        heartbeat: seconds between two heartbeats.
        accept: serializers whose content is decoded here; anything else is refused.
        max_payload: bytes that a body may have once it is decompressed.
    """

    urls: tuple[str, ...]
    heartbeat: int = HEARTBEAT
    accept: tuple[str, ...] = ("json", "msgpack", "text", "bytes")
    max_payload: int = MAX_PAYLOAD

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
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """Settings from flags, then the environment, then the private node below this folder, then defaults.

    Args:
        url: AMQP URL, or several with commas between them; default `CREW_AMQP_URL`, else the node that
            `crew broker start` runs from this folder, else amqp://guest:guest@127.0.0.1:5672/
        host, port, username, password, vhost: replace that part of every URL; `CREW_AMQP_PASSWORD` serves for a
            password, which has no business on a command line.

    What is decoded here stands in the environment alone: `CREW_ACCEPT` names serializers with commas between them
    (default json,msgpack,text,bytes), `CREW_MAX_PAYLOAD` is a number of bytes (default 64 MiB).

    Raises:
        SettingsError: a URL or a number cannot be used.
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
        max_payload=_bytes("CREW_MAX_PAYLOAD", environ, MAX_PAYLOAD),
    )


def reload_state() -> str | None:
    """What a worker's supervisor hands to itself over a reload, see `crew.worker.reload`; None where there was none."""
    return os.environ.pop(RELOAD, None)


def environment_for_reload(state: str) -> dict[str, str]:
    """The environment that hands `state` on."""
    return {**os.environ, RELOAD: state}


def environment_for_child(settings: Settings) -> dict[str, str]:
    """The environment in which a child process reaches the same broker."""
    return {**os.environ, "CREW_AMQP_URL": ",".join(settings.urls)}


def redacted(urls: tuple[str, ...]) -> str:
    """`urls` without passwords: for logs and messages."""
    return ", ".join(re.sub(r"(?<=://)([^:@/]*):[^@/]*@", r"\1:***@", url) for url in urls)


def _private_node_url() -> str | None:
    try:
        return PRIVATE_NODE_URL.read_text().strip() or None
    except OSError:
        return None


def _bytes(name: str, environ: Mapping[str, str], default: int) -> int:
    value = environ.get(name)
    if value is None:
        return default
    if not value.isdecimal() or int(value) < 1:
        raise SettingsError(f"{name} must be a number of bytes, not {value!r}")
    return int(value)


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
