"""Parses, completes and writes the AMQP URL of a broker, and redacts its password.

RabbitMQ defines the parts and parameters: https://www.rabbitmq.com/docs/uri-spec and
https://www.rabbitmq.com/docs/uri-query-parameters. No error message contains any part of a password, quoted or not.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, quote, unquote, urlsplit

import msgspec

from crew.errors import SettingsError

FILES: Final = ("cacertfile", "certfile", "keyfile")
TLS_PARAMETERS: Final = (*FILES, "verify", "server_name_indication")
PARAMETERS: Final = ("heartbeat", "connection_timeout", "socket", *TLS_PARAMETERS)
LONGEST_HEARTBEAT: Final = 600  # seconds
LONGEST_TIMEOUT: Final = 600_000  # ms
_PORTS: Final = {"amqp": 5672, "amqps": 5671}
_LOOPBACK: Final = re.compile(r"127(\.[0-9]{1,3}){3}", re.ASCII)
_HOW: Final = "write amqp://user:password@host:port/vhost"
_QUOTE: Final = (
    "percent-encode special characters in user name, password and vhost (%40 for @), or set CREW_AMQP_PASSWORD"
)


class BrokerUrl(msgspec.Struct, frozen=True, kw_only=True):
    """The URL of one host of a broker, in parts.

    Attributes:
        scheme: "amqp", or "amqps" for TLS.
        parameters: query parameters by name, all in `PARAMETERS`.
    """

    scheme: str
    host: str
    port: int
    username: str
    password: str
    vhost: str
    parameters: Mapping[str, str]

    def __repr__(self) -> str:
        return f"BrokerUrl({redacted((str(self),))})"

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        login = f"{_quoted(self.username)}:{_quoted(self.password)}"
        query = "&".join(f"{name}={quote(value, safe='/:')}" for name, value in self.parameters.items())
        return f"{self.scheme}://{login}@{host}:{self.port}/{_quoted(self.vhost)}{'?' if query else ''}{query}"

    @property
    def is_tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.scheme == "amqps"

    @property
    def is_loopback(self) -> bool:
        """Whether the broker runs on this machine, as far as its host name tells."""
        return self.socket is not None or self.host in ("localhost", "::1") or bool(_LOOPBACK.fullmatch(self.host))

    @property
    def heartbeat(self) -> int | None:
        """Seconds between two heartbeats, or None if the URL does not set them."""
        value = self.parameters.get("heartbeat")
        return None if value is None else int(value)

    @property
    def socket(self) -> str | None:
        """Path of a Unix domain socket to which the client connects instead of host and port, or None."""
        return self.parameters.get("socket")

    @property
    def connection_timeout(self) -> float | None:
        """Seconds for one connection attempt, or None if the URL does not set them (there in milliseconds)."""
        value = self.parameters.get("connection_timeout")
        return None if value is None else int(value) / 1000


def split(urls: str) -> list[str]:
    """Split a comma-separated list of URLs. A comma that no scheme follows is part of a URL."""
    return [url.strip() for url in re.split(r",(?=\s*\w+://)", urls)]


def parse(
    url: str, *, parts: Mapping[str, str | int | None] | None = None, files: Mapping[str, str] | None = None
) -> BrokerUrl:
    """Parse the URL of one host.

    Args:
        parts: host, port, username, password and vhost that replace those of the URL, unless they are None.
        files: TLS parameters for an amqps:// URL without its own.

    Raises:
        SettingsError: `url` is not an AMQP URL, or has an unknown or invalid parameter.
    """
    found = _split(url)
    if "," in found.path or not found.hostname:
        raise SettingsError(f"{_without_secrets(url)!r} is not an AMQP URL: {_HOW}, several separated by commas")
    made = {
        "host": found.hostname,
        "port": _port_of(found, url) or _PORTS[found.scheme],
        "username": unquote(found.username or "guest"),
        "password": unquote(found.password or "guest"),
        "vhost": unquote(found.path.removeprefix("/")) or "/",
        **{name: value for name, value in (parts or {}).items() if value is not None},
    }
    if not 0 < int(made["port"] or 0) < 65536:
        raise SettingsError(f"port {made['port']} is not between 1 and 65535")
    parameters = _parameters(found.query, is_tls=found.scheme == "amqps", url=url)
    if found.scheme == "amqps":
        parameters = _with_files(parameters, files or {})
    return msgspec.convert({**made, "scheme": found.scheme, "parameters": parameters}, BrokerUrl, strict=False)


def redacted(urls: tuple[str, ...]) -> str:
    """`urls` without passwords and parameters, for logs and messages."""
    return ", ".join(_without_secrets(url) for url in urls)


def _without_secrets(url: str) -> str:
    """`url` without parameters and password; a password may contain unquoted characters up to the last @."""
    return _without_password(url).partition("?")[0]


def _without_password(url: str) -> str:
    if "@" in url:
        return re.sub(r"^((?:\w+://)?[^:@/?#]*):.*@", r"\1:***@", url, flags=re.DOTALL)
    # Text after the colon that is no port number may be a password.
    return re.sub(r"^(\w+://[^:/?#\[]*):(?!\d+([/?#]|$)).*", r"\1:***", url, flags=re.DOTALL)


def _split(url: str) -> SplitResult:
    """Split `url`. Python's own error is not passed on: it may contain a part of the password."""
    try:
        found = urlsplit(url)
    except ValueError:
        raise SettingsError(f"{_without_secrets(url)!r} is not an AMQP URL: {_HOW}") from None
    if found.scheme not in _PORTS:
        raise SettingsError(f"{_without_secrets(url)!r} is not an AMQP URL: {_HOW}")
    if "@" in found.path + found.query or found.fragment:
        raise SettingsError(f"{_without_secrets(url)!r} is not an AMQP URL: {_QUOTE}")
    return found


