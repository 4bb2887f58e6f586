"""The URL of a broker: read, completed, written again, and shown without its password.

Parts and parameters are RabbitMQ's own: https://www.rabbitmq.com/docs/uri-spec and
https://www.rabbitmq.com/docs/uri-query-parameters. No message here holds any part of a password, quoted or not.
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
PARAMETERS: Final = ("heartbeat", "connection_timeout", *TLS_PARAMETERS)
LONGEST_HEARTBEAT: Final = 600  # seconds
LONGEST_TIMEOUT: Final = 600_000  # ms
_PORTS: Final = {"amqp": 5672, "amqps": 5671}
_HOW: Final = "write amqp://user:password@host:port/vhost"
_QUOTE: Final = "write what is odd in a user name, password or vhost as in %40 for @, or keep it in CREW_AMQP_PASSWORD"


class BrokerUrl(msgspec.Struct, frozen=True, kw_only=True):
    """One host of a broker, and how to talk to it.

    Attributes:
        scheme: "amqp", or "amqps" for TLS.
        parameters: of `PARAMETERS`, by name.
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
        """Whether what travels is encrypted."""
        return self.scheme == "amqps"

    @property
    def heartbeat(self) -> int | None:
        """Seconds between two heartbeats, where the URL says."""
        value = self.parameters.get("heartbeat")
        return None if value is None else int(value)

    @property
    def connection_timeout(self) -> float | None:
        """Seconds for an attempt to connect, where the URL says (there in milliseconds)."""
        value = self.parameters.get("connection_timeout")
        return None if value is None else int(value) / 1000


def split(urls: str) -> list[str]:
    """Several URLs with commas between them; a comma elsewhere is part of one."""
    return [url.strip() for url in re.split(r",(?=\s*\w+://)", urls)]


def parse(
    url: str, *, parts: Mapping[str, str | int | None] | None = None, files: Mapping[str, str] | None = None
) -> BrokerUrl:
    """Read `url`.

    Args:
        parts: host, port, username, password and vhost that take the place of the URL's own, where they are not None.
        files: TLS parameters for a URL with TLS that has none of its own.

    Raises:
        SettingsError: it is no AMQP URL, or has a parameter that cannot be.
    """
    found = _split(url)
    if "," in found.path or not found.hostname:
        raise SettingsError(f"{_without_secrets(url)!r} is no AMQP URL: {_HOW}, several with commas between them")
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
    """`urls` without passwords or parameters: for logs and messages."""
    return ", ".join(_without_secrets(url) for url in urls)


def _without_secrets(url: str) -> str:
    """Without all up to the last @, as a password may hold anything that somebody forgot to quote."""
    return _without_password(url).partition("?")[0]


def _without_password(url: str) -> str:
    if "@" in url:
        return re.sub(r"^((?:\w+://)?[^:@/?#]*):.*@", r"\1:***@", url, flags=re.DOTALL)
    return re.sub(r"^(\w+://[^:/?#\[]*):(?!\d+([/?#]|$)).*", r"\1:***", url, flags=re.DOTALL)  # no port: what is it?


def _split(url: str) -> SplitResult:
    """The pieces of `url`; what Python says of one that it cannot split may hold a piece of the password."""
    try:
        found = urlsplit(url)
    except ValueError:
        raise SettingsError(f"{_without_secrets(url)!r} is no AMQP URL: {_HOW}") from None
    if found.scheme not in _PORTS:
        raise SettingsError(f"{_without_secrets(url)!r} is no AMQP URL: {_HOW}")
    if "@" in found.path + found.query or found.fragment:
        raise SettingsError(f"{_without_secrets(url)!r} is no AMQP URL: {_QUOTE}")
    return found


def _port_of(found: SplitResult, url: str) -> int | None:
    try:
        return found.port
    except ValueError:
        raise SettingsError(
            f"{_without_secrets(url)!r} is no AMQP URL: its port is no number from 1 to 65535; {_QUOTE}"
        ) from None


def _parameters(query: str, *, is_tls: bool, url: str) -> dict[str, str]:
    parameters: dict[str, str] = {}
    for piece in filter(None, query.split("&")):
        name, _, value = piece.partition("=")
        if name not in PARAMETERS:
            raise SettingsError(f"a broker's URL has no parameter {name!r} here, only {', '.join(PARAMETERS)}")
        if name in parameters:
            raise SettingsError(f"a broker's URL can have {name} only once")
        if name in TLS_PARAMETERS and not is_tls:
            raise SettingsError(
                f"{name} is of no use without TLS in {_without_secrets(url)!r}: write amqps://, or leave it out"
            )
        parameters[name] = _checked(name, unquote(value))
    return parameters


def _checked(name: str, value: str) -> str:
    if name == "heartbeat":
        return _number(name, value, unit="seconds", most=LONGEST_HEARTBEAT)
    if name == "connection_timeout":
        return _number(name, value, unit="milliseconds", most=LONGEST_TIMEOUT)
    if name == "verify" and value not in ("verify_peer", "verify_none"):
        raise SettingsError(f"verify must be verify_peer or verify_none, not {value!r}")
    if not value:
        raise SettingsError(f"{name} in a broker's URL is empty: give it a value, or leave it out")
    return str(Path(value).absolute()) if name in FILES else value


def _number(name: str, value: str, *, unit: str, most: int) -> str:
    if not (value.isascii() and value.isdecimal() and 1 <= int(value) <= most):
        raise SettingsError(f"{name} in a broker's URL must be a number of {unit} from 1 to {most}, not {value!r}")
    return value


def _with_files(parameters: dict[str, str], files: Mapping[str, str]) -> dict[str, str]:
    """A certificate and its key belong together: both come from the URL, or neither."""
    has_own = "certfile" in parameters or "keyfile" in parameters
    wanted = {name: path for name, path in files.items() if name == "cacertfile" or not has_own}
    return {**{name: str(Path(path).absolute()) for name, path in wanted.items()}, **parameters}


def _quoted(text: str) -> str:
    return quote(text, safe="")