def _port_of(found: SplitResult, url: str) -> int | None:
    try:
        return found.port
    except ValueError:
        raise SettingsError(
            f"{_without_secrets(url)!r} is not an AMQP URL: its port is not a number from 1 to 65535; {_QUOTE}"
        ) from None


def _parameters(query: str, *, is_tls: bool, url: str) -> dict[str, str]:
    parameters: dict[str, str] = {}
    for piece in filter(None, query.split("&")):
        name, _, value = piece.partition("=")
        if name not in PARAMETERS:
            raise SettingsError(f"unknown parameter {name!r} in a broker's URL: use only {', '.join(PARAMETERS)}")
        if name in parameters:
            raise SettingsError(f"a broker's URL has the parameter {name} twice: remove one")
        if name in TLS_PARAMETERS and not is_tls:
            raise SettingsError(
                f"{name} needs TLS, but {_without_secrets(url)!r} has none: write amqps://, or remove {name}"
            )
        if name == "socket" and is_tls:
            raise SettingsError(
                f"socket is for a connection without TLS, but {_without_secrets(url)!r} has it: write amqp://, or "
                "remove socket"
            )
        parameters[name] = _checked(name, unquote(value))
    return parameters


def _checked(name: str, value: str) -> str:
    if name == "heartbeat":
        return _number(name, value, unit="seconds", most=LONGEST_HEARTBEAT)
    if name == "connection_timeout":
        return _number(name, value, unit="milliseconds", most=LONGEST_TIMEOUT)
    if name == "verify" and value not in ("verify_peer", "verify_none"):
        raise SettingsError(f"verify in a broker's URL must be verify_peer or verify_none, not {value!r}")
    if not value:
        raise SettingsError(f"{name} in a broker's URL is empty: set a value, or remove {name}")
    return str(Path(value).absolute()) if name in (*FILES, "socket") else value


def _number(name: str, value: str, *, unit: str, most: int) -> str:
    if not (value.isascii() and value.isdecimal() and 1 <= int(value) <= most):
        raise SettingsError(f"{name} in a broker's URL must be a number of {unit} from 1 to {most}, not {value!r}")
    return value


def _with_files(parameters: dict[str, str], files: Mapping[str, str]) -> dict[str, str]:
    """Add `files` to `parameters`. Certificate and key come both from the URL, or both from `files`."""
    has_own = "certfile" in parameters or "keyfile" in parameters
    added = {name: path for name, path in files.items() if name == "cacertfile" or not has_own}
    return {**{name: str(Path(path).absolute()) for name, path in added.items()}, **parameters}


def _quoted(text: str) -> str:
    return quote(text, safe="")
